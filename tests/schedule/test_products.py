"""Matrix products and attention against PyTorch."""

from __future__ import annotations

import pytest
import torch

import lower86
from lower86.ops.attention import int8_attention
from lower86.ops.linear import int8_linear
from tests.models.checks import agree, lower_anyhow, near
from tests.schedule.operators import check, exported, lowered

A = torch.ops.aten


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
    check(A.matmul.default, torch.randn(k), y, tolerance=1e-5)


@pytest.mark.parametrize("given", [(), ("row_scale",), ("row_zero_point",), ("row_scale", "row_zero_point")], ids=str)
def test_int8_linear_with_rows_of_their_own(given: tuple[str, ...]) -> None:
    x = torch.randint(0, 256, (2, 5, 33), dtype=torch.uint8)
    weight = torch.nn.Parameter(torch.randint(-128, 128, (20, 33), dtype=torch.int8), requires_grad=False)
    scale = torch.nn.Parameter(torch.rand(20) + 0.1, requires_grad=False)
    rows = {
        "row_scale": torch.rand(2, 5, 1) + 0.1,
        "row_zero_point": torch.randint(0, 256, (2, 5, 1), dtype=torch.int32),
    }
    check(int8_linear, x, weight, None, x_zero_point=7, scale=scale, **{name: rows[name] for name in given})


@pytest.mark.parametrize("queries", [1, 5, 64, 70])
def test_attention(queries: int) -> None:
    attention = A.scaled_dot_product_attention.default
    q, k, v = (torch.randn(2, 4, size, 24) for size in (queries, 33, 33))
    check(attention, q, k, v, tolerance=1e-5)
    check(attention, q, k, v, torch.randn(queries, 33), tolerance=1e-5)
    check(attention, q, k, v, torch.nn.Parameter(torch.randn(queries, 33)), tolerance=1e-5)
    check(attention, q, k, v, torch.nn.Parameter(torch.randn(2, 1, 1, 33)), tolerance=1e-5)
    check(attention, q, k, v, torch.rand(2, 1, 1, 33) < 0.7, tolerance=1e-5)
    check(attention, q, k, v, torch.rand(2, 1, queries, 33) < 0.7, scale=0.3, tolerance=1e-5)
    check(attention, q, k[:, :2], v[:, :2], enable_gqa=True, tolerance=1e-5)
    check(attention, q[0], k[0], v[0], tolerance=1e-5)
    square = torch.randn(2, 4, queries, 24)
    check(attention, q, square, square, is_causal=True, tolerance=1e-5)
    nothing = torch.zeros(queries, 33, dtype=torch.bool)
    check(attention, q, k, v, nothing, tolerance=1e-5)


class Masked(torch.nn.Module):
    """Attention with a mask that is an input."""

    def forward(self, q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(q, k, k, mask)


@pytest.mark.parametrize(
    ("queries", "mask"),
    [
        ((2, 6, 8), (3, 2, 6, 7)),
        ((2, 6, 8), (1, 2, 6, 7)),
        ((1, 2, 6, 8), (3, 2, 6, 7)),
        ((2, 1, 6, 8), (2, 3, 6, 7)),
        ((2, 2, 1, 8), (6, 7)),
        ((1, 2, 6, 8), (1, 1, 2, 6, 7)),
    ],
)
def test_a_mask_of_more_than_the_scores_is_pytorchs(queries: tuple[int, ...], mask: tuple[int, ...]) -> None:
    """Export takes it and gives the result the mask's dims; PyTorch's kernel refuses it."""
    keys = (*queries[:-2], 7, 8)
    inputs = torch.randn(queries), torch.randn(keys), torch.randn(mask)
    module = exported(Masked(), inputs)
    assert len(module.explanation.foreign) == 1
    with pytest.raises(lower86.InputError, match=r"scaled_dot_product_attention refuses .* doesn't match"):
        module(*inputs)


def test_a_mask_of_more_than_the_scores_in_an_edited_graph() -> None:
    q = torch.randint(0, 256, (2, 2, 5, 8), dtype=torch.uint8)
    scales = {"score_scale": 1e-4, "weight_scale": 1 / 255, "scale": 1e-2}
    points = {"query_zero_point": 128, "key_zero_point": 3, "weight_zero_point": 0, "value_zero_point": 100}
    options = {**scales, **points, "weight_low": 0, "weight_high": 255}
    module, inputs = lowered(int8_attention, q, q, q, torch.rand(2, 1, 5, 5) < 0.7, **options)
    assert module.explanation.foreign == ()
    module(*inputs)
    module, inputs = lowered(int8_attention, q[:1], q[:1], q[:1], torch.rand(2, 1, 5, 5) < 0.7, **options)
    assert len(module.explanation.foreign) == 1
    module(*inputs)


def test_products_of_vectors() -> None:
    x, u, v = torch.randn(3, 7, 5), torch.randn(5), torch.randn(7)
    check(A.matmul.default, x, u, tolerance=1e-5)
    check(A.matmul.default, v, x, tolerance=1e-5)
    check(A.matmul.default, u, u, tolerance=1e-5)
    check(A.mv.default, x[0], u, tolerance=1e-5)
    check(A.addmv.default, v, x[0], u, beta=0, tolerance=1e-5)
    check(A.addmv.default, torch.randn(1), x[0], u, tolerance=1e-5)


def test_a_constant_mask_takes_no_step() -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mask = torch.nn.Parameter(torch.randn(5, 7), requires_grad=False)

        def forward(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
            attention = torch.nn.functional.scaled_dot_product_attention
            return attention(attention(q, k, k, self.mask), k, k, self.mask)

    model, inputs = Twice(), (torch.randn(2, 5, 8), torch.randn(2, 7, 8))
    lowered = lower_anyhow(model, *inputs)
    agree(model, lowered, *inputs, compare=near)
    assert [kernel.kind for kernel in lower86.explain(lowered).kernels] == ["attention"]
    assert sum(value.place == "constant" for value in lowered.program.values) == 1
