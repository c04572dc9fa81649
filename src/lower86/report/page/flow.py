"""Who reads what: the steps of a program as a graph, and in which precision each of them computes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...program.dtypes import is_narrow
from ...program.kernels import Attention, Contraction, Depthwise, Fill, Kernel, Pack
from ...program.program import Foreign, Loop, Program, Step

PRECISIONS = {
    "int8": "int8 arithmetic",
    "mixed": "float32 on int8 data",
    "half": "bf16 or f16",
    "float": "float32",
    "integer": "indices and masks",
    "foreign": "PyTorch",
}
"""What steps are coloured by, and what that is called."""


@dataclass(frozen=True)
class Edge:
    """From step `source` to step `target`, by number; a source below 0 is input -1 - source, a target output so."""

    source: int
    target: int


def edges_of(program: Program) -> list[Edge]:
    """Each pair of which one reads what the other has written, once, in order of the readers."""
    writers: dict[int, list[int]] = {value: [-1 - i] for i, value in enumerate(program.inputs)}
    found: dict[Edge, None] = {}
    for number, step in enumerate(program.steps):
        reads, writes = touched(program, step)
        for value in reads:
            found.update({Edge(writer, number): None for writer in writers.get(value, ()) if writer != number})
        for value in writes:
            known = writers.setdefault(value, [])
            if number not in known:
                known.append(number)
    for i, value in enumerate(program.outputs):
        found.update({Edge(writer, -1 - i): None for writer in writers.get(value, ())})
    return list(found)


def touched(program: Program, step: Step | Loop | Foreign) -> tuple[list[int], list[int]]:
    """The values that a step reads, and those that it writes; constants are neither."""
    reads: dict[int, None] = {}
    writes: dict[int, None] = {}
    if isinstance(step, Foreign):
        reads, writes = dict.fromkeys(step.inputs), dict.fromkeys(step.outputs)
    for native in _native(step):
        kernel = program.kernels[native.kernel]
        written, loaded = _written(kernel), _loaded(kernel)
        for slot, (value, _) in enumerate(native.slots):
            if slot in written:
                writes[value] = None
            if slot in loaded or slot not in written:
                reads[value] = None
    return [value for value in reads if program.values[value].place != "constant"], list(writes)


def precision_of(program: Program, step: Step | Loop | Foreign) -> str:
    """A name of `PRECISIONS`. A loop has that of its contractions."""
    if isinstance(step, Foreign):
        return "foreign"
    found = [_precision(program, native) for native in _native(step)]
    return min(found, key=list(PRECISIONS).index, default="integer")


def _precision(program: Program, step: Step) -> str:
    kernel = program.kernels[step.kernel]
    if isinstance(kernel, (Contraction, Depthwise)):
        return _float(kernel.kind) if kernel.is_float else "int8"
    if isinstance(kernel, Attention):
        return _float(kernel.dtype) if kernel.integers is None else "int8"
    values = [program.values[value] for value, _ in step.slots]
    dtypes = {value.dtype for value in values if value.place != "constant"} or {value.dtype for value in values}
    if dtypes & {"i8", "u8"}:
        return "mixed"
    if any(map(is_narrow, dtypes)):
        return "half"
    return "float" if dtypes & {"f32", "f64"} else "integer"


def _float(dtype: str) -> str:
    return "half" if is_narrow(dtype) else "float"


def _native(step: Step | Loop | Foreign) -> Iterator[Step]:
    if isinstance(step, Step):
        yield step
    elif isinstance(step, Loop):
        yield from step.steps


def _written(kernel: Kernel) -> set[int]:
    """Slots that the kernel writes to."""
    if isinstance(kernel, Fill):
        return {kernel.slot}
    if isinstance(kernel, Pack):
        return {1, 2} if kernel.rows is None else {1, 2, 4}
    return {store.slot for store in kernel.body.stores}


def _loaded(kernel: Kernel) -> set[int]:
    """Slots that the kernel's bodies read, which may be some that it writes to."""
    bodies = [] if isinstance(kernel, (Fill, Pack)) else [kernel.body]
    if isinstance(kernel, Attention) and kernel.mask is not None:
        bodies.append(kernel.mask)
    return {node.number for body in bodies for node in body.nodes if node.op in ("load", "gather")}
