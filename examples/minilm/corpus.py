"""Docstrings of the Python standard library, each split into a title (its first sentence) and a body (the rest)."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass

# Written out, not discovered: these import in silence, start nothing and need no display or network.
MODULES = """
abc argparse array ast asyncio base64 binascii bisect builtins bz2 calendar cmath cmd codecs codeop collections colorsys
compileall concurrent.futures configparser contextlib contextvars copy copyreg csv ctypes ctypes.util datetime decimal
difflib dis email.charset email.encoders email.generator email.header email.headerregistry email.message email.policy
email.utils enum faulthandler filecmp fileinput fnmatch fractions ftplib functools gc getopt getpass gettext glob
graphlib gzip hashlib heapq hmac html html.parser http http.client http.cookiejar http.cookies http.server imaplib
importlib.abc importlib.machinery importlib.metadata importlib.resources importlib.util inspect io ipaddress itertools
json linecache locale logging logging.config logging.handlers lzma mailbox marshal math mimetypes mmap modulefinder
multiprocessing.managers multiprocessing.pool multiprocessing.shared_memory netrc numbers operator optparse os os.path
pathlib pickle pickletools pkgutil platform plistlib poplib pprint pyclbr pydoc queue quopri random re reprlib resource
runpy sched secrets select selectors shelve shlex shutil signal smtplib socket socketserver sqlite3 ssl stat statistics
string struct subprocess symtable sys sysconfig tabnanny tarfile tempfile textwrap threading time timeit tokenize trace
traceback tracemalloc turtle unicodedata unittest.case unittest.loader unittest.mock unittest.runner
unittest.suite urllib.error urllib.parse urllib.request urllib.robotparser uuid venv warnings wave weakref webbrowser
wsgiref.handlers wsgiref.headers wsgiref.simple_server wsgiref.util wsgiref.validate xml.dom.minidom xml.dom.pulldom
xml.etree.ElementTree xml.sax xml.sax.handler xml.sax.saxutils xml.sax.xmlreader xmlrpc.client xmlrpc.server zipapp
zipfile zipimport zlib zoneinfo
"""

SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z`'\"(<*])")
MIN_TITLE_WORDS, MIN_BODY_WORDS = 4, 8


@dataclass(frozen=True)
class Entry:
    """One documented object: its qualified name, the first sentence of its docstring, and what follows."""

    name: str
    title: str
    body: str


@dataclass(frozen=True)
class Corpus:
    """Entries to search, and whole docstrings of other objects to calibrate with."""

    calibration: tuple[str, ...]
    entries: tuple[Entry, ...]


def _documented(name: str, owner: object) -> Iterator[tuple[str, object]]:
    """The public functions and classes that `owner` (a module or a class) defines itself, with their methods."""
    home = name if inspect.ismodule(owner) else getattr(owner, "__module__", "")
    exported = getattr(owner, "__all__", ())
    for attribute, value in sorted(vars(owner).items()):
        if attribute.startswith("_"):
            continue
        value = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        # Methods written in C have no module. Some packages add methods of their own to the standard library's classes.
        ours = attribute in exported or (getattr(value, "__module__", None) or home) == home
        if not ours or not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        yield f"{name}.{attribute}", value
        if inspect.isclass(value) and inspect.ismodule(owner):
            yield from _documented(f"{name}.{attribute}", value)


def split(docstring: str) -> tuple[str, str]:
    """(first sentence, rest), both with white space collapsed; a sentence ends with its paragraph at the latest."""
    paragraph, _, rest = inspect.cleandoc(docstring).partition("\n\n")
    title, *more = SENTENCE_END.split(" ".join(paragraph.split()), maxsplit=1)
    return title, " ".join([*more, *rest.split()])


def _entries() -> Iterator[Entry]:
    seen: set[str] = set()
    for module in MODULES.split():
        # A build of Python without Tk, OpenSSL or SQLite still has more than enough.
        with contextlib.suppress(ImportError):
            for name, value in _documented(module, importlib.import_module(module)):
                # On some types `__doc__` is the descriptor of their instances' docstrings.
                docstring = getattr(value, "__doc__", None)
                title, body = split(docstring if isinstance(docstring, str) else "")
                long_enough = len(title.split()) >= MIN_TITLE_WORDS and len(body.split()) >= MIN_BODY_WORDS
                # Some docstrings open with a signature ("f(x) -> y") or a doctest, which is no sentence.
                sentence = "->" not in title and ">>>" not in title
                if long_enough and sentence and not {title.lower(), body.lower()} & seen:
                    seen |= {title.lower(), body.lower()}
                    yield Entry(name, title, body)


def _evenly(count: int, total: int) -> list[int]:
    """`count` indices of `total`, spread evenly."""
    return [i * total // count for i in range(count)]


def load(entries: int, calibration: int) -> Corpus:
    """That many entries to search, and other docstrings to calibrate with: spread over all modules, the same every run.

    Raises RuntimeError if this Python's library has too few docstrings (as it has under `python -OO`).
    """
    found = list(_entries())
    total = entries + calibration
    if len(found) < total:
        raise RuntimeError(f"the demo needs {total} docstrings and this Python's standard library has {len(found)}")
    kept = [found[i] for i in _evenly(total, len(found))]
    held_out = set(_evenly(calibration, total))
    return Corpus(
        calibration=tuple(f"{kept[i].title} {kept[i].body}" for i in sorted(held_out)),
        entries=tuple(entry for i, entry in enumerate(kept) if i not in held_out),
    )
