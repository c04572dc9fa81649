"""The pretrained sentence encoder, whole: coverage, one native region, and results beside the quantized model's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch.fx import GraphModule

import lower86
from lower86.program.kernels import Attention, Contraction
from tests.artifact.round_trip import again, agrees

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

TEXTS = (
    "Return the absolute value of the argument.",
    "Open the file and return a corresponding file object. If the file cannot be opened, an OSError is raised.",
    "Split the string at the last occurrence of sep, and return a 3-tuple with the part before the separator.",
    "Return a random element from the non-empty sequence seq. If seq is empty, raises IndexError.",
)


@pytest.fixture(scope="module")
def models() -> tuple[torch.nn.Module, GraphModule, lower86.LoweredModule, torch.Tensor, torch.Tensor]:
    from minilm import encoder as minilm
    from minilm.quiet import silence

    silence()
    encoder, tokenize = minilm.load()
    ids, mask = tokenize(TEXTS)
    pairs = [(i[None], m[None]) for i, m in zip(ids, mask, strict=True)]
    quantized = minilm.quantize(encoder, pairs, pairs[0])
    lowered = lower86.lower_pt2e_quantized_to_x86(quantized, pairs[0], on_fallback="raise")
    return encoder, quantized, lowered, ids, mask


def test_all_36_linears_are_int8_in_one_region(models: tuple) -> None:
    lowered = models[2]
    explanation = lower86.explain(lowered)
    assert [r.operator for r in explanation.operators] == ["linear"] * 36
    assert explanation.int8_fraction == 1.0
    assert explanation.foreign == ()
    assert explanation.regions == 1
    kinds = [type(k) for k in lowered.program.kernels]
    assert kinds.count(Attention) == 1, "six equal layers share their kernels"
    assert kinds.count(Contraction) <= 5


def test_lowering_takes_seconds_at_most(models: tuple) -> None:
    timings = models[2].timings
    assert sum(seconds for stage, seconds in timings.items() if stage != "export") < 10


def test_a_saved_encoder_gives_the_same_bits(models: tuple, tmp_path: Path) -> None:
    encoder, _, lowered, ids, mask = models
    program = again(lowered, tmp_path)
    for i, m in zip(ids, mask, strict=True):
        agrees(lowered, program, i[None], m[None])
    # A byte for each weight of a linear; the tables of embeddings, norms and biases are floats.
    weights = {module.weight for module in encoder.modules() if isinstance(module, torch.nn.Linear)}
    needed = sum(p.numel() if p in weights else p.nbytes for p in encoder.parameters())
    assert (tmp_path / "model.safetensors").stat().st_size <= 1.05 * needed


def test_embeddings_are_those_of_the_quantized_model(models: tuple) -> None:
    encoder, quantized, lowered, ids, mask = models
    with torch.no_grad():
        for i, m in zip(ids, mask, strict=True):
            one = (i[None], m[None])
            result = lowered(*one)
            assert torch.equal(result, lowered(*one))
            # One rounding step that falls the other way grows with depth, in PyTorch's own arithmetic as well: see
            # the noise floor in docs/design.md. What is lost to quantization itself is larger.
            for other in (quantized(*one), lowered.run_reference(*one)):
                assert torch.cosine_similarity(result, other).item() > 0.995
            assert torch.cosine_similarity(result, encoder(*one)).item() > 0.97


def test_the_numeric_debugger_knows_every_value(models: tuple) -> None:
    encoder, quantized, lowered, ids, mask = models
    comparison = lower86.compare(encoder, quantized, lowered, (ids[1][None], mask[1][None]))
    rows = comparison.rows
    assert sum(row.operator == "linear" for row in rows) == 36
    assert all(row.quantization_here is not None for row in rows)
    held = [row.compiled_here for row in rows if row.compiled_here is not None]
    assert len(held) > 60
    assert min(found.sqnr for found in held) > 55
    assert not any(found.more for found in held)
    # The outliers of this model's activations: what costs most is what its feed-forward layers put into 8 bits.
    assert {(row.operator, row.module.rsplit(".", 2)[-2]) for row in rows[:4]} == {("gelu", "intermediate")}
