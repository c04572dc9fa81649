"""A lowered graph run node by node in PyTorch: the reference, and the way through fake tensors and tracing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from .pytrees import signature_of
from .state import WRITE


def is_interpreted(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call cannot be run natively: its tensors have no memory, or somebody records what is done to them."""
    # Nothing public says who records; tests/end_to_end/test_module.py exports and traces lowered modules.
    if torch._C._len_torch_dispatch_stack() or torch._C._get_tracing_state() is not None:
        return True
    leaves = pytree.tree_leaves((args, kwargs)) if kwargs or not all(type(a) is Tensor for a in args) else ()
    return any(isinstance(leaf, Tensor) and not _has_memory(leaf) for leaf in leaves)


def _has_memory(tensor: Tensor) -> bool:
    """Whether reading the tensor's memory gives its elements: not for subclasses that handle operators themselves."""
    kind = type(tensor)
    return kind is Tensor or kind.__torch_dispatch__ is Tensor.__torch_dispatch__


Operators = Mapping[Any, Callable[..., Any]]
"""What to run in place of some operators."""
WITHOUT_WRITES: Operators = {WRITE: lambda state, value: state}
"""Leaves state as it was: what is written, nobody reads in the same call."""


class _Replacing(torch.fx.Interpreter):
    """Runs other functions in place of some operators."""

    def __init__(self, module: GraphModule, operators: Operators) -> None:
        super().__init__(module)
        self._operators = operators

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        return super().call_function(self._operators.get(target, target), args, kwargs)


class _WithFakes(torch.fx.Interpreter):
    """Constants become fake where the inputs are."""

    def __init__(self, module: GraphModule, mode: Any) -> None:
        super().__init__(module)
        self._mode = mode

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        value = super().get_attr(target, args, kwargs)
        plain = isinstance(value, Tensor) and _has_memory(value)
        return self._mode.from_tensor(value, static_shapes=True) if plain else value


def interpret(
    module: GraphModule, args: Sequence[Any], kwargs: Mapping[str, Any], operators: Operators | None = None
) -> Any:
    """The result of `module`'s graph, each node run as the PyTorch operator it is.

    With real tensors, those in `operators` are replaced; fake ones have no values that it could matter to.
    """
    signature = signature_of(module.graph)
    leaves = signature.flatten(args, kwargs)
    mode = next((leaf.fake_mode for leaf in leaves if hasattr(leaf, "fake_mode")), None)
    interpreter = _Replacing(module, operators or {}) if mode is None else _WithFakes(module, mode)
    flat = interpreter.run(*leaves, enable_io_processing=False)
    return signature.unflatten(pytree.tree_leaves(flat))
