"""What a peer is, and what it is given: a float model with data to calibrate on and inputs to be timed with."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from ..frontend import torchao
from .spelled import spell_sources

Inputs = tuple[Tensor, ...]
Run = Callable[[Inputs], Any]
"""From inputs to a tensor, or a tuple of them."""


class Unsuited(Exception):
    """Why a peer cannot take part: the message says it after "not measured, "."""


@dataclass(frozen=True)
class Work:
    """A float model in eval mode that takes tensors by place. All inputs have the shapes of the first.

    Of transformers, NNCF quantizes attention and ONNX Runtime the products alone, as each does best.
    """

    name: str
    model: nn.Module
    calibration: Sequence[Inputs]
    inputs: Sequence[Inputs]
    is_transformer: bool = False
    is_convolutional: bool = False

    @cached_property
    def quantized(self) -> GraphModule:
        """As torchao's PT2E flow leaves it: what Inductor and torchao's lowering start from. Raises Unsuited."""
        found = quantized(self)
        if not any("quantize_per" in str(node.target) for node in found.graph.nodes):
            raise Unsuited("torchao's quantizer leaves all of it in float")
        return found


def quantized(work: Work, quantizer: Any = None) -> GraphModule:
    """The model through the PT2E flow, with torchao's quantizer for Inductor on x86 or another one."""
    exported: Any = torch.export.export(work.model, work.inputs[0], strict=True).module()
    spell_sources(exported)
    prepared = torchao.prepare(exported, quantizer or torchao.inductor_quantizer())
    with torch.no_grad():
        for inputs in work.calibration:
            prepared(*inputs)
    return torchao.convert(prepared)


def run_of(model: Callable[..., Any]) -> Run:
    """Calls of a PyTorch module."""

    def run(inputs: Inputs) -> Any:
        with torch.no_grad():
            return model(*inputs)

    return run


@dataclass(frozen=True)
class Peer:
    """A contender: `make` quantizes, compiles, and gives its calls, on so many threads. Unsuited is raised there.

    `packages` are what it takes beside torch; `group` is how the command line names it; `required` ones may not fail.
    """

    group: str
    make: Callable[[Work, int], Run]
    packages: tuple[str, ...] = ()
    required: bool = False

    @property
    def missing(self) -> list[str]:
        """The packages that are not installed."""
        return [package for package in self.packages if importlib.util.find_spec(package) is None]
