"""A model from where it is named: an exported `.pt2` file, `module:function`, or a folder of Hugging Face's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import Lower86Error
from .naming import Example, Input, inputs_of
from .pictures import Preprocessing

_QUANTIZED = ("quantized_decomposed.", "lower86.", "torchao.dequantize", "torchao.quantize")
"""What the names of operators in a quantized graph begin with."""
FORMS = "an exported .pt2 file, module:function, or a folder with config.json and weights"

Tokenize = Callable[[Sequence[str]], dict[str, Tensor]]
"""Texts to tensors by name, each [texts, length]: padded to the longest, cut at the model's most."""


@dataclass(frozen=True)
class ModelSource:
    """A model in eval mode, and what is known of how it is called.

    `example` is None where only data can say what a call is; `inputs` are its tensors by name. `tokenize` and
    `preprocessing` are how texts and pictures become inputs, where the model's folder says it. `notes` are for the
    user to read.
    """

    name: str
    model: nn.Module
    example: Example | None
    dynamic_shapes: Any
    inputs: tuple[Input, ...]
    tokenize: Tokenize | None = None
    preprocessing: Preprocessing | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_quantized(self) -> bool:
        """Whether a graph in it holds operators of a quantized model."""
        graphs = (part.graph for part in self.model.modules() if isinstance(part, torch.fx.GraphModule))
        return any(str(node.target).startswith(_QUANTIZED) for graph in graphs for node in graph.nodes)

    @property
    def graph(self) -> torch.fx.GraphModule:
        """The model as the graph that it is. Raises Lower86Error where it is none."""
        if not isinstance(self.model, torch.fx.GraphModule):
            raise Lower86Error(f"{self.name} is no graph", where="model", fix="give what convert_pt2e returned")
        return self.model

    def with_dims(self, dynamic_shapes: Any) -> ModelSource:
        """The same with other dims that vary. Raises Lower86Error where there is no example to count them in."""
        return replace(self, dynamic_shapes=dynamic_shapes, inputs=inputs_of(self.model, self.example, dynamic_shapes))


@dataclass(frozen=True)
class ModelOptions:
    """What a user says beside a model's name: of a folder, `fixed` sizes in place of dims that vary, and which."""

    fixed: bool = False
    batch: int | None = None
    length: int | None = None


def load_model(name: str, options: ModelOptions | None = None) -> ModelSource:
    """The model of that name. Raises Lower86Error where there is none, and for what is no model."""
    path = Path(name)
    if name and path.is_dir():
        from .hugging_face import from_folder

        return from_folder(path, options or ModelOptions())
    if path.suffix == ".pt2" or (path.is_file() and path.suffix not in _OTHERS):
        from .exported import from_exported

        return from_exported(path)
    if path.suffix in _OTHERS:
        raise Lower86Error(f"{name} is {_OTHERS[path.suffix]}", where="model", fix=f"give {FORMS}")
    if ":" in name:
        from .function import from_function

        return from_function(name)
    raise Lower86Error(f"there is no model {name}", where="model", fix=f"give {FORMS}")


_OTHERS = {
    ".safetensors": "weights, or a model that is lowered already, which run, bench and report take",
    ".onnx": "an ONNX file, which is not read",
    **dict.fromkeys((".pt", ".pth", ".bin", ".ckpt", ".pkl"), "a pickle of weights or code, which is not read"),
}
"""Files that people have, and what they are."""
