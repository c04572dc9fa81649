"""What the compiled program wrote, node by node: it runs step by step, and each value is copied out when it is whole.

A value's place in the arena serves another one as soon as its last reader is done, so nothing can be read at the end.
Intermediate results that stay in registers are in no memory, and so in no result of this file.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.fx import Node

from ..call import CompiledGraph
from ..program.body import Body
from ..program.kernels import Fill, Kernel, Pack
from ..program.program import Foreign, Loop, Program, Step
from ..schedule.foreign import tensor_at


def captured(
    compiled: CompiledGraph,
    nodes: Collection[Node],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    state: Sequence[Tensor],
) -> dict[str, Tensor]:
    """By name, the values of those nodes of the INT8 graph that a call leaves in memory, each in its logical layout.

    `state` is what the call begins with, and is written to. Raises InputError as a call does.
    """
    scheduled = compiled.scheduled
    last = last_writes(scheduled.program)
    due: dict[int, list[Node]] = {}
    for node in nodes:
        view = scheduled.views.get(node.name)
        if view is not None and isinstance(node.meta.get("val"), Tensor):
            due.setdefault(last.get(view.value, len(scheduled.program.steps) - 1), []).append(node)
    found: dict[str, Tensor] = {}
    for number, bases, dims in compiled.watched(args, kwargs, state):
        for node in due.get(number, ()):
            view = scheduled.views[node.name]
            memory = tensor_at(view, node.meta["val"].dtype, int(bases[view.value]), dims)
            found[node.name] = memory.clone()
    return found


def last_writes(program: Program) -> dict[int, int]:
    """The number of the last step that writes to each value."""
    return {value: number for number, step in enumerate(program.steps) for value in _written(program, step)}


def _written(program: Program, step: Step | Loop | Foreign) -> set[int]:
    if isinstance(step, Foreign):
        return set(step.outputs)
    if isinstance(step, Loop):
        return {value for one in step.steps for value in _written(program, one)}
    return {step.slots[slot][0] for slot in _written_slots(program.kernels[step.kernel])}


def _written_slots(kernel: Kernel) -> set[int]:
    if isinstance(kernel, Fill):
        return {kernel.slot}
    if isinstance(kernel, Pack):
        return {1, 2} if kernel.rows is None else {1, 2, 4}
    body = kernel.body
    assert isinstance(body, Body)
    return {store.slot for store in body.stores}
