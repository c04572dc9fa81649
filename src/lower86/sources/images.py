"""A folder of pictures as calls of a model that takes one picture a row, float [rows, channels, height, width]."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .batches import fitted, rows_of
from .model import ModelSource
from .naming import Input
from .pictures import Preprocessing, of_size, pixels

if TYPE_CHECKING:
    from .data import DataOptions

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def from_images(
    folder: Path, source: ModelSource, options: DataOptions
) -> tuple[Iterator[dict[str, Tensor]], tuple[str, ...]]:
    """The pictures in a folder and in those within it, by name. Raises InputError without any, or for other models."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise InputError(f"{folder} holds no pictures", where="data", fix=f"of {', '.join(SUFFIXES)}")
    if len(source.inputs) != 1 or (source.inputs[0].example is not None and source.inputs[0].example.dim() != 4):
        names = ", ".join(one.name for one in source.inputs)
        raise InputError(
            f"pictures are for a model with one input [rows, channels, height, width]; this one takes {names}",
            where="data",
            fix="give arrays as data",
        )
    (one,) = source.inputs
    how, note = _how(source, one, options)
    channels = 3 if one.example is None else one.example.shape[1]
    rows = rows_of(one, options.batch)
    return _calls(paths, one, how, channels, rows), (note,) if note else ()


def _how(source: ModelSource, one: Input, options: DataOptions) -> tuple[Preprocessing, str]:
    how, note = source.preprocessing, ""
    if how is None or options.size is not None:
        size = options.size
        if size is None and one.example is not None:
            size = one.example.shape[2], one.example.shape[3]
        size = size or (224, 224)
        plain = of_size(*size)
        how = plain if how is None else replace(how, resize=plain.resize, crop=plain.crop)
        if source.preprocessing is None and (options.mean is None or options.std is None):
            note = f"pictures are cut to {size[0]}x{size[1]}, with ImageNet's mean and std where none are given"
    return replace(how, mean=options.mean or how.mean, std=options.std or how.std), note


def _calls(paths: list[Path], one: Input, how: Preprocessing, channels: int, rows: int) -> Iterator[dict[str, Tensor]]:
    for start in range(0, len(paths), rows):
        chosen = paths[start : start + rows]
        if len(chosen) < rows and one.example is not None and not one.rows_vary:
            return
        pictures = [pixels(path, how, channels) for path in chosen]
        if len({picture.shape for picture in pictures}) > 1:
            raise InputError("pictures have several sizes", where=str(chosen[0]), fix="cut them by --size")
        tensor = torch.from_numpy(np.stack(pictures))
        yield {one.name: fitted(one, tensor, str(chosen[0]))}
