"""One operator as a program: a graph of a single call, scheduled and compiled, without an export."""

from __future__ import annotations

import operator as python
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Graph, GraphModule
from torch.utils._pytree import tree_map

import lower86
from lower86.lowered import LoweredModule
from lower86.normalize import normalize


def lowered(
    operator: Any, *args: Any, result: int | None = None, target: str | None = None, **kwargs: Any
) -> tuple[LoweredModule, list[torch.Tensor]]:
    """A module whose inputs are the tensors among the arguments, in order, and those tensors.

    Parameters are constants of the module. Its output is the operator's, or its result number `result`.
    """
    graph, root, tensors = Graph(), torch.nn.Module(), []

    def place(argument: Any) -> Any:
        if not isinstance(argument, torch.Tensor):
            return argument
        if isinstance(argument, torch.nn.Parameter):
            name = f"constant{len(root._buffers)}"
            root.register_buffer(name, argument.detach())
            node = graph.get_attr(name)
            node.meta["val"] = argument.detach()
            return node
        node = graph.placeholder(f"x{len(tensors)}")
        node.meta["val"] = argument.clone(memory_format=torch.contiguous_format)
        tensors.append(argument)
        return node

    node = graph.call_function(operator, *tree_map(place, (args, kwargs)))
    node.meta["val"] = operator(*args, **kwargs)
    if result is not None:
        values = node.meta["val"]
        node = graph.call_function(python.getitem, (node, result))
        node.meta["val"] = values[result]
    graph.output((node,))
    module = GraphModule(root, graph)
    normalize(module)
    return LoweredModule(module, module.graph, lower86.Target.host(level=target)), tensors


def check(operator: Any, *args: Any, tolerance: float = 0.0, result: int | None = None, **kwargs: Any) -> torch.Tensor:
    """The native result is PyTorch's: shape, dtype, bits, or within `tolerance` (relative, and absolute near 1)."""
    module, tensors = lowered(operator, *args, result=result, **kwargs)
    assert module.explanation.foreign == ()
    expected = operator(*args, **kwargs)
    expected = expected if result is None else expected[result]
    before = [t.clone() for t in tensors]
    (got,) = module(*tensors)
    assert got.dtype == expected.dtype
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
    for tensor, kept in zip(tensors, before, strict=True):
        torch.testing.assert_close(tensor, kept, rtol=0, atol=0, equal_nan=True)
    assert isinstance(got, torch.Tensor)
    return got


def check_same_on_avx2(native: torch.Tensor, operator: Any, *args: Any, **kwargs: Any) -> None:
    """AVX2 gives the bits of `native`; one NaN is as good as another."""
    module, tensors = lowered(operator, *args, target="avx2", **kwargs)
    (got,) = module(*tensors)
    torch.testing.assert_close(got, native, rtol=0, atol=0, equal_nan=True)


def check_foreign(operator: Any, *args: Any, result: int | None = None, **kwargs: Any) -> None:
    """PyTorch computes it, and is reported to."""
    module, tensors = lowered(operator, *args, result=result, **kwargs)
    (step,) = module.explanation.foreign
    assert step.operator == str(operator._schema).split("(")[0]
    expected: Any = operator(*args, **kwargs)
    (got,) = module(*tensors)
    torch.testing.assert_close(got, expected if result is None else expected[result], rtol=0, atol=0, equal_nan=True)


def exported(model: torch.nn.Module, inputs: Sequence[torch.Tensor], **dynamic: Any) -> LoweredModule:
    """A float model lowered by the whole of it, to see what export makes of its operators."""
    return lower86.lower_pt2e_quantized_to_x86(model, tuple(inputs), on_fallback="ignore", **dynamic)
