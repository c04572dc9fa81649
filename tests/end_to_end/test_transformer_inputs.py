"""What a lowered encoder is given: lengths beyond its range, no rows, masks of all kinds, rows without keys."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.export import Dim
from torch.fx import GraphModule

import lower86
from lower86 import X86Quantizer
from lower86.errors import InputError
from tests.models import transformer
from tests.models.checks import lower
from tests.models.quantized import quantize

LONGEST = 32


@pytest.fixture(scope="module")
def models() -> tuple[GraphModule, lower86.LoweredModule]:
    (example,) = transformer.inputs("bert-base", 1, small=True, batch=2)
    dims = {0: Dim("batch", max=8), 1: Dim("length", max=LONGEST)}
    quantized = quantize(
        transformer.load("bert-base", small=True), example, quantizer=X86Quantizer(), dynamic_shapes=((dims, dims),)
    )
    return quantized, lower(quantized, *example)


def tokens(batch: int, length: int) -> tuple[Tensor, Tensor]:
    ids = torch.randint(0, transformer.VOCABULARY, (batch, length))
    return ids, torch.ones_like(ids)


def near(got: Tensor, wanted: Tensor) -> bool:
    return got.shape == wanted.shape and bool((got - wanted).norm() <= 0.05 * wanted.norm())


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (3, LONGEST), (8, 7)])
def test_sizes_within_the_range(models: tuple, batch: int, length: int) -> None:
    quantized, lowered = models
    given = tokens(batch, length)
    assert near(lowered(*given), quantized(*given))


@pytest.mark.parametrize(("batch", "length"), [(2, LONGEST + 1), (9, 7)])
def test_sizes_beyond_the_range_are_refused_by_name_and_bound(models: tuple, batch: int, length: int) -> None:
    with pytest.raises(InputError, match=r"input_ids|inputs_0|inputs") as refusal:
        models[1](*tokens(batch, length))
    assert str(LONGEST if length > LONGEST else 8) in str(refusal.value)


@pytest.mark.parametrize(("batch", "length"), [(0, 7), (0, 0), (2, 0)])
def test_no_rows_and_no_tokens(models: tuple, batch: int, length: int) -> None:
    assert models[1](*tokens(batch, length)).shape == (batch, length, 128)


@pytest.mark.parametrize(
    "mask",
    [torch.ones(2, 7, 1, dtype=torch.int64), torch.ones(7, dtype=torch.int64), torch.ones(2, 7), torch.ones(2, 6)],
)
def test_masks_of_another_rank_dtype_or_length_are_refused(models: tuple, mask: Tensor) -> None:
    ids, _ = tokens(2, 7)
    with pytest.raises(InputError):
        models[1](ids, mask)


def test_padding_does_not_change_the_other_tokens(models: tuple) -> None:
    ids, mask = tokens(1, 20)
    mask[:, 12:] = 0
    other = ids.clone()
    other[:, 12:] = 3
    lowered = models[1]
    torch.testing.assert_close(lowered(ids, mask)[:, :12], lowered(other, mask)[:, :12], atol=0, rtol=0)


def test_rows_whose_keys_are_all_masked_are_numbers(models: tuple) -> None:
    quantized, lowered = models
    ids, mask = tokens(2, 9)
    mask[1] = 0
    got, wanted = lowered(ids, mask), quantized(ids, mask)
    assert got.isfinite().all() == wanted.isfinite().all()
    assert got.isfinite().all()
    assert near(got[0], wanted[0])
