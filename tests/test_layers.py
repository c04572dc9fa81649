"""Imports go one way, as docs/design.md says: a stage knows those before it in the way of the data, none after it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import lower86

PACKAGE = Path(lower86.__file__).parent

LAYERS = (
    {"errors"},
    {"counted", "needed", "whole_file"},
    {"program"},
    {"codegen"},
    {"runtime"},
    {"report"},
    {"artifact"},
    {"graph"},
    {"ops"},
    {"normalize"},
    {"frontend"},
    {"quantization"},
    {"int8"},
    {"schedule"},
    {"call"},
    {"state"},
    {"lowered"},
    {"debugger"},
    {"lowering"},
    {"tuning"},
    {"peers"},
    {"sources"},
    {"integrations"},
    {"__init__"},
    {"cli"},
    {"__main__"},
)
"""Each part of the package may import those of the layers above it in this list, and itself."""

TORCH_FREE = (
    "counted", "errors", "needed", "whole_file", "program", "codegen", "runtime", "report", "artifact", "cli",
    "__init__", "__main__",
)  # fmt: skip
FACADES = {
    "llvmlite": "codegen", "torchao": "frontend", "openvino": "peers", "nncf": "peers", "onnxruntime": "peers",
}  # fmt: skip
"""The only place that may import a package without types."""

RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}


def part_of(path: Path) -> str:
    """The folder or file of the package that a source file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, outside `if TYPE_CHECKING` and within functions too."""
    package = ("lower86", *path.relative_to(PACKAGE).parts[:-1])
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            stem = ".".join(filter(None, (base, node.module)))
            found.update({stem} if node.module else {f"{stem}.{alias.name}" for alias in node.names})
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


def test_every_part_has_a_layer() -> None:
    assert {part_of(path) for path in FILES} <= set(RANK)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    part = part_of(path)
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "lower86" and rest and rest[0] in RANK:
            assert rest[0] == part or RANK[rest[0]] < RANK[part], f"{part} imports {name}"
        assert top != "torch" or part not in TORCH_FREE, f"{part} imports torch"
        assert FACADES.get(top, part) == part, f"{part} imports {top}"
