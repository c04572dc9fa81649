"""`lower86::int8_attention`: schema, fake, and its reference against PyTorch's own attention of what is quantized."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lower86.ops.attention import int8_attention
from tests.ops.test_conv import CHECKS
from tests.ops.test_operators import integers

Case = tuple[list[Tensor], dict[str, Any]]
FINE = {"weight_scale": 2.0**-20, "weight_zero_point": 0, "weight_low": 0, "weight_high": 2**20}
"""Weights that lose nothing to speak of."""


def case(kept: int = 4, batch: int = 2, mask: Tensor | None = None, **options: Any) -> Case:
    operands = [integers(shape, torch.uint8) for shape in ((batch, 4, 5, 8), (batch, kept, 7, 8), (batch, kept, 7, 6))]
    given = {
        "query_zero_point": 120, "key_zero_point": 137, "value_zero_point": 126, "score_scale": 1e-4,
        "scale": 2.0**-20, **FINE, **options,
    }  # fmt: skip
    return [*operands, *([] if mask is None else [mask])], given


CASES = {
    "plain": case(),
    "empty": case(batch=0),
    "grouped": case(kept=2),
    "causal": case(is_causal=True),
    "boolean": case(mask=torch.rand(2, 1, 5, 7) > 0.3),
    "additive": case(mask=torch.randn(5, 7)),
    "a row without keys": case(mask=torch.arange(5)[:, None].expand(5, 7) != 2),
}


@pytest.mark.parametrize("name", CASES)
def test_int8_attention_has_a_schema_and_a_fake(name: str) -> None:
    args, kwargs = CASES[name]
    torch.library.opcheck(int8_attention, tuple(args), kwargs, test_utils=CHECKS)


@pytest.mark.parametrize("name", CASES)
def test_int8_attention_is_attention(name: str) -> None:
    (query, key, value, *mask), kwargs = CASES[name]
    q, k, v = (
        t.double() - kwargs[f"{name}_zero_point"]
        for t, name in ((query, "query"), (key, "key"), (value, "value"))
    )  # fmt: skip
    rest = {"is_causal": kwargs.get("is_causal", False), "scale": kwargs["score_scale"], "enable_gqa": True}
    added = [m if m.dtype == torch.bool else m.double() for m in mask]
    expected = F.scaled_dot_product_attention(q, k, v, *added, **rest)
    got = int8_attention(query, key, value, *mask, **kwargs)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), expected, atol=1e-2, rtol=1e-4)
