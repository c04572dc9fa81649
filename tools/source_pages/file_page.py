"""The page of one file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .markdown import bullets, code, fenced, link, plain, table
from .python_file import Member, PythonFile
from .relations import examples_of, tests_of
from .repository import SourceFile, fits
from .site import Site

_TITLES = {"class": "Classes", "function": "Functions", "constant": "Constants"}


def file_page(site: Site, file: SourceFile) -> str:
    """The Markdown of a file's page; its text follows the last heading, in HTML (`view.py`)."""
    page = site.page(file.path)
    parsed = site.parsed.get(file.path)
    searched = not fits(file.path, site.options.unsearched)
    lines = [*front_matter(file.name, searched=searched), f"# {code(file.name)}", ""]
    lines += [site.way(file.path, page), ""]
    lines += _metadata(file, parsed)
    if parsed is None and site.purpose(file.path):
        lines += ["## Purpose", "", plain(site.purpose(file.path)), ""]
    if parsed is not None:
        lines += _purpose(parsed)
        for kind, title in _TITLES.items():
            lines += _members(title, [member for member in parsed.members if member.kind == kind])
        lines += _connections(site, file, page)
        lines += _patterns(site.patterns[file.path])
        lines += _listed(site, page, "Tests", tests_of(file, site.tests, site.links))
        lines += _listed(site, page, "Usage examples", examples_of(file, site.options.examples, site.links))
    lines += _related(site, file, page)
    if file.text and file.size <= site.options.largest_view:
        lines += ["## Source { #source data-search-exclude }", ""]
    return "\n".join(lines)


def front_matter(title: str, *, searched: bool = True) -> list[str]:
    """A page's title in menus, and whether the search knows it; sources rank behind what was written about them."""
    return ["---", f'title: "{title}"', "search:", "  boost: 0.2" if searched else "  exclude: true", "---", ""]


def _metadata(file: SourceFile, parsed: PythonFile | None) -> list[str]:
    rows = [("Path", code(file.path)), ("Type", file.kind), ("Size", f"{file.size:,} bytes")]
    if file.lines is not None:
        rows.append(("Lines", f"{file.lines:,}"))
    if parsed is not None and parsed.problem:
        rows.append(("Not parsed", plain(parsed.problem)))
    return table(("Property", "Value"), rows)


def _purpose(parsed: PythonFile) -> list[str]:
    first, _, rest = parsed.purpose.partition("\n\n")
    if not first:
        return []
    return ["## Purpose", "", plain(first), "", *([fenced(rest.strip("\n")), ""] if rest.strip() else [])]


def _members(title: str, members: Sequence[Member]) -> list[str]:
    if not members:
        return []
    lines = [f"## {title}", ""]
    if title == "Constants":
        return [*lines, *bullets(f'<span id="m-{m.name}"></span>{_entry(m)}' for m in members)]
    for member in members:
        lines += [f"### {code(member.name)} {{ #m-{member.name} }}", ""]
        lines += [fenced(member.heading, "python"), ""]
        lines += [" ".join(filter(None, (plain(member.summary), _line(member)))), ""]
        lines += bullets(_entry(inner) for inner in member.members) if member.members else []
    return lines


def _entry(member: Member) -> str:
    return " ".join(filter(None, (code(member.heading), plain(member.summary), _line(member))))


def _line(member: Member) -> str:
    last = f"–{member.last_line}" if member.last_line > member.line else ""
    return f"([{'lines' if last else 'line'} {member.line}{last}](#L-{member.line}))"


def _connections(site: Site, file: SourceFile, page: str) -> list[str]:
    links = site.links
    lines = _listed(site, page, "Imports", sorted(links.imports[file.path]))
    outside = ", ".join(code(name) for name in sorted(links.outside[file.path]))
    if outside:
        lines = lines or ["## Imports", ""]
        lines += [f"From outside: {outside}.", ""]
    importers = sorted(links.importers[file.path] - set(site.tests))
    return lines + _listed(site, page, "Imported by", importers)


def _patterns(found: Mapping[str, Mapping[str, Sequence[int]]]) -> list[str]:
    if not found:
        return []
    rows = [
        (title, code(name), ", ".join(f"[{line}](#L-{line})" for line in lines))
        for title, names in found.items()
        for name, lines in names.items()
    ]
    return ["## Detected patterns", "", *table(("Pattern", "Name", "Lines"), rows)]


def _listed(site: Site, page: str, title: str, paths: Iterable[str]) -> list[str]:
    items = [f"{site.to(path, page)} {plain(site.purpose(path))}".strip() for path in paths]
    return [f"## {title}", "", *bullets(items)] if items else []


def _related(site: Site, file: SourceFile, page: str) -> list[str]:
    others = [other for other in site.files.values() if other.folder == file.folder and other is not file]
    if not others:
        return []
    items = [link(code(other.name), site.page(other.path), page) for other in others]
    return ["## In the same folder", "", ", ".join(items), ""]
