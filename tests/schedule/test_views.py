"""Movement as strides, against what NumPy does to an array."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lower86.graph.movement import VIEWS
from lower86.normalize.move_dequantize import MOVEMENT as OF_INTEGERS
from lower86.ops.windows import windows
from lower86.program.sizes import dim_atom
from lower86.schedule.views import MOVEMENT, View, contiguous, expanded, permuted, reshaped, sliced


def test_what_moves_is_the_same_for_all_stages() -> None:
    assert set(MOVEMENT) == {*VIEWS, windows}
    assert set(OF_INTEGERS) < set(VIEWS)


def elements(view: View, memory: np.ndarray) -> np.ndarray:
    strides = [s * memory.itemsize for s in view.strides]
    return np.lib.stride_tricks.as_strided(memory[view.offset :], view.shape, strides)


@st.composite
def chains(draw: st.DrawFn) -> tuple[View, np.ndarray, np.ndarray]:
    """A view made by a few movements, the buffer, and the array that NumPy makes of it."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    memory = np.arange(int(np.prod(shape)))
    view, array = contiguous(0, "i64", shape), memory.reshape(shape)
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(("permute", "slice", "expand")))
        if kind == "permute":
            order = draw(st.permutations(range(array.ndim)))
            view, array = permuted(view, list(order)), array.transpose(order)
        elif kind == "slice":
            dim = draw(st.integers(0, array.ndim - 1))
            start = draw(st.integers(0, array.shape[dim] - 1))
            step = draw(st.integers(1, 2))
            size = len(range(start, array.shape[dim], step))
            view = sliced(view, dim, start, step, size)
            array = np.moveaxis(np.moveaxis(array, dim, 0)[start::step], 0, dim)
        else:
            wanted = tuple(draw(st.integers(1, 3)) if s == 1 else s for s in array.shape)
            view, array = expanded(view, (2, *wanted)), np.broadcast_to(array, (2, *wanted))
    return view, memory, array


@given(chains())
def test_movements_are_those_of_numpy(case: tuple[View, np.ndarray, np.ndarray]) -> None:
    view, memory, array = case
    np.testing.assert_array_equal(elements(view, memory), array)


@given(chains(), st.data())
def test_a_reshape_without_a_copy_is_right_and_a_contiguous_one_needs_none(
    case: tuple[View, np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    view, memory, array = case
    left, shape = array.size, []
    while left > 1:
        divisors = [d for d in range(2, left + 1) if left % d == 0]
        shape.append(data.draw(st.sampled_from(divisors)))
        left //= shape[-1]
    shape = tuple(data.draw(st.permutations([*shape, 1])))
    result = reshaped(view, shape)
    if result is not None:
        np.testing.assert_array_equal(elements(result, memory), array.reshape(shape))
    else:
        assert not view.is_contiguous


def test_a_reshape_of_dynamic_sizes_keeps_its_expressions() -> None:
    batch = dim_atom("b")
    view = contiguous(0, "f32", (batch, 12, 32))
    merged = reshaped(view, (batch, 384))
    assert merged is not None
    assert merged.strides == (384, 1)
    assert reshaped(permuted(view, [0, 2, 1]), (batch, 384)) is None
