"""Numbers and what they count agree; and no message says "1 steps" because somebody forgot."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import lower86
from lower86.counted import counted

PLURALS = (
    "calls|channels|configurations|constants|contractions|inputs|kernels|layers|operators|rounds|rows|steps|streams|"
    "tensors|threads|values|weights"
)
FORGOTTEN = re.compile(rf"\{{(?![A-Z_]+\}})[^{{}}]*\}} (?:\w+ )?(?:{PLURALS})\b")
NEVER_ONE = {
    "artifact/format.py": ["{len(entries)} tensors"],
    "artifact/saved.py": ["{len(numbered)} constants"],
    "cli/bench.py": ["{streams} streams", "{streams} streams"],
    "peers/work.py": ["{len(calls)} inputs"],
    "report/benchmark.py": ["{self.throughput:.1f} calls", "{streams} streams"],
    "report/explanation.py": [
        "{by(*kernel.batch, *kernel.m)} rows", "{by(*kernel.kept)} rows", "{kernel.channels} channels",
        "{by(*kernel.batch, kernel.k)} rows",
    ],
    "report/page/charts.py": ["{len(row)} short steps"],
    "runtime/bounds.py": ["{self._rows} steps"],
    "sources/batches.py": ["{rows} rows"],
    "sources/data.py": ["{options.batch} rows"],
}  # fmt: skip
"""Where there are always several, or sizes. What is said of a file that somebody has made up need not be fine."""


def test_one_and_several() -> None:
    assert [counted(n, "step") for n in (0, 1, 2)] == ["0 steps", "1 step", "2 steps"]
    assert [counted(n, "layer's input", "layers' inputs") for n in (1, 2)] == ["1 layer's input", "2 layers' inputs"]


@pytest.mark.parametrize("text", ['f"{n} steps"', 'f"on {len(a)} native threads of"'])
def test_what_is_looked_for(text: str) -> None:
    assert FORGOTTEN.search(text)


def test_nobody_forgot() -> None:
    package = Path(lower86.__file__).parent
    found: dict[str, list[str]] = {}
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package).as_posix()
        lines = [line for line in path.read_text().splitlines() if 'f"' in line]
        hits = [hit for line in lines for hit in FORGOTTEN.findall(line)]
        if hits and not place.startswith("program/"):
            found[place] = hits
    assert found == NEVER_ONE
