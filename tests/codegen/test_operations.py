"""Every scalar operation against NumPy and PyTorch: all dtypes, extreme values, the full vectors and the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from lower86.codegen.division import DIVISION
from lower86.codegen.mathematics import FLOAT32_FUNCTIONS
from lower86.codegen.operations import OPERATIONS
from lower86.codegen.powers import FLOAT32_POWERS
from lower86.program.dtypes import DTYPES, is_narrow
from lower86.program.kernels import Pointwise
from tests.codegen.expressions import Expression, stored
from tests.harness import Array, run_kernel

FLOATS, INTS, BOOL = ("f32", "f64"), ("i64", "i32", "i16", "i8", "u8"), ("bool",)
SIGNED = INTS[:-1]
Reference = Callable[..., Any]


def numbers(dtype: str) -> Array:
    """The ends and the middle of what a dtype holds, and some of what is in between."""
    kind = DTYPES[dtype]
    rng = np.random.default_rng(5)
    if kind.kind == "bool":
        return np.array([False, True])
    if kind.kind == "float":
        limits = np.finfo(kind.numpy)
        some = [0, 1, 1.5, 2.5, 3, 0.49999997, 0.5, 1e-3, 1e10, limits.max, limits.tiny, limits.smallest_subnormal]
        positive = np.array([*some, np.inf, *rng.normal(0, 100, 5)], kind.numpy)
        return np.concatenate([positive, -positive, np.array([np.nan], kind.numpy)])
    span = np.iinfo(kind.numpy)
    ends = [span.min, span.min + 1, span.max // 2, span.max - 1, span.max]
    return np.unique(np.array([*ends, 0, 1, 2, 3, *rng.integers(span.min, span.max, 5)], kind.numpy))


def every_pair(dtype: str) -> tuple[Array, Array]:
    values = numbers(dtype)
    return np.repeat(values, values.size), np.tile(values, values.size)


def apply(op: str, dtype: str, result: str, *operands: Array) -> Array:
    """The operation over flat arrays, the first of which has the operation's operand dtype."""
    e = Expression()
    loads = [e.load(i, (1,), dtype if o.dtype == DTYPES[dtype].numpy else "bool") for i, o in enumerate(operands)]
    size, out = operands[0].size, len(operands)
    kernel = Pointwise((size,), stored(e, e.call(op, *loads, dtype=result), out, (size,)), 1, 4096)
    return run_kernel(kernel, dict(enumerate(operands)), {out: ((size,), DTYPES[result].numpy.str)})[out]


def check_equal(got: Array, want: Array) -> None:
    """The same numbers, with the same sign of zero; NaN is NaN."""
    np.testing.assert_array_equal(got, want)
    if got.dtype.kind == "f":
        real = ~np.isnan(want)
        np.testing.assert_array_equal(np.signbit(got[real]), np.signbit(want[real]))


def _extreme(name: str) -> Reference:
    """PyTorch's: NaN if either is NaN; the first of two zeros."""

    def reference(a: Array, b: Array) -> Any:
        if a.dtype.kind != "f":
            return getattr(np, name)(a, b)
        return np.where(a == b, a, getattr(np, name)(a, b))

    return reference


def _wrapped_absolute(a: Array) -> Any:
    return np.where(a < 0, -a if a.dtype.kind != "u" else a, a) if a.dtype.kind != "f" else np.abs(a)


def _rounding(name: str) -> Reference:
    return lambda a: getattr(np, name)(a) if a.dtype.kind == "f" else a


EVERY = (*FLOATS, *INTS, *BOOL)
BINARY: Mapping[str, tuple[Sequence[str], Reference]] = {
    "add": (EVERY, np.add),
    "sub": ((*FLOATS, *INTS), np.subtract),
    "mul": (EVERY, np.multiply),
    "div": (FLOATS, np.divide),
    "max": (EVERY, _extreme("maximum")),
    "min": (EVERY, _extreme("minimum")),
    "and": ((*INTS, *BOOL), np.bitwise_and),
    "or": ((*INTS, *BOOL), np.bitwise_or),
    "xor": ((*INTS, *BOOL), np.bitwise_xor),
}
UNARY: Mapping[str, tuple[Sequence[str], Reference]] = {
    "neg": ((*FLOATS, *INTS), np.negative),
    "abs": ((*FLOATS, *INTS), _wrapped_absolute),
    "sqrt": (FLOATS, np.sqrt),
    "rint": ((*FLOATS, *INTS), _rounding("rint")),
    "floor": ((*FLOATS, *INTS), _rounding("floor")),
    "ceil": ((*FLOATS, *INTS), _rounding("ceil")),
    "trunc": ((*FLOATS, *INTS), _rounding("trunc")),
    "not": ((*INTS, *BOOL), np.invert),
}
COMPARISONS: Mapping[str, Reference] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip
OTHERS = ("select", "cast", "fma", "quantize", "quantize_bounded", "dequantize", *FLOAT32_FUNCTIONS)
ELSEWHERE = (*DIVISION, *FLOAT32_POWERS)


