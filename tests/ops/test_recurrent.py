"""The recurrent operators: PyTorch's layers in float, quantized where a quantized model is, schemas and fakes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lower86.ops.recurrent import gru, int8_gru, int8_lstm, lstm
from tests.models.qdq import Q
from tests.models.recurrent import S8, U8, operands

FLOAT, INTEGER = {"lstm": lstm, "gru": gru}, {"lstm": int8_lstm, "gru": int8_gru}


def states(result: Any) -> Tensor:
    """The states of either operator's result."""
    return result if isinstance(result, Tensor) else result[0]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_float_is_pytorchs_layer(cell: str, reverse: bool) -> None:
    layer = (nn.LSTM if cell == "lstm" else nn.GRU)(8, 19)
    inputs, h0, c0 = torch.randn(7, 5, 8), torch.randn(1, 5, 19), torch.randn(1, 5, 19)
    first = (h0[0], c0[0]) if cell == "lstm" else (h0[0],)
    with torch.no_grad():
        output, last = layer(inputs.flip(0) if reverse else inputs, (h0, c0) if cell == "lstm" else h0)
        x = nn.functional.linear(inputs, layer.weight_ih_l0, layer.bias_ih_l0)
        result = FLOAT[cell](x, *first, layer.weight_hh_l0, layer.bias_hh_l0, reverse=reverse)
    got = states(result).flip(0) if reverse else states(result)
    torch.testing.assert_close(got[0], h0[0])
    torch.testing.assert_close(got[1:], output)
    if cell == "lstm":
        torch.testing.assert_close(result[1], last[1][0])


@pytest.mark.parametrize("state", [U8, S8])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_state_is_quantized_before_each_product(cell: str, state: dict[str, Any]) -> None:
    x, *first, weight, bias = operands(cell, times=1)
    scale, zero, low, high = state.values()
    dtype = torch.uint8 if low == 0 else torch.int8
    fed = Q.dequantize_per_tensor(
        Q.quantize_per_tensor(first[0], scale, zero, low, high, dtype), scale, zero, low, high, dtype
    )
    # What the product reads is quantized, but not the state that the gates mix with the new one.
    r = nn.functional.linear(fed, weight, bias)
    alone = FLOAT[cell](x + r, *first, torch.zeros_like(weight)) if cell == "lstm" else None
    got = FLOAT[cell](x, *first, weight, bias, **state)
    if alone is not None:
        torch.testing.assert_close(got, alone)
    else:
        (xr, xz, xn), (hr, hz, hn) = x[0].chunk(3, -1), r.chunk(3, -1)
        z, n = torch.sigmoid(xz + hz), torch.tanh(xn + torch.sigmoid(xr + hr) * hn)
        torch.testing.assert_close(got[1], (1 - z) * n + z * first[0])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("state", [U8, S8])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_int8_is_the_quantized_float(cell: str, state: dict[str, Any], reverse: bool) -> None:
    x, *first, weight, bias = operands(cell, integer=True)
    scales = torch.rand(len(weight)) * 1e-3 + 1e-3
    got = INTEGER[cell](x, *first, weight, bias, reverse=reverse, **state, scale=scales * state["h_scale"])
    wanted = FLOAT[cell](x, *first, weight * scales[:, None], bias, reverse=reverse, **state)
    torch.testing.assert_close(states(got), states(wanted), rtol=0, atol=1e-4)


@pytest.mark.parametrize("times", [0, 3])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_schemas_and_fakes(cell: str, times: int) -> None:
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(FLOAT[cell], operands(cell, times), {"reverse": True}, test_utils=checks)
    torch.library.opcheck(FLOAT[cell], operands(cell, times)[:-1], U8, test_utils=checks)
    given = operands(cell, times, integer=True)
    options = {**S8, "scale": torch.rand(len(given[-1]))}
    torch.library.opcheck(INTEGER[cell], given, options, test_utils=checks)


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_state_of_other_rows_is_refused_and_not_broadcast(cell: str, integer: bool) -> None:
    x, *rest = operands(cell, integer=integer, constant=False)
    scale = {**U8, "scale": torch.ones(len(rest[-1]))} if integer else {}
    operator = (INTEGER if integer else FLOAT)[cell]
    for rows in (1, 2):
        for device in ("cpu", "meta"):  # computed, and as a shape alone
            given = [tensor.to(device) for tensor in (x[:, :rows], *rest)]
            named = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in scale.items()}
            with pytest.raises(RuntimeError, match="an initial state has other rows than the input"):
                operator(*given, **named)
