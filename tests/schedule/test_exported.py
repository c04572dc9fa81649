"""Operators as export writes them: composed ones taken apart, sizes known at the call; and what is not native."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.export import Dim

import lower86
from tests.schedule.operators import exported

Functions = Mapping[str, Callable[[Tensor], Any]]


class Together(torch.nn.Module):
    """All of the functions, of one input."""

    def __init__(self, functions: Functions) -> None:
        super().__init__()
        self.functions = functions

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {name: function(x) for name, function in self.functions.items()}


COMPOSED: Functions = {
    "narrow": lambda x: x.narrow(2, 1, 3),
    "movedim": lambda x: x.movedim(0, 2) * 1,
    "expand_as": lambda x: x[:, :1].expand_as(x) + x,
    "tile": lambda x: x.tile(2, 3),
    "repeat_interleave": lambda x: x.repeat_interleave(3, 1),
    "take_along_dim": lambda x: x.take_along_dim(x.argmax(2, keepdim=True), 2),
    "tensor_split": lambda x: torch.cat(x.tensor_split(3, 2)[::-1], 2),
    "swapaxes": lambda x: x.swapaxes(0, 1) + 1,
    "fliplr": lambda x: torch.fliplr(x),
    "hsplit": lambda x: torch.hsplit(x, 2)[1] + 0,
    "circular": lambda x: F.pad(x, (2, 3), mode="circular"),
    "reflect": lambda x: F.pad(x, (2, 3), mode="reflect"),
    "replicate": lambda x: F.pad(x, (2, 3), mode="replicate"),
    "constant": lambda x: F.pad(x, (2, -1), value=2.0),
    "unfold": lambda x: F.unfold(x[None], (3, 2), padding=1, stride=2),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "embedding_bag": lambda x: F.embedding_bag((x[0] * 0 + 3).long(), x[0].new_ones(8, 5)),
    "advanced index": lambda x: x[:, torch.tensor([2, 0, -1]), 1:3] + x[..., torch.tensor([[0], [1]])][0, :3, 0],
    "index with two": lambda x: x[torch.tensor([0, 3]), :, torch.tensor([1, 2])],
    "triangles": lambda x: x.tril() + x.triu(1),
    "activations": lambda x: F.prelu(x, torch.tensor([0.1])) + F.celu(x) + F.selu(x) + F.softsign(x) + F.tanhshrink(x),
    "norms": lambda x: F.normalize(x, dim=1) + F.rms_norm(x, [8]) + F.instance_norm(x[None])[0],
    "batch norm": lambda x: F.batch_norm(x, torch.ones(6) * 0.3, torch.ones(6) * 2.5),
    "statistics": lambda x: torch.std_mean(x, 1)[0] + x.max(1).values + x.min(1).indices + torch.aminmax(x, dim=1).max,
    "similarity": lambda x: F.cosine_similarity(x, x.roll(1, 2), 2),
    "remainders": lambda x: x % 0.7 + x // 0.3 + (x * 10).long() // 3 + (x * 10).long() % 3,
    "split": lambda x: torch.cat(torch.split(x, [1, 5], 1)[::-1], 1) + torch.stack(x.unbind(1), 1),
    "meshgrid": lambda x: torch.meshgrid(x[0, 0], x[0, 1], indexing="ij")[1] * 2,
    "one_hot": lambda x: F.one_hot((x * 0).long(), 5),
    "in place": lambda x: x.clone().masked_fill_(x > 0, 3.0).add_(1),
    "write a slice": lambda x: torch.ones_like(x).slice_scatter(x[:, :2], 1, 2, 4),
}


def test_composed_operators() -> None:
    """One export of all of them takes a tenth of the time of as many exports."""
    x = torch.randn(4, 6, 8)
    module = exported(Together(COMPOSED), [x])
    assert module.explanation.foreign == ()
    for name, got in module(x).items():
        torch.testing.assert_close(
            got, COMPOSED[name](x), rtol=1e-5, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}"
        )


ODD: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    "transpose without dims": (lambda x: x.transpose(0, -1) + 1, torch.tensor(2.0)),
    "t without dims": (lambda x: x.t() * 2, torch.tensor(2.0)),
    "hardtanh of integers": (lambda x: F.hardtanh(x, -1.5, 2.5), torch.arange(-4, 5)),
    "instance norm of two dims": (
        lambda x: torch.instance_norm(x, None, None, None, None, True, 0.1, 1e-5, False), torch.randn(2, 4),
    ),
    "dequantize to float64": (
        lambda x: torch.ops.quantized_decomposed.dequantize_per_tensor(
            x, 0.1, 3, 0, 255, torch.uint8, out_dtype=torch.float64
        ),
        torch.arange(20, dtype=torch.uint8),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_ranks_and_dtypes(name: str) -> None:
    function, x = ODD[name]
    module = exported(Together({name: function}), [x])
    want = function(x)
    for _ in range(2):
        for got in (module(x)[name], module.run_reference(x)[name]):
            torch.testing.assert_close(got, want, rtol=1e-12 if want.dtype == torch.float64 else 1e-6, atol=0)
        module.recompile()


FOREIGN: Functions = {
    "topk": lambda x: x.topk(3).values,
    "sort": lambda x: x.sort().values,
    "median": lambda x: x.median(1).values,
    "scatter": lambda x: x.scatter(0, x[:1].long(), 1.0),
    "index_put": lambda x: x.index_put((torch.tensor([0, 1]),), x[:2], accumulate=True),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_operators(name: str) -> None:
    x = torch.rand(4, 6, 8)
    module = exported(Together({name: FOREIGN[name]}), [x])
    assert len(module.explanation.foreign) == 1
    torch.testing.assert_close(module(x)[name], FOREIGN[name](x))


REFUSED: Functions = {
    "nonzero": lambda x: x.nonzero(), "mask": lambda x: x[x > 0], "masked_select": lambda x: x.masked_select(x > 0),
    "unique": lambda x: x.unique(), "item": lambda x: x * x.sum().item(),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_operators(name: str) -> None:
    with pytest.raises(lower86.GraphError, match="depends on data"):
        exported(Together({name: REFUSED[name]}), [torch.rand(4, 6)])


OF_ROWS: Functions = {
    "arange": lambda x: x[:, 0] + torch.arange(x.shape[0]),
    "arange of floats": lambda x: torch.arange(3, 3 + 2 * x.shape[0], 2, dtype=torch.float32) * 0.5,
    "full": lambda x: torch.full((x.shape[0], 3), 2.0),
    "full of a size": lambda x: torch.full((2, 2), x.shape[0]),
    "eye": lambda x: torch.eye(x.shape[0]),
    "causal mask": lambda x: torch.ones(x.shape[0], x.shape[0]).tril(),
    "times a size": lambda x: x * x.shape[0] + (x.shape[0] > torch.arange(6)),
    "the last row": lambda x: x[-1],
    "the first row": lambda x: x[0] + x[1:].sum(0),
    "all but two": lambda x: x[:-2] * 2,
    "the last three": lambda x: x[-3:] + 1,
    "flip": lambda x: x.flip(0, 1),
    "repeat": lambda x: x.repeat(2, 3),
    "tile": lambda x: x.tile(2),
    "pad": lambda x: torch.nn.functional.pad(x, (1, 2, 3, 0), value=1.5),
    "mean and variance": lambda x: x.mean(0) + x.var(0),
    "argmax": lambda x: x.argmax(0) + x.argmax(),
    "cumsum": lambda x: x.cumsum(0),
    "unfold": lambda x: x.unfold(1, 3, 2).sum(-1) @ torch.ones(2, 2),
    "group norm": lambda x: torch.nn.functional.group_norm(x[:, :, None], 2)[:, :, 0],
}


def test_sizes_known_at_the_call() -> None:
    module = exported(Together(OF_ROWS), [torch.randn(5, 6)], dynamic_shapes=({0: Dim("rows", min=4)},))
    assert module.explanation.foreign == ()
    for rows in (4, 5, 17, 40):
        x = torch.randn(rows, 6, generator=torch.Generator().manual_seed(rows))
        for name, got in module(x).items():
            want = OF_ROWS[name](x)
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")
