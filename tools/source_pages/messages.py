"""The messages of a repository's errors with what to do about them, gathered from where they are made."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .markdown import bullets, code, link, plain
from .site import Site


@dataclass(frozen=True)
class Message:
    """What an error says, its advice if it has some, and where it is made. `…` stands for what varies."""

    error: str
    what: str
    fix: str
    path: str
    line: int


@dataclass(frozen=True)
class _Maker:
    """A class of errors, or a function that returns one: the error's name, its parameters' names, its own advice."""

    error: str
    parameters: tuple[str, ...]
    fix: str = ""


def messages_of(site: Site) -> list[Message]:
    """All messages of the errors that derive from `site.options.errors`, in files that are no tests."""
    trees = {
        path: ast.parse(site.files[path].text or "")
        for path, parsed in site.parsed.items()
        if path not in site.tests and not parsed.problem
    }
    errors = _errors(trees.values(), site.options.errors)
    constants = {path: _constants(tree) for path, tree in trees.items()}
    functions = {path: dict(_functions(tree, errors, constants[path])) for path, tree in trees.items()}
    found: dict[tuple[str, str], Message] = {}
    for path, tree in trees.items():
        known, makers = constants[path], {name: _Maker(name, ("what",)) for name in errors} | functions[path]
        for other in sorted(site.links.imports[path] & set(trees)):
            for entry in site.parsed[path].imports:
                if entry.name in functions[other]:
                    makers.setdefault(entry.name, functions[other][entry.name])
                if entry.name in constants[other]:
                    known.setdefault(entry.name, constants[other][entry.name])
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in makers:
                maker = makers[node.func.id]
                values = dict(zip(maker.parameters, node.args, strict=False))
                values |= {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
                what, fix = _text(values.get("what"), known), _text(values.get("fix"), known)
                if what.strip("… "):
                    message = Message(maker.error, what, fix or maker.fix, path, node.lineno)
                    found.setdefault((maker.error, what), message)
    return sorted(found.values(), key=lambda message: (message.error, message.what.lower()))


def _errors(trees: Collection[ast.AST], bases: Sequence[str]) -> set[str]:
    """The names of the classes that derive from some others, and of those."""
    parents = {
        node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    known = set(bases)
    while more := {name for name, above in parents.items() if above & known} - known:
        known |= more
    return known


def _constants(tree: ast.Module) -> dict[str, str]:
    """The texts that a file gives names to."""
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _functions(tree: ast.AST, errors: set[str], constants: Mapping[str, str]) -> Iterator[tuple[str, _Maker]]:
    """Functions of a file that return an error of ours, with the advice that they give by themselves."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and isinstance(node.returns, ast.Name) and node.returns.id in errors:
            advice = (
                _text(keyword.value, constants)
                for inner in ast.walk(node)
                if isinstance(inner, ast.Call)
                for keyword in inner.keywords
                if keyword.arg == "fix"
            )
            yield node.name, _Maker(node.returns.id, tuple(a.arg for a in node.args.args), next(advice, ""))


def _text(value: ast.expr | None, known: Mapping[str, str]) -> str:
    """What is certain of an expression's text; "" where there is none."""
    if isinstance(value, ast.Constant):
        return str(value.value) if isinstance(value.value, str) else "…"
    if isinstance(value, ast.JoinedStr):
        return "".join(_text(part, known) if isinstance(part, ast.Constant) else "…" for part in value.values)
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
        return _text(value.left, known) + _text(value.right, known)
    if isinstance(value, ast.IfExp):
        return " / ".join(filter(None, (_text(value.body, known), _text(value.orelse, known))))
    if isinstance(value, ast.Name):
        return known.get(value.id, "…")
    return "" if value is None else "…"


def listing(site: Site, page: str) -> str:
    """The Markdown of all messages, by error, for a page of the site."""
    classes = (member for parsed in site.parsed.values() for member in parsed.members if member.kind == "class")
    about: Mapping[str, str] = {member.name: member.summary for member in classes}
    lines: list[str] = []
    every = messages_of(site)
    for error in sorted({message.error for message in every}):
        lines += [f"### {code(error)} {{ #error-{error} }}", "", plain(about.get(error, "")), ""]
        lines += bullets(_item(site, message, page) for message in every if message.error == error)
    return "\n".join(lines)


def _item(site: Site, message: Message, page: str) -> str:
    fix = f" What to do: {plain(message.fix)}." if message.fix.strip("… ") else ""
    label = f"{code(message.path.rpartition('/')[2])}, line {message.line}"
    place = link(label, f"{site.page(message.path)}#L-{message.line}", page)
    return f"**{plain(message.what)}**.{fix} ({place})"
