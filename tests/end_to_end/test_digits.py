"""A convolutional network trained for real: quantized and lowered, it reads digits as well as before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

import lower86
from lower86 import X86Quantizer
from tests.models.checks import lower
from tests.models.digits import accuracy, digits, trained


def test_the_accuracy_of_a_trained_network(request: pytest.FixtureRequest) -> None:
    cache = request.config.cache
    model = trained(Path(cache.mkdir("lower86")) if cache is not None else Path())
    images, _, tests, labels = digits()
    batch = torch.export.Dim("batch", max=4096)
    exported = torch.export.export(model, (images[:8],), dynamic_shapes=({0: batch},), strict=True).module()
    prepared = prepare_pt2e(exported, X86Quantizer())
    with torch.no_grad():
        for part in images.split(100):
            prepared(part)
        wanted = accuracy(model(tests), labels)
    quantized = convert_pt2e(prepared)
    lowered = lower(quantized, images[:8])
    assert lower86.explain(lowered).int8_fraction == 1
    assert wanted > 0.97
    got = accuracy(lowered(tests), labels)
    assert abs(got - wanted) <= 0.005
    one_by_one = torch.cat([lowered(image[None]) for image in tests[:50]])
    torch.testing.assert_close(one_by_one, lowered(tests)[:50], rtol=0, atol=0)
