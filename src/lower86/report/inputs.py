"""Inputs to time a model with, where nobody has given any: random numbers that the model can take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..program.dtypes import DTYPES
from ..program.interface import Interface
from ..program.kernels import Fill, Pack
from ..program.program import Program, native_steps
from ..program.sizes import Size, SizeExpr, dim_atom, evaluate
from ..runtime.executable import bind_dims
from .page.flow import touched

_SIZES = (128, 64, 16, 8, 4, 2, 1)
"""What a dim that varies may be, the first that fits."""

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def arguments(interface: Interface, leaves: Sequence[Any]) -> Arguments:
    """Positional and named arguments of a call, from its flat inputs."""
    rest = iter(leaves)
    return tuple(interface.positional.unflatten(rest)), dict(interface.named.unflatten(rest))


def by_name(interface: Interface, given: Mapping[str, Any]) -> Arguments:
    """Arguments from flat inputs by name. Raises InputError for a name that is missing or unknown."""
    return arguments(interface, interface.leaves(given))


def made_up(program: Program, interface: Interface) -> Arguments:
    """The arguments of a call with `made_up_inputs`."""
    return by_name(interface, made_up_inputs(program, interface))


def made_up_inputs(
    program: Program, interface: Interface, shapes: Mapping[str, Sequence[int]] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Arrays for the tensor inputs, by flat name, the same ones each time.

    Normal floats; integers below every bound that they are checked against, ones where there is none; all True. Inputs
    have the shapes that `shapes` names; sizes that vary and that those leave open are the first of a few that the model
    admits. Raises InputError where it admits none, and for the shape of no input.
    """
    wanted = {name: tuple(shape) for name, shape in (shapes or {}).items()}
    tensors = [one.name for one in interface.inputs if one.dtype]
    unknown = wanted.keys() - set(tensors)
    if unknown:
        raise InputError(
            f"there is no input {min(unknown)!r}", where="shapes", fix=f"name some of {', '.join(tensors)}"
        )
    generator = np.random.default_rng(0)
    dims = _dims(program, [one.name for one in interface.inputs], wanted)
    made = {
        one.name: _array(program, value, dims, generator)
        for one, value in zip(interface.inputs, program.inputs, strict=True)
        if one.dtype
    }
    for name, shape in wanted.items():
        if made[name].shape != shape:
            declared = program.values[program.inputs[[one.name for one in interface.inputs].index(name)]].shape
            raise InputError(
                f"{name} cannot have the shape {list(shape)}, the program takes [{', '.join(map(str, declared))}]",
                where="shapes",
                fix="give shapes that fit the model, and each other",
            )
    return made


def _dims(program: Program, names: Sequence[str], wanted: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    given = _dims_of(program, names, wanted)
    problem: InputError | None = None
    for size in _SIZES:
        dims = {dim.name: given.get(dim.name, min(max(size, dim.low), dim.high or size)) for dim in program.dims}
        shapes = [[evaluate(one, dims) for one in program.values[value].shape] for value in program.inputs]
        try:
            return bind_dims(program, shapes, names)
        except InputError as refused:
            problem = problem or refused
    what = "no sizes" if problem is None else problem.what
    raise InputError(f"no inputs could be made up: {what}", where="shapes", fix="pass inputs that the model can take")


def _dims_of(program: Program, names: Sequence[str], wanted: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The dims that shapes say: those that are a size by themselves, and those that are found by such an input."""
    found = {}
    for dim in program.dims:
        shape = wanted.get(names[dim.input], ())
        if dim.axis < len(shape):
            found[dim.name] = (shape[dim.axis] - dim.offset) // dim.factor
    for name, shape in wanted.items():
        declared = program.values[program.inputs[names.index(name)]].shape
        plain = {dim_atom(dim.name): dim.name for dim in program.dims}
        for size, number in zip(declared, shape, strict=False):
            if isinstance(size, SizeExpr) and size in plain:
                found.setdefault(plain[size], number)
    return found


def _array(program: Program, value: int, dims: Mapping[str, int], generator: np.random.Generator) -> npt.NDArray[Any]:
    declared = program.values[value]
    dtype, shape = DTYPES[declared.dtype], [evaluate(size, dims) for size in declared.shape]
    if dtype.kind == "float":
        normal = generator.standard_normal(shape, np.float32)
        if dtype.name == "bf16":  # its bits, of which NumPy has no type
            return np.asarray(np.ascontiguousarray(normal).view(np.uint32) >> 16).astype(np.uint16)
        return normal.astype(dtype.numpy)
    if dtype.kind == "bool":
        return np.ones(shape, np.bool_)
    bound = min(_bounds(program, value, dims), default=None)
    if bound is None and dtype.size > 1:
        return np.ones(shape, dtype.numpy)
    limits: Any = np.iinfo(dtype.numpy.str)
    low, high = (limits.min, limits.max + 1) if bound is None else (0, max(1, min(bound, int(limits.max) + 1)))
    return generator.integers(low, high, shape).astype(dtype.numpy)


def _bounds(program: Program, value: int, dims: Mapping[str, int]) -> Iterator[int]:
    """What indices are checked against in the steps that what is in `value` gets to, before anything becomes float."""
    reached = {value}
    for step in program.steps:
        reads, writes = touched(program, step)
        if reached.intersection(reads):
            reached.update(one for one in writes if DTYPES[program.values[one].dtype].name in ("i64", "i32"))
    for native in native_steps(program):
        kernel = program.kernels[native.kernel]
        if isinstance(kernel, (Fill, Pack)):
            continue
        slots = {slot for slot, (one, _) in enumerate(native.slots) if one in reached}
        local = {f"d{i}": evaluate(size, dims) for i, size in enumerate(native.dims)}
        follows: set[int] = set()
        for position, node in enumerate(kernel.body.nodes):
            indexes = bool(follows.intersection(node.args))
            if node.op == "load":
                if node.number in slots:
                    follows.add(position)
            elif node.op in ("gather", "checked") and indexes:
                yield from (evaluate(bound, local) for bound in _checked(node.op, node.attrs))
                if node.op == "checked":
                    follows.add(position)
            elif indexes and node.op != "gather":
                follows.add(position)


def _checked(op: str, attrs: Sequence[Any]) -> list[Size]:
    if op == "checked":
        return [attrs[0]] if isinstance(attrs[0], (int, SizeExpr)) else []
    return [bound for _, bound in attrs[2]]
