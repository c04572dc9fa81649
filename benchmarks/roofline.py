"""How near models come to the roof: multiply-accumulates, bytes and time of every step, summed by kind of kernel.

    python benchmarks/roofline.py [CASE …] [--seconds 1] [--json FILE]

Bytes are those of the values that a step touches, each once, wherever they lie: what a step takes from a cache counts.
"""

from __future__ import annotations

import argparse
from typing import Any

from cases import CASES, add_cases
from json_output import add_json, write_json

from minilm.quiet import silence

silence()

from peers import quantized  # noqa: E402

import lower86  # noqa: E402
from lower86.report.profile import Profile  # noqa: E402


def _profiled(name: str, seconds: float) -> tuple[str, Profile]:
    """The case's title, and the profile of its model, quantized as in `models.py`."""
    case = CASES[name]()
    quantizer = lower86.X86Quantizer() if case.has_transposed or case.is_transformer else None
    lowered = lower86.lower_pt2e_quantized_to_x86(quantized(case, quantizer), case.inputs[0])
    return case.name, lower86.profile(lowered, *case.inputs[0], seconds=seconds)


def _row(title: str, found: Profile) -> dict[str, Any]:
    kinds: dict[str, dict[str, Any]] = {}
    for step in found.steps:
        kind = kinds.setdefault(step.kind, {"kind": step.kind, "steps": 0, "macs": 0, "bytes": 0, "seconds": 0.0})
        for key, value in (("steps", 1), ("macs", step.macs), ("bytes", step.bytes), ("seconds", step.seconds)):
            kind[key] += value
    by_time = sorted(kinds.values(), key=lambda kind: -kind["seconds"])
    return {"case": title, "seconds": found.seconds, "peak": found.peak, "threads": found.threads, "kinds": by_time}


def main() -> None:
    """Profiles the cases named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_cases(parser)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each model")
    add_json(parser)
    options = parser.parse_args()
    rows = []
    for name in options.cases or CASES:
        row = _row(*_profiled(name, options.seconds))
        rows.append(row)
        macs, touched = (sum(kind[key] for kind in row["kinds"]) for key in ("macs", "bytes"))
        rate = macs / row["seconds"]
        print(
            f"  {row['case']}: {row['seconds'] * 1e3:.3f} ms, {macs / 1e9:.3f} GMAC, {touched / 1e6:.1f} MB touched, "
            f"{rate / 1e9:.0f} GMAC/s, {rate / row['peak']:.0%} of the peak",
            flush=True,
        )
    write_json(options.json, rows)


if __name__ == "__main__":
    main()
