"""The Python of the documentation runs: each page is one program, from its first block to its last."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
WRITTEN = (DOCS / "index.md", DOCS / "tutorial.md", *sorted((DOCS / "how-to").glob("*.md")))
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path) -> str:
    """The page's Python with everything else blank, so that an error names the page's line."""
    text = page.read_text(encoding="utf-8")
    lines = [""] * text.count("\n")
    for found in _BLOCK.finditer(text):
        first = text.count("\n", 0, found.start(1))
        code = found.group(1).splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines)


PROGRAMS = {page.relative_to(DOCS).as_posix(): (page, code) for page in WRITTEN if (code := blocks(page)).strip()}


def test_pages_with_code() -> None:
    assert {"index.md", "tutorial.md", "how-to/deployment.md", "how-to/transformers.md"} <= set(PROGRAMS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_page(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    page, code = PROGRAMS[name]
    module = types.ModuleType(f"page_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # export imports a model's module by its name
    exec(compile(code, str(page), "exec"), vars(module))
    assert "Error" not in capsys.readouterr().err
