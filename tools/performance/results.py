"""A record of benchmarks as typed rows; whatever is not as it should be is an error that names its place."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from lower86.errors import Lower86Error

FORMAT = 1
_KEYS = {"import_": "import", "total_ratio": "total ratio"}
"""Fields whose names in the file are no names of Python."""
_DIVISORS = {"seconds", "us", "peak", "median", "read_bytes_per_second", "int8_macs_per_second", "bytes_per_second"}
"""What others are divided by, or shown on a logarithmic axis."""


@dataclass(frozen=True)
class Identity:
    """The machine and what was compared."""

    cpu: str
    llvm_cpu: str
    level: str
    cores: int
    threads: int
    memory_bytes: int
    system: str
    python: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Peaks:
    """What the machine can do at most, of all threads."""

    int8_macs_per_second: float
    f32_macs_per_second: float
    bytes_per_second: float


@dataclass(frozen=True)
class ModelRow:
    """A contender in one case. Milliseconds; `ratio` to lower86 within rounds; the least cosine to the float model."""

    name: str
    min: float
    median: float
    p99: float
    ratio: float | None
    cosine: float | None


@dataclass(frozen=True)
class Decode:
    """One more token."""

    cache: int
    seconds: float
    weight_bytes: int
    read_bytes_per_second: float
    share: float
    """Of that speed, in turns with it: the median of eight."""


@dataclass(frozen=True)
class ScalingRow:
    """A batch on some threads."""

    batch: int
    threads: int
    ms_an_image: float


@dataclass(frozen=True)
class KernelRow:
    """A linear of u8 [m, k] and s8 [n, k] to u8; multiply-accumulates a second of the peak beside it."""

    m: int
    n: int
    k: int
    us: float
    peak: float
    share: float

    @property
    def macs_per_second(self) -> float:
        """Of the median."""
        return self.m * self.n * self.k / self.us * 1e6

    @property
    def intensity(self) -> float:
        """Multiply-accumulates a byte of operands, result, and 12 bytes a column of scale, bias and compensation."""
        return self.m * self.n * self.k / (self.m * self.k + self.n * self.k + self.m * self.n + 12 * self.n)


@dataclass(frozen=True)
class Kernels:
    """All linears."""

    threads: int
    rows: tuple[KernelRow, ...]


@dataclass(frozen=True)
class StartRow:
    """From a file to the first result: seconds, MB of memory, and times lower86's total within rounds."""

    name: str
    cold: float
    import_: float
    load: float
    first: float
    total: float
    peak: float
    total_ratio: float | None


