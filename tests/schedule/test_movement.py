"""Movement and gathers against PyTorch: as strides, as copies, as reads at computed places."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import lower86
from tests.schedule.operators import check, check_foreign, exported, lowered
from tests.schedule.values import FEW, SIZES, tensor

A = torch.ops.aten
DTYPES = (torch.float32, torch.float64, torch.int64, torch.int16, torch.uint8, torch.bool)


def constant(value: Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(value, requires_grad=False)


def test_views() -> None:
    x = torch.randn(4, 6, 10)
    check(A.permute.default, x, [2, 0, 1])
    check(A.transpose.int, x, 0, -1)
    check(A.view.default, x, [24, 2, 5])
    check(A.expand.default, x[:, :1], [3, 4, 6, 10])
    check(A.slice.Tensor, x, 1, 1, 5, 2)
    check(A.slice.Tensor, x, 2, -7, 9223372036854775807)
    check(A.slice.Tensor, x, 2, -70, 3)
    check(A.slice.Tensor, x, 2, 30, 40)
    check(A.select.int, x, 1, -2)
    check(A.unsqueeze.default, x, 1)
    check(A.squeeze.dim, x[:, :1], 1)
    check(A.clone.default, x.permute(2, 1, 0))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_windows_and_diagonals(dtype: torch.dtype) -> None:
    x = tensor((3, 6, 9), dtype)
    for dim, size, step in ((2, 3, 1), (2, 4, 2), (1, 6, 5), (0, 1, 2), (-1, 9, 1)):
        check(A.unfold.default, x, dim, size, step)
    for offset in (-7, -2, -1, 0, 1, 4, 8, 10):
        check(A.diagonal.default, x, offset, 1, 2)
        check(A.diagonal.default, x, offset, -1, 0)


@FEW
@given(shape=st.lists(st.sampled_from(SIZES), min_size=1, max_size=3), data=st.data())
def test_flip_roll_and_repeat(shape: list[int], data: st.DataObject) -> None:
    x, rank = tensor(tuple(shape), torch.float32), len(shape)
    dims = data.draw(st.lists(st.integers(0, rank - 1), unique=True, min_size=1))
    shifts = data.draw(st.lists(st.integers(-40, 40), min_size=len(dims), max_size=len(dims)))
    check(A.flip.default, x, dims)
    check(A.roll.default, x, shifts, dims)
    check(A.roll.default, x, shifts[:1], [])
    check(A.repeat.default, x, data.draw(st.lists(st.integers(0, 3), min_size=rank, max_size=rank + 2)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_flip_and_roll_of_views(dtype: torch.dtype) -> None:
    x = tensor((4, 6, 34), dtype)
    for view in (x[:, ::2], x[..., ::2], x.permute(2, 0, 1), x[:, :1].expand(4, 5, 34)):
        check(A.flip.default, view, [0, -1])
        check(A.roll.default, view, [1, 1, -2], [0, -1, 0])
    for turns in range(-1, 4):
        check(A.rot90.default, x, turns, [2, 1])


PADS: list[list[int]] = [[1, 2], [0, 3, 2, 0], [2, 2, 1, 1, 1, 0], [0, 0]]


@pytest.mark.parametrize("pad", PADS, ids=str)
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular", "constant"])
def test_padding(pad: list[int], mode: str) -> None:
    rank = 2 + len(pad) // 2
    x = torch.randn([2, 3, 4, 5, 17][-rank:])
    check(A.pad.default, x, pad, mode)
    check(A.pad.default, x.transpose(-1, -2).contiguous().transpose(-1, -2), pad, mode)
    if mode == "constant":
        for value in (1.5, float("inf"), float("nan")):
            check(A.constant_pad_nd.default, x, pad, value)
        check(A.constant_pad_nd.default, x > 0, pad, 1)
        check(A.constant_pad_nd.default, x, [-n for n in pad], 3.0)
        check(A.constant_pad_nd.default, x, [-1, 2, 3, -2], 3.0)
        check(A.constant_pad_nd.default, x[:0], pad, 3)


def test_padding_that_takes_away_is_foreign_but_for_constants() -> None:
    check_foreign(A.replication_pad1d.default, torch.randn(2, 3, 9), [-1, 2])


def test_joins() -> None:
    x = torch.randn(4, 6, 10)
    check(A.cat.default, [x, x[:, :2], x[:, 3:]], 1)
    check(A.cat.default, [x.permute(1, 0, 2), x.reshape(6, 4, 10)], -1)
    check(A.cat.default, [x, torch.zeros(0), x], 0)
    check(A.cat.default, [x, torch.zeros(4, 0, 10)], 1)
    check(A.cat.default, [x > 0, torch.ones(4, 6, 3, dtype=torch.int32), x], 2)
    check(A.cat.default, [x.double(), x], 2)
    check(A.stack.default, [x, x * 2], 2)
    check(A.slice_scatter.default, x, x[:, 1:5:2], 1, 1, 5, 2)
    check(A.slice_scatter.default, x, x[:, :, -3:].permute(0, 1, 2), -1, -3)
    check(A.slice_scatter.default, x.long(), x[:2], 0, 2)
    check(A.select_scatter.default, x, x[:, :, 0], 2, -1)
    check(A.copy.default, x, x[:1].long())


def test_layouts() -> None:
    x = torch.randn(2, 12, 6, 7)
    for factor in (1, 2):
        check(A.pixel_shuffle.default, x, factor)
        check(A.pixel_shuffle.default, x[0], factor)
    check(A.pixel_unshuffle.default, x[..., :6], 3)
    check(A.channel_shuffle.default, x, 3)
    for dim in (1, 2):
        check(A.glu.default, x, dim, tolerance=1e-6)
    for kernel, dilation, padding, stride in (([3, 3], [1, 1], [0, 0], [1, 1]), ([2, 3], [2, 1], [1, 2], [2, 3])):
        check(A.im2col.default, x, kernel, dilation, padding, stride)
    patches = torch.randn(2, 12, 12)
    for kernel, padding, size in (([2, 3], [0, 0], [6, 12]), ([2, 3], [1, 3], [6, 3]), ([3, 2], [0, 1], [12, 4])):
        check(A.col2im.default, patches, size, kernel, [1, 1], padding, kernel)
        check(A.col2im.default, patches[0], size, kernel, [1, 1], padding, kernel)


def test_strides_are_places() -> None:
    x = torch.randn(4, 6, 10)
    check(A.as_strided.default, x, [5, 7], [3, 10], 2)
    check(A.as_strided.default, x, [3, 4, 2], [1, 0, 9])
    check(A.as_strided.default, x.flatten(), [], [], 3)
    flipped = torch.empty_strided((4, 6, 10), (1, 4, 24)).copy_(x)
    module, _ = lowered(A.as_strided.default, x, [5, 7], [3, 10], 2)
    torch.testing.assert_close(module(flipped)[0], A.as_strided.default(x, [5, 7], [3, 10], 2))


class Model(torch.nn.Module):
    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def test_strides_survive_a_copy_that_lowering_drops() -> None:
    x = torch.randn(6, 8)
    function: Callable[[Tensor], Tensor] = lambda x: x.t().contiguous().as_strided((4, 5), (3, 1), 2)  # noqa: E731
    module = exported(Model(function), [x])
    assert torch.equal(module(x), function(x))
    permuted: Callable[[Tensor], Tensor] = lambda x: (x * 2).t().as_strided((4, 5), (3, 1), 2)  # noqa: E731
    assert torch.equal(exported(Model(permuted), [x])(x), permuted(x))
    gaps: Callable[[Tensor], Tensor] = lambda x: x[:, ::2].as_strided((4, 5), (3, 1), 2)  # noqa: E731
    with pytest.raises(lower86.GraphError, match="as_strided"):
        exported(Model(gaps), [x])


# Gathers

TABLE = torch.randn(11, 20)
INDEX = torch.tensor([[0, 10, 3], [7, 7, 1]])


def test_gathers() -> None:
    check(A.embedding.default, TABLE, INDEX)
    check(A.embedding.default, TABLE, INDEX[:, :0])
    check(A.embedding.default, TABLE.T, INDEX.int(), 3)
    check(A.embedding.default, TABLE, torch.tensor(4))
    check(A.index_select.default, TABLE, 1, INDEX[0])
    check(A.index_select.default, TABLE, -2, INDEX[0].int())
    check(A.gather.default, TABLE, 1, INDEX)
    check(A.gather.default, TABLE.T, 0, INDEX)
    check(A.gather.default, TABLE > 0, -1, INDEX)


X4 = torch.randn(5, 4, 6, 7)
I1, I2, I0 = torch.tensor([0, -1, 3]), torch.tensor([[2], [-3]]), torch.tensor(1)
INDICES: list[list[Tensor | None]] = [
    [I1], [I2], [I0], [I1, I2], [I1, I1, I2], [None, I1], [None, I1, I2], [None, None, None, I1], [I1, None, I2],
    [None, I1, None, I2], [I0, None, I0], [I2, I1, I0, I2], [I1.int(), None, I1.int()],
]  # fmt: skip


@pytest.mark.parametrize(
    "indices", INDICES, ids=lambda i: ",".join("-" if x is None else str(list(x.shape)) for x in i)
)
def test_index(indices: list[Tensor | None]) -> None:
    check(A.index.Tensor, X4, indices)
    check(A.index.Tensor, (X4 * 10).to(torch.int8).permute(3, 1, 2, 0), indices)


def test_index_out_of_range_is_an_error() -> None:
    module, _ = lowered(A.index.Tensor, X4, [None, I1])
    with pytest.raises(lower86.InputError, match="index 4 is out of range for a dimension of size 4"):
        module(X4, torch.tensor([0, 4, 1]))


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_bags(mode: int) -> None:
    offsets = constant(torch.tensor([0, 3]))
    weights = torch.randn(6)
    check(A._embedding_bag.default, TABLE, INDEX.view(-1), offsets, False, mode, tolerance=1e-6, result=0)
    if mode == 0:
        check(A._embedding_bag.default, TABLE, INDEX.view(-1), offsets, False, mode, False, weights, tolerance=1e-6,
              result=0)  # fmt: skip
    if mode < 2:
        for padding in (7, 1):
            check(A._embedding_bag.default, TABLE, INDEX.view(-1), offsets, False, mode, False, None, False, padding,
                  tolerance=1e-6, result=0)  # fmt: skip
    uneven = constant(torch.tensor([0, 2]))
    check_foreign(A._embedding_bag.default, TABLE, INDEX.view(-1), uneven, False, 0, result=0)
