"""The passes that know quantization: where dequantize stands, what its parameters are, which constants are one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lower86.graph.edit import remove_dead
from lower86.graph.text import text_of
from lower86.normalize.drop_guards import drop_guards
from lower86.normalize.drop_identities import drop_identities
from lower86.normalize.fold_casts import fold_casts
from lower86.normalize.fold_constants import fold_constants, fold_dequantized_weights
from lower86.normalize.inline_regions import inline_regions
from lower86.normalize.move_dequantize import move_dequantize, unshare_dequantize
from lower86.normalize.scalar_qparams import scalar_qparams
from lower86.normalize.share_constants import share_constants
from lower86.normalize.spell_movement import spell_movement
from tests.models.qdq import U8, Q
from tests.normalize.graphs import after, graph_of, text

X = torch.randn(4, 6)
WEIGHT = torch.randint(-128, 128, (4, 6), dtype=torch.int8)
SCALES, ZEROS = torch.rand(4) + 0.1, torch.zeros(4, dtype=torch.int64)


def test_dequantize_moves_down_and_quantize_up() -> None:
    def function(x: Tensor) -> Tensor:
        return U8(U8(x).t().reshape(2, 12) * 2).view(24)

    assert after((drop_identities, spell_movement, move_dequantize), function, X) == text("""
        %0: u8[4, 6] = quantize_per_tensor(inputs_0, 0.0625, 7, 0, 255, u8)
        %1: u8[6, 4] = permute(%0, [1, 0])
        %2: u8[2, 12] = reshape(%1, [2, 12])
        %3: f32[2, 12] = dequantize_per_tensor(%2, 0.0625, 7, 0, 255, u8)
        %4: f32[2, 12] = mul(%3, 2)
        %5: u8[2, 12] = quantize_per_tensor(%4, 0.0625, 7, 0, 255, u8)
        %6: u8[24] = reshape(%5, [24])
        %7: f32[24] = dequantize_per_tensor(%6, 0.0625, 7, 0, 255, u8)
        return [%7]""")


def test_a_permuted_weight_takes_its_axis_along() -> None:
    def function(w: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
        return Q.dequantize_per_channel(w, scales, zeros, 0, -128, 127, torch.int8).t()

    passes = (spell_movement, move_dequantize, fold_constants)
    assert after(passes, function, constants=(WEIGHT, SCALES, ZEROS)) == text("""
        %0: f32[6, 4] = dequantize_per_channel(i8[6, 4], f32[4], i64[4], 1, -128, 127, i8)
        return [%0]""")


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_axes_count_from_the_end_too(axis: int) -> None:
    count = WEIGHT.shape[axis]
    constants = (WEIGHT, torch.rand(count) + 0.1, torch.zeros(count, dtype=torch.int64))

    def function(w: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
        return Q.dequantize_per_channel(w, scales, zeros, axis, -128, 127, torch.int8).t()

    after((spell_movement, move_dequantize, fold_constants), function, constants=constants)


def test_a_slice_of_a_quantized_value_is_not_quantized_first() -> None:
    assert after((move_dequantize,), lambda x: U8(x[:2]), X).startswith("%0: f32[2, 6] = slice(")


def test_every_user_has_its_own_dequantize() -> None:
    def function(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = U8(x)
        return y * 2, y + y, y

    assert after((unshare_dequantize,), function, X) == text("""
        %0: u8[4, 6] = quantize_per_tensor(inputs_0, 0.0625, 7, 0, 255, u8)
        %1: f32[4, 6] = dequantize_per_tensor(%0, 0.0625, 7, 0, 255, u8)
        %2: f32[4, 6] = mul(%1, 2)
        %3: f32[4, 6] = dequantize_per_tensor(%0, 0.0625, 7, 0, 255, u8)
        %4: f32[4, 6] = add(%3, %3)
        %5: f32[4, 6] = dequantize_per_tensor(%0, 0.0625, 7, 0, 255, u8)
        return [%2, %4, %5]""")


def test_parameters_in_constant_tensors_become_numbers() -> None:
    def function(x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        given = (scale, zero, 0, 255, torch.uint8)
        return Q.dequantize_per_tensor(Q.quantize_per_tensor(x, *given), *given)

    assert after((scalar_qparams,), function, X, constants=(torch.tensor(0.25), torch.tensor(3))) == text("""
        %0: u8[4, 6] = quantize_per_tensor(inputs_0, 0.25, 3, 0, 255, u8)
        %1: f32[4, 6] = dequantize_per_tensor(%0, 0.25, 3, 0, 255, u8)
        return [%1]""")


def test_equal_constants_are_one() -> None:
    constants = (
        WEIGHT,
        WEIGHT.clone(),
        torch.tensor([0.0]),
        torch.tensor([-0.0]),
        torch.tensor([float("nan")]).expand(3),
    )
    module = graph_of(lambda x, a, b, c, d, e: x + a + b + c + d + e[0] + e[1], X, constants=constants)
    share_constants(module)
    remove_dead(module)
    assert len(list(module.buffers())) == 4


def test_what_stays_float_becomes_a_float_weight() -> None:
    def function(x: Tensor, w: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
        return x @ Q.dequantize_per_channel(w, scales, zeros, 0, -128, 127, torch.int8).t()

    assert after((fold_dequantized_weights,), function, X, constants=(WEIGHT, SCALES, ZEROS)) == text("""
        %0: f32[6, 4] = t(f32[4, 6])
        %1: f32[4, 4] = matmul(inputs_0, %0)
        return [%1]""")


def test_regions_are_inlined() -> None:
    def function(x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            y, z = x * 2, x + 1
        with torch.autocast("cpu", enabled=False):
            y = y - z
        return y, z

    assert after((inline_regions,), function, X) == text("""
        %0: f32[4, 6] = mul(inputs_0, 2)
        %1: f32[4, 6] = add(inputs_0, 1)
        %2: f32[4, 6] = sub(%0, %1)
        return [%2, %1]""")


def test_checks_vanish() -> None:
    def function(x: Tensor) -> Tensor:
        torch._check(x.shape[0] < 100)
        return x.to(torch.float32) + 1

    module = graph_of(function, X, dynamic_shapes=(({0: torch.export.Dim("rows", max=50)},),))
    assert "_assert" in text_of(module)
    drop_guards(module)
    remove_dead(module)
    assert "_assert" not in text_of(module)
    assert "add(" in text_of(module)


def test_autocast_casts_become_part_of_the_dequantize() -> None:
    def function(x: Tensor, w: Tensor, scales: Tensor, zeros: Tensor) -> tuple[Tensor, ...]:
        weight = Q.dequantize_per_channel(w, scales, zeros, 0, -128, 127, torch.int8)
        rows = torch.full((4, 1), 0.5)
        return (
            torch.mm(U8(x).to(torch.bfloat16), weight.to(torch.bfloat16).t()),
            Q.dequantize_per_token(w, rows, zeros.view(4, 1), -128, 127, torch.int8, torch.float32).half(),
            U8(x).double(),
        )

    got = after((drop_identities, fold_casts), function, X, constants=(WEIGHT, SCALES * 0 + 0.5, ZEROS))
    folded = [line for line in got.splitlines() if "dequantize" in line]
    assert [line.split(" = ")[0].split(": ")[1] for line in folded] == [
        "bf16[4, 6]",
        "bf16[4, 6]",
        "f16[4, 6]",
        "f32[4, 6]",
    ]
    assert sum("_to_copy" in line for line in got.splitlines()) == 1  # to float64
