"""A compiled graph, and how a call's arguments become addresses for its program."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.fx import GraphModule

from .codegen.target import Target
from .errors import GraphError, InputError, UnsupportedError
from .graph.pytrees import plain_tree, signature_of
from .graph.source import describe
from .program.interface import Given, Interface, Result, merged
from .program.sizes import SizeExpr
from .runtime.binding import Binding, Bound
from .runtime.executable import Executable
from .schedule.schedule import Scheduled
from .schedule.symbols import DTYPE_NAMES


@dataclass(frozen=True)
class _Input:
    """What a flat input has to be: a tensor of `dtype`, or, if that is None, `literal` itself."""

    number: int
    name: str
    dtype: torch.dtype | None
    literal: Any = None


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
        self._literals = any(literal is not None for literal in scheduled.outputs)
        names = [wanted.name for wanted in self._inputs]
        self._binding = Binding(scheduled.program, names, self.executable.admit)

    def timed(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], state: Sequence[Tensor] = ()
    ) -> tuple[list[float], Mapping[str, int]]:
        """A call whose results nobody wants: the seconds of each of the program's steps, and the dims it ran with."""
        tensors, outputs, bound = self._placed(args, kwargs, state)
        addresses = [tensor.data_ptr() for tensor in (*tensors, *outputs, *state)]
        with without_autocast():
            return self.executable.run_timed(addresses, bound.dims), bound.dims

    def watched(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], state: Sequence[Tensor] = ()
    ) -> Iterator[tuple[int, npt.NDArray[np.int64], Mapping[str, int]]]:
        """A call whose results nobody wants, step by step: the step's number, where each value lies, and the dims."""
        tensors, outputs, bound = self._placed(args, kwargs, state)
        addresses = [tensor.data_ptr() for tensor in (*tensors, *outputs, *state)]
        with without_autocast():
            for number, bases in self.executable.run_steps(addresses, bound.dims):
                yield number, bases, bound.dims

    def interface(self) -> Interface:
        """How the program is called, without PyTorch's types. Raises UnsupportedError where that cannot be said."""
        signature = self._signature
        positional = plain_tree(signature.inputs.child(0), "an argument holds")
        result = plain_tree(signature.outputs, "the result holds")
        dtypes = iter(self.scheduled.output_dtypes)
        outputs = [
            Result(name or "output", _name_of(next(dtypes), f"result {name or 'output'}"))
            if literal is None
            else Result(name or "output", "", _scalar(literal.value, f"result {name or 'output'}"))
            for name, literal in zip(result.names(), self.scheduled.outputs, strict=True)
        ]
        inputs = [
            Given(wanted.name, "", _scalar(wanted.literal, f"input {wanted.name}"))
            if wanted.dtype is None
            else Given(wanted.name, _name_of(wanted.dtype, f"input {wanted.name}"))
            for wanted in self._inputs
        ]
        unnamed = range(len(signature.names), len(positional.children))
        names = (*signature.names[: len(positional.children)], *(f"argument_{number}" for number in unnamed))
        return Interface(
            names, positional,
            plain_tree(signature.inputs.child(1), "an argument holds"), result, tuple(inputs), tuple(outputs),
        )  # fmt: skip

    def _placed(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], state: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], Bound]:
        leaves = self._signature.flatten(args, kwargs)
        tensors = [_checked(leaf, wanted) for leaf, wanted in zip(leaves, self._inputs, strict=True)]
        if state:
            written = {_memory(tensor) for tensor in state}
            tensors = [tensor.clone() if _memory(tensor) in written else tensor for tensor in tensors]
        bound = self._binding.bind([tensor.shape for tensor in tensors])
        made = zip(bound.shapes, self.scheduled.output_dtypes, strict=True)
        return tensors, [torch.empty(shape, dtype=dtype) for shape, dtype in made], bound

    def __call__(self, args: Sequence[Any], kwargs: Mapping[str, Any], state: Sequence[Tensor] = ()) -> Any:
        """Runs the program; results are fresh tensors. Raises InputError for arguments that do not fit."""
        tensors, outputs, bound = self._placed(args, kwargs, state)
        addresses = [tensor.data_ptr() for tensor in (*tensors, *outputs, *state)]
        with without_autocast():
            self.executable.run(addresses, bound.dims)
        if not self._literals:
            return self._signature.unflatten(outputs)
        return self._signature.unflatten(merged(outputs, self.scheduled.outputs, bound.dims))


def _scalar(value: Any, what: str) -> Any:
    if value is None or type(value) in (bool, int, float, str, SizeExpr):
        return value
    raise UnsupportedError(
        f"{what} is {value!r}, which a file cannot hold",
        where="lower86.save",
        fix="leave it out of the model's arguments and results, or use a number, a string or None",
    )


def _name_of(dtype: torch.dtype, what: str) -> str:
    name = DTYPE_NAMES.get(dtype)
    if name is None:
        raise UnsupportedError(
            f"{what} has dtype {dtype}, which a file cannot hold",
            where="lower86.save",
            fix=f"convert it to one of {', '.join(str(dtype) for dtype in DTYPE_NAMES)}",
        )
    return name


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
