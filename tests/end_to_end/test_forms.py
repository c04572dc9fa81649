"""The intermediate forms of three small models as text, and the same INT8 form from both spellings of one graph.

The texts are in `forms/`. After a change that is meant to alter them, write them anew and read the difference:

    UPDATE_FORMS=1 python -m pytest tests/end_to_end/test_forms.py && git diff tests/end_to_end/forms
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.fx import GraphModule

from lower86.frontend.export import export_module
from lower86.graph.text import text_of
from lower86.int8 import to_int8
from lower86.normalize import PASSES, normalize
from tests.models.checks import agree, lower, near, same
from tests.models.quantized import quantize
from tests.models.small import MLP, Attention, Embedding

FORMS = Path(__file__).parent / "forms"

Example = tuple[GraphModule, tuple[Any, ...]]


def example(kind: type[nn.Module]) -> Example:
    """The quantized model and its inputs, the same in every run."""
    torch.manual_seed(1)
    if kind is Embedding:
        inputs: tuple[Any, ...] = (torch.randint(0, 50, (2, 5)),)
    else:
        x = torch.randn(2, 5, 16)
        inputs = (x,) if kind is MLP else (x, torch.arange(5).expand(2, 5) < 4)
    return quantize(kind(), inputs), inputs


def decomposed(model: GraphModule, inputs: tuple[Any, ...]) -> GraphModule:
    """The same graph in core ATen: mm, addmm, permute, view, native_layer_norm, …"""
    return torch.export.export(model, inputs).run_decompositions().module()


def forms(model: GraphModule, inputs: tuple[Any, ...]) -> dict[str, str]:
    """The text of each form."""
    module = export_module(model, inputs)
    texts = {"QUANTIZED": text_of(module)}
    normalize(module)
    texts["NORMAL"] = text_of(module)
    to_int8(module)
    texts["INT8"] = text_of(module)
    return texts


@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec. is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", [MLP, Attention, Embedding])
def test_forms(kind: type[nn.Module]) -> None:
    model, inputs = example(kind)
    texts = forms(model, inputs)
    whole = "\n".join(f"{name}\n{text}" for name, text in texts.items())
    golden = FORMS / f"{kind.__name__.lower()}.txt"
    if os.environ.get("UPDATE_FORMS"):
        golden.write_text(whole, encoding="utf-8")
    assert whole == golden.read_text(encoding="utf-8")

    other = decomposed(model, inputs)
    spelled = forms(other, inputs)
    assert spelled["QUANTIZED"] != texts["QUANTIZED"]
    assert spelled["INT8"] == texts["INT8"]

    lowered = lower(model, *inputs)
    same(lower(other, *inputs)(*inputs), lowered(*inputs))
    agree(model, lowered, *inputs, compare=near)


def test_every_pass_leaves_a_normal_graph_as_it_is() -> None:
    model, inputs = example(Attention)
    module = export_module(model, inputs)
    normalize(module)
    before = text_of(module)
    for apply in PASSES:
        apply(module)
        assert text_of(module) == before, apply.__name__
