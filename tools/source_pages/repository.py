"""Which files a repository has, and what can be said of any file: its size, its lines, its type."""

from __future__ import annotations

import fnmatch
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_KINDS = {
    ".py": "Python", ".md": "Markdown", ".toml": "TOML", ".yml": "YAML", ".yaml": "YAML", ".json": "JSON",
    ".txt": "text", ".cfg": "configuration", ".ini": "configuration", ".css": "CSS", ".js": "JavaScript",
    ".html": "HTML", ".sh": "shell", ".c": "C", ".h": "C header", ".cc": "C++", ".cpp": "C++", ".rs": "Rust",
    ".go": "Go", ".ts": "TypeScript",
}  # fmt: skip
_NAMES = {"Makefile": "Makefile", "LICENSE": "licence", "Dockerfile": "Dockerfile", ".gitignore": "git's ignored files"}
_JUNK = ("__pycache__/", ".git/", ".venv/", "venv/", "build/", "dist/", "site/", "node_modules/")


@dataclass(frozen=True)
class SourceFile:
    """One file. `path` has `/` between its parts, from the root; `text` is None where the file is no UTF-8 text."""

    path: str
    size: int
    kind: str
    text: str | None

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def folder(self) -> str:
        """The path without its last part; "" in the root."""
        return self.path.rpartition("/")[0]

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return self.name.rpartition(".")[0] or self.name

    @property
    def lines(self) -> int | None:
        """How many lines of text there are."""
        return None if self.text is None else len(self.text.splitlines())

    @property
    def is_python(self) -> bool:
        """Whether there is something to parse."""
        return self.kind == "Python" and self.text is not None


def files_of(root: Path, include: Sequence[str], exclude: Sequence[str]) -> tuple[SourceFile, ...]:
    """All files that a glob of `include` fits and none of `exclude`, sorted by path."""
    names = sorted(name for name in _names(root) if fits(name, include) and not fits(name, exclude))
    return tuple(_read(root, name) for name in names)


def _names(root: Path) -> Iterator[str]:
    """What git has or would take, where the root is a git checkout; else what lies there, without what tools leave."""
    listed = _known_to_git(root) if (root / ".git").exists() else None
    if listed is not None:
        yield from (name for name in listed if name and (root / name).is_file())
        return
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not any(f"/{junk}" in f"/{name}" for junk in _JUNK) and ".egg-info/" not in name:
            yield name


def _known_to_git(root: Path) -> list[str] | None:
    """None where git is missing, or refuses: it does in a folder that another user owns."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        return subprocess.run(command, check=True, capture_output=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        return None


def _read(root: Path, name: str) -> SourceFile:
    data = (root / name).read_bytes()
    try:
        text = None if b"\0" in data else data.decode("utf-8")
    except UnicodeDecodeError:
        text = None
    last = Path(name)
    kind = _NAMES.get(last.name) or _KINDS.get(last.suffix)
    if kind is None and text is not None and text.startswith("#!"):
        kind = "script"
    return SourceFile(name, len(data), kind or ("text" if text is not None else "binary"), text)


def stated_purpose(file: SourceFile) -> str:
    """What a file that is not Python begins with: the heading of a text, the comment above all else."""
    lines = [line.strip() for line in (file.text or "").splitlines() if not line.startswith("#!")]
    if file.kind == "Markdown":
        return next((line.lstrip("# ") for line in lines if line.startswith("# ")), "")
    comment = []
    for line in lines:
        if not line.startswith(("# ", "// ")):
            break
        comment.append(line.lstrip("#/ "))
    return " ".join(comment)


def fits(name: str, globs: Sequence[str]) -> bool:
    """Whether one of the globs is the path's: `*` stays within a folder, `**` does not."""
    return any(_pattern(glob).fullmatch(name) for glob in globs)


@cache
def _pattern(glob: str) -> re.Pattern[str]:
    parts = []
    for part in re.split(r"(\*\*/|\*\*|\*)", glob):
        wild = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
        parts.append(wild.get(part) or fnmatch.translate(part).removesuffix(r"\Z").removesuffix(r"\z"))
    return re.compile("".join(parts))
