"""What is kept of activations: exact counts in any order, exact ends, samples of a layer's rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lower86 import Lower86Error
from lower86.quantization.slots import Slot
from lower86.quantization.watch import Watch
from tests.quantization.prepared import prepared, settled, slot_of


def watching(*batches: Tensor, model: nn.Module | None = None) -> Watch:
    """What one slot keeps of values that come in batches."""
    graph = prepared(nn.Linear(batches[0].shape[-1], 4) if model is None else model, (batches[0],))
    slot: Slot = slot_of(graph, "linear" if model is None else "convolution")
    seen = Watch(slot, torch.Generator().manual_seed(0))
    for batch in batches:
        assert seen(batch) is batch
    return seen


def test_merged_histograms_are_one_of_all() -> None:
    batches = [torch.randn(5, 8) * size for size in (0.1, 30.0, 1.0, 1e-3)]
    first, second = watching(*batches), watching(*batches[::-1])
    whole = watching(torch.cat([batches[1], batches[0], *batches[2:]]))
    for other in (second, whole):
        for mine, its in zip(first.spread, other.spread, strict=True):
            # Values a hair beside a bin's edge may be counted in either of the two.
            assert mine.shape == its.shape
            torch.testing.assert_close(mine, its, rtol=0, atol=1e-9)
    assert first.spread[1].sum() == 4 * 40
    assert (first.low, first.high) == (min(b.min().item() for b in batches), max(b.max().item() for b in batches))
    middles, counts = first.spread
    mean = torch.cat(batches).double().mean()
    width = (middles[1:] - middles[:-1]).min()
    assert abs((middles * counts).sum() / counts.sum() - mean) <= width / 2


@pytest.mark.parametrize(
    "values",
    [torch.zeros(2, 8), torch.full((2, 8), 0.7), torch.full((2, 8), -1e-38), torch.full((2, 8), 3e38),
     torch.full((1, 8), 6e4).half(), torch.full((2, 8), 1e38).bfloat16()],
)  # fmt: skip
def test_constants_of_any_size(values: Tensor) -> None:
    seen = watching(values, values)
    middles, counts = seen.spread
    assert counts.tolist() == [2 * values.numel()]
    assert seen.low == seen.high == float(values.flatten()[0])
    assert abs(float(middles[0]) - seen.low) <= max(abs(seen.low) * 2.0**-12, 1e-30)


def test_a_value_that_is_no_number_is_an_error_with_its_node() -> None:
    for wrong in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(Lower86Error, match=r"NaN or infinite\n.*node input"):
            watching(torch.tensor([[1.0, wrong]]))
    with pytest.raises(Lower86Error) as caught:
        settled(nn.Linear(2, 2), [(torch.tensor([[1.0, torch.inf]]),)])
    assert "While executing" not in str(caught.value)


def test_an_empty_batch_says_nothing() -> None:
    slot = slot_of(prepared(nn.Linear(8, 4), (torch.ones(2, 8),)), "linear")
    seen = Watch(slot, torch.Generator())
    seen(torch.zeros(0, 8))
    assert not seen.was_seen
    seen(torch.ones(2, 8))
    seen(torch.zeros(0, 8))
    assert seen.was_seen
    assert seen.spread[1].tolist() == [16]


def test_channels_and_samples() -> None:
    rows = torch.randn(300, 8)
    seen = watching(rows[:200], rows[200:], torch.randn(1, 8) * 0)
    assert seen.channel_low is not None
    assert seen.channel_high is not None
    torch.testing.assert_close(torch.stack([seen.channel_low, seen.channel_high]), torch.stack(rows.aminmax(dim=0)))
    assert [len(part) for part in seen.sample] == [96, 96, 1]
    assert all(any(torch.equal(row, one) for one in rows) for row in seen.sample[0][:5])
    images = torch.randn(2, 3, 5, 5)
    seen = watching(images, images[:1] * 2, model=nn.Conv2d(3, 4, 3))
    assert seen.channel_high is not None
    torch.testing.assert_close(seen.channel_high, torch.cat([images, images[:1] * 2]).amax((0, 2, 3)))
    unbatched = watching(images[0], model=nn.Conv2d(3, 4, 3))
    assert unbatched.channel_high is not None
    torch.testing.assert_close(unbatched.channel_high, images[0].amax((1, 2)))
    assert unbatched.sample[0].shape == images[0].shape


def test_large_samples_are_bounded() -> None:
    seen = watching(*[torch.randn(8, 3, 64, 64) for _ in range(6)], model=nn.Conv2d(3, 4, 3))
    assert 0 < sum(part.numel() for part in seen.sample) <= 1 << 18
