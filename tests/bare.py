"""An environment with what `pip install lower86` brings and nothing else, made of what is installed here, offline."""

from __future__ import annotations

import importlib.metadata
import json
import venv
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Bare:
    """Its interpreter, and the folder that it imports from."""

    python: Path
    site: Path


def environment(folder: Path) -> Bare:
    """Makes one, with the package's dependencies and without the package."""
    venv.create(folder, symlinks=True, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    names: set[str] = set()
    for text in dependencies():
        needed(text, names)
    for name in names:
        link(name, site)
    return Bare(folder / "bin" / "python", site)


def needed(name: str, found: set[str]) -> set[str]:
    """The distributions that one depends on, by name, itself included."""
    if name not in found:
        found.add(name)
        for text in importlib.metadata.requires(name) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                needed(requirement.name, found)
    return found


def link(name: str, folder: Path) -> None:
    """Makes an installed distribution visible in `folder`."""
    distribution = importlib.metadata.distribution(name)
    for top in {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}:
        (folder / top).symlink_to(Path(str(distribution.locate_file(top))))


def dependencies() -> list[str]:
    """What pyproject.toml says the package needs without extras."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith("dependencies = ")]
    return [item.split(">")[0].split("=")[0] for item in json.loads(line.removeprefix("dependencies = "))]
