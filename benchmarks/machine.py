"""What the figures were measured on: the CPU, what it can do at most, the system, and the packages compared.

    python benchmarks/machine.py [--seconds 1] [--json FILE]

Peaks are those of all threads that a program runs on, the best of several runs.
"""

from __future__ import annotations

import argparse
import os
import platform
from typing import Any

from json_output import add_json, write_json

from lower86.codegen.target import Target
from lower86.report.environment import cpu_name, versions
from lower86.report.peak import measured_bandwidth, measured_f32_peak, measured_peak
from lower86.runtime.threads import default_threads


def identity() -> dict[str, Any]:
    """What has to be the same for figures to be compared: the CPU, cores, the system, Python and packages."""
    target = Target.host()
    return {
        "cpu": cpu_name(), "llvm_cpu": target.cpu, "level": target.level, "cores": len(os.sched_getaffinity(0)),
        "threads": default_threads(), "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "python": platform.python_version(), "versions": versions(),
    }  # fmt: skip


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each figure")
    add_json(parser)
    options = parser.parse_args()
    found = identity() | {
        "int8_macs_per_second": measured_peak(seconds=options.seconds),
        "f32_macs_per_second": measured_f32_peak(seconds=options.seconds),
        "bytes_per_second": measured_bandwidth(seconds=options.seconds),
    }
    print(f"  {found['cpu']} ({found['llvm_cpu']}, {found['level']}), {found['threads']} threads; {found['system']}")
    print(
        f"  int8 {found['int8_macs_per_second'] / 1e9:.0f} GMAC/s, float32 {found['f32_macs_per_second'] / 1e9:.0f}, "
        f"memory {found['bytes_per_second'] / 1e9:.1f} GB/s"
    )
    write_json(options.json, found)


if __name__ == "__main__":
    main()
