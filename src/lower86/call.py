"""A compiled graph, and how a call's arguments become addresses for its program."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from .codegen.target import Target
from .errors import GraphError, InputError
from .graph.pytrees import signature_of
from .graph.source import describe
from .program.sizes import SizeExpr, evaluate
from .runtime.executable import Executable, bind_dims
from .schedule.schedule import Scheduled


@dataclass(frozen=True)
class _Input:
    """What a flat input has to be: a tensor of `dtype`, or, if that is None, `literal` itself."""

    number: int
    name: str
    dtype: torch.dtype | None
    literal: Any = None


@dataclass(frozen=True)
class _Bound:
    """The dims of a call, and the shapes and dtypes of its results."""

    dims: Mapping[str, int]
    outputs: list[tuple[list[int], torch.dtype]]


class CompiledGraph:
    """The program of a graph, its machine code, its calling convention.

    Several threads may call it at once, but not on the same state. `state` are the tensors of the program's states:
    what a call finds there, and where it leaves what the next one finds.
    """

    def __init__(self, module: GraphModule, scheduled: Scheduled, target: Target) -> None:
        self.scheduled = scheduled
        self.executable = Executable(scheduled.program, target, scheduled.foreign)
        self._signature = signature_of(module.graph)
        placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
        self._inputs: list[_Input] = []
        for number, node in enumerate(placeholders):
            example = node.meta.get("val")
            if isinstance(example, (torch.SymInt, torch.SymFloat, torch.SymBool)):
                raise GraphError(
                    f"input {node.name} is a Python number that varies between calls",
                    where=describe(node),
                    fix="pass it as a tensor, or leave it out of dynamic_shapes so that it is fixed",
                )
            is_tensor = isinstance(example, Tensor)
            dtype, literal = (example.dtype, None) if is_tensor else (None, example)
            self._inputs.append(_Input(number, str(node.target), dtype, literal))
        self._names = [wanted.name for wanted in self._inputs]
        outputs = [scheduled.program.values[value] for value in scheduled.program.outputs]
        self._output_shapes = [value.shape for value in outputs]
        self._literals = any(literal is not None for literal in scheduled.outputs)
        self._bound: tuple[list[torch.Size], _Bound] | None = None

    def timed(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], state: Sequence[Tensor] = ()
    ) -> tuple[list[float], Mapping[str, int]]:
        """A call whose results nobody wants: the seconds of each of the program's steps, and the dims it ran with."""
        tensors, outputs, bound = self._placed(args, kwargs, state)
        addresses = [tensor.data_ptr() for tensor in (*tensors, *outputs, *state)]
        with without_autocast():
            return self.executable.run_timed(addresses, bound.dims), bound.dims

    def _placed(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], state: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], _Bound]:
        leaves = self._signature.flatten(args, kwargs)
        tensors = [_checked(leaf, wanted) for leaf, wanted in zip(leaves, self._inputs, strict=True)]
        if state:
            written = {_memory(tensor) for tensor in state}
            tensors = [tensor.clone() if _memory(tensor) in written else tensor for tensor in tensors]
        bound = self._bind([tensor.shape for tensor in tensors])
        return tensors, [torch.empty(shape, dtype=dtype) for shape, dtype in bound.outputs], bound

    def __call__(self, args: Sequence[Any], kwargs: Mapping[str, Any], state: Sequence[Tensor] = ()) -> Any:
        """Runs the program; results are fresh tensors. Raises InputError for arguments that do not fit."""
        tensors, outputs, bound = self._placed(args, kwargs, state)
        addresses = [tensor.data_ptr() for tensor in (*tensors, *outputs, *state)]
        with without_autocast():
            self.executable.run(addresses, bound.dims)
        if not self._literals:
            return self._signature.unflatten(outputs)
        made = iter(outputs)
        results = [
            next(made) if literal is None else _known(literal.value, bound.dims) for literal in self.scheduled.outputs
        ]
        return self._signature.unflatten(results)

    def _bind(self, shapes: list[torch.Size]) -> _Bound:
        """What follows from the inputs' shapes; those of the last call are at hand."""
        last = self._bound
        if last is not None and last[0] == shapes:
            return last[1]
        dims = bind_dims(self.scheduled.program, shapes, self._names)
        self.executable.admit(dims)
        sizes = [[evaluate(size, dims) for size in shape] for shape in self._output_shapes]
        bound = _Bound(dims, list(zip(sizes, self.scheduled.output_dtypes, strict=True)))
        self._bound = (shapes, bound)
        return bound


def _known(value: Any, dims: Mapping[str, int]) -> Any:
    """A result that is no tensor; a size that varies is known by now."""
    return evaluate(value, dims) if isinstance(value, SizeExpr) else value


def _memory(tensor: Tensor) -> int:
    """Tells apart tensors that share no memory."""
    return tensor.untyped_storage().data_ptr()


def without_autocast() -> contextlib.AbstractContextManager[Any]:
    """What a lowered module computes is fixed: autocast around the call changes nothing."""
    return torch.autocast("cpu", enabled=False) if torch.is_autocast_enabled("cpu") else contextlib.nullcontext()


_NO_TENSOR = torch.empty(0, dtype=torch.bool)


def _checked(leaf: Any, wanted: _Input) -> Tensor:
    """The input as a contiguous CPU tensor of the right dtype."""
    if (
        type(leaf) is Tensor
        and leaf.dtype == wanted.dtype
        and leaf.layout == torch.strided
        and leaf.is_cpu
        and leaf.is_contiguous()
        and not leaf.is_neg()
        and not leaf.is_conj()
    ):
        return leaf
    where = f"input {wanted.number}"
    if wanted.dtype is None:
        if type(leaf) is type(wanted.literal) and leaf == wanted.literal:
            return _NO_TENSOR
        given = type(leaf).__name__ if isinstance(leaf, Tensor) or type(leaf).__module__ == "numpy" else repr(leaf)
        raise InputError(
            f"{wanted.name} is {given}, the model was lowered with {wanted.literal!r}",
            where=where,
            fix=f"pass {wanted.literal!r}, or lower the model again with the other value as its example",
        )
    if not isinstance(leaf, Tensor):
        numpy = type(leaf).__module__ == "numpy"
        raise InputError(
            f"{wanted.name} is a {'numpy.' if numpy else ''}{type(leaf).__name__}, not a torch.Tensor",
            where=where,
            fix=f"pass torch.from_numpy({wanted.name})" if numpy else "pass a tensor, as in the example inputs",
        )
    if leaf.device.type != "cpu" or leaf.layout != torch.strided:
        raise InputError(
            f"{wanted.name} is a {str(leaf.layout).removeprefix('torch.')} tensor on {leaf.device}",
            where=where,
            fix="pass a dense CPU tensor: .cpu(), .to_dense()",
        )
    if leaf.dtype != wanted.dtype:
        raise InputError(
            f"{wanted.name} has dtype {leaf.dtype}, expected {wanted.dtype}",
            where=where,
            fix=f"convert it: {wanted.name}.to({wanted.dtype})",
        )
    return leaf.detach().resolve_conj().resolve_neg().contiguous()
