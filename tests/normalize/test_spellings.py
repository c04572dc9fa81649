"""The smaller spelling passes: before, as a function; after, as text."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lower86.normalize.drop_identities import drop_identities
from lower86.normalize.fold_constants import fold_constants
from lower86.normalize.merge_movement import merge_movement
from lower86.normalize.spell_composites import spell_composites
from lower86.normalize.spell_movement import spell_movement
from lower86.normalize.spell_norms import spell_norms
from lower86.normalize.spell_pieces import spell_pieces
from tests.normalize.graphs import after, text

A = torch.ops.aten
X = torch.randn(2, 3, 4)


def test_movement() -> None:
    def function(x: Tensor) -> tuple[Tensor, ...]:
        return x.transpose(0, -1), x[1].t(), x.unsqueeze(1), x.flatten(0, 1), x.select(2, -1), x.view(6, 4)

    assert after((spell_movement,), function, X) == text("""
        %0: f32[4, 3, 2] = permute(inputs_0, [2, 1, 0])
        %1: f32[1, 3, 4] = slice(inputs_0, 0, 1, 2, 1)
        %2: f32[3, 4] = reshape(%1, [3, 4])
        %3: f32[4, 3] = permute(%2, [1, 0])
        %4: f32[2, 1, 3, 4] = reshape(inputs_0, [2, 1, 3, 4])
        %5: f32[6, 4] = reshape(inputs_0, [6, 4])
        %6: f32[2, 3, 1] = slice(inputs_0, 2, 3, 4, 1)
        %7: f32[2, 3] = reshape(%6, [2, 3])
        %8: f32[6, 4] = reshape(inputs_0, [6, 4])
        return [%0, %3, %4, %5, %7, %8]""")


def test_movement_of_movement() -> None:
    def function(x: Tensor) -> tuple[Tensor, ...]:
        return (
            x.transpose(0, 1).transpose(0, 2),
            x.transpose(0, 1).transpose(0, 1),
            x.view(6, 4).view(3, -1),
            x.view(6, 4).view_as(x),
        )

    assert after((spell_movement, merge_movement), function, X) == text("""
        %0: f32[4, 2, 3] = permute(inputs_0, [2, 0, 1])
        %1: f32[3, 8] = reshape(inputs_0, [3, 8])
        return [%0, inputs_0, %1, inputs_0]""")


def test_pieces() -> None:
    def function(x: Tensor) -> tuple[Tensor, ...]:
        a, b = x.split([1, 2], 1)
        return a, b, torch.stack([x, x], -1), x.chunk(2, 2)[1]

    assert after((spell_pieces,), function, X) == text("""
        %0: f32[2, 1, 4] = slice(inputs_0, 1, 0, 1, 1)
        %1: f32[2, 2, 4] = slice(inputs_0, 1, 1, 3, 1)
        %2: f32[2, 3, 4, 1] = unsqueeze(inputs_0, 3)
        %3: f32[2, 3, 4, 1] = unsqueeze(inputs_0, 3)
        %4: f32[2, 3, 4, 2] = cat([%2, %3], 3)
        %5: f32[2, 3, 2] = slice(inputs_0, 2, 2, 4, 1)
        return [%0, %1, %4, %5]""")


def test_identities() -> None:
    def function(x: Tensor) -> Tensor:
        y = F.dropout(x.clone().detach(), 0.5, training=False).contiguous().float().expand(2, 3, 4)
        return y[:, :, :].view(2, 3, 4) * 2

    assert after((drop_identities,), function, X) == text("""
        %0: f32[2, 3, 4] = mul(inputs_0, 2)
        return [%0]""")


def test_a_cast_that_changes_the_dtype_stays() -> None:
    assert "_to_copy" in after((drop_identities,), lambda x: x.double().float(), X)


def test_composites() -> None:
    def function(x: Tensor, m: Tensor) -> tuple[Tensor, ...]:
        norm = A.native_layer_norm(x, [4], None, None, 1e-5)[0]
        return norm, F.layer_norm(x, [4]), A._softmax(x, 1, False), x.masked_fill(m, 2.0)

    assert after((spell_composites,), function, X, X > 0) == text("""
        %0: f32[2, 3, 4] = layer_norm(inputs_0, [4], None, None, 1e-05)
        %1: f32[2, 3, 4] = layer_norm(inputs_0, [4], None, None, 1e-05)
        %2: f32[2, 3, 4] = softmax(inputs_0, 1)
        %3: f32[2, 3, 4] = where(inputs_1, 2, inputs_0)
        return [%0, %1, %2, %3]""")


def test_clamps() -> None:
    def function(x: Tensor) -> tuple[Tensor, ...]:
        return x.clamp_min(-1.0), x.clamp_max(1), F.hardtanh(x, -0.5, 0.5), F.relu6(x), x.clamp(0.0, 1.0)

    assert after((spell_composites,), function, X) == text("""
        %0: f32[2, 3, 4] = clamp(inputs_0, -1)
        %1: f32[2, 3, 4] = clamp(inputs_0, None, 1)
        %2: f32[2, 3, 4] = clamp(inputs_0, -0.5, 0.5)
        %3: f32[2, 3, 4] = clamp(inputs_0, 0, 6)
        %4: f32[2, 3, 4] = clamp(inputs_0, 0, 1)
        return [%0, %1, %2, %3, %4]""")


def test_selections_with_constants() -> None:
    def function(x: Tensor, m: Tensor, i: Tensor, two: Tensor, row: Tensor) -> tuple[Tensor, ...]:
        return torch.where(m, two, x), torch.where(m, x, two), torch.where(m, row, x), torch.where(m, two, i)

    constants = (torch.tensor(2.5), torch.ones(4))
    assert after((spell_composites,), function, X, X > 0, torch.ones(4).long(), constants=constants) == text("""
        %0: f32[2, 3, 4] = where(inputs_1, 2.5, inputs_0)
        %1: f32[2, 3, 4] = where(inputs_1, inputs_0, 2.5)
        %2: f32[2, 3, 4] = where(inputs_1, f32[4], inputs_0)
        %3: f32[2, 3, 4] = where(inputs_1, f32[], inputs_2)
        return [%0, %1, %2, %3]""")


def test_a_layer_norm_whose_mean_is_read_stays() -> None:
    assert "native_layer_norm" in after(
        (spell_composites,), lambda x: A.native_layer_norm(x, [4], None, None, 1e-5)[:2], X
    )


def test_batch_norm() -> None:
    def function(x: Tensor, w: Tensor, b: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        return F.batch_norm(x, mean, variance, w, b, eps=1e-3), F.batch_norm(x[:, :, 0], mean, variance)

    constants = (torch.randn(3), torch.randn(3), torch.randn(3), torch.rand(3))
    assert after((spell_norms, fold_constants), function, X, constants=constants) == text("""
        %0: f32[2, 3, 4] = mul(inputs_0, f32[3, 1])
        %1: f32[2, 3, 4] = add(%0, f32[3, 1])
        %2: f32[2, 3] = select(inputs_0, 2, 0)
        %3: f32[2, 3] = mul(%2, f32[3])
        %4: f32[2, 3] = add(%3, f32[3])
        return [%1, %4]""")


def test_constants_are_computed() -> None:
    def function(x: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        mask = torch.ones(4, dtype=torch.bool) & (x > 0)
        return x + (torch.arange(4) * 2 + c.sum()).exp(), mask, torch.rand_like(c) * 0 + x

    assert after((fold_constants,), function, X, constants=(torch.randn(4),)) == text("""
        %0: f32[2, 3, 4] = add(inputs_0, f32[4])
        %1: bool[2, 3, 4] = gt(inputs_0, 0)
        %2: f32[4] = rand_like(f32[4], pin_memory=False)
        %3: f32[4] = mul(%2, 0)
        %4: f32[2, 3, 4] = add(%3, inputs_0)
        return [%0, %1, %4]""")
