"""What a report says, as plain data: all text clean, all numbers finite, ready for JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .flow import Edge


@dataclass(frozen=True)
class Tensor:
    """An input or output: a name, a dtype by short name ("" for what is no tensor), sizes, and the ranges of those."""

    name: str
    dtype: str
    shape: tuple[str, ...] = ()
    ranges: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepFacts:
    """One step: what it is, where in the model it comes from, and what it takes.

    `precision` is a name of `flow.PRECISIONS`. `share` is its part of all steps' time, `of_peak` its part of the int8
    peak; `intensity` multiply-accumulates a byte. None where nothing is multiplied. `params` are numbers it is given.
    """

    number: int
    kind: str
    shape: str
    kernel: int | None
    precision: str
    nodes: tuple[str, ...]
    module: str
    line: str
    params: tuple[tuple[str, str], ...]
    seconds: float
    share: float
    macs: int
    bytes: int
    macs_per_second: float | None
    of_peak: float | None
    bytes_per_second: float
    intensity: float | None


@dataclass(frozen=True)
class NotInt8:
    """One operator that is not int8, and why."""

    operator: str
    node: str
    module: str
    line: str
    macs: int
    reason: str


@dataclass(frozen=True)
class Machine:
    """What it was timed on; `peak` in multiply-accumulates a second of int8, `bandwidth` in bytes a second."""

    cpu: str
    level: str
    threads: int
    peak: float
    bandwidth: float


@dataclass(frozen=True)
class Facts:
    """All of a report. `seconds` is a call's median, `timed_on` says on which inputs."""

    name: str
    made: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    state: tuple[Tensor, ...]
    quantized: int
    int8: int
    int8_share: float
    kernels: Mapping[str, int]
    file_bytes: int | None
    weight_bytes: int
    arena_bytes: str
    regions: int
    seconds: float
    timed_on: str
    machine: Machine
    made_with: Mapping[str, str]
    run_with: Mapping[str, str]
    steps: tuple[StepFacts, ...]
    edges: tuple[Edge, ...]
    not_int8: tuple[NotInt8, ...]
    accuracy: tuple[dict[str, Any], ...] | None

    @property
    def macs(self) -> int:
        """Multiply-accumulates a call."""
        return sum(step.macs for step in self.steps)

    @property
    def foreign(self) -> int:
        """Steps that run in PyTorch."""
        return sum(step.precision == "foreign" for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers; an infinite number is "inf" or "-inf"."""
        plain: dict[str, Any] = _plain(dataclasses.asdict(self))
        return plain


def clean(text: str, most: int = 400) -> str:
    """Text from a file without control characters, lone surrogates or marks that turn its direction; not too long."""
    text = text if len(text) <= most else text[: most - 1] + "…"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
