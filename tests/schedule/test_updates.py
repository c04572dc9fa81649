"""Updates as new tensors: what PyTorch's operators give, for every kind of index; bad ones are found in time."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import lower86
from tests.schedule.operators import check, check_foreign, exported, lowered

A = torch.ops.aten
N = torch.randn(3, 5, 4, 17, generator=torch.Generator().manual_seed(0))
I = torch.tensor  # noqa: E741


@pytest.mark.parametrize("dim", range(-4, 4))
def test_index_copy_along_every_dim(dim: int) -> None:
    size = N.shape[dim]
    index = torch.randperm(size)[: size - 1]
    check(A.index_copy.default, N, dim, index, torch.randn(3, 5, 4, 17).narrow(dim, 0, size - 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool])
def test_index_copy_of_every_width(dtype: torch.dtype) -> None:
    for width in (1, 15, 16, 17, 33):
        x = torch.arange(5 * width).view(5, width).to(dtype)
        rows = torch.ones_like(x[1:3])
        check(A.index_copy.default, x, 0, I([3, 0]), rows)
        check(A.index_copy.default, x.T.contiguous(), 1, I([3, 0]), rows.T.contiguous())


@pytest.mark.parametrize("strided", [False, True])
def test_rows_that_do_not_lie_side_by_side(strided: bool) -> None:
    rows = torch.randn(17, 2, 5).permute(2, 1, 0)
    check(A.index_copy.default, torch.randn(5, 8, 17), 1, I([7, 2]), rows if strided else rows.contiguous())


PUTS: dict[str, tuple[list[Any], tuple[int, ...]]] = {
    "rows": ([I([2, 0])], (2, 5, 4, 17)),
    "one row of one value": ([I(-1)], ()),
    "an inner dim": ([None, None, I([3, -4])], (3, 5, 2, 17)),
    "the last dim": ([None, None, None, I([16, 0, 3])], (3, 5, 4, 3)),
    "an index of two dims": ([None, I([[0, 4], [2, 1]])], (3, 2, 2, 4, 17)),
    "neighbours": ([None, I([0, 4]), I([[1], [3]])], (3, 2, 2, 17)),
    "indices apart": ([I([0, 2]), None, I([1, 3])], (2, 5, 17)),
    "all dims": ([I([0, 2]), I([0, 4]), I([1, -1]), I([[5], [16]])], (2, 2)),
    "values broadcast": ([None, I([2, 0])], (2, 1, 1)),
    "32 bits": ([I([2, 0], dtype=torch.int32)], (2, 5, 4, 17)),
}


@pytest.mark.parametrize("name", PUTS)
def test_index_put(name: str) -> None:
    indices, shape = PUTS[name]
    check(A.index_put.default, N, indices, torch.randn(shape))


def test_index_put_of_no_elements() -> None:
    check(A.index_put.default, N, [I([], dtype=torch.int64)], torch.randn(0, 5, 4, 17))


def test_what_adds_up_or_masks_is_foreign() -> None:
    check_foreign(A.index_put.default, N, [I([2, 0])], N[:2], True)
    check_foreign(A.index_put.default, N, [torch.tensor([True, False, True])], N[:2])


def test_slices_and_single_places() -> None:
    check(A.slice_scatter.default, N, N[:, :3] * 2, 1, 1, 4)
    check(A.slice_scatter.default, N, N[:, :2] * 2, -3, -4, 5, 2)
    check(A.select_scatter.default, N, N[..., 0] * 2, -1, 3)


BAD = [5, -6, 2**40, -(2**63)]


@pytest.mark.parametrize("bad", [*BAD, -1])
def test_a_row_out_of_range_is_an_error(bad: int) -> None:
    module, (x, index, rows) = lowered(A.index_copy.default, N, 1, I([0, 4]), N[:, :2])
    index[1] = bad
    with pytest.raises(lower86.InputError, match=f"index {bad} is out of range for a dimension of size 5"):
        module(x, index, rows)


@pytest.mark.parametrize("bad", BAD)
def test_a_place_out_of_range_is_an_error(bad: int) -> None:
    module, (x, index, rows) = lowered(A.index_put.default, N, [None, I([0, -5])], N[:, :2])
    index[1] = bad
    with pytest.raises(lower86.InputError, match=f"index {bad} is out of range for a dimension of size 5"):
        module(x, index, rows)


class Caches(torch.nn.Module):
    """Caches as inputs and results, written by slices of every kind."""

    def forward(self, keys: torch.Tensor, rows: torch.Tensor, places: torch.Tensor) -> Any:
        values = keys.clone()
        keys = keys.clone()
        keys[:, :, places] = rows
        values[0, 1] = 2.0
        values[:, :1, 3:5] = rows[:, :1]
        return keys, values, keys.index_copy(2, places, values[:, :, :2])


def test_caches_that_come_and_go() -> None:
    keys, rows, places = torch.randn(1, 2, 8, 4), torch.randn(1, 2, 2, 4), I([6, 1])
    module = exported(Caches(), [keys, rows, places])
    assert module.explanation.foreign == ()
    for got, want in zip(module(keys, rows, places), Caches()(keys, rows, places), strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=0)


class Prefix(torch.nn.Module):
    """Writes as many rows as there are."""

    def forward(self, cache: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return cache.slice_scatter(rows, 0, 1, 1 + rows.shape[0])


def test_more_rows_than_there_is_room_for() -> None:
    cache = torch.randn(8, 4)
    module = exported(Prefix(), [cache, torch.randn(3, 4)], dynamic_shapes=(None, {0: torch.export.Dim("n", max=7)}))
    for n in (2, 7):
        rows = torch.randn(n, 4)
        torch.testing.assert_close(module(cache, rows), Prefix()(cache, rows), rtol=0, atol=0)
    with pytest.raises(lower86.InputError):
        module(cache, torch.randn(8, 4))
