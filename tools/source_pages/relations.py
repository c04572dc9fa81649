"""The tests and the usage examples of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from .links import Links
from .repository import SourceFile, fits


def tests_of(file: SourceFile, tests: Mapping[str, SourceFile], links: Links) -> list[str]:
    """First the test files that are named after the file, then those that import it or a name of it."""
    if file.path in tests:
        return []
    mirrors = [path for path, test in tests.items() if _mirrors(test, file)]
    importers = sorted(links.importers.get(file.path, set()) & set(tests) - set(mirrors))
    return [*mirrors, *importers]


def _mirrors(test: SourceFile, file: SourceFile) -> bool:
    """`test_<stem>` or `test_<stem>_<more>`, in a folder of the same name or in one right below a root."""
    stem = test.stem
    named = stem == f"test_{file.stem}" or stem == f"{file.stem}_test" or stem.startswith(f"test_{file.stem}_")
    folder, other = PurePosixPath(test.folder), PurePosixPath(file.folder)
    return named and file.is_python and (folder.name == other.name or len(folder.parts) <= 1)


def examples_of(file: SourceFile, examples: Sequence[str], links: Links) -> list[str]:
    """The files that the globs `examples` fit and that import it or a name of it."""
    if fits(file.path, examples):
        return []
    return sorted(path for path in links.importers.get(file.path, set()) if fits(path, examples))
