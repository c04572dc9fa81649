"""CONTRIBUTING.md, SECURITY.md and what reporters are asked: the files, names and commands in them are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from lower86.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("CONTRIBUTING.md", "SECURITY.md")}
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
BLOCKS = [block for block in re.split(r"\n\n|\n(?=\d\. )", TEXTS["CONTRIBUTING.md"]) if "```" not in block]
_SPAN = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")


def spans(text: str) -> list[str]:
    return [" ".join(found.split()) for found in _SPAN.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL))]


def files_in(text: str) -> list[Path]:
    return [ROOT / span for span in spans(text) if re.fullmatch(r"[\w./]+\.(py|md)", span)]


@pytest.mark.parametrize("name", TEXTS)
def test_files_and_folders_are_there(name: str) -> None:
    named = [span for span in spans(TEXTS[name]) if re.fullmatch(r"[\w./-]*/[\w./-]*|[\w.]+\.(md|py|toml)", span)]
    for pattern in (r"\]\(([^)#:]+)\)", r"^\[\w+\]: (\S+)$"):
        named += re.findall(pattern, TEXTS[name], re.MULTILINE)
    assert len(named) > 0
    stages = [span for span in named if (ROOT / "src" / "lower86" / span).is_dir()]
    lost = [span for span in named if not (ROOT / span).exists() and span not in stages]
    assert lost == []


def test_names_are_defined_in_a_file_that_their_paragraph_names() -> None:
    """Whether of a class, a function or a table; and there are many of them."""
    known = {"make", "where", "masked_fill", "avx_vnni", "lower86", "Target.word", "load_sentence_transformer"}
    checked = 0
    for block in BLOCKS:
        sources = "".join(file.read_text(encoding="utf-8") for file in files_in(block))
        for span in spans(block):
            if sources and re.fullmatch(r"_?[A-Za-z]\w+", span) and span not in known:
                assert re.search(rf"(def|class) {span}\b|^{span}\b.* = |^def {span}\b", sources, re.MULTILINE), span
                checked += 1
    assert checked >= 18
    source = (ROOT / "src/lower86/codegen/target.py").read_text(encoding="utf-8")
    assert "def word(" in source
    assert '"avx_vnni"' in source


def test_the_line_of_the_example_stands_where_it_is_said_to() -> None:
    (line,) = [span for span in spans(TEXTS["CONTRIBUTING.md"]) if span.startswith("check(A.hypot")]
    assert line in (ROOT / "tests/schedule/test_arithmetic.py").read_text(encoding="utf-8")
    assert "_A.hypot.default: (_hypotenuse, FLOAT32)" in (ROOT / "src/lower86/schedule/arithmetic.py").read_text()
    assert "    Fill: emit_fill," in (ROOT / "src/lower86/codegen/compile.py").read_text()


def test_make_has_the_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    asked = set(re.findall(r"\bmake ([a-z]+)\b(?! of)", TEXTS["CONTRIBUTING.md"]))
    asked |= set(re.findall(r"`make ([a-z]+)`", (ROOT / ".github" / "PULL_REQUEST_TEMPLATE.md").read_text()))
    assert {"test", "lint", "docs", "fuzz"} <= asked
    assert [name for name in asked if f"\n{name}:" not in makefile] == []


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_forms_ask_what_there_is(path: Path) -> None:
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.stem == "config":
        assert form == {"blank_issues_enabled": True}
        return
    assert form.keys() == {"name", "description", "labels", "body"}
    for part in form["body"]:
        assert part["type"] in ("textarea", "dropdown", "markdown")
        assert "value" in part["attributes"] if part["type"] == "markdown" else part["attributes"]["label"]
    commands = re.findall(r"`lower86 (\w+)", path.read_text(encoding="utf-8"))
    assert set(commands) <= set(COMMANDS)
    assert "cpu" in commands or path.stem == "4-feature"
