"""A report of a saved file: in a process without torch, and of a file that somebody has made up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import lower86
from lower86.artifact.format import HASH, read, write
from lower86.report.page.data import gather
from lower86.report.page.render import page
from tests.report.pages import HOSTILE, Page

CODE = """
import sys, lower86
model, out = sys.argv[1:]
print(lower86.write_report(lower86.load(model), out, seconds=0.01))
print([name for name in sys.modules if name.split(".")[0] in ("torch", "torchao", "typer")])
"""


def test_a_process_that_writes_a_report_imports_no_torch(saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CODE, str(saved), str(out)],
        capture_output=True, text=True, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == [str(out.stat().st_size), "[]"]
    assert "layer.out" in Page(out.read_text(encoding="utf-8")).of("div")


def test_a_file_with_hostile_names(saved: Path, tmp_path: Path) -> None:
    contents = read(saved)
    metadata = {name: text for name, text in contents.metadata.items() if name != HASH}
    explanation = json.loads(metadata["explanation"])
    for operator in explanation["operators"]:
        operator[1:4] = [HOSTILE] * 3
    program = json.loads(metadata["program"])
    for step in program["steps"]:
        fields = step["Step"]
        fields[4:6] = [f"{fields[4]} + {HOSTILE}", f"node a, module {HOSTILE}, {HOSTILE}"]
    interface = json.loads(metadata["interface"].replace('"mask"', json.dumps(HOSTILE)))
    metadata |= {
        "explanation": json.dumps(explanation), "program": json.dumps(program), "interface": json.dumps(interface),
        "versions": json.dumps({HOSTILE: HOSTILE}),
    }  # fmt: skip
    with (tmp_path / "hostile.safetensors").open("wb") as file:
        write(file, metadata, contents.tensors)
    plain, hostile = (
        Page(page(gather(lower86.load(path), seconds=0.01, name=path.stem)))
        for path in (saved, tmp_path / "hostile.safetensors")
    )
    assert HOSTILE in hostile.of("div")
    assert [tag for tag, _ in hostile.elements if tag in ("script", "img", "style")] == ["style", "script", "script"]
    assert {tag for tag, _ in hostile.elements} == {tag for tag, _ in plain.elements}
