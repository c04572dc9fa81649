"""Attention as models write it out: one operator where no row of it can be NaN, and as it is everywhere else."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lower86.graph.text import text_of
from lower86.normalize import PASSES, normalize
from lower86.normalize.bounds import bounds
from lower86.normalize.spell_written_attention import spell_written_attention
from tests.models.checks import agree, lower_anyhow, near
from tests.normalize.graphs import Function, graph_of

Q, K, V = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 6, 8), torch.randn(2, 3, 6, 5)
KEEP = torch.rand(2, 1, 4, 6) < 0.6
KEEP[0, 0, 1] = False
LEAST = torch.finfo(torch.float32).min
BIAS, TABLE = torch.randn(4, 6), torch.randn(9, 3)
PLACES = torch.randint(0, 9, (4, 6))
PADDING, TRIANGLE = (torch.arange(6) > 1)[None, None, None], torch.ones(4, 6).tril() > 0
TOGETHER = (
    "masks that hide all keys only together", "a mask of numbers, and one that takes its place", "windows",
)  # fmt: skip


def scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.transpose(-1, -2)


def times(x: Tensor, c: float) -> Tensor:
    return torch.softmax(x * c, -1)


def added(keep: Tensor) -> Tensor:
    return torch.where(keep, 0.0, LEAST)


WHOLE: dict[str, Any] = {
    "plain": (lambda q, k, v: torch.softmax(scores(q, k), -1) @ v, (Q, K, V)),
    "scaled": (lambda q, k, v: times(scores(q, k), 8**-0.5) @ v, (Q, K, V)),
    "divided": (lambda q, k, v: torch.softmax(scores(q, k) / math.sqrt(8), -1) @ v, (Q, K, V)),
    "operands scaled": (lambda q, k, v: torch.softmax(scores(q * 0.5, k / 4.0), -1) @ v, (Q, K, V)),
    "three dims": (lambda q, k, v: torch.softmax(torch.bmm(q, k.mT) * 0.3, -1) @ v, (Q[0], K[0], V[0])),
    "dropout": (lambda q, k, v: torch.dropout(torch.softmax(scores(q, k), -1), 0.1, False) @ v, (Q, K, V)),
    "a mask of numbers": (
        lambda q, k, v, keep: torch.softmax(scores(q, k) / 3 + added(keep), -1) @ v, (Q, K, V, KEEP)
    ),
    "a mask of numbers, computed": (
        lambda q, k, v, keep: torch.softmax(scores(q, k) + (1.0 - keep.float()) * LEAST, -1) @ v, (Q, K, V, KEEP)
    ),
    "masked scores": (
        lambda q, k, v, keep: torch.softmax(scores(q, k).masked_fill(~keep, LEAST), -1) @ v, (Q, K, V, KEEP)
    ),
    "chosen scores": (
        lambda q, k, v, keep: torch.softmax(torch.where(keep, scores(q, k), LEAST), -1) @ v, (Q, K, V, KEEP)
    ),
    "a table of biases and a mask": (
        lambda q, k, v, keep, places, table: torch.softmax(
            scores(q, k) + table[places].permute(2, 0, 1) + added(keep), -1
        ) @ v,
        (Q, K, V, KEEP, PLACES), TABLE,
    ),
    "masks that hide all keys only together": (
        lambda q, k, v, padding, triangle: torch.softmax(
            scores(q, k).masked_fill(~triangle, LEAST).masked_fill(~padding, LEAST), -1
        ) @ v,
        (Q, K, V, PADDING), TRIANGLE,
    ),
    "a mask of numbers, and one that takes its place": (
        lambda q, k, v, padding, triangle: torch.softmax(
            torch.where(padding, scores(q, k) + torch.where(triangle, 0.0, -1e32), -1e32), -1
        ) @ v,
        (Q, K, V, PADDING), TRIANGLE,
    ),
    "scaled after a mask": (
        lambda q, k, v, keep: times(scores(q, k).masked_fill(~keep, -1e30), 1e-29) @ v, (Q, K, V, KEEP)
    ),
    "a filled tensor": (
        lambda q, k, v, keep: torch.softmax(torch.where(keep, scores(q, k), torch.full((4, 6), LEAST)), -1) @ v,
        (Q, K, V, KEEP),
    ),
    "windows": (
        lambda q, k, v, keep: torch.softmax(
            scores(q, k).reshape(1, 2, 3, 4, 6).masked_fill(~keep[None], LEAST).reshape(2, 3, 4, 6), -1
        ) @ v,
        (Q, K, V, KEEP),
    ),
    "one number for all": (
        lambda q, k, v, table: torch.softmax(scores(q, k) + table[3], -1) @ v, (Q, K, V), torch.randn(6)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_becomes_one_operator(name: str) -> None:
    function, inputs, *constants = WHOLE[name]
    module = graph_of(function, *inputs, constants=tuple(constants))
    expected = module(*inputs)
    normalize(module)
    module.recompile()
    near(module(*inputs), expected)
    assert text_of(module).count("scaled_dot_product_attention(") == 1
    assert "softmax" not in text_of(module)
    assert not expected.isnan().any()


@pytest.mark.parametrize("name", TOGETHER)
def test_machine_code_agrees_with_what_is_written(name: str) -> None:
    function, inputs, *constants = WHOLE[name]
    model = Function(function, tuple(constants))
    agree(model, lower_anyhow(model, *inputs), *inputs, compare=near)


AS_IT_IS: dict[str, Any] = {
    "infinite": lambda q, k, v, keep: torch.softmax(scores(q, k).masked_fill(~keep, -math.inf), -1) @ v,
    "perhaps infinite": lambda q, k, v, keep: torch.softmax(scores(q, k) + keep.log(), -1) @ v,
    "two numbers that overflow": lambda q, k, v, keep: torch.softmax(scores(q, k) + added(keep) + added(keep), -1) @ v,
    "a number that scores can reach": lambda q, k, v, keep: torch.softmax(
        scores(q, k).masked_fill(~keep, -100.0), -1
    ) @ v,
    "truth that is added": lambda q, k, v, keep: torch.softmax(scores(q, k) + keep, -1) @ v,
    "integers that are added": lambda q, k, v, keep: torch.softmax(scores(q, k) + keep.long() * 3, -1) @ v,
    "beyond float16": lambda q, k, v, keep: torch.softmax(
        scores(q, k) + torch.where(keep, 0.0, -1e9).half().float(), -1
    ) @ v,
    "scores that are rounded": lambda q, k, v, keep: torch.softmax(scores(q, k).bfloat16().float(), -1) @ v,
    "a mask turned around": lambda q, k, v, keep: times(scores(q, k).masked_fill(keep, -1e30), -1.0) @ v,
    "a mask taken back": lambda q, k, v, keep: torch.softmax(
        scores(q, k).masked_fill(~keep, -1e30) + torch.full((4, 6), 1e30), -1
    ) @ v,
    "another dim": lambda q, k, v, keep: torch.softmax(scores(q, k), -2) @ v,
    "weights that others read": lambda q, k, v, keep: (
        lambda weights: (weights @ v, weights)
    )(torch.softmax(scores(q, k), -1)),
    "one key's heads for all": lambda q, k, v, keep: torch.softmax(scores(q, k[:, :1]), -1) @ v,
}  # fmt: skip


@pytest.mark.parametrize("name", AS_IT_IS)
def test_stays_as_it_is(name: str) -> None:
    module = graph_of(AS_IT_IS[name], Q, K, V, KEEP)
    expected = module(Q, K, V, KEEP)
    normalize(module)
    module.recompile()
    near(module(Q, K, V, KEEP), expected)
    assert "scaled_dot_product_attention" not in text_of(module)


BOUNDS: dict[str, Any] = {
    "numbers": (lambda x, m, c: torch.where(m, 2.0, -3.0), (-3.0, 2.0)),
    "a cast": (lambda x, m, c: (1.0 - m.to(torch.float32)) * -1e4, (-1e4, 0.0)),
    "a constant, moved": (lambda x, m, c: c.T.reshape(6).expand(2, 6), (-1.0, 4.0)),
    "a sum": (lambda x, m, c: c + torch.where(m, c, 9.0), (-2.0, 13.0)),
    "a difference": (lambda x, m, c: c - torch.where(m, c, 9.0), (-10.0, 5.0)),
    "an input": (lambda x, m, c: x + c, None),
    "beyond float32": (lambda x, m, c: c + torch.full_like(c, LEAST) + torch.full_like(c, LEAST), None),
    "a cast beyond float16": (lambda x, m, c: torch.where(m, 0.0, -1e9).half().float(), None),
    "the least float32 in bfloat16": (lambda x, m, c: torch.where(m, 0.0, LEAST).bfloat16().float(), None),
    "the edge of float16": (lambda x, m, c: torch.where(m, 0.0, -65519.0).half().float(), (-65519.0, 0.0)),
    "a product beyond float16": (lambda x, m, c: ((1.0 - m.half()) * -60000.0 * 2.0).float(), None),
    "a sum beyond float16": (lambda x, m, c: c.half() + torch.full_like(c, 65504.0).half() + 16.0, None),
    "a sum that float16 rounds up": (lambda x, m, c: (c.half() - 1.0 + 2047.0) * 1.0, (2045.0, 2050.0)),
    "a cast to integers": (lambda x, m, c: torch.where(m, -2.5, 3.5).to(torch.int32), (-2.0, 3.0)),
    "a cast beyond integers": (lambda x, m, c: torch.where(m, 0, 300).to(torch.uint8), (0.0, 255.0)),
    "a cast to truth": (lambda x, m, c: (torch.where(m, 0.0, 5.0) + 1.0).to(torch.bool), (1.0, 1.0)),
    "a cast to perhaps true": (lambda x, m, c: torch.where(m, 0.0, 5.0).to(torch.bool), (0.0, 1.0)),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds(name: str) -> None:
    function, wanted = BOUNDS[name]
    assert bounds_of(function, torch.tensor([[-1.0, 0.0, 1.0], [2.0, 3.0, 4.0]])) == wanted


def test_a_number_is_compared_in_the_dtype_of_the_tensor() -> None:
    for function in (torch.le, torch.ge):
        found = bounds_of(lambda x, m, c, function=function: function(torch.where(m, c, c), 0.1), torch.full((3,), 0.1))
        assert found is not None
        assert found[1] == 1.0  # as a float32, the constant is more than 0.1, and as much as 0.1 is


def bounds_of(function: Any, constant: Tensor) -> tuple[float, float] | None:
    module = graph_of(function, torch.randn(2, 3), torch.rand(2, 3) < 0.5, constants=(constant,))
    for apply in PASSES[: PASSES.index(spell_written_attention)]:
        apply(module)
    (result,) = module.graph.output_node().args[0]
    return bounds(module, result)
