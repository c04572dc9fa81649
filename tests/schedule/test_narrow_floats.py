"""bf16 and f16: memory holds them, float32 computes them. Every native operator is as near to float64 as PyTorch's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

import lower86
from tests.normalize.graphs import Function
from tests.schedule.examples import EXAMPLES, Example
from tests.schedule.operators import check_same_on_avx2, lowered
from tests.schedule.values import numbers

NARROW = (torch.bfloat16, torch.float16)
MIXED = (torch.ops.aten._to_copy.default, torch.ops.aten.to.dtype, torch.ops.aten.to.dtype_layout)
FACTOR = 2
"""How much further from float64 than PyTorch's own result in bf16 ours may be."""


def _as(dtype: torch.dtype, tree: Any) -> Any:
    def cast(leaf: Any) -> Any:
        if leaf is torch.float32:
            return dtype
        if not isinstance(leaf, torch.Tensor) or not leaf.dtype.is_floating_point:
            return leaf
        if isinstance(leaf, torch.nn.Parameter):
            return torch.nn.Parameter(leaf.detach().to(dtype), requires_grad=False)
        return leaf.to(dtype)

    return tree_map(cast, tree)


def check(dtype: torch.dtype, operator: Any, args: Any, kwargs: Any, result: int | None = None) -> None:
    """Lowered from `dtype`, compared with float64 on the same numbers, and with PyTorch; the same bits on AVX2."""
    args, kwargs = _as(dtype, (args, kwargs))
    module, tensors = lowered(operator, *args, result=result, **kwargs)
    assert module.explanation.foreign == ()
    (got,) = module(*tensors)
    check_same_on_avx2(got, operator, *args, result=result, **kwargs)
    expected = operator(*args, **kwargs)
    expected = expected if result is None else expected[result]
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    if not got.dtype.is_floating_point:
        assert torch.equal(got, expected)
        return
    wide_args, wide_kwargs = _as(torch.float64, (args, kwargs))
    exact = operator(*wide_args, **wide_kwargs)
    exact = (exact if result is None else exact[result]).double()
    rounded = exact.to(got.dtype)
    finite = torch.isfinite(rounded) & torch.isfinite(expected)
    # Where either overflows on its way, ours is one of the two.
    agrees = (got == rounded) | (got == expected) | (got.isnan() & (rounded.isnan() | expected.isnan()))
    assert bool(agrees[~finite].all())
    ours, theirs = ((y.double() - exact)[finite].abs() for y in (got, expected))
    scale = torch.finfo(got.dtype).eps * exact[finite].abs()
    # Two roundings at most: operators that are spelled by others may store one value in between.
    within = (ours <= FACTOR * theirs + scale * 1.02) | (ours <= FACTOR * theirs.max().item())
    assert bool(within.all()), f"{ours.max().item()} off, PyTorch {theirs.max().item()}"


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize(
    ("operator", "example"), EXAMPLES.items(), ids=lambda v: str(v) if not isinstance(v, Example) else ""
)
def test_example(operator: Any, example: Example, dtype: torch.dtype) -> None:
    floats = [t for t in tree_leaves((example.args, example.kwargs)) if isinstance(t, torch.Tensor)]
    if not any(t.dtype == torch.float32 for t in floats) and operator not in MIXED:
        pytest.skip("no floats")
    try:
        args, kwargs = _as(dtype, (example.args, example.kwargs))
        operator(*args, **kwargs)
    except (RuntimeError, NotImplementedError) as missing:
        pytest.skip(f"PyTorch has none: {missing}")
    check(dtype, operator, example.args, example.kwargs, example.result)


def _run(function: Any, *inputs: torch.Tensor) -> Any:
    module = lower86.lower_pt2e_quantized_to_x86(Function(function), inputs, on_fallback="ignore")
    assert lower86.explain(module).foreign == ()
    return module(*inputs)


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_casts_round_though_nothing_is_stored(dtype: torch.dtype) -> None:
    x = torch.cat([torch.randn(1000) * 100, numbers(torch.float32)])
    got = _run(lambda x: (x.to(dtype), x - x.to(dtype).float(), x.to(dtype).double(), x.to(dtype).to(torch.int64)), x)
    rounded = x.to(dtype)
    for result, expected in zip(got[:3], (rounded, x - rounded.float(), rounded.double()), strict=True):
        torch.testing.assert_close(result, expected, rtol=0, atol=0, equal_nan=True)
    small = x.abs() < 1e4
    assert torch.equal(got[3][small], rounded[small].to(torch.int64))


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_all_who_read_a_value_that_is_stored_read_what_is_stored(dtype: torch.dtype) -> None:
    x, y = torch.randn(9, 65).to(dtype), torch.randn(65).to(dtype)

    def function(x: torch.Tensor, y: torch.Tensor) -> Any:
        total = x * y + y
        return total, total.float(), total - total.relu()

    total, wide, difference = _run(function, x, y)
    assert torch.equal(total.float(), wide)
    assert torch.equal(difference, total - total.relu())


def test_chains_round_once() -> None:
    x = torch.randn(4096, dtype=torch.bfloat16)
    got = _run(lambda x: torch.nn.functional.gelu(x * 1.7 + 0.3) * x - 0.1, x)
    wide = x.double()
    exact = torch.nn.functional.gelu(wide * 1.7 + 0.3) * wide - 0.1
    assert bool(((got - exact).abs() <= exact.abs() * 2**-8 * 1.001 + 1e-6).all())


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_numbers_are_compared_as_elements(dtype: torch.dtype) -> None:
    x = torch.tensor([0.1, 0.2, 0.3]).to(dtype)
    assert _run(lambda x: x == 0.1, x).tolist() == [True, False, False]


def test_copies_keep_every_bit() -> None:
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(256, 256)
    got = _run(lambda x: (x.t(), torch.cat([x, x[:3]])), bits.view(torch.bfloat16))
    assert torch.equal(got[0].view(torch.int16), bits.t())
    assert torch.equal(got[1].view(torch.int16), torch.cat([bits, bits[:3]]))
