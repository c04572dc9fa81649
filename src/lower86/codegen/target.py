"""Which CPU machine code is made for: its instruction set level, and what this machine can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import TargetError
from .llvm import host_cpu_name, host_features

_AVX512_VNNI = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni", "fma", "f16c", "bmi2")

LEVELS: Mapping[str, tuple[str, ...]] = {"avx512_vnni": _AVX512_VNNI}
"""What each level needs of the CPU, best level first."""


@dataclass(frozen=True)
class Target:
    """A level of `LEVELS`, the CPU whose timings LLVM schedules for, and LLVM's feature string."""

    level: str
    cpu: str
    features: str

    @classmethod
    def host(cls, features: Mapping[str, bool] | None = None) -> Target:
        """The best level that this CPU has; `features` stands in for the CPU's own list.

        Raises TargetError if it has none of them: the message names the missing instructions.
        """
        have = host_features() if features is None else features
        missing: list[str] = []
        for level, needs in LEVELS.items():
            missing = [name for name in needs if not have.get(name)]
            if not missing:
                flags = sorted(f"+{name}" for name, on in have.items() if on)
                # LLVM prefers 256-bit code on some CPUs, which halves the integer dot product's rate.
                return cls(level, host_cpu_name(), ",".join([*flags, "-prefer-256-bit"]))
        raise TargetError(
            f"this CPU ({host_cpu_name()}) lacks {', '.join(missing)}",
            where="Target.host()",
            fix="run on a CPU with AVX512-VNNI (Intel Ice Lake or AMD Zen 4 and later); AVX2 is not supported yet",
        )


def resolve_target(target: str | Target | None) -> Target:
    """A `Target` from what a user passes: None for this CPU, a level's name, or a Target.

    Raises TargetError for a name that is not in `LEVELS`, or a level that this CPU does not have.
    """
    if isinstance(target, Target):
        return target
    if target is not None and target not in LEVELS:
        raise TargetError(
            f"unknown target {target!r}", where="target=", fix=f"use one of {', '.join(LEVELS)}, or None for this CPU"
        )
    return Target.host()
