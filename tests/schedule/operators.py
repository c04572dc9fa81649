"""One operator as a program: a graph of a single call, scheduled and compiled, without an export."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Graph, GraphModule
from torch.utils._pytree import tree_map

import lower86
from lower86.lowered import LoweredModule
from lower86.normalize import PASSES


def lowered(operator: Any, *args: Any, **kwargs: Any) -> tuple[LoweredModule, list[torch.Tensor]]:
    """A module whose inputs are the tensors among the arguments, in order, and those tensors."""
    graph, tensors = Graph(), []

    def place(argument: Any) -> Any:
        if not isinstance(argument, torch.Tensor):
            return argument
        node = graph.placeholder(f"x{len(tensors)}")
        node.meta["val"] = torch.empty_like(argument, memory_format=torch.contiguous_format)
        tensors.append(argument)
        return node

    node = graph.call_function(operator, *tree_map(place, (args, kwargs)))
    node.meta["val"] = operator(*args, **kwargs)
    graph.output((node,))
    module = GraphModule(torch.nn.Module(), graph)
    for normalize in PASSES:
        normalize(module)
    return LoweredModule(module, module.graph, lower86.Target.host()), tensors


def check(operator: Any, *args: Any, tolerance: float = 0.0, **kwargs: Any) -> None:
    """The native result is PyTorch's: shape, dtype, bits, or within `tolerance` (relative, and absolute near 1)."""
    module, tensors = lowered(operator, *args, **kwargs)
    assert module.explanation.foreign == ()
    expected = operator(*args, **kwargs)
    before = [t.clone() for t in tensors]
    (result,) = module(*tensors)
    assert result.dtype == expected.dtype
    torch.testing.assert_close(result, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
    for tensor, kept in zip(tensors, before, strict=True):
        torch.testing.assert_close(tensor, kept, rtol=0, atol=0, equal_nan=True)
