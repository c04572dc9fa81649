"""What is wrong with a `.pt2` file that torch cannot load: torch itself says little of it, or names a warning."""

from __future__ import annotations

import io
import json
import logging
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import first_line

_WITHOUT = "it is damaged: it lacks {}"
_WHOLE = "copy or write it again"
_OTHER = "give a file that torch.export.save or lower86 quantize wrote"
_VERSION = "write it again by torch.export.save or lower86 quantize, in a version of torch that this one can read"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_MEMBERS = ("archive_format", "archive_version", ".data/version", "models/model.json", *_CONFIGS)
"""What every exported program has, torch 2.8 or later; those before have other names, which torch looks for itself."""


def trouble(content: bytes, problem: Exception) -> tuple[str, str]:
    """What is wrong with a file of this content, whose loading raised `problem`, and what to do."""
    if not content:
        return "it is empty", _WHOLE
    if not content.startswith(b"PK"):
        return "it is no zip archive, as exported programs are", _OTHER
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            known = _within(archive)
    except Exception:  # zipfile and its decompressors raise whatever damaged numbers lead them to
        return "it is damaged: a zip archive that is cut short or overwritten", _WHOLE
    said = first_line(problem).partition(". This is an internal miniz error")[0]
    return known or (f"torch cannot read it: {said}", _VERSION)


def _within(archive: zipfile.ZipFile) -> tuple[str, str] | None:
    """What is wrong with an archive, if that can be told from what it has."""
    names = archive.namelist()
    if not names:
        return "it is an empty zip archive", _OTHER
    tops = {name.partition("/")[0] for name in names}
    root = f"{tops.pop()}/" if len(tops) == 1 else ""
    held = {name.removeprefix(root) for name in names}
    if "serialized_exported_program.json" in held:
        return None  # of torch 2.7 or earlier
    if all(name.endswith(".npy") for name in held):
        return "it holds arrays of NumPy", _OTHER
    if "constants.pkl" in held:
        return "it is a TorchScript model", "export the model by torch.export.export, and write that"
    if "data.pkl" in held:
        return "it is a pickle, as torch.save writes", "export the model by torch.export.export, and write that"
    if not held.intersection(("models/model.json", *_CONFIGS)):
        return "it is a zip archive of something else", _OTHER
    broken = next((one.filename for one in archive.infolist() if not _is_whole(archive, one)), None)
    if broken is not None:
        return f"it is damaged: {broken} in it is not what was written", _WHOLE
    missing = next((name for name in _needed(archive, root, held) if name not in held), None)
    return None if missing is None else (_WITHOUT.format(missing), _WHOLE)


def _is_whole(archive: zipfile.ZipFile, one: zipfile.ZipInfo) -> bool:
    if one.compress_type != zipfile.ZIP_STORED:
        return True  # torch writes none, and it might be anything but small
    try:
        archive.read(one)
    except zipfile.BadZipFile:
        return False
    return True


def _needed(archive: zipfile.ZipFile, root: str, held: set[str]) -> Iterator[str]:
    yield from _MEMBERS
    for config in _CONFIGS:
        folder = config.rpartition("/")[0]
        try:
            if archive.getinfo(root + config).compress_type != zipfile.ZIP_STORED:
                continue  # torch compresses nothing, and it might be anything but small
            entries = json.loads(archive.read(root + config))["config"].values()
            paths = [entry["path_name"] for entry in entries]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        yield from (f"{folder}/{path}" for path in paths if isinstance(path, str) and path)
    if not any(name.startswith("data/sample_inputs/") for name in held):
        yield "data/sample_inputs/model.pt"


_ONE_AT_A_TIME = threading.Lock()


@contextmanager
def reasons() -> Iterator[list[Exception]]:
    """Within it, what torch.export only logs is put into the list: its error says no more than to look there.

    What it has logged is logged after all if nothing is raised.
    """
    found: list[Exception] = []
    records: list[logging.LogRecord] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)
            error = record.exc_info[1] if record.exc_info else None
            if isinstance(error, Exception):
                found.append(error)

    logger, handler = logging.getLogger("torch.export"), Kept()
    with _ONE_AT_A_TIME:
        level, propagates, others = logger.level, logger.propagate, list(logger.handlers)
        logger.handlers[:] = [handler]
        logger.setLevel(logging.WARNING)
        logger.propagate = False
        try:
            yield found
        finally:
            logger.handlers[:] = others
            logger.setLevel(level)
            logger.propagate = propagates
    for record in records:
        if logging.getLogger(record.name).isEnabledFor(record.levelno):
            logging.getLogger(record.name).handle(record)
