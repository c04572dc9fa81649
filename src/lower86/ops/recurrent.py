"""`lower86::lstm`, `lower86::gru`: one direction of one layer, after its input projection; and both in int8.

With x[t] = W_ih · input[t] + b_ih, and r = weight · fed(h) + bias, what the state before it adds to the gates:

    lstm    i, f, g, o = x[t] + r           c' = sigmoid(f)·c + sigmoid(i)·tanh(g)      h' = sigmoid(o)·tanh(c')
    gru     u, z = sigmoid(x[t] + r)        n = tanh(x[t] + u·r)                        h' = z·(h - n) + n

where u, z and n have a third each of x[t] and r.

The result holds the state before the first step and that after each, [T + 1, B, H] in the order of x, so that it has
all that `weight` meets, for whoever watches its range. `reverse` goes from the last x to the first; the initial state
is the last then.

`fed` is the identity, or with `h_scale` quantization and dequantization, as before any linear: what a quantized model
does. The int8 operators take the weight's integers, and the scale of the sums, as `lower86::int8_linear` does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .linear import reference as int8_linear
from .quantize import static_reference
from .registration import operator

_STATE = "int h_zero_point=0, int h_low=0, int h_high=0"
_OPERANDS = "Tensor weight, Tensor? bias=None, *, bool reverse=False"
_FLOAT = f"{_OPERANDS}, float? h_scale=None, {_STATE}"
_INT8 = f"{_OPERANDS}, float h_scale, {_STATE}, Tensor scale"

Recur = Callable[[Tensor], Tensor]
"""What a state adds to the gates."""


def state_dtype(low: int) -> torch.dtype:
    """The integers that hold a quantized state whose least is `low`."""
    return torch.uint8 if low >= 0 else torch.int8


def _float(weight: Tensor, bias: Tensor | None, scale: float | None, zero: int, low: int, high: int) -> Recur:
    def recur(h: Tensor) -> Tensor:
        if scale is not None:
            q = static_reference(h, scale, zero, low, high, state_dtype(low))
            h = (q.to(torch.float32) - zero) * scale
        return torch.nn.functional.linear(h, weight, bias)

    return recur


def _int8(weight: Tensor, bias: Tensor | None, given: dict[str, Any]) -> Recur:
    zero, low = given["h_zero_point"], given["h_low"]

    def recur(h: Tensor) -> Tensor:
        q = static_reference(h, given["h_scale"], zero, low, given["h_high"], state_dtype(low))
        return int8_linear(q, weight, bias, x_zero_point=zero, scale=given["scale"])

    return recur


def _check_rows(x: Tensor, *states: Tensor) -> None:
    """As many rows in each state as in x: nothing is broadcast, as the result has the state's shape."""
    check: Callable[..., None] = torch._check  # which torch leaves without types
    for state in states:
        check(x.shape[1] == state.shape[0], lambda: "an initial state has other rows than the input")


def _lstm(recur: Recur, x: Tensor, h: Tensor, c: Tensor, reverse: bool) -> tuple[Tensor, Tensor]:
    _check_rows(x, h, c)
    states, c = [h], c.clone()
    for gates in x.flip(0) if reverse else x:
        i, f, g, o = (gates + recur(states[-1])).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        states.append(torch.sigmoid(o) * torch.tanh(c))
    return torch.stack(states[::-1] if reverse else states), c


def _gru(recur: Recur, x: Tensor, h: Tensor, reverse: bool) -> Tensor:
    _check_rows(x, h)
    states = [h]
    for gates in x.flip(0) if reverse else x:
        (xr, xz, xn), (hr, hz, hn) = gates.chunk(3, -1), recur(states[-1]).chunk(3, -1)
        n = torch.tanh(xn + torch.sigmoid(xr + hr) * hn)
        states.append((states[-1] - n) * torch.sigmoid(xz + hz) + n)
    return torch.stack(states[::-1] if reverse else states)


def lstm_reference(
    x: Tensor, h0: Tensor, c0: Tensor, weight: Tensor, bias: Tensor | None = None, *, reverse: bool = False,
    h_scale: float | None = None, h_zero_point: int = 0, h_low: int = 0, h_high: int = 0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """x: [T, B, 4·H]; h0, c0: [B, H]; weight: [4·H, H]; bias: [4·H], all f32. Gives states and the last c, [B, H]."""
    return _lstm(_float(weight, bias, h_scale, h_zero_point, h_low, h_high), x, h0, c0, reverse)


def gru_reference(
    x: Tensor, h0: Tensor, weight: Tensor, bias: Tensor | None = None, *, reverse: bool = False,
    h_scale: float | None = None, h_zero_point: int = 0, h_low: int = 0, h_high: int = 0,
) -> Tensor:  # fmt: skip
    """x: [T, B, 3·H]; h0: [B, H]; weight: [3·H, H]; bias: [3·H], all f32."""
    return _gru(_float(weight, bias, h_scale, h_zero_point, h_low, h_high), x, h0, reverse)


def int8_lstm_reference(
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    reverse: bool = False,
    **given: Any,
) -> tuple[Tensor, Tensor]:
    """As `lstm_reference`; weight: s8; scale: f32 [4·H]."""
    return _lstm(_int8(weight, bias, {**_DEFAULTS, **given}), x, h0, c0, reverse)


def int8_gru_reference(
    x: Tensor, h0: Tensor, weight: Tensor, bias: Tensor | None = None, *, reverse: bool = False, **given: Any
) -> Tensor:
    """As `gru_reference`; weight: s8; scale: f32 [3·H]."""
    return _gru(_int8(weight, bias, {**_DEFAULTS, **given}), x, h0, reverse)


_DEFAULTS = {"h_zero_point": 0, "h_low": 0, "h_high": 0}


def _fake_states(x: Tensor, h0: Tensor, *rest: Any, **given: Any) -> Tensor:
    _check_rows(x, h0)
    return h0.new_empty((x.shape[0] + 1, *h0.shape))


def _fake_lstm(x: Tensor, h0: Tensor, c0: Tensor, *rest: Any, **given: Any) -> tuple[Tensor, Tensor]:
    _check_rows(x, c0)
    return _fake_states(x, h0), c0.new_empty(c0.shape)


lstm = operator(f"lstm(Tensor x, Tensor h0, Tensor c0, {_FLOAT}) -> (Tensor, Tensor)", lstm_reference, _fake_lstm)
gru = operator(f"gru(Tensor x, Tensor h0, {_FLOAT}) -> Tensor", gru_reference, _fake_states)
int8_lstm = operator(
    f"int8_lstm(Tensor x, Tensor h0, Tensor c0, {_INT8}) -> (Tensor, Tensor)", int8_lstm_reference, _fake_lstm
)
int8_gru = operator(f"int8_gru(Tensor x, Tensor h0, {_INT8}) -> Tensor", int8_gru_reference, _fake_states)

LSTMS, INTEGER = (lstm, int8_lstm), (int8_lstm, int8_gru)
RECURRENCES = (lstm, gru, int8_lstm, int8_gru)
