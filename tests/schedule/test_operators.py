"""Every native ATen operator against PyTorch itself, over shapes, broadcasting, strides, dtypes and nasty values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.schedule.operators import check, lowered

A = torch.ops.aten
FEW = settings(max_examples=6, deadline=None, derandomize=True)
NASTY = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    1.5,
    2.5,
    -2.5,
    1e-40,
    -1e-40,
    3e38,
    -3e38,
    float("inf"),
    -float("inf"),
    float("nan"),
)
ULPS = 1e-6
"""A few units in the last place, relative, and absolute for results near zero of terms near one."""


@st.composite
def pairs(draw: st.DrawFn) -> tuple[torch.Size, torch.Size]:
    """Two shapes that broadcast; sizes about a vector's width among them."""
    sizes = st.sampled_from([0, 1, 2, 3, 15, 16, 17, 33])
    shape = draw(st.lists(sizes, max_size=3))
    other = [draw(st.sampled_from([1, size])) for size in shape][draw(st.integers(0, len(shape))) :]
    both = [shape, other] if draw(st.booleans()) else [other, shape]
    return torch.Size(both[0]), torch.Size(both[1])


def tensor(shape: torch.Size, dtype: torch.dtype, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    if dtype == torch.bool:
        return torch.rand(shape, generator=generator) < 0.5
    if not dtype.is_floating_point:
        low = 0 if dtype == torch.uint8 else -100
        return torch.randint(low, 100, shape, generator=generator).to(dtype)
    values = torch.randn(shape, generator=generator, dtype=dtype) * 3
    flat = values.view(-1)
    for i in range(0, flat.numel(), 3):
        flat[i] = NASTY[(i // 3 + seed) % len(NASTY)]
    return values


UNARY = [
    *((op, (torch.float32,), 0.0) for op in (A.neg, A.abs, A.round, A.floor, A.ceil, A.trunc, A.relu, A.relu6, A.sqrt)),
    *((op, (torch.float32,), ULPS) for op in (A.exp, A.expm1, A.log, A.log1p, A.erf, A.tanh, A.sigmoid, A.rsqrt)),
    *((op, (torch.float32,), 0.0) for op in (A.reciprocal, A.square, A.isnan)),
    *((op, (torch.int64, torch.int32), 0.0) for op in (A.neg, A.abs, A.bitwise_not)),
    (A.logical_not, (torch.bool, torch.float32, torch.int64), 0.0),
    (A.bitwise_not, (torch.bool, torch.uint8), 0.0),
]


@pytest.mark.parametrize(("operator", "dtypes", "tolerance"), UNARY, ids=lambda v: getattr(v, "__name__", ""))
@FEW
@given(shapes=pairs(), seed=st.integers(0, 99))
def test_unary(operator: Any, dtypes: Any, tolerance: float, shapes: Any, seed: int) -> None:
    for dtype in dtypes:
        check(operator.default, tensor(shapes[0], dtype, seed), tolerance=tolerance)


@pytest.mark.parametrize("operator", [A.silu.default, A.gelu.default])
@FEW
@given(seed=st.integers(0, 99))
def test_activations(operator: Any, seed: int) -> None:
    # PyTorch's own differ from the exact ones by several units of x/2, and by kind of NaN at -inf.
    x = torch.randn(33, generator=torch.Generator().manual_seed(seed)) * 4
    check(operator, x, tolerance=3e-6)


NUMBERS = (torch.float32, torch.int64, torch.int32)
BINARY = [
    *((op.Tensor, NUMBERS) for op in (A.add, A.sub, A.mul, A.eq, A.ne, A.lt, A.le, A.gt, A.ge)),
    *((op.default, NUMBERS) for op in (A.maximum, A.minimum)),
    (A.div.Tensor, (torch.float32,)),
    *((op.Tensor, (torch.int64, torch.bool, torch.uint8)) for op in (A.bitwise_and, A.bitwise_or, A.bitwise_xor)),
    *((op.default, (torch.bool, torch.float32)) for op in (A.logical_and, A.logical_or, A.logical_xor)),
]


@pytest.mark.parametrize(("operator", "dtypes"), BINARY, ids=str)
@FEW
@given(shapes=pairs(), seed=st.integers(0, 99))
def test_binary(operator: Any, dtypes: Any, shapes: Any, seed: int) -> None:
    for dtype in dtypes:
        check(operator, tensor(shapes[0], dtype, seed), tensor(shapes[1], dtype, seed + 1))


@pytest.mark.parametrize("operator", [A.add, A.sub, A.mul, A.lt, A.eq], ids=str)
@pytest.mark.parametrize(
    ("left", "right"), [(torch.int64, torch.float32), (torch.bool, torch.int64), (torch.uint8, torch.int32)]
)
def test_mixed_dtypes_promote_as_in_pytorch(operator: Any, left: torch.dtype, right: torch.dtype) -> None:
    if operator is A.sub and left == torch.bool:
        left = torch.uint8  # PyTorch does not subtract truth values
    shape = torch.Size([3, 17])
    check(operator.Tensor, tensor(shape, left, 1), tensor(shape, right, 2))


@pytest.mark.parametrize("alpha", [2, -1, 0.5])
def test_alpha_is_kept(alpha: float) -> None:
    x, y = torch.randn(3, 17), torch.randn(17)
    check(A.add.Tensor, x, y, alpha=alpha)
    check(A.sub.Tensor, x, y, alpha=alpha)
    check(A.rsub.Scalar, x, 3.0, alpha)


@FEW
@given(shapes=pairs(), seed=st.integers(0, 99))
def test_select_clamp_and_fill(shapes: Any, seed: int) -> None:
    x, y = (tensor(shape, torch.float32, seed + i) for i, shape in enumerate(shapes))
    condition = tensor(shapes[0], torch.bool, seed)
    check(A.where.self, condition, x, y)
    check(A.masked_fill.Scalar, x, condition, -float("inf"))
    check(A.clamp.default, x, -1.0, 0.5)
    check(A.clamp.default, x, None, 0.5)
    check(A.clamp_min.default, x, 0.25)
    check(A.hardtanh.default, x, -2.0, 2.0)
    for exponent in (2, 3, 0.5, -0.5):
        check(A.pow.Tensor_Scalar, x.abs(), exponent, tolerance=ULPS)


@pytest.mark.parametrize("target", [torch.float32, torch.int64, torch.int32, torch.int8, torch.uint8, torch.bool])
@pytest.mark.parametrize("source", [torch.float32, torch.int64, torch.int32, torch.int8, torch.uint8, torch.bool])
def test_casts(source: torch.dtype, target: torch.dtype) -> None:
    # Values that every dtype holds: beyond them C++ leaves the conversion undefined.
    x = tensor(torch.Size([5, 17]), torch.int64, 3).clamp(0, 99).to(source)
    check(A._to_copy.default, x, dtype=target)


DIMS = ([0], [1], [2], [0, 1], [1, 2], [0, 2], [0, 1, 2], [-1])


@pytest.mark.parametrize("dims", DIMS, ids=str)
@pytest.mark.parametrize("shape", [(2, 17, 33), (1, 3, 16), (5, 1, 1)], ids=str)
def test_reductions(dims: list[int], shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    for keep in (False, True):
        check(A.sum.dim_IntList, x, dims, keep, tolerance=1e-5)
        check(A.mean.dim, x, dims, keep, tolerance=1e-5)
        check(A.amax.default, x, dims, keep)
        check(A.amin.default, x, dims, keep)
        check(A.linalg_vector_norm.default, x, 2, dims, keep, tolerance=1e-5)
    check(A.sum.dim_IntList, x > 0, dims)
    check(A.any.dims, x > 1, dims) if len(dims) == 0 else check(A.any.dim, x > 1, dims[0])
    check(A.all.dim, x > -1, dims[0], True)


@pytest.mark.parametrize("shape", [(4, 1), (3, 15), (2, 5, 16), (1, 100), (7, 1000)], ids=str)
def test_rows(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape) * 10
    for dim in range(len(shape)):
        check(A.softmax.int, x, dim, tolerance=4 * ULPS)
        check(A.log_softmax.int, x, dim, tolerance=1e-5)
        check(A.cumsum.default, (x > 0).long(), dim)
        check(A.cumsum.default, x, dim, tolerance=2e-4)
    weight, bias = torch.randn(shape[-1]), torch.randn(shape[-1])
    check(A.layer_norm.default, x, [shape[-1]], weight, bias, 1e-5, tolerance=1e-4)
    check(A.layer_norm.default, x, [shape[-1]], tolerance=1e-4)
    check(A.layer_norm.default, x, list(shape), tolerance=1e-4)


def test_gathers() -> None:
    table, index = torch.randn(11, 20), torch.tensor([[0, 10, 3], [7, 7, 1]])
    check(A.embedding.default, table, index)
    check(A.embedding.default, table, index[:, :0])
    check(A.index_select.default, table, 1, index[0])
    check(A.gather.default, table, 1, index)
    check(A.gather.default, table.T, 0, index)
    check(A.index.Tensor, table, [index - 11])
    check(A.index.Tensor, table, [index, index + 5])
    check(A.index.Tensor, table > 0, [index[:, :1], index])


def test_movement() -> None:
    x = torch.randn(4, 6, 10)
    check(A.permute.default, x, [2, 0, 1])
    check(A.transpose.int, x, 0, -1)
    check(A.view.default, x, [24, 2, 5])
    check(A.expand.default, x[:, :1], [3, 4, 6, 10])
    check(A.slice.Tensor, x, 1, 1, 5, 2)
    check(A.slice.Tensor, x, 2, -7, 9223372036854775807)
    check(A.select.int, x, 1, -2)
    check(A.unsqueeze.default, x, 1)
    check(A.squeeze.dim, x[:, :1], 1)
    check(A.cat.default, [x, x[:, :2], x[:, 3:]], 1)
    check(A.cat.default, [x.permute(1, 0, 2), x.reshape(6, 4, 10)], -1)
    check(A.stack.default, [x, x * 2], 2)
    check(A.clone.default, x.T if x.dim() == 2 else x.permute(2, 1, 0))


def test_constructors() -> None:
    x = torch.randn(3, 17)
    check(A.full_like.default, x, 2.5)
    check(A.new_ones.default, x, [2, 3], dtype=torch.bool)
    check(A.zeros_like.default, x)
    module, _ = lowered(A.arange.start_step, 2, 40, 3)
    assert torch.equal(module()[0], torch.arange(2, 40, 3))


@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (7, 17, 5), (6, 64, 33), (13, 130, 65), (0, 5, 3), (3, 5, 0)])
def test_products(m: int, n: int, k: int) -> None:
    x, y = torch.randn(m, k), torch.randn(k, n)
    check(A.mm.default, x, y, tolerance=1e-5)
    check(A.mm.default, x, torch.randn(n, k).T, tolerance=1e-5)
    check(A.bmm.default, torch.randn(3, m, k), torch.randn(3, k, n), tolerance=1e-5)
    check(A.matmul.default, torch.randn(2, 3, m, k), torch.randn(3, k, n), tolerance=1e-5)
    check(A.matmul.default, torch.randn(2, 1, m, k), y, tolerance=1e-5)
    check(A.linear.default, torch.randn(2, m, k), torch.randn(n, k), torch.randn(n), tolerance=1e-5)
    check(A.linear.default, torch.randn(k), torch.randn(n, k), tolerance=1e-5)


@pytest.mark.parametrize("queries", [1, 5, 64, 70])
def test_attention(queries: int) -> None:
    attention = A.scaled_dot_product_attention.default
    q, k, v = (torch.randn(2, 4, size, 24) for size in (queries, 33, 33))
    check(attention, q, k, v, tolerance=1e-5)
    check(attention, q, k, v, torch.randn(queries, 33), tolerance=1e-5)
    check(attention, q, k, v, torch.rand(2, 1, 1, 33) < 0.7, tolerance=1e-5)
    check(attention, q, k, v, torch.rand(2, 1, queries, 33) < 0.7, scale=0.3, tolerance=1e-5)
    check(attention, q, k[:, :2], v[:, :2], enable_gqa=True, tolerance=1e-5)
    check(attention, q[0], k[0], v[0], tolerance=1e-5)
    square = torch.randn(2, 4, queries, 24)
    check(attention, q, square, square, is_causal=True, tolerance=1e-5)
    nothing = torch.zeros(queries, 33, dtype=torch.bool)
    check(attention, q, k, v, nothing, tolerance=1e-5)
