"""Gathers what a report says of a lowered or loaded model: times it, and joins that with its table and its program."""

from __future__ import annotations

import dataclasses
import datetime
import platform
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...errors import Lower86Error, UnsupportedError
from ...program.body import Body
from ...program.dtypes import DTYPES
from ...program.interface import Given, Interface, Result
from ...program.kernels import ATTENTION_PARAMS, Attention, Fill, Pack
from ...program.program import Foreign, Loop, Program, Step
from ...program.sizes import SizeExpr, evaluate, names, product
from ...runtime.threads import default_threads
from ..comparison import Comparison
from ..environment import cpu_name, versions
from ..explanation import Explanation, Record, kind_of
from ..inputs import Arguments, by_name, made_up
from ..peak import measured_bandwidth
from ..profile import LEAST_SEEN, Profile, profile
from .facts import Facts, Machine, NotInt8, StepFacts, Tensor, clean
from .flow import edges_of, precision_of

Inputs = Sequence[Any] | Mapping[str, Any] | None


def gather(
    model: Any,
    inputs: Inputs = None,
    comparison: Comparison | None = None,
    *,
    name: str = "model",
    file_bytes: int | None = None,
    seconds: float = 1.0,
) -> Facts:
    """Everything that a report says; times the model for about `seconds`. Arguments as of `write_report`."""
    if getattr(model, "rehearse", None) is None:
        raise Lower86Error(
            f"a {type(model).__name__} has no program to report of",
            where="lower86.write_report(model, path)",
            fix="pass what lower_pt2e_quantized_to_x86 or lower86.load returned",
        )
    program: Program = model.program
    explanation: Explanation = model.explanation
    interface = _interface(model)
    (args, kwargs), timed_on = _arguments(program, interface, inputs)
    timed = profile(model, *args, seconds=seconds, **kwargs)
    rehearsal = model.rehearse(args, kwargs)
    _, dims = rehearsal.timed()
    steps = tuple(_steps(program, explanation, timed))
    if dims:
        timed_on += ", " + ", ".join(f"{dim} = {size}" for dim, size in dims.items())
    threads = rehearsal.executable.num_threads or default_threads()
    target = rehearsal.executable.target
    bandwidth = measured_bandwidth(threads, target=target, seconds=min(0.2, seconds))
    constants = (value for value in program.values if value.place == "constant")
    return Facts(
        clean(name), datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        _inputs(program, interface), _outputs(program, interface),
        tuple(_tensor(program, state.name, state.value) for state in program.states),
        len(explanation.operators), sum(one.is_int8 for one in explanation.operators), explanation.int8_fraction,
        dict(Counter(kind_of(kernel) for kernel in program.kernels).most_common()),
        file_bytes, sum(evaluate(product(one.shape), {}) * DTYPES[one.dtype].size for one in constants),
        str(evaluate(program.arena_bytes, dims)), explanation.regions, timed.seconds, timed_on,
        Machine(_cpu(target.cpu), target.level, threads, timed.peak, bandwidth),
        {clean(key): clean(version, 40) for key, version in getattr(model, "versions", {}).items()},
        {"Python": platform.python_version(), **versions(("lower86", "llvmlite", "numpy"))},
        steps, tuple(edges_of(program)), tuple(_not_int8(explanation, steps)),
        None if comparison is None else tuple(map(_accuracy, comparison.rows)),
    )  # fmt: skip


def _interface(model: Any) -> Interface | None:
    """How the model is called; None where only PyTorch's types can say it."""
    try:
        interface: Interface = model.interface
    except UnsupportedError:
        return None
    return interface


def _arguments(program: Program, interface: Interface | None, inputs: Inputs) -> tuple[Arguments, str]:
    if isinstance(inputs, Mapping) or inputs is None:
        if interface is None:
            raise Lower86Error(
                "the model's arguments are of types of its own, so none can be made up or named",
                where="lower86.write_report",
                fix="pass inputs= a tuple of its positional arguments",
            )
        if inputs is None:
            return made_up(program, interface), "random inputs"
        return by_name(interface, inputs), "the inputs given"
    return (tuple(inputs), {}), "the inputs given"


def _inputs(program: Program, interface: Interface | None) -> tuple[Tensor, ...]:
    if interface is None:
        return tuple(_tensor(program, str(number), value) for number, value in enumerate(program.inputs))
    pairs = zip(interface.inputs, program.inputs, strict=True)  # what is no tensor has a value, too
    return tuple(_tensor(program, one.name, value) if one.dtype else _fixed(one) for one, value in pairs)


def _outputs(program: Program, interface: Interface | None) -> tuple[Tensor, ...]:
    values = iter(program.outputs)  # only the tensors
    if interface is None:
        return tuple(_tensor(program, str(number), value) for number, value in enumerate(values))
    return tuple(_tensor(program, one.name, next(values)) if one.dtype else _fixed(one) for one in interface.outputs)


def _fixed(one: Given | Result) -> Tensor:
    literal = one.literal
    return Tensor(clean(one.name), "", (clean(str(literal) if isinstance(literal, SizeExpr) else repr(literal)),))


