"""A function as a graph, and what some passes make of it, as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from lower86.frontend.decompositions import table
from lower86.graph.edit import remove_dead
from lower86.graph.pytrees import specs_copied_quietly
from lower86.graph.text import text_of
from tests.models.checks import near

Pass = Callable[[GraphModule], None]


class Function(nn.Module):
    """A function of tensors; tensors in `constants` are its module's buffers c0, c1, …"""

    def __init__(self, function: Callable[..., Any], constants: tuple[Tensor, ...] = ()) -> None:
        super().__init__()
        self.function = function
        self.count = len(constants)
        for i, tensor in enumerate(constants):
            self.register_buffer(f"c{i}", tensor)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs, *(getattr(self, f"c{i}") for i in range(self.count)))


def graph_of(
    function: Callable[..., Any],
    *inputs: Any,
    constants: tuple[Tensor, ...] = (),
    decompose: bool = False,
    **options: Any,
) -> GraphModule:
    """The exported graph, as lowering makes it, or, with `decompose`, in core ATen."""
    with torch.no_grad(), specs_copied_quietly():
        program = torch.export.export(Function(function, constants), inputs, strict=False, **options)
        module = program.run_decompositions(None if decompose else table()).module(check_guards=False)
    assert isinstance(module, GraphModule)
    return module


def after(passes: tuple[Pass, ...], function: Callable[..., Any], *inputs: Any, **options: Any) -> str:
    """The lines of operations after the passes, which must not have changed the results."""
    module = graph_of(function, *inputs, **options)
    expected = module(*inputs)
    for apply in passes:
        apply(module)
        remove_dead(module)
    module.graph.lint()
    module.recompile()
    near(module(*inputs), expected)
    names = [str(n.target) for n in module.graph.nodes if n.op == "placeholder"]
    lines = [line for line in text_of(module).splitlines() if line.split(":")[0] not in names]
    return "\n".join(lines)


def text(block: str) -> str:
    """An indented block as it would stand at the margin."""
    return "\n".join(line.strip() for line in block.strip().splitlines())
