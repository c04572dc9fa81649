from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import lower86
from lower86.int8.single_rows import spell_single_rows
from lower86.normalize.merge_movement import merge_movement
from lower86.normalize.spell_movement import spell_movement
from lower86.normalize.spell_products import spell_products
from tests.models.checks import near
from tests.normalize.graphs import Function, after, text

PASSES = (spell_movement, spell_products, merge_movement, spell_single_rows)


def _scores(q: Tensor, keys: Tensor) -> Tensor:
    return q @ keys.transpose(-1, -2)


def test_scores_of_one_query_turn_no_keys_over() -> None:
    assert after(PASSES, _scores, torch.randn(2, 3, 1, 8), torch.randn(2, 3, 5, 8)) == text("""
        %0: f32[2, 3, 5, 8] = mul(inputs_0, inputs_1)
        %1: f32[2, 3, 5, 1] = sum(%0, [-1], True)
        %2: f32[2, 3, 1, 5] = permute(%1, [0, 1, 3, 2])
        return [%2]""")


def test_keys_that_lie_between_the_heads() -> None:
    def function(q: Tensor, keys: Tensor) -> Tensor:
        return q @ keys.permute(0, 2, 3, 1)

    assert "matmul" not in after(PASSES, function, torch.randn(2, 3, 1, 8), torch.randn(2, 5, 3, 8))


KEPT: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], tuple[int, ...], tuple[int, ...], torch.dtype]] = {
    "two rows": (_scores, (3, 2, 8), (3, 5, 8), torch.float32),
    "a matrix as it is": (torch.matmul, (3, 1, 8), (3, 8, 5), torch.float32),
    "float64": (lambda q, y: q @ y.permute(1, 2, 0), (3, 1, 8), (5, 3, 8), torch.float64),
    "rows of the heads": (lambda q, y: q @ y.permute(2, 0, 1), (3, 1, 8), (8, 5, 3), torch.float32),
    "bf16, whose products would be rounded": (_scores, (3, 1, 8), (3, 5, 8), torch.bfloat16),
}


@pytest.mark.parametrize(("function", "left", "right", "dtype"), KEPT.values(), ids=KEPT)
def test_what_stays_a_product(
    function: Callable[[Tensor, Tensor], Tensor], left: tuple[int, ...], right: tuple[int, ...], dtype: torch.dtype
) -> None:
    assert "matmul" in after(PASSES, function, torch.randn(left, dtype=dtype), torch.randn(right, dtype=dtype))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((2, 3, 1, 8), (2, 3, 5, 8)), ((1, 1, 17), (1, 33, 17)), ((4, 1, 64), (1, 256, 64)),
        ((2, 1, 1, 16), (3, 1, 16)), ((3, 1, 1), (3, 7, 1)), ((3, 1, 0), (3, 7, 0)), ((3, 1, 8), (3, 0, 8)),
        ((0, 1, 8), (0, 5, 8)), ((1, 8), (3, 5, 8)),
    ],
)  # fmt: skip
def test_compiled(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    q, keys = torch.randn(left), torch.randn(right)
    lowered = lower86.lower_pt2e_quantized_to_x86(Function(_scores), (q, keys), on_fallback="ignore")
    assert not any(node.target is torch.ops.aten.matmul.default for node in lowered.graph.nodes)
    near(lowered(q, keys), _scores(q.double(), keys.double()).float())


def test_any_number_of_keys_with_infinities() -> None:
    q, keys = torch.randn(2, 1, 8), torch.randn(2, 5, 8)
    number = torch.export.Dim("number", max=100)
    shapes = {"inputs": (None, {1: number})}
    lowered = lower86.lower_pt2e_quantized_to_x86(
        Function(_scores), (q, keys), dynamic_shapes=shapes, on_fallback="ignore"
    )
    assert not any(node.target is torch.ops.aten.matmul.default for node in lowered.graph.nodes)
    for count in (0, 1, 17, 100):
        keys = torch.randn(2, count, 8)
        if count > 2:
            keys[0, 1, 3], keys[1, 2, 0] = float("inf"), float("nan")
        near(lowered(q, keys), _scores(q, keys))
