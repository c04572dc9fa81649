"""Every error lower86 raises on purpose: what went wrong, where, and what to do about it."""

from __future__ import annotations


class Lower86Error(Exception):
    """Parent of all errors of this package; catching it catches every refusal.

    `what` names the problem, `where` the node, module or argument (with the user's source line if known), and `fix`
    the next thing to try.
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        lines = [what]
        if where:
            lines.append(f"  where: {where}")
        if fix:
            lines.append(f"  what to do: {fix}")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.where, self.fix))


def _rebuild(kind: type[Lower86Error], what: str, where: str, fix: str) -> Lower86Error:
    return kind(what, where=where, fix=fix)


def first_line(problem: BaseException) -> str:
    """What another library's error says, for a message of ours."""
    lines = str(problem).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(problem).__name__


class ExportError(Lower86Error):
    """The model could not be turned into a graph: data-dependent control flow, unsupported Python."""


class GraphError(Lower86Error):
    """A graph is not in the form that a stage promises, or holds something no stage can represent."""


class TargetError(Lower86Error):
    """The CPU lacks instructions that generated code would need."""


class InputError(Lower86Error, ValueError):
    """A call does not fit the program: count, type, shape, dtype, device, or an index out of range."""


class FallbackError(Lower86Error):
    """`on_fallback="raise"`: part of the model would not run in generated int8 code."""


class UnsupportedError(Lower86Error):
    """An operation on a lowered module that has no defined meaning (pickling, moving to another device)."""


class ArtifactError(Lower86Error):
    """A saved program is damaged, from a newer version, or not a program."""


class Lower86Warning(UserWarning):
    """Something works, but not in int8 or not natively: see `lower86.explain`."""