def _tensor(program: Program, name: str, value: int) -> Tensor:
    declared = program.values[value]
    used = {dim for size in declared.shape for dim in names(size)}
    ranges = [f"{d.name} {d.low} … {'∞' if d.high is None else d.high}" for d in program.dims if d.name in used]
    shape = tuple(clean(str(size), 80) for size in declared.shape)
    return Tensor(clean(name), declared.dtype, shape, tuple(map(clean, ranges)))


def _steps(program: Program, explanation: Explanation, timed: Profile) -> Iterable[StepFacts]:
    records = {record.node: record for record in explanation.operators}
    total = sum(step.seconds for step in timed.steps)
    for number, (step, taken) in enumerate(zip(program.steps, timed.steps, strict=True)):
        nodes = _nodes(step)
        record = next((records[node] for node in nodes if node in records), None)
        rate = taken.macs / taken.seconds if taken.macs and taken.seconds >= LEAST_SEEN else None
        module, line = _place(step, record, explanation)
        yield StepFacts(
            number, taken.kind, clean(taken.shape), step.kernel if isinstance(step, Step) else None,
            precision_of(program, step), tuple(clean(node, 120) for node in nodes), clean(module), clean(line),
            tuple(_params(program, step)), taken.seconds, taken.seconds / total if total else 0.0, taken.macs,
            taken.bytes, rate, None if rate is None else rate / timed.peak, taken.bytes / taken.seconds,
            taken.intensity,
        )  # fmt: skip


def _nodes(step: Step | Loop | Foreign) -> list[str]:
    """Names of the nodes of the INT8 graph that a step computes."""
    labels = [step.label, *(one.label for one in step.steps)] if isinstance(step, Loop) else [step.label]
    return list(dict.fromkeys(node for label in labels for node in label.split(" + ")))


def _place(step: Step | Loop | Foreign, record: Record | None, explanation: Explanation) -> tuple[str, str]:
    if record is not None:
        return record.module, record.line
    if isinstance(step, Foreign):
        return _described(next((one.where for one in explanation.foreign if one.node == step.label), ""))
    return _described(step.source) if isinstance(step, Step) else ("", "")


def _described(text: str) -> tuple[str, str]:
    """Module and line of what `graph.source.describe` says, of the first of several nodes."""
    found = _DESCRIBED.match(text)
    return (found[1] or "", found[2]) if found is not None else ("", text)


_DESCRIBED = re.compile(r"node [^,;]*(?:, module ([^,;]*))?(?:, )?(.*?)(?:; node |$)")


def _params(program: Program, step: Step | Loop | Foreign) -> Iterable[tuple[str, str]]:
    if not isinstance(step, Step):
        return
    kernel = program.kernels[step.kernel]
    known = dict(enumerate(_ATTENTION)) if isinstance(kernel, Attention) and kernel.integers is not None else {}
    if not isinstance(kernel, (Fill, Pack)):
        known |= dict(_quantizers(kernel.body))
    for number, (dtype, value) in enumerate(step.params):
        yield known.get(number, f"number {number} ({dtype})"), f"{value:.6g}"


_ATTENTION = [name.replace("_", " ") for name in ATTENTION_PARAMS]
_QUANTIZERS = {
    "quantize": ("1 / scale", "zero point", "lowest", "highest"),
    "quantize_bounded": ("1 / scale", "zero point"),
    "dequantize": ("scale", "zero point"),
}
"""What these operations take after the value."""


def _quantizers(body: Body) -> Iterable[tuple[int, str]]:
    """Which params of a body are scales and zero points, and what they are called."""
    for node in body.nodes:
        for name, arg in zip(_QUANTIZERS.get(node.op, ()), node.args[1:], strict=False):
            if body.nodes[arg].op == "param":
                yield body.nodes[arg].number, f"{name} ({node.op.partition('_')[0]})"


def _not_int8(explanation: Explanation, steps: Sequence[StepFacts]) -> Iterable[NotInt8]:
    for one in explanation.refused:
        operator, node, module, line = map(clean, (one.operator, one.node, one.module, one.line))
        yield NotInt8(operator, node, module, line, one.macs, clean(one.reason))
    for away in explanation.foreign:
        reason = "no kernel computes it: it runs in PyTorch"
        module, line = map(clean, _described(away.where))
        yield NotInt8(clean(away.operator), clean(away.node), module, line, 0, reason)
    refused = {clean(one.node, 120) for one in explanation.refused}
    for step in steps:
        if step.macs and step.precision in ("float", "half") and not refused.intersection(step.nodes):
            yield NotInt8(
                step.kind, " + ".join(step.nodes[:2]), step.module, step.line, step.macs,
                "the model does not quantize it",
            )  # fmt: skip


def _accuracy(row: Any) -> dict[str, Any]:
    found = dataclasses.asdict(row)
    return {key: clean(value) if isinstance(value, str) else value for key, value in found.items()}


def _cpu(known: str) -> str:
    """The CPU's name as the system has it, and as LLVM has."""
    return clean(f"{cpu_name()} ({known})")