def test_every_operation_is_tested() -> None:
    assert {*BINARY, *UNARY, *COMPARISONS, *OTHERS, *ELSEWHERE} == set(OPERATIONS)


def cases(table: Mapping[str, tuple[Sequence[str], Reference]]) -> list[tuple[str, str]]:
    return [(op, dtype) for op, (dtypes, _) in table.items() for dtype in dtypes]


@pytest.mark.parametrize(("op", "dtype"), cases(BINARY))
def test_binary(op: str, dtype: str) -> None:
    a, b = every_pair(dtype)
    with np.errstate(all="ignore"):
        want = BINARY[op][1](a, b)
    check_equal(apply(op, dtype, dtype, a, b), want)


@pytest.mark.parametrize(("op", "dtype"), cases(UNARY))
def test_unary(op: str, dtype: str) -> None:
    a = np.resize(numbers(dtype), 47)
    with np.errstate(all="ignore"):
        want = UNARY[op][1](a).astype(a.dtype)
    check_equal(apply(op, dtype, dtype, a), want)


@pytest.mark.parametrize("dtype", EVERY)
def test_comparisons(dtype: str) -> None:
    a, b = every_pair(dtype)
    e = Expression()
    left, right = e.load(0, (1,), dtype), e.load(1, (1,), dtype)
    for slot, op in enumerate(COMPARISONS, 2):
        e.store(slot, (1,), e.call(op, left, right, dtype="bool"))
    got = run_kernel(
        Pointwise((a.size,), e.build(), 1, 4096), {0: a, 1: b}, dict.fromkeys(range(2, 8), ((a.size,), "?"))
    )
    for slot, reference in enumerate(COMPARISONS.values(), 2):
        np.testing.assert_array_equal(got[slot], reference(a, b))


@pytest.mark.parametrize("dtype", EVERY)
def test_select(dtype: str) -> None:
    a, b = every_pair(dtype)
    condition = np.random.default_rng(0).random(a.size) < 0.5
    e = Expression()
    chosen = e.call("select", e.load(0, (1,), "bool"), e.load(1, (1,), dtype), e.load(2, (1,), dtype), dtype=dtype)
    kernel = Pointwise((a.size,), stored(e, chosen, 3, (a.size,)), 1, 4096)
    got = run_kernel(kernel, {0: condition, 1: a, 2: b}, {3: ((a.size,), a.dtype.str)})[3]
    check_equal(got, np.where(condition, a, b))


def test_fma_rounds_once() -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.integers(-(2**24), 2**24, 999).astype(np.float32) for _ in range(2))
    c = -(a * b) + rng.integers(-3, 4, 999).astype(np.float32)  # all but the rounding of the product cancels
    want = [
        float(Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))) for x, y, z in zip(a, b, c, strict=True)
    ]
    check_equal(apply("fma", "f32", "f32", a, b, c), np.array(want).astype(np.float32))


WIDE = tuple(dtype for dtype in DTYPES if not is_narrow(dtype))
"""All but those of memory alone, whose casts `test_storage` has."""


@pytest.mark.parametrize("source", WIDE)
def test_cast_to_every_dtype(source: str) -> None:
    """As PyTorch does; from floats, for what the result can hold (beyond, PyTorch too does whatever the CPU does)."""
    values = np.resize(numbers(source), 63)
    for target in WIDE:
        kind = DTYPES[target]
        fits = values
        if DTYPES[source].kind == "float" and kind.kind in ("int", "uint"):
            span = np.iinfo(kind.numpy)
            fits = values[(values > float(span.min) - 1) & (values < float(span.max))]
            fits = np.concatenate([fits, np.array([0.99, -0.99, span.max // 2, 100.5, -0.0], fits.dtype)])
        want = torch.from_numpy(fits).to(getattr(torch, kind.numpy.name)).numpy()
        check_equal(apply("cast", source, target, fits), want)


@pytest.mark.parametrize("name", FLOAT32_FUNCTIONS)
def test_functions_are_the_right_ones(name: str) -> None:
    """Their accuracy is tested with them."""
    x = np.linspace(-2.5, 6, 37, dtype=np.float32)
    functional = torch.nn.functional
    own: Mapping[str, Reference] = {
        "gelu": functional.gelu,
        "gelu_tanh": lambda t: functional.gelu(t, approximate="tanh"),
        "silu": functional.silu,
        "softplus": functional.softplus,
    }
    exact = name.removesuffix("_coarse")
    want = own.get(exact, getattr(torch, exact, None))(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(apply(name, "f32", "f32", x), want, rtol=1e-5, atol=1e-6 if name == exact else 3e-6)
