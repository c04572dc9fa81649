"""A tiny repository of another project: a package, its tests, an example, and files of other kinds."""

from __future__ import annotations

from pathlib import Path

FILES: dict[str, str | bytes] = {
    "Makefile": "# What to do first.\nall:\n\techo done\n",
    "chart.bin": bytes(range(256)),
    ".ci/run": "#!/bin/sh\nmake\n",
    "pyproject.toml": '[project]\nname = "harbour"\n',
    "docs/index.md": "# Harbour\n\n[Ships](code/src/harbour/ships.py.md#L-12)\n\n{{ messages }}\n",
    "src/harbour/__init__.py": '"""Berths for ships."""\n\nfrom .ships import Ship\n\n__all__ = ["Ship"]\n',
    "src/harbour/errors.py": '''"""What may go wrong."""


class HarbourError(Exception):
    """The parent of all."""

    def __init__(self, what, *, where="", fix=""):
        super().__init__(what)


class FullError(HarbourError):
    """There is no berth left."""
''',
    "src/harbour/ships.py": '''"""Ships, and how `dredge` makes room for them.

A second paragraph | with a bar, a <tag> and [brackets][none].
"""

import os
import subprocess as sub

from .errors import FullError

DEEPEST: int = 12
"""Metres."""


class Ship:
    """A ship with a *name* and __draught__."""

    def moor(self, berth: int | None = None, *, days: float = 1.5) -> bool:
        """Takes a berth."""
        if os.environ.get("FULL"):
            raise FullError(f"no berth for {self}", fix="wait")
        return True


def dredge(path):
    sub.run(["dredge"])
    path.unlink()


def _full(which: str) -> FullError:
    return FullError(f"{which} is full <north>", fix="choose another")


def fill():
    raise _full("the <north> basin")
''',
    "src/harbour/torn.py": '"""Never closed\n',
    "tests/test_ships.py": '"""Ships moor."""\n\nfrom harbour import Ship\n\n\ndef test_moor():\n    Ship().moor()\n',
    "tests/test_port.py": "import harbour\n\n\ndef test_ship():\n    assert harbour.Ship\n",
    "examples/show.py": "import harbour as h\n\nimport beside\n\nprint(h.Ship().moor(), beside)\n",
    "examples/beside.py": '"""Lies beside."""\n',
}

SETTINGS = """
site_name: Harbour
docs_dir: docs
use_directory_urls: false
theme: {{ name: mkdocs, highlightjs: false }}
nav: [index.md, {{ Code: code/ }}]
plugins:
  - source-pages: {{ folder: code, title: The code, errors: [HarbourError], purposes: {{ docs: Pages. }}, {more} }}
markdown_extensions: [attr_list, tables, fenced_code]
validation: {{ nav: {{ omitted_files: warn }}, links: {{ anchors: warn, not_found: warn }} }}
"""


def write(root: Path, more: str = "", **others: str) -> Path:
    """The repository in a folder, with other contents of some docs; gives the path of its mkdocs.yml."""
    for name, contents in (FILES | {f"docs/{name}.md": text for name, text in others.items()}).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    settings = root / "mkdocs.yml"
    settings.write_text(SETTINGS.format(more=more))
    return settings
