"""Everything that is known of a repository, and where the page of each of its files and folders lies in the site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .links import Links, link
from .markdown import code
from .markdown import link as markdown_link
from .patterns import detected
from .python_file import PythonFile, first_line, parse
from .repository import SourceFile, files_of, fits, stated_purpose


@dataclass(frozen=True)
class Site:
    """A repository, read; `options` are the plugin's settings."""

    files: Mapping[str, SourceFile]
    parsed: Mapping[str, PythonFile]
    links: Links
    options: Any

    @classmethod
    def read(cls, root: Path, options: Any) -> Site:
        """The files of a repository, parsed and linked."""
        files = {file.path: file for file in files_of(root, options.include, options.exclude)}
        parsed = {path: parse(file) for path, file in files.items() if file.is_python}
        return cls(files, parsed, link(parsed, options.import_roots), options)

    @cached_property
    def tests(self) -> dict[str, SourceFile]:
        """The files that are tests, by path."""
        return {path: file for path, file in self.files.items() if fits(path, self.options.tests)}

    @cached_property
    def patterns(self) -> dict[str, dict[str, dict[str, list[int]]]]:
        """By path, what is detected in a Python file."""
        return {path: detected(parsed, self.options.patterns) for path, parsed in self.parsed.items()}

    @cached_property
    def folders(self) -> tuple[str, ...]:
        """All folders that hold a file, directly or not, the root "" first."""
        found = {""}
        for file in self.files.values():
            parts = file.folder.split("/") if file.folder else []
            found.update("/".join(parts[: count + 1]) for count in range(len(parts)))
        return tuple(sorted(found))

    def inside(self, folder: str) -> Sequence[SourceFile]:
        """The files in a folder and in those below it."""
        return [file for path, file in self.files.items() if not folder or path.startswith(folder + "/")]

    def children(self, folder: str) -> Sequence[str]:
        """The folders right below a folder."""
        return [name for name in self.folders if name and name.rpartition("/")[0] == folder]

    def page(self, path: str) -> str:
        """Where the page of a file lies."""
        return f"{self._place(path)}.md"

    def folder_page(self, folder: str, name: str = "index") -> str:
        """Where a page about a folder lies: its overview, or another of that name."""
        return f"{self._place(folder)}/{name}.md" if folder else f"{self.options.folder}/{name}.md"

    def _place(self, path: str) -> str:
        """Names that begin with a dot are not shown by every web server."""
        parts = [f"dot-{part[1:]}" if part.startswith(".") else part for part in path.split("/")]
        return "/".join([self.options.folder, *parts])

    def to(self, path: str, page: str, anchor: str = "") -> str:
        """A link from `page` to a file's page, which says the file's path."""
        return markdown_link(code(path), self.page(path) + (f"#{anchor}" if anchor else ""), page)

    def purpose(self, path: str) -> str:
        """What a file says it is for, in a line; "" if it does not say."""
        parsed, file = self.parsed.get(path), self.files.get(path)
        if parsed is not None:
            return first_line(parsed.purpose) if parsed.purpose else ""
        return stated_purpose(file) if file is not None else ""

    def folder_purpose(self, folder: str) -> str:
        """What the settings say of the folder, or its package, or what is to be read first in it."""
        said = self.options.purposes.get(folder) or self.purpose(f"{folder}/__init__.py")
        return str(said or self.purpose(f"{folder}/README.md"))

    def way(self, path: str, page: str) -> str:
        """Links to all folders above a file or folder, the root first."""
        parts = path.split("/")[:-1] if path else []
        steps = ["", *("/".join(parts[: count + 1]) for count in range(len(parts)))]
        names = [self.options.title, *(code(part) for part in parts)]
        pairs = zip(names, steps, strict=True)
        return " / ".join(markdown_link(name, self.folder_page(step), page) for name, step in pairs)
