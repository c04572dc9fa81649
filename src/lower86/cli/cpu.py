"""`lower86 cpu`: what this machine can do at most."""

from __future__ import annotations

import json
from typing import Any

from ..counted import counted
from .inputs import Json, Threads
from .progress import working


def cpu(threads: Threads = None, as_json: Json = False) -> None:
    """Measures the CPU's int8 peak and its memory.

    Names the level that kernels are made for, too.
    """
    from ..codegen.target import Target
    from ..report.peak import measured_bandwidth, measured_peak
    from ..report.quiet import NOISE, Quiet, disturbed
    from ..runtime.threads import default_threads

    quiet, target, count = Quiet(), Target.host(), threads or default_threads()
    with working("measuring the CPU", as_json):
        peak, bandwidth = measured_peak(count, target=target), measured_bandwidth(count, target=target)
    found: dict[str, Any] = {
        "level": target.level,
        "cpu": target.cpu,
        "threads": count,
        "int8_macs_per_second": peak,
        "bytes_per_second": bandwidth,
        "others": quiet.others(),
    }
    if as_json:
        print(json.dumps(found))
        return
    print(f"{found['cpu']}: kernels of level {found['level']}, {counted(count, 'thread')}")
    print(
        f"int8 peak {found['int8_macs_per_second'] / 1e9:.0f} GMAC/s, memory {found['bytes_per_second'] / 1e9:.1f} GB/s"
    )
    if found["others"] >= NOISE:
        print(disturbed(found["others"]))
