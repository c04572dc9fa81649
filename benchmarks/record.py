"""Runs the benchmark programs, each as a process of its own, and keeps their figures in one file.

    python benchmarks/record.py [SECTION …] [--only CASE …] [--missing] [--within MINUTES] [--quick] [--fresh]
                                [--file FILE] [--list]

After each part the file is written anew, whole or not at all; a part measured again replaces the one before, and the
rest stays. So a record can be made piece by piece: with `--missing --within 8`, again and again, until nothing is left
(what was measured quickly, or while others took the CPU, counts as missing). Parts of one file are of one machine with
one set of packages: elsewhere, a run of all sections begins a new file, as `--fresh` does anywhere; a run of some is an
error. `tools/performance_page.py` makes pages of it. A quick run has a file of its own, build/quick.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from json_output import write_json
from plan import Part, parts
from record_file import begun, is_missing

from lower86.report.quiet import NOISE, Quiet

ROOT = Path(__file__).parent.parent
RESULTS, QUICK = ROOT / "benchmarks" / "results.json", ROOT / "build" / "quick.json"


def commit() -> str:
    """The commit that is measured, with a + where files differ from it; "" where git does not say."""
    try:
        name, changed = (
            subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (
                ("rev-parse", "--short=12", "HEAD"),
                ("status", "--porcelain", "--", "src", "benchmarks/*.py"),
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f"{name}+" if changed else name


def measured(part: Part, quick: bool) -> dict[str, Any] | None:
    """Runs a part; its entry in the record, or None if its program failed."""
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.json"
        arguments = [word.format(folder=folder) for word in (part.quick if quick else None) or part.full]
        command = [sys.executable, str(ROOT / "benchmarks" / f"{part.program}.py"), *arguments, "--json", str(figures)]
        quiet, start = Quiet(), time.monotonic()
        done = subprocess.run(command, check=False, cwd=ROOT)
        others, took = quiet.others(), time.monotonic() - start
        if done.returncode or not figures.exists():
            return None
        return {
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M"), "commit": commit(),
            "quick": quick, "others": round(others, 4), "took": round(took, 1),
            "command": [f"benchmarks/{part.program}.py", *((part.quick if quick else None) or part.full)],
            "figures": json.loads(figures.read_text(encoding="utf-8")),
        }  # fmt: skip


def run(record: dict[str, Any], path: Path, wanted: Sequence[Part], quick: bool, minutes: float) -> list[str]:
    """Measures the parts in turn and writes the record after each; gives what failed or was not begun in time."""
    left, end, start = [], time.monotonic() + 60 * minutes, time.monotonic()
    for number, part in enumerate(wanted, 1):
        if time.monotonic() >= end:
            left.append(f"{part}: no time left")
            continue
        print(f"[{number}/{len(wanted)}] {part}, {(time.monotonic() - start) / 60:.1f} minutes so far", flush=True)
        entry = measured(part, quick)
        if entry is None:
            left.append(f"{part}: its program failed")
            continue
        record["sections"].setdefault(part.section, {})[part.name] = entry
        write_json(path, record)
        noise = f"; not quiet, others took {entry['others']:.0%}" if entry["others"] >= NOISE else ""
        print(f"  took {entry['took']:.0f} s{noise}", flush=True)
    return left


def main() -> None:
    """Measures what is named; exits with 1 if something is left."""
    every = list(parts())
    sections = list(dict.fromkeys(part.section for part in every))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(sections)}; all if none is named")
    parser.add_argument("--only", nargs="+", metavar="CASE", help="only parts of these names")
    parser.add_argument("--missing", action="store_true", help="only what the file lacks, or has no quiet figure of")
    parser.add_argument(
        "--within", type=float, default=float("inf"), metavar="MINUTES", help="begin no part after that"
    )
    parser.add_argument(
        "--quick", action="store_true", help="few cases and rounds, to try it: minutes, not half an hour"
    )
    parser.add_argument("--fresh", action="store_true", help="a new file, in place of one that is there")
    parser.add_argument("--file", type=Path, help="to keep them in; benchmarks/results.json if none is named")
    parser.add_argument("--list", action="store_true", help="show what would be measured")
    options = parser.parse_args()
    for kind, given, known in (
        ("section", options.sections, sections),
        ("case", options.only or (), {part.name for part in every}),
    ):
        if unknown := set(given) - set(known):
            parser.error(f"unknown {kind} {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    path = options.file or (QUICK if options.quick else RESULTS)
    path.parent.mkdir(parents=True, exist_ok=True)
    record = begun(path, options.fresh, bool(options.sections or options.only))
    wanted = [
        part for part in every
        if part.section in (options.sections or sections) and (not options.only or part.name in options.only)
        and (part.quick is not None or not options.quick)
        and (not options.missing or is_missing(record, part, options.quick))
    ]  # fmt: skip
    if options.list:
        print("\n".join(map(str, wanted)))
        return
    left = run(record, path, wanted, options.quick, options.within)
    there = [(part, record["sections"].get(part.section, {}).get(part.name)) for part in wanted]
    noisy = [str(part) for part, entry in there if entry is not None and entry["others"] >= NOISE]
    if noisy:
        print(f"not quiet: {', '.join(noisy)}")
    print(f"kept in {path}; python tools/performance_page.py --results {path} makes the page of it")
    if left:
        raise SystemExit("\n".join(["left:", *(f"  {line}" for line in left)]))


if __name__ == "__main__":
    main()
