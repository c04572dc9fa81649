"""`load_sentence_transformer`: a saved folder read again, without executing anything that comes from it."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from torch import nn

from ...artifact.load import load
from ...codegen.target import Target
from ...errors import first_line
from .modules import PROGRAM, LoweredTransformer, unreadable


def load_sentence_transformer(
    folder: str | os.PathLike[str], *, target: str | Target | None = None, num_threads: int | None = None
) -> SentenceTransformer:
    """What `save_pretrained` of a lowered model wrote, ready to encode; the float model is not needed.

    Args:
        folder: where it was written to.
        target, num_threads: as in `lower86.load`.

    Raises:
        ArtifactError: the folder has no program, or names modules that are not Sentence Transformers' own.
        TargetError, InputError: as `lower86.load` does.
    """
    place = Path(folder)
    described = _read_json(place / "modules.json")
    settings = _read_json(place / "config_sentence_transformers.json")
    if not isinstance(described, list) or not described or not all(isinstance(one, dict) for one in described):
        raise unreadable(place, "modules.json lists no modules")
    if not isinstance(settings, dict):
        raise unreadable(place, "config_sentence_transformers.json holds no object")
    program = load(place / PROGRAM, target=target, num_threads=num_threads)
    modules = [LoweredTransformer.of_folder(place, program), *(_module(one, place) for one in described[1:])]
    kept: dict[str, Any] = {
        name: settings.get(name) for name in ("prompts", "default_prompt_name", "similarity_fn_name")
    }
    try:
        return SentenceTransformer(modules=modules, device="cpu", **kept)
    except Exception as problem:  # whatever the library raises for settings of other types
        raise unreadable(place, f"config_sentence_transformers.json: {first_line(problem)}") from problem


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise unreadable(path.parent, f"{path.name} cannot be read: {problem}") from problem


def _module(described: Mapping[str, Any], folder: Path) -> nn.Module:
    """A module after the first. Raises ArtifactError."""
    kind, path = _module_class(described, folder), str(described.get("path", ""))
    if Path(path).name != path or path == "..":
        raise unreadable(folder, f"modules.json names the folder {path!r}")
    try:
        module: nn.Module = kind.load(str(folder), subfolder=path, local_files_only=True)
    except Exception as problem:  # whatever the library raises for its files
        raise unreadable(folder, f"{path} cannot be read: {first_line(problem)}") from problem
    return module


def _module_class(described: Mapping[str, Any], folder: Path) -> Any:
    """The class of a module of `modules.json`. It has to be the library's own: others are code of whoever wrote it."""
    module, _, name = str(described.get("type", "")).rpartition(".")
    if module.partition(".")[0] == "sentence_transformers":
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as problem:
            raise unreadable(folder, f"there is no {module}.{name}") from problem
        if isinstance(found, type) and issubclass(found, nn.Module) and hasattr(found, "load"):
            return found
    raise unreadable(folder, f"modules.json names {module}.{name}, which is no module of Sentence Transformers")
