"""Reductions, softmaxes and norms against PyTorch: over any dims, of any dtype, with NaN and infinities in the rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lower86.program.kernels import Rows
from tests.models.checks import lower_anyhow
from tests.schedule.operators import check, check_foreign
from tests.schedule.values import NASTY, ULPS, tensor

A = torch.ops.aten
INF = float("inf")
DIMS = ([0], [1], [2], [0, 1], [1, 2], [0, 2], [0, 1, 2], [-1])
SHAPES = ((2, 17, 33), (1, 3, 16), (5, 1, 1))
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


@pytest.mark.parametrize("dims", DIMS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_over_any_dims(dims: list[int], shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    for keep in (False, True):
        check(A.sum.dim_IntList, x, dims, keep, tolerance=1e-5)
        check(A.mean.dim, x, dims, keep, tolerance=1e-5)
        check(A.amax.default, x, dims, keep)
        check(A.amin.default, x, dims, keep)
        check(A.logsumexp.default, x, dims, keep, tolerance=1e-5)
        check(A.any.dims, x > 1, dims, keep)
        check(A.all.dims, x > -1, dims, keep)
        check(A.var.correction, x, dims, correction=0, keepdim=keep, tolerance=1e-5)
    check(A.sum.dim_IntList, x > 0, dims)
    check(A.count_nonzero.dim_IntList, x > 0, dims)
    check(A.any.dim, x > 1, dims[0])
    check(A.all.dim, x > -1, dims[0], True)
    check(A.prod.dim_int, x, dims[0], tolerance=1e-5)
    check(A.argmax.default, x, dims[0])
    check(A.argmin.default, x, dims[0], True)


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "max", "min", "any", "all", "std", "argmax", "argmin"])
def test_over_everything(name: str) -> None:
    for shape in SHAPES:
        check(getattr(A, name).default, torch.randn(shape), tolerance=1e-5)


@pytest.mark.parametrize("dtype", [*INTEGERS, torch.bool], ids=str)
def test_integers(dtype: torch.dtype) -> None:
    x = tensor((3, 20, 5), dtype)
    for dim in range(3):
        check(A.sum.dim_IntList, x, [dim])
        check(A.sum.dim_IntList, x, [dim], dtype=torch.int32)
        check(A.sum.dim_IntList, x, [dim], dtype=torch.float32)
        check(A.prod.dim_int, x, dim)
        check(A.amax.default, x, [dim])
        check(A.amin.default, x, [dim])
        check(A.any.dim, x, dim)
        check(A.all.dim, x, dim)
        check(A.count_nonzero.default, x, dim)
        check(A.cumsum.default, x, dim)
        check(A.mean.dim, x, [dim], dtype=torch.float32, tolerance=1e-6)
        if dtype != torch.bool:
            check(A.argmax.default, x, dim)
            check(A.argmin.default, x, dim)


def test_float64() -> None:
    x = torch.randn(3, 20, 5, dtype=torch.float64)
    for dim in range(3):
        check(A.sum.dim_IntList, x, [dim], tolerance=1e-14)
        check(A.mean.dim, x, [dim], tolerance=1e-14)
        check(A.amax.default, x, [dim])
        check(A.var.correction, x, [dim], tolerance=1e-13)
        check(A.linalg_vector_norm.default, x, 2, [dim], tolerance=1e-14)
        check(A.sum.dim_IntList, x, [dim], dtype=torch.float32, tolerance=1e-5)
    check_foreign(A.softmax.int, x, 0)


NANS = [[1.0, float("nan"), 3, float("nan")], [3.0, 3, 1, 3], [-INF, -INF, -INF, -INF], [INF, 1, INF, -INF]]


@pytest.mark.parametrize("length", [4, 23])
def test_rows_of_nan_and_infinities(length: int) -> None:
    x = torch.tensor(NANS).repeat(1, 6)[:, :length]
    for rows in (x, x.T.contiguous()):
        for dim in (0, 1):
            for operator in (A.argmax.default, A.argmin.default, A.any.dim, A.all.dim, A.cumsum.default):
                check(operator, rows, dim)
            for operator in (A.amax.default, A.amin.default, A.sum.dim_IntList, A.nansum.default, A.mean.dim):
                check(operator, rows, [dim], tolerance=ULPS)
            for operator in (A.softmax.int, A.log_softmax.int):
                check(operator, rows, dim, tolerance=ULPS)
            check(A.logsumexp.default, rows, [dim], tolerance=ULPS)
            for result in (0, 1):
                check(A.max.dim, rows, dim, result=result)
                check(A.min.dim, rows, dim, True, result=result)


def test_ties_go_to_the_first() -> None:
    for dtype in (torch.float32, torch.int64, torch.uint8):
        x = (torch.arange(120) % 3).reshape(4, 30).to(dtype)
        for dim in (0, 1):
            check(A.argmax.default, x, dim)
            check(A.argmin.default, x, dim)
        check(A.argmax.default, x)


@pytest.mark.parametrize("correction", [0, 1, 2.5, None, 40], ids=str)
def test_variance(correction: float | None) -> None:
    x = torch.randn(3, 20) * 3 + 5
    for operator in (A.var.correction, A.std.correction):
        for dims in ([0], [1], None):
            check(operator, x, dims, correction=correction, tolerance=1e-5)
    for operator in (A.var_mean.correction, A.std_mean.correction):
        for result in (0, 1):
            check(operator, x, [1], correction=correction, result=result, tolerance=1e-5)
    check(A.var.dim, x, [1], bool(correction), tolerance=1e-5)
    check(A.std.default, x[:1, :1], True)


@pytest.mark.parametrize("order", [2, 1, 0, INF, -INF, 3, 0.5, -1.5])
def test_vector_norms(order: float) -> None:
    x = torch.randn(3, 20)
    for dims in ([0], [1], None):
        check(A.linalg_vector_norm.default, x, order, dims, tolerance=1e-5)
    check(A.norm.ScalarOpt_dim, x, order, [1], True, tolerance=1e-5)
    check(A.norm.Scalar, x, order, tolerance=1e-5)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)], ids=str)
def test_empty(shape: tuple[int, ...]) -> None:
    x = torch.zeros(shape)
    for dim in (0, 1):
        for operator in (A.sum.dim_IntList, A.mean.dim, A.var.correction):
            check(operator, x, [dim])
        check(A.prod.dim_int, x, dim)
        check(A.any.dim, x, dim)
        check(A.softmax.int, x, dim)
        if shape[dim]:
            check_foreign(A.amax.default, x, [dim])


@pytest.mark.parametrize("shape", [(4, 1), (3, 15), (2, 5, 16), (1, 100), (7, 1000)], ids=str)
def test_softmax_and_cumulations(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape) * 10
    for dim in range(len(shape)):
        check(A.softmax.int, x, dim, tolerance=4 * ULPS)
        check(A.log_softmax.int, x, dim, tolerance=1e-5)
        check(A.cumsum.default, (x > 0).long(), dim)
        check(A.cumsum.default, (x > 0), dim, dtype=torch.int32)
        check(A.cumsum.default, x, dim, tolerance=2e-4)
        check(A.cumprod.default, 1 + x / 1000, dim, tolerance=1e-5)


def test_long_cumulations_are_foreign() -> None:
    check_foreign(A.cumsum.default, torch.ones(3, 1025), 1)
    check(A.cumsum.default, torch.ones(3, 1025), 0)


@pytest.mark.parametrize("shape", [(4, 1), (3, 15), (2, 5, 16), (1, 100), (7, 1000)], ids=str)
def test_layer_and_rms_norm(shape: tuple[int, ...]) -> None:
    x, weight, bias = torch.randn(shape) * 10, torch.randn(shape[-1]), torch.randn(shape[-1])
    check(A.layer_norm.default, x, [shape[-1]], weight, bias, 1e-5, tolerance=1e-4)
    check(A.layer_norm.default, x, [shape[-1]], tolerance=1e-4)
    check(A.layer_norm.default, x, list(shape), tolerance=1e-4)
    check(A.rms_norm.default, x, [shape[-1]], weight, 1e-6, tolerance=1e-5)
    check(A.rms_norm.default, x, list(shape), tolerance=1e-5)


@pytest.mark.parametrize("spatial", [(), (7,), (5, 6), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("affine", [False, True])
def test_norms_over_channels(spatial: tuple[int, ...], affine: bool) -> None:
    x = torch.randn(3, 12, *spatial) * 2 + 1
    weight, bias = (torch.randn(12), torch.randn(12)) if affine else (None, None)
    for groups in (1, 4):
        check(A.group_norm.default, x, groups, weight, bias, tolerance=1e-5)
    mean, variance = torch.randn(12), torch.rand(12)
    check(A.batch_norm.default, x, weight, bias, mean, variance, False, 0.1, 1e-3, True, tolerance=1e-5)
    if len(spatial) and x[0, 0].numel() > 1:
        check(A.instance_norm.default, x, weight, bias, None, None, True, 0.1, 1e-5, True, tolerance=1e-5)
        check(A.instance_norm.default, x, weight, bias, mean, variance, False, 0.1, 1e-5, True, tolerance=1e-5)


def test_batch_norm_that_learns_is_foreign() -> None:
    x = torch.randn(3, 4, 5)
    check_foreign(A.native_batch_norm.default, x, None, None, None, None, True, 0.1, 1e-5, result=0)


def test_reductions_of_nasty_elements() -> None:
    x = torch.tensor(NASTY).repeat(3)[:40].reshape(2, 20)
    for dims in ([0], [1]):
        check(A.amax.default, x, dims)
        check(A.linalg_vector_norm.default, x, INF, dims)
        check(A.count_nonzero.dim_IntList, x, dims)
        check(A.any.dims, x, dims)


def test_safe_softmax_of_masked_rows() -> None:
    inf = float("inf")
    rows = [[-inf] * 5, [-inf, 1.0, -inf, 2.0, 0.0], [float("nan"), *[-inf] * 4], [inf, *[-inf] * 4], [-200.0] * 5]
    for x in (torch.tensor(rows), torch.tensor(rows).repeat(1, 9)):
        for dim in (0, 1):
            check(A._safe_softmax.default, x, dim, tolerance=4 * ULPS)


@pytest.mark.parametrize("name", ["sum", "amax", "argmax", "softmax"])
def test_strides(name: str) -> None:
    operator: Any = {"sum": A.sum.dim_IntList, "amax": A.amax.default, "argmax": A.argmax.default}.get(
        name, A.softmax.int
    )
    x = torch.randn(6, 7, 34)
    for view in (x[::2], x[..., ::2], x.permute(2, 0, 1), x[:, :1].expand(6, 5, 34)):
        for dim in range(3):
            dims = [dim] if name in ("sum", "amax") else dim
            check(operator, view, dims, tolerance=1e-5)


def test_truth_of_tensors_without_dims() -> None:
    for value in (torch.tensor(49, dtype=torch.uint8), torch.tensor(0, dtype=torch.uint8), torch.tensor(-2.5)):
        for operator in (A.any.default, A.all.default):
            check(operator, value)
        for operator in (A.any.dim, A.all.dim):
            check(operator, value, 0)


def test_tensors_without_dims() -> None:
    for x in (torch.tensor(2.5), torch.tensor(float("nan"))):
        for operator in (A.sum.default, A.mean.default, A.prod.default, A.max.default, A.any.default, A.all.default):
            check(operator, x)
    check(A.sum.dim_IntList, torch.tensor(True), [0])
    check(A.amin.default, torch.tensor(3), [-1], True)


def test_lanes_run_along_rows_that_lie_one_after_another() -> None:
    """Also where a dim of size 1 has a stride of 0, as in the tokens that a convolution's result is read as."""

    class Tokens(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.norm = torch.nn.Conv2d(3, 32, 4, 4), torch.nn.LayerNorm(32)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.norm(self.patches(x).flatten(2).transpose(1, 2))
            return result

    lowered = lower_anyhow(
        torch.export.export(Tokens(), (torch.randn(1, 3, 16, 16),)).module(), torch.randn(1, 3, 16, 16)
    )
    (norm,) = [kernel for kernel in lowered.program.kernels if isinstance(kernel, Rows)]
    assert not norm.vertical
