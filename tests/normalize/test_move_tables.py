"""Tables of integers: their rows are looked up first and dequantized then; rows that never vary are constants."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lower86.graph.text import text_of
from lower86.normalize.bounds import bounds
from lower86.normalize.fold_constants import fold_constants
from lower86.normalize.move_dequantize import unshare_dequantize
from lower86.normalize.move_tables import move_tables
from tests.models.qdq import Q
from tests.normalize.graphs import after, graph_of, text

IDS = torch.tensor([[1, 0, 3]])
TABLE = torch.randint(-128, 128, (4, 6), dtype=torch.int8)
ROWS, COLUMNS, NONE = torch.rand(4) + 0.1, torch.rand(6) + 0.1, torch.zeros(4, dtype=torch.int64)
EMBEDDING = torch.nn.functional.embedding


@pytest.mark.parametrize("axis", [0, -2])
def test_scales_of_rows_are_looked_up_too(axis: int) -> None:
    def function(ids: Tensor, w: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
        return EMBEDDING(ids, Q.dequantize_per_channel(w, scales, zeros, axis, -128, 127, torch.int8))

    assert after((move_tables,), function, IDS, constants=(TABLE, ROWS, NONE)) == text("""
        %0: i8[1, 3, 6] = embedding(i8[4, 6], inputs_0)
        %1: f32[1, 3, 1] = embedding(f32[4, 1], inputs_0)
        %2: f32[1, 3, 6] = dequantize_per_token(%0, %1, i64[1, 1, 1], -128, 127, i8, f32)
        return [%2]""")


def test_zero_points_are_looked_up_where_there_are_some() -> None:
    def function(ids: Tensor, w: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
        return EMBEDDING(ids, Q.dequantize_per_channel(w, scales, zeros, 0, -128, 127, torch.int8))

    assert after((move_tables,), function, IDS, constants=(TABLE, ROWS, NONE + 3)) == text("""
        %0: i8[1, 3, 6] = embedding(i8[4, 6], inputs_0)
        %1: f32[1, 3, 1] = embedding(f32[4, 1], inputs_0)
        %2: i64[1, 3, 1] = embedding(i64[4, 1], inputs_0)
        %3: f32[1, 3, 6] = dequantize_per_token(%0, %1, %2, -128, 127, i8, f32)
        return [%3]""")


@pytest.mark.parametrize("axis", [1, -1])
def test_scales_of_columns_stay_with_the_columns(axis: int) -> None:
    def function(ids: Tensor, w: Tensor, scales: Tensor) -> Tensor:
        return EMBEDDING(ids, Q.dequantize_per_channel(w, scales, None, axis, -128, 127, torch.int8))

    assert after((move_tables,), function, IDS, constants=(TABLE, COLUMNS)) == text("""
        %0: i8[1, 3, 6] = embedding(i8[4, 6], inputs_0)
        %1: f32[1, 3, 6] = dequantize_per_channel(%0, f32[6], None, 2, -128, 127, i8)
        return [%1]""")


def test_one_scale_for_the_table() -> None:
    def function(ids: Tensor, w: Tensor) -> Tensor:
        given = (0.5, 3, -128, 127, torch.int8)
        return EMBEDDING(ids, Q.dequantize_per_tensor(w, *given, out_dtype=torch.bfloat16))

    assert after((move_tables,), function, IDS, constants=(TABLE,)) == text("""
        %0: i8[1, 3, 6] = embedding(i8[4, 6], inputs_0)
        %1: bf16[1, 3, 6] = dequantize_per_tensor(%0, 0.5, 3, -128, 127, i8, out_dtype=bf16)
        return [%1]""")


def test_rows_with_parameters_of_their_own() -> None:
    def function(ids: Tensor, w: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
        given = (scales[:, None], zeros[:, None], -128, 127, torch.int8, torch.bfloat16)
        return EMBEDDING(ids, Q.dequantize_per_token(w, *given))

    passes = (fold_constants, move_tables)
    assert after(passes, function, IDS, constants=(TABLE, ROWS, NONE + 1)).splitlines()[-2] == (
        "%3: bf16[1, 3, 6] = dequantize_per_token(%0, %1, %2, -128, 127, i8, bf16)"
    )


def test_scales_from_run_time() -> None:
    def function(ids: Tensor, scales: Tensor, w: Tensor) -> Tensor:
        return EMBEDDING(ids, Q.dequantize_per_channel(w, scales, None, 0, -128, 127, torch.int8))

    assert "%1: f32[4, 1] = reshape(inputs_1, [-1, 1])" in after(
        (move_tables,), function, IDS, ROWS, constants=(TABLE,)
    )


def test_a_table_in_float64_is_left_alone() -> None:
    def function(ids: Tensor, w: Tensor) -> Tensor:
        given = (0.5, 3, -128, 127, torch.int8)
        return EMBEDDING(ids, Q.dequantize_per_tensor(w, *given, out_dtype=torch.float64))

    assert "%0: f64[4, 6] = dequantize" in after((move_tables,), function, IDS, constants=(TABLE,))


def test_a_table_with_another_reader_keeps_it() -> None:
    def function(ids: Tensor, w: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
        table = Q.dequantize_per_channel(w, scales, zeros, 0, -128, 127, torch.int8)
        return torch.nn.functional.linear(EMBEDDING(ids, table), table)

    lines = after((unshare_dequantize, move_tables), function, IDS, constants=(TABLE, ROWS, NONE)).splitlines()
    assert sum("dequantize_per_channel(" in line for line in lines) == 1
    assert sum("dequantize_per_token(" in line for line in lines) == 1


def test_rows_at_constant_places_are_constants() -> None:
    def function(x: Tensor, w: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
        table = Q.dequantize_per_channel(w, scales, zeros, 0, -128, 127, torch.int8)
        return x + EMBEDDING(torch.arange(3) + 1, table)

    x = torch.randn(3, 6)
    assert after((fold_constants,), function, x, constants=(TABLE, ROWS, NONE)) == text("""
        %0: f32[3, 6] = add(inputs_0, f32[3, 6])
        return [%0]""")


def test_what_a_table_can_hold_is_known() -> None:
    def function(ids: Tensor, w: Tensor) -> Tensor:
        return EMBEDDING(ids, Q.dequantize_per_tensor(w, 0.5, 0, -128, 127, torch.int8))

    module = graph_of(function, IDS, constants=(TABLE,))
    result = module.graph.output_node().args[0][0]  # type: ignore[index]  # a tuple of results
    assert bounds(module, result) == (float(TABLE.min()) / 2, float(TABLE.max()) / 2), text_of(module)
