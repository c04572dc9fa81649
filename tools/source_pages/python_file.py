"""What a Python file holds: by griffe classes, functions, constants; by the syntax tree what it reads."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import griffe

from .repository import SourceFile


@dataclass(frozen=True)
class Member:
    """A class, function or constant; `heading` is how it is written, `summary` its docstring's first line."""

    kind: str
    name: str
    heading: str
    summary: str
    line: int
    last_line: int
    members: tuple[Member, ...] = ()


@dataclass(frozen=True)
class Import:
    """One name that is imported: `from {'.' * level}module import name`; without a name, `import module`."""

    module: str
    name: str
    level: int
    line: int


@dataclass(frozen=True)
class PythonFile:
    """A file, parsed. `uses` are the dotted names it reads with their lines, imported names written out."""

    purpose: str
    members: tuple[Member, ...] = ()
    imports: tuple[Import, ...] = ()
    uses: tuple[tuple[str, int], ...] = ()
    problem: str = ""
    exports: tuple[str, ...] = field(default=())


def parse(file: SourceFile) -> PythonFile:
    """The file's contents; one that is not Python, whatever its name says, has a `problem`."""
    text = file.text or ""
    try:
        tree = ast.parse(text)
        module = griffe.visit(file.stem, filepath=Path(file.path), code=text)
    except (SyntaxError, ValueError) as error:
        return PythonFile("", problem=str(error))
    imports = tuple(_imports(tree))
    return PythonFile(
        purpose=(module.docstring.value if module.docstring else "").strip(),
        members=tuple(_members(module)),
        imports=imports,
        uses=tuple(sorted(set(_uses(tree, imports)), key=lambda use: (use[1], use[0]))),
        exports=tuple(str(name) for name in module.exports or ()),
    )


def _members(parent: griffe.Module | griffe.Class) -> Iterator[Member]:
    for name, member in parent.members.items():
        if isinstance(member, griffe.Alias) or (parent.is_class and name.startswith("_")):
            continue
        summary = first_line(member.docstring.value) if member.docstring else ""
        place = (member.lineno or 1, member.endlineno or member.lineno or 1)
        if isinstance(member, griffe.Class):
            bases = ", ".join(str(base) for base in member.bases)
            heading = f"class {name}({bases})" if bases else f"class {name}"
            yield Member("class", name, heading, summary, *place, tuple(_members(member)))
        elif isinstance(member, griffe.Function):
            yield Member("function", name, member.signature(), summary, *place)
        elif isinstance(member, griffe.Attribute) and not (name.startswith("__") and name.endswith("__")):
            constant = parent.is_module
            heading = f"{name}: {member.annotation}" if member.annotation else name
            yield Member("constant" if constant else "attribute", name, heading, summary, *place)


def first_line(docstring: str) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join(docstring.strip().split("\n\n")[0].split())


def _imports(tree: ast.AST) -> Iterator[Import]:
    """Every import, those within functions and `if TYPE_CHECKING` too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, "", 0, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (Import(node.module or "", alias.name, node.level, node.lineno) for alias in node.names)


def _uses(tree: ast.AST, imports: tuple[Import, ...]) -> Iterator[tuple[str, int]]:
    """Dotted names in full: after `from os import environ as e`, `e` is `os.environ`."""
    written: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            written.update({alias.asname: alias.name for alias in node.names if alias.asname})
        elif isinstance(node, ast.ImportFrom) and not node.level:
            written.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    inner: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Attribute, ast.Name)) and node not in inner:
            parts: list[str] = []
            value: ast.expr = node
            while isinstance(value, ast.Attribute):
                parts.append(value.attr)
                value = value.value
                inner.add(value)
            root = value.id if isinstance(value, ast.Name) else "()"
            yield ".".join([written.get(root, root), *reversed(parts)]), node.lineno
    yield from (
        (f"{entry.module}.{entry.name}" if entry.name else entry.module, entry.line)
        for entry in imports
        if not entry.level
    )
