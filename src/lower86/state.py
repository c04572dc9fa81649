"""The state of a lowered module: its tensors, what they were at first, and the lock that a call holds on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .errors import InputError
from .graph.edit import tensor_at
from .program.program import State, Value
from .runtime.fork_lock import ForkLock
from .schedule.symbols import storage_of


class ModuleState:
    """Which buffers of a module are state; the module itself holds them, under the names the quantized model has.

    `initial` are the values they had when the module was lowered.
    """

    def __init__(self, initial: Mapping[str, Tensor] | None = None) -> None:
        self.lock = ForkLock()
        self._initial = dict(initial or {})

    def apart(self) -> ModuleState:
        """One for a copy of the module's tensors."""
        return ModuleState(self._initial)

    def remember(self, module: torch.nn.Module, states: Sequence[State]) -> None:
        """Keeps the values of what is state from now on."""
        for state in states:
            tensor = tensor_at(module, state.name)
            assert tensor is not None
            if state.name not in self._initial:
                self._initial[state.name] = _compact(tensor)

    def reset(self, module: torch.nn.Module) -> None:
        """Gives the module's buffers their first values again, between two calls."""
        with self.lock, torch.no_grad():
            for name, value in self._initial.items():
                tensor = tensor_at(module, name)
                if tensor is not None:
                    tensor.copy_(value)


def tensors_of(module: torch.nn.Module, states: Sequence[State], values: Sequence[Value]) -> list[Tensor]:
    """The module's own tensors of `states`. Raises InputError for one that is not what the program works on."""
    found = []
    for state in states:
        tensor, value = tensor_at(module, state.name), values[state.value]
        if tensor is None or not _fits(tensor, value):
            given = "no tensor" if tensor is None else f"{tensor.dtype} of {list(tensor.shape)} on {tensor.device}"
            nested = "." in state.name  # a number in a path is no attribute
            buffer = f"module.get_buffer({state.name!r})" if nested else f"module.{state.name}"
            raise InputError(
                f"the buffer {state.name!r} is {given}, the program works on {value.dtype} of {list(value.shape)}, "
                "contiguous",
                where="state of the lowered module",
                fix=f"write into the buffer instead of replacing it: {buffer}.copy_(…)",
            )
        found.append(tensor)
    return found


def _fits(tensor: Tensor, value: Value) -> bool:
    dense = tensor.is_cpu and tensor.layout == torch.strided and tensor.is_contiguous()
    plain = dense and not tensor.is_neg() and not tensor.is_conj()
    return plain and tuple(tensor.shape) == value.shape and storage_of(tensor.dtype) == value.dtype


def _compact(tensor: Tensor) -> Tensor:
    """A copy, of one element where all are equal: most state begins as zeros."""
    flat = tensor.detach().reshape(-1)
    if flat.numel() and bool((flat == flat[0]).all()):
        return flat[0].clone().expand(tensor.shape)
    return tensor.detach().clone()
