"""Which CPU machine code is made for: its instruction set level, and what this machine can do."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..errors import TargetError

_AVX2 = ("avx2", "fma", "f16c", "bmi2")
_AVX512 = ("avx512f", "avx512bw", "avx512dq", "avx512vl")

LEVELS: Mapping[str, tuple[str, ...]] = {
    "avx512_vnni": (*_AVX2, *_AVX512, "avx512vnni"),
    "avx_vnni": (*_AVX2, "avxvnni"),
    "avx2": _AVX2,
}
"""What each level needs of the CPU, best level first."""


VARIABLE = "LOWER86_TARGET"
"""The environment variable that forces a level where none is asked for."""


def host_features() -> Mapping[str, bool]:
    """LLVM's feature names and whether this CPU (and operating system) has them."""
    from . import llvm  # which takes as long to import as all else that a load needs

    return llvm.host_features()


def host_cpu_name() -> str:
    """LLVM's name of this CPU, such as `znver4`."""
    from . import llvm

    return llvm.host_cpu_name()


@dataclass(frozen=True)
class Host:
    """What LLVM says of this CPU: its name, and its features and whether it has them."""

    cpu: str
    features: Mapping[str, bool]

    @classmethod
    def found(cls) -> Host:
        """As LLVM says now."""
        return cls(host_cpu_name(), host_features())


@dataclass(frozen=True)
class Target:
    """A level of `LEVELS`, the CPU whose timings LLVM schedules for, and LLVM's feature string."""

    level: str
    cpu: str
    features: str

    @property
    def word(self) -> int:
        """How many k the integer dot product takes at once: in words of as many bytes, int8 weights are packed."""
        return 2 if self.level == "avx2" else 4

    @property
    def wide(self) -> bool:
        """Whether one register holds 16 sums of 32 bits."""
        return self.level == "avx512_vnni"

    @property
    def has_bf16_dots(self) -> bool:
        """Whether one instruction multiplies and adds 16 pairs of bf16."""
        return self.level == "avx512_vnni" and "+avx512bf16" in self.features.split(",")

    @classmethod
    def host(
        cls, features: Mapping[str, bool] | None = None, level: str | None = None, cpu: str | None = None
    ) -> Target:
        """The best level that this CPU has, or the one named; `features` and `cpu` stand in for LLVM's answers.

        Raises TargetError if the CPU does not have it: the message names the missing instructions.
        """
        have = host_features() if features is None else features
        name_of_cpu = cpu or host_cpu_name()
        lacking = {
            name: [need for need in needs if not have.get(need)]
            for name, needs in LEVELS.items()
            if level in (None, name)
        }
        for name, missing in lacking.items():
            if not missing:
                return cls(name, name_of_cpu, _feature_string(name, have))
        name, missing = list(lacking.items())[-1]
        raise TargetError(
            f"this CPU ({name_of_cpu}) lacks {', '.join(missing)}",
            where=f"target {name}",
            fix="run on an x86 CPU with AVX2 and FMA (Intel Haswell, AMD Zen, or later)"
            if level is None
            else "use target=None, or leave LOWER86_TARGET unset, for the best level that this CPU has",
        )


def _feature_string(level: str, have: Mapping[str, bool]) -> str:
    """The CPU's features without those above the level, so that every machine of a level gets the same code."""
    wide = level == "avx512_vnni"
    kept = sorted(
        name for name, on in have.items() if on and (wide or not name.startswith("avx512")) and "amx" not in name
    )
    # LLVM prefers 256-bit code on some CPUs, which halves the integer dot product's rate.
    refused = ["prefer-256-bit"] if wide else ["avx512f"]
    if level == "avx2":
        # Leaving them out is not enough: the CPU's name brings them back, and LLVM makes its own use of them.
        refused += sorted(name for name in have if name.startswith("avxvnni"))
        kept = [name for name in kept if name not in refused]
    return ",".join([*(f"+{name}" for name in kept), *(f"-{name}" for name in refused)])


def resolve_target(target: str | Target | None, host: Callable[[], Host] | None = None) -> Target:
    """A `Target` from what a user passes: None for this CPU, a level's name, or a Target.

    `host` is asked about this CPU in place of LLVM.

    In place of None, the level that `LOWER86_TARGET` names, where the environment has it and it is not empty. Raises
    TargetError for a name that is not in `LEVELS`, or a level that this CPU does not have.
    """
    if isinstance(target, Target):
        return target
    where, instead = "target=", "None for this CPU"
    if target is None:
        target = os.environ.get(VARIABLE) or None
        where, instead = VARIABLE, "leave it unset for this CPU"
    if target is not None and target not in LEVELS:
        raise TargetError(
            f"unknown target {target!r}", where=where, fix=f"use one of {', '.join(LEVELS)}, or {instead}"
        )
    if host is None:
        return Target.host(level=target)
    known = host()
    return Target.host(known.features, target, known.cpu)
