"""Who imports whom: dotted names resolved to files of the repository, through packages that hand names on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from .python_file import Import, PythonFile


@dataclass
class Links:
    """For each file, what it imports (of the repository by path, other modules by name) and who imports or uses it."""

    imports: dict[str, set[str]] = field(default_factory=dict)
    outside: dict[str, set[str]] = field(default_factory=dict)
    importers: dict[str, set[str]] = field(default_factory=dict)


def link(files: Mapping[str, PythonFile], roots: Sequence[str]) -> Links:
    """The links between `files`, given by path; `roots` are the folders that absolute names begin in."""
    finder = _Finder(files, roots)
    links = Links({path: set() for path in files}, {path: set() for path in files}, {path: set() for path in files})
    for path, parsed in files.items():
        for entry in parsed.imports:
            found = finder.imported(path, entry)
            links.imports[path].update(found)
            if not found and not entry.level and entry.module != "__future__":
                links.outside[path].add(entry.module.split(".")[0])
        for name, _ in parsed.uses:
            links.imports[path].update(finder.used(path, name))
        links.imports[path].discard(path)
        for target in links.imports[path]:
            links.importers[target].add(path)
    return links


class _Finder:
    def __init__(self, files: Mapping[str, PythonFile], roots: Sequence[str]) -> None:
        self._files, self._roots = files, [PurePosixPath(root) for root in roots]

    def imported(self, path: str, entry: Import) -> set[str]:
        """The files that an import reads: the module, and where the name that it takes is defined."""
        for base in self._bases(path, entry.level):
            folder = base.joinpath(*entry.module.split(".")) if entry.module else base
            if entry.name and (submodule := self._module(folder / entry.name)):
                return {submodule}
            if module := self._module(folder):
                return {module, *self._definers(module, entry.name, frozenset())}
        return set()

    def used(self, path: str, name: str) -> set[str]:
        """The file that defines the name that `package.name` reads, if the package only hands it on."""
        parts = name.split(".")
        for base in self._bases(path, 0):
            for known in range(len(parts) - 1, 0, -1):
                if module := self._module(base.joinpath(*parts[:known])):
                    return self._definers(module, parts[known], frozenset())
        return set()

    def _definers(self, module: str, name: str, passed: frozenset[tuple[str, str]]) -> set[str]:
        """Where the package `module` has a name from; nothing for a module that defines it, or in a circle."""
        if not module.endswith("__init__.py") or (module, name) in passed:
            return set()
        found: set[str] = set()
        for entry in self._files[module].imports:
            if entry.name == name and name:
                for target in self.imported_plainly(module, entry):
                    found |= self._definers(target, name, passed | {(module, name)}) or {target}
        return found

    def imported_plainly(self, path: str, entry: Import) -> Iterator[str]:
        """The module that an import names, no further."""
        for base in self._bases(path, entry.level):
            folder = base.joinpath(*entry.module.split(".")) if entry.module else base
            if module := self._module(folder / entry.name) or self._module(folder):
                yield module
                return

    def _bases(self, path: str, level: int) -> Iterator[PurePosixPath]:
        folder = PurePosixPath(path).parent
        if level:
            for _ in range(level - 1):
                folder = folder.parent
            yield folder
            return
        if str(folder / "__init__.py") not in self._files:
            yield folder  # a script finds what lies beside it
        yield from self._roots

    def _module(self, place: PurePosixPath) -> str | None:
        candidates = (f"{place}.py", f"{place}/__init__.py")
        return next((name for name in candidates if name in self._files), None)
