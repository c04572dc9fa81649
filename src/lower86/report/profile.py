"""`lower86.profile`: where the time of a call goes, kernel by kernel, and how far from the CPU's peak each is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..counted import counted
from ..errors import Lower86Error
from ..program.dtypes import DTYPES
from ..program.kernels import Attention, Contraction, Depthwise
from ..program.program import Foreign, Loop, Program, Step
from ..program.sizes import evaluate, product
from ..runtime.executable import Executable
from ..runtime.threads import default_threads, pool
from .explanation import kind_of, shape_of, table
from .peak import measured_peak

LEAST_SEEN = 1e-7
"""Seconds of a step, less what starting it costs. What is left of shorter ones is chance: no rate follows from it."""


@dataclass(frozen=True)
class StepProfile:
    """One step of the program: median seconds, multiply-accumulates, and bytes of the values it touches, each once."""

    label: str
    kind: str
    shape: str
    seconds: float
    macs: int
    bytes: int

    @property
    def intensity(self) -> float | None:
        """Multiply-accumulates a byte; None where nothing is multiplied."""
        return self.macs / self.bytes if self.macs and self.bytes else None


@dataclass(frozen=True)
class Profile:
    """Where the time goes. `seconds` is the median of whole calls; `peak` multiply-accumulates a second of int8."""

    steps: tuple[StepProfile, ...]
    seconds: float
    peak: float
    threads: int

    def __str__(self) -> str:
        total = sum(step.seconds for step in self.steps)
        macs = sum(step.macs for step in self.steps)
        rows = [("us", "GMAC/s", "of peak", "KB", "GB/s", "kernel", "sizes", "nodes")]
        for step in self.steps:
            rate = step.macs / step.seconds
            seen = step.seconds >= LEAST_SEEN
            rows.append(
                (
                    f"{step.seconds * 1e6:.1f}" if seen else "<0.1", f"{rate / 1e9:.0f}" if step.macs and seen else "",
                    f"{rate / self.peak:.0%}" if step.macs and seen else "", f"{step.bytes / 1e3:.0f}",
                    f"{step.bytes / step.seconds / 1e9:.1f}" if seen else "", step.kind, step.shape, step.label,
                )
            )  # fmt: skip
        head = (
            f"{self.seconds * 1e3:.3f} ms a call on {counted(self.threads, 'thread')}, {total * 1e3:.3f} ms in "
            f"{counted(len(self.steps), 'step')}; {macs / 1e9:.2f} GMAC, {macs / self.seconds / 1e9:.0f} GMAC/s, "
            f"{macs / self.seconds / self.peak:.0%} of the peak of {self.peak / 1e9:.0f}"
        )
        return "\n".join([head, "", *(line[:160] for line in table(rows))])


@dataclass(frozen=True)
class Rehearsal:
    """Calls on the same inputs: `begin` restores the state of the first one, `timed` gives seconds a step, and dims."""

    executable: Executable
    begin: Callable[[], None]
    call: Callable[[], Any]
    timed: Callable[[], tuple[list[float], Mapping[str, int]]]


def profile(lowered: Any, *inputs: Any, seconds: float = 2.0, **named: Any) -> Profile:
    """Times every step of a lowered or loaded model on these inputs, for about `seconds`; then measures the int8 peak.

    Whole calls and calls step by step take turns. What it costs to start a step alone is measured and taken off; what
    a step gains from the next ones' starting while it ends is not seen. Raises Lower86Error for anything but such
    a model, InputError for inputs that do not fit. All calls begin with the model's state, which stays as it is.
    """
    rehearse = getattr(lowered, "rehearse", None)
    if rehearse is None:
        raise Lower86Error(
            f"a {type(lowered).__name__} has no program to time",
            where="lower86.profile(lowered, *inputs)",
            fix="pass what lower_pt2e_quantized_to_x86 or lower86.load returned",
        )
    return measured(rehearse(inputs, named), seconds)


def measured(calls: Rehearsal, seconds: float) -> Profile:
    """What `profile` measures of these calls."""
    whole: list[float] = []
    parts: list[list[float]] = []
    dims: Mapping[str, int] = {}
    calls.call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(whole) < 3:
        calls.begin()
        calls.call()  # so that both kinds of call find the caches alike
        calls.begin()
        start = time.perf_counter()
        calls.call()
        whole.append(time.perf_counter() - start)
        calls.begin()
        taken, dims = calls.timed()
        parts.append(taken)
    program, started = calls.executable.program, _start_seconds()
    medians = [max(statistics.median(column) - started, 1e-9) for column in zip(*parts, strict=True)]
    steps = [_profiled(program, step, taken, dims) for step, taken in zip(program.steps, medians, strict=True)]
    threads = calls.executable.num_threads or default_threads()
    peak = measured_peak(threads, target=calls.executable.target, seconds=min(0.3, seconds))
    return Profile(tuple(steps), statistics.median(whole), peak, threads)


def _start_seconds() -> float:
    """What it takes to enter native code and come back."""
    taken = []
    for _ in range(200):
        start = time.perf_counter()
        pool().run(0, 0, 0, default_threads())
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _profiled(program: Program, step: Step | Loop | Foreign, seconds: float, dims: Mapping[str, int]) -> StepProfile:
    def size(value: int) -> int:
        declared = program.values[value]
        return evaluate(product(declared.shape), dims) * DTYPES[declared.dtype].size

    if isinstance(step, Foreign):
        touched = sum(map(size, {*step.inputs, *step.outputs}))
        return StepProfile(step.label, "foreign", "", seconds, 0, touched)
    if isinstance(step, Loop):
        times = evaluate(step.count, dims)
        inside = [_profiled(program, one, 0.0, dims) for one in step.steps]
        touched = sum(map(size, {value for one in step.steps for value, _ in one.slots}))
        kinds = " + ".join(part.kind for part in inside)
        macs = times * sum(part.macs for part in inside)
        return StepProfile(step.label, f"loop of {kinds}", counted(times, "time"), seconds, macs, touched)
    kernel = program.kernels[step.kernel]
    local = {f"d{i}": evaluate(extent, dims) for i, extent in enumerate(step.dims)}
    macs = evaluate(kernel.macs(), local) if isinstance(kernel, (Contraction, Depthwise, Attention)) else 0
    touched = sum(map(size, {value for value, _ in step.slots}))
    return StepProfile(step.label, kind_of(kernel), shape_of(kernel, [step]), seconds, macs, touched)
