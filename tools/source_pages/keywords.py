"""The keyword index of a folder: classes, functions, constants, and the words that files say their purpose with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from .file_page import front_matter
from .markdown import code, link, plain
from .repository import SourceFile
from .site import Site

KEYWORDS = "keyword-index"
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]{3,}")
_SMALL_WORDS = """
about above after again also another because been before being below between both cannot does done down each either
every from gives given goes have here into itself just kept less like made make makes many more most must neither never
none nothing only onto other others over same says several should since some such takes than that their them then there
these they this those through under until upon very what when where which while whose will with within without would
your
"""
_COMMON = frozenset(_SMALL_WORDS.split())
_MOST_PAGES = 25
"""A word that more files say than this tells none of them from another."""

Index = Mapping[str, Sequence[tuple[str, str]]]
"""By keyword, labels and places of pages."""


def index_of(site: Site, files: Sequence[SourceFile]) -> Index:
    """The keywords of some files, in the order of the alphabet."""
    found: dict[str, dict[str, str]] = {}
    words: dict[str, dict[str, str]] = {}
    for file in files:
        parsed, page = site.parsed.get(file.path), site.page(file.path)
        if parsed is None:
            continue
        for member in parsed.members:
            if not member.name.startswith(("_", "test_")):
                found.setdefault(member.name, {})[file.path] = f"{page}#m-{member.name}"
        for word in set(_WORD.findall(site.purpose(file.path))):
            if word.lower() not in _COMMON:
                words.setdefault(word if _is_name(word) else word.lower(), {})[file.path] = page
    for word, pages in words.items():
        if len(pages) <= _MOST_PAGES:
            found[word] = {**pages, **found.get(word, {})}
    return {word: sorted(found[word].items()) for word in sorted(found, key=lambda word: (word.lower(), word))}


def _is_name(word: str) -> bool:
    return "_" in word or word[1:] != word[1:].lower()


def keyword_pages(site: Site, folder: str) -> Iterator[tuple[str, str]]:
    """The pages of a folder's index: one, or where that would be long, one with links to one for each letter."""
    index = index_of(site, site.inside(folder))
    title = f"Keywords of {folder or site.options.title}"
    page = site.folder_page(folder, KEYWORDS)
    heads = [*front_matter("Keyword index", searched=False), f"# {plain(title)}", ""]
    heads += [link("Overview", site.folder_page(folder), page), ""]
    letters: dict[str, list[str]] = {}
    for word in index:
        letters.setdefault(word[0].upper(), []).append(word)
    if len(index) <= site.options.largest_keyword_page:
        parts = (part for letter, words in letters.items() for part in _section(site, letter, words, index, page))
        yield page, "\n".join([*heads, *parts])
        return
    places = {letter: site.folder_page(folder, f"{KEYWORDS}/{letter.lower()}") for letter in letters}
    listed = [f"{link(letter, places[letter], page)} ({len(words):,})" for letter, words in letters.items()]
    yield page, "\n".join([*heads, ", ".join(listed), ""])
    for letter, words in letters.items():
        place = places[letter]
        above = [*front_matter(f"Keywords: {letter}", searched=False), f"# {plain(title)}: {letter}", ""]
        others = (letter if other == place else link(name, other, place) for name, other in places.items())
        above += [", ".join(others), ""]
        yield place, "\n".join([*above, *_entries(site, words, index, place)])


def _section(site: Site, letter: str, words: Sequence[str], index: Index, page: str) -> list[str]:
    return [f"## {letter}", "", *_entries(site, words, index, page)]


def _entries(site: Site, words: Sequence[str], index: Index, page: str) -> list[str]:
    lines = []
    for word in words:
        links = ", ".join(link(code(path), place, page) for path, place in index[word])
        lines.append(f"- {plain(word)}: {links}")
    return [*lines, ""]
