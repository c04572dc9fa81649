"""Writes docs/performance.md, its figures and README.md's short tables from benchmarks/results.json.

    python tools/performance_page.py [--results FILE] [--check]

With `--check` it writes nothing and fails if something is not what it would write.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from performance import figures, readme
from performance.page import page
from performance.results import Results, load

from lower86.errors import Lower86Error

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results.json"
ASSETS = ROOT / "docs" / "assets"
PAGE, README = ROOT / "docs" / "performance.md", ROOT / "README.md"


def outdated(results: Results) -> list[str]:
    """The files that are not what the record gives, of figures by what they show."""
    shown = figures.digests(results)
    found = [
        name for name in shown
        if not (ASSETS / name).exists() or figures.digest_of((ASSETS / name).read_text(encoding="utf-8")) != shown[name]
    ]  # fmt: skip
    if PAGE.read_text(encoding="utf-8") != page(results, shown):
        found.append(PAGE.name)
    before = README.read_text(encoding="utf-8")
    return [*found, README.name] if before != readme.page(before, results) else found


def main() -> None:
    """Writes everything, or compares it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    try:
        results = load(options.results)
        if options.check:
            old = outdated(results)
            sys.exit(f"out of date: {', '.join(old)}; run python tools/performance_page.py" if old else 0)
        write(results)
    except Lower86Error as problem:
        sys.exit(str(problem))


def write(results: Results) -> None:
    """Writes everything; a figure for which there is nothing to show goes."""
    drawn = figures.figures(results)
    short = readme.page(README.read_text(encoding="utf-8"), results)
    for name in figures.NAMES:
        if name not in drawn:
            (ASSETS / name).unlink(missing_ok=True)
    for name, text in drawn.items():
        (ASSETS / name).write_text(text, encoding="utf-8")
    PAGE.write_text(page(results, drawn), encoding="utf-8")
    README.write_text(short, encoding="utf-8")


if __name__ == "__main__":
    main()
