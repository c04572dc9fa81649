"""Sizes behave as the integers that they evaluate to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lower86.program.decode import size_from_json
from lower86.program.sizes import (
    Size,
    SizeExpr,
    ceil_div,
    common_factors_gone,
    contiguous_strides,
    dim_atom,
    evaluate,
    names,
    product,
    rename,
    to_json,
)
from tests.harness import examples

A, B, C = (dim_atom(name) for name in "abc")
DIMS = st.fixed_dictionaries({name: st.integers(1, 50) for name in "abc"})


def grown(children: st.SearchStrategy[Size]) -> st.SearchStrategy[Size]:
    def apply(operator: str, left: Size, right: Size, by: int) -> Size:
        match operator:
            case "+":
                return left + right
            case "-":
                return left - right
            case "*":
                return left * right
            case _:
                return left // by

    return st.builds(apply, st.sampled_from("+-*/"), children, children, st.integers(1, 9))


SIZES = st.recursive(st.one_of(st.integers(-9, 9), st.sampled_from([A, B, C])), grown, max_leaves=8)


@examples(200)
@given(left=SIZES, right=SIZES, dims=DIMS)
def test_arithmetic_agrees_with_integers(left: Size, right: Size, dims: dict[str, int]) -> None:
    x, y = evaluate(left, dims), evaluate(right, dims)
    assert evaluate(left + right, dims) == x + y
    assert evaluate(left - right, dims) == x - y
    assert evaluate(left * right, dims) == x * y
    if y and (isinstance(right, int) or isinstance(left, SizeExpr)):
        assert evaluate(left // right, dims) == x // y


@examples(100)
@given(one=SIZES, two=SIZES, three=SIZES)
def test_equal_polynomials_are_equal_objects(one: Size, two: Size, three: Size) -> None:
    assert one + two == two + one
    assert one * two == two * one
    assert (one + two) + three == one + (two + three)
    assert (one + two) * three == one * three + two * three
    assert one + two - two == one
    assert one - one == 0
    assert hash(one * two + three) == hash(three + two * one)
    assert not isinstance(one + two, SizeExpr) or one + two != 0


@examples(100)
@given(quotient=SIZES, by=st.one_of(st.integers(1, 9), st.sampled_from([A, A * B, A * 3])))
def test_exact_division_divides_out(quotient: Size, by: Size) -> None:
    assume(isinstance(quotient, SizeExpr))
    assert (quotient * by) // by == quotient


@examples(100)
@given(one=SIZES, two=SIZES, by=st.sampled_from([2, A, A * B * 3]))
def test_common_factors_go_and_leave_the_ratio(one: Size, two: Size, by: Size) -> None:
    left, right = common_factors_gone(one * by, two * by)
    assert left * two == right * one
    assert 0 in (one, two) or (left, right) == common_factors_gone(one, two)


def test_common_factors_of_a_few() -> None:
    assert common_factors_gone(A * B * 32, B * 32) == (A, 1)
    assert common_factors_gone((A // 4) * 8, (A // 4) * 4) == (2, 1)
    assert common_factors_gone(A * 2 + 2, 4) == (A + 1, 2)
    assert common_factors_gone(A * 2, 0) == (A * 2, 0)


@examples(200)
@given(size=SIZES, dims=DIMS)
def test_json_round_trip(size: Size, dims: dict[str, int]) -> None:
    again = size_from_json(json.loads(json.dumps(to_json(size))))
    assert again == size
    assert type(again) is type(size)
    assert str(again) == str(size)
    assert evaluate(again, dims) == evaluate(size, dims)


@examples(100)
@given(size=SIZES, dims=DIMS)
def test_rename_moves_dims_to_other_names(size: Size, dims: dict[str, int]) -> None:
    to = {"a": "c", "b": "z", "c": "a"}
    renamed = rename(size, to)
    assert evaluate(renamed, {to[name]: value for name, value in dims.items()}) == evaluate(size, dims)
    assert set(names(renamed)) == {to[name] for name in names(size)}
    assert rename(renamed, {new: old for old, new in to.items()}) == size


def test_rename_can_join_two_dims() -> None:
    assert rename(A - B, {"a": "n", "b": "n"}) == 0
    assert rename(A + B + 1, {"a": "n", "b": "n"}) == dim_atom("n") * 2 + 1
    assert rename((A + B) // 4, {"a": "n"}) == (dim_atom("n") + B) // 4


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (1 + A, "a + 1"),
        (A * B * 2 - 3, "2*a*b + -3"),
        (0 - A, "-1*a"),
    ],
)
def test_text(size: Size, text: str) -> None:
    assert str(size) == text


def test_names_are_found_in_quotients_too() -> None:
    assert set(names((A * B + 1) // 4 * C)) == {"a", "b", "c"}
    assert names(7) == []


@examples(50)
@given(
    shape=st.lists(st.one_of(st.integers(1, 9), st.sampled_from([A, B])), max_size=4), by=st.integers(1, 9), dims=DIMS
)
def test_products_strides_and_rounding_up(shape: list[Size], by: int, dims: dict[str, int]) -> None:
    numbers = [evaluate(size, dims) for size in shape]
    total = evaluate(product(shape), dims)
    assert evaluate(ceil_div(product(shape), by), dims) == -(-total // by)
    strides = [evaluate(stride, dims) for stride in contiguous_strides(shape)]
    assert strides == [evaluate(product(numbers[i + 1 :]), {}) for i in range(len(numbers))]


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (7, 7),
        ([[1, ["a"]]], A),
        ([[2, ["a", "b"]], [-1, []]], A * B * 2 - 1),
        ([[1, [[[[1, ["a"]], [3, []]], 4]]]], (A + 3) // 4),
    ],
)
def test_json_form_stays_readable(data: Any, size: Size) -> None:
    assert size_from_json(data) == size
