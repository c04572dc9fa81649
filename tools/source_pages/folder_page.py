"""The pages of a folder: an overview, and an index of every file in it and below."""

from __future__ import annotations

from collections.abc import Sequence

from .file_page import front_matter
from .keywords import KEYWORDS
from .markdown import bullets, code, link, plain, table
from .repository import SourceFile
from .site import Site

FILES = "file-index"


def overview(site: Site, folder: str) -> str:
    """The Markdown of a folder's overview: what it is for, what is in it, what it does, whom it knows."""
    page = site.folder_page(folder)
    name = folder.rpartition("/")[2] or site.options.title
    lines = [*front_matter(name), f"# {code(name) if folder else name}", ""]
    if folder:
        lines += [site.way(folder, page), ""]
    if purpose := site.folder_purpose(folder):
        lines += [plain(purpose), ""]
    every = site.inside(folder)
    indexes = (link(title, site.folder_page(folder, place), page) for title, place in _INDEXES)
    lines += [f"{_counted(every)}. {', '.join(indexes)}.", ""]
    if children := site.children(folder):
        rows = [
            (
                link(code(child.rpartition("/")[2] + "/"), site.folder_page(child), page),
                _counted(site.inside(child)),
                plain(site.folder_purpose(child)),
            )
            for child in children
        ]
        lines += ["## Folders", "", *table(("Folder", "Files", "Purpose"), rows)]
    here = [file for file in every if file.folder == folder]
    lines += ["## Files", "", *_files(site, here, page, folder)] if here else []
    lines += _patterns(site, every, page)
    lines += _neighbours(site, folder, page)
    return "\n".join(lines)


_INDEXES = (("Index of all files", FILES), ("index of keywords", KEYWORDS))


def file_index(site: Site, folder: str) -> str:
    """The Markdown of the list of every file in a folder and below."""
    page = site.folder_page(folder, FILES)
    title = f"Files of {folder or site.options.title}"
    lines = [*front_matter("File index", searched=False), f"# {plain(title)}", ""]
    lines += [link("Overview", site.folder_page(folder), page), ""]
    return "\n".join([*lines, *_files(site, site.inside(folder), page, folder)])


def _files(site: Site, files: Sequence[SourceFile], page: str, folder: str) -> list[str]:
    rows = []
    for file in files:
        name = file.path.removeprefix(folder + "/") if folder else file.path
        lines = "" if file.lines is None else f"{file.lines:,}"
        rows.append((link(code(name), site.page(file.path), page), file.kind, lines, plain(site.purpose(file.path))))
    return table(("File", "Type", "Lines", "Purpose"), rows)


def _counted(files: Sequence[SourceFile]) -> str:
    lines = sum(file.lines or 0 for file in files)
    return f"{len(files):,} {'file' if len(files) == 1 else 'files'}, {lines:,} lines"


def _patterns(site: Site, files: Sequence[SourceFile], page: str) -> list[str]:
    found: dict[str, list[str]] = {}
    for file in files:
        for title in site.patterns.get(file.path, ()):
            found.setdefault(title, []).append(link(code(file.name), site.page(file.path), page))
    rows = [(title, ", ".join(found[title])) for title in site.options.patterns if title in found]
    return ["## Detected patterns", "", *table(("Pattern", "Files"), rows)] if rows else []


def _neighbours(site: Site, folder: str, page: str) -> list[str]:
    """The folders that this one imports from, and those that import from it."""
    if not folder:
        return []
    within = {file.path for file in site.inside(folder)}
    lines: list[str] = []
    for title, table_of in (("Imports from", site.links.imports), ("Imported from", site.links.importers)):
        known = {other for path in within for other in table_of.get(path, ())}
        others = {other.rpartition("/")[0] for other in known - within}
        items = [link(code(other or "."), site.folder_page(other), page) for other in sorted(others)]
        lines += [f"## {title}", "", *bullets(items)] if items else []
    return lines