@dataclass(frozen=True)
class KindRow:
    """All steps of a model that are of one kind."""

    kind: str
    steps: int
    macs: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Profiled:
    """A model's call: seconds, the int8 peak beside it, and what its steps do."""

    seconds: float
    peak: float
    kinds: tuple[KindRow, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates a call."""
        return sum(kind.macs for kind in self.kinds)

    @property
    def macs_per_second(self) -> float:
        """Over the whole call."""
        return self.macs / self.seconds

    @property
    def intensity(self) -> float:
        """Multiply-accumulates a byte that steps with products touch."""
        return self.macs / max(1, sum(kind.bytes for kind in self.kinds if kind.macs))

    @property
    def in_products(self) -> float:
        """The share of the steps' time that steps with products take."""
        whole = sum(kind.seconds for kind in self.kinds)
        return sum(kind.seconds for kind in self.kinds if kind.macs) / whole if whole else 0.0


@dataclass(frozen=True)
class Entry:
    """How a part was measured."""

    date: str
    commit: str
    quick: bool
    others: float
    took: float
    command: tuple[str, ...]


@dataclass(frozen=True)
class Results:
    """A record; parts by name. What was not measured is None or not there."""

    identity: Identity
    peaks: Peaks | None
    kernels: Kernels | None
    decode: Decode | None
    models: Mapping[str, tuple[ModelRow, ...]]
    busy: Mapping[str, tuple[ModelRow, ...]]
    scaling: Mapping[str, tuple[ScalingRow, ...]]
    startup: Mapping[str, tuple[StartRow, ...]]
    roofline: Mapping[str, Profiled]
    entries: Mapping[str, Entry]


def load(path: Path) -> Results:
    """Reads a record. Raises Lower86Error where it cannot be read, is no JSON, or lacks what a part has to have."""
    try:
        given = json.loads(path.read_text(encoding="utf-8"), parse_constant=_constant)
    except OSError as problem:
        raise _error(f"{path} cannot be read: {problem.strerror or problem}") from problem
    except (ValueError, RecursionError) as problem:
        raise _error(f"{path} is no JSON: {problem}") from problem
    return read(given)


def read(given: Any) -> Results:
    """A record from parsed JSON. Raises Lower86Error."""
    if not isinstance(given, dict) or given.get("format") != FORMAT:
        found = given.get("format") if isinstance(given, dict) else given
        _fail("the file", f"an object whose format is {FORMAT}", found)
    sections = _object(given.get("sections"), "sections")
    entries, figures = {}, {}
    for section, parts in sections.items():
        for name, entry in _object(parts, f"sections.{section}").items():
            where = f"sections.{section}.{name}"
            entries[f"{section}/{name}"] = _value(Entry, entry, where)
            figures.setdefault(section, {})[name] = (entry.get("figures"), f"{where}.figures")

    def all_of(section: str, kind: Any) -> dict[str, Any]:
        return {name: _value(kind, value, where) for name, (value, where) in figures.get(section, {}).items()}

    def one_of(section: str, kind: Any) -> Any:
        return next(iter(all_of(section, kind).values()), None)

    rooflines: dict[str, tuple[Profiled, ...]] = all_of("roofline", tuple[Profiled, ...])
    return Results(
        _value(Identity, given.get("identity"), "identity"), one_of("machine", Peaks), one_of("kernels", Kernels),
        one_of("decode", Decode), all_of("models", tuple[ModelRow, ...]), all_of("busy", tuple[ModelRow, ...]),
        all_of("scaling", tuple[ScalingRow, ...]), all_of("startup", tuple[StartRow, ...]),
        {name: rows[0] for name, rows in rooflines.items() if rows and rows[0].macs}, entries,
    )  # fmt: skip


def _value(kind: Any, given: Any, where: str) -> Any:
    """`given` as a `kind`: a data class, or a type that JSON has. Keys that nobody asks for are left."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        fields, hints = _object(given, where), typing.get_type_hints(kind)
        names = {field.name: _KEYS.get(field.name, field.name) for field in dataclasses.fields(kind)}
        return kind(**{name: _value(hints[name], fields.get(key), f"{where}.{key}") for name, key in names.items()})
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        if not isinstance(given, list):
            _fail(where, "a list", given)
        return tuple(_value(inner[0], item, f"{where}[{number}]") for number, item in enumerate(given))
    if origin is dict:
        return {key: _value(inner[1], item, f"{where}.{key}") for key, item in _object(given, where).items()}
    if origin is types.UnionType:
        return None if given is None else _value(inner[0], given, where)
    if kind is float:
        if isinstance(given, bool) or not isinstance(given, (int, float)) or not math.isfinite(given) or given < -1:
            _fail(where, "a number", given)
        if given <= 0 and where.rpartition(".")[2] in _DIVISORS:
            _fail(where, "more than 0", given)
        return float(given)
    if type(given) is not kind:
        _fail(where, {int: "an integer", str: "a string", bool: "true or false"}[kind], given)
    return given


def _object(given: Any, where: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        _fail(where, "an object", given)
    return given


def _fail(where: str, wanted: str, given: Any) -> NoReturn:
    found = "nothing" if given is None else repr(given)[:60]
    raise _error(f"{where} has to be {wanted}, not {found}")


def _error(what: str) -> Lower86Error:
    return Lower86Error(what, where="benchmarks/results.json", fix="measure again: python benchmarks/record.py --fresh")


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
