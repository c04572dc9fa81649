"""How many CPUs the process's control groups let it use: a container's limit, of either version of cgroups.

A group's limit holds for all groups within it, so the least of the process's own and those above it counts. A limit is
a quota of time a period; of a number of CPUs that is not whole, the fraction is left unused: a thread too many has the
whole process stopped until the quota's next period.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_V1, _V2 = ("cpu.cfs_quota_us", "cpu.cfs_period_us"), ("cpu.max",)


def container_cpus(root: Path = Path("/")) -> int | None:
    """Whole CPUs that the groups of this process allow, at least 1; None for no limit. `root` stands in for `/`."""
    allowed = [quota for names in _quota_files(root) if (quota := _quota(names)) is not None]
    return max(1, int(min(allowed))) if allowed else None


def cpu_quota(text: str) -> float | None:
    """CPUs that "quota period", two times, allow; None for no limit: a quota of `max` (cgroup v2) or -1 (v1).

    Raises ValueError if the text is something else.
    """
    quota, period = text.split()
    if quota == "max" or int(quota) < 0:
        return None
    return int(quota) / max(1, int(period))


def _quota(names: tuple[Path, ...]) -> float | None:
    try:
        return cpu_quota(" ".join(name.read_text() for name in names))
    except (OSError, ValueError):
        return None  # this group has no limit, or this is not where this system keeps it


def _quota_files(root: Path) -> Iterator[tuple[Path, ...]]:
    """Files that hold a limit together: of the process's own group and of those above it, where they are mounted."""
    mounts = list(_mounts(_text(root, "/proc/self/mountinfo")))
    for line in _text(root, "/proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        kind = "cgroup" if controllers else "cgroup2"
        for mounted, place in [m[1:] for m in mounts if m[0] == kind] or [("/", f"/sys/fs/cgroup/{controllers}")]:
            # A group that lies outside of what is mounted here is one that only the host can name: ours is the top.
            inside = PurePosixPath(group).is_relative_to(mounted) and ".." not in PurePosixPath(group).parts
            below = PurePosixPath(group).relative_to(mounted) if inside else PurePosixPath()
            for folder in (below, *below.parents):
                yield tuple(_under(root, place) / folder / name for name in (_V1 if controllers else _V2))


def _mounts(text: str) -> Iterator[tuple[str, str, str]]:
    """Of the text of mountinfo: the kind of cgroup that may hold limits of CPUs, the group mounted, and where."""
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, (kind, *_, options) = before.split(), after.split()
        if kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.split(",")):
            group, place = (re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), name) for name in fields[3:5])
            yield kind, group, place


def _text(root: Path, name: str) -> str:
    try:
        return _under(root, name).read_text()
    except OSError:
        return ""


def _under(root: Path, name: str) -> Path:
    return root / name.lstrip("/")
