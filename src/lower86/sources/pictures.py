"""How a picture becomes the numbers that a model takes: cut to a size, scaled, and normalized by channel."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..counted import counted
from ..errors import InputError, Lower86Error
from ..needed import needed

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_BILINEAR = 2


@dataclass(frozen=True)
class Preprocessing:
    """Steps in their order: resize, cut out the middle, multiply, normalize. Sizes are (height, width) in pixels.

    resize: to exactly this; an int makes the shorter side so long and keeps the shape; None leaves it.
    crop: the middle that is cut out, with zeros around what is smaller; None leaves it.
    resample: Pillow's number of a filter.
    scale: what bytes are multiplied by.
    """

    resize: tuple[int, int] | int | None
    crop: tuple[int, int] | None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    scale: float = 1 / 255
    resample: int = _BILINEAR


def of_size(height: int, width: int) -> Preprocessing:
    """What most networks for ImageNet take: an eighth more than the size, then its middle, and ImageNet's means."""
    return Preprocessing(round(min(height, width) * 8 / 7), (height, width))


def of_folder(folder: Path, height: int, width: int) -> tuple[Preprocessing, str]:
    """What `preprocessor_config.json` says, and a note where there is none. Raises Lower86Error for a damaged one."""
    path = folder / "preprocessor_config.json"
    if not path.exists():
        return of_size(height, width), f"{folder} has no preprocessor_config.json: ImageNet's means are taken"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return _configured(config, height, width), ""
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as problem:
        raise Lower86Error(f"{path} cannot be used: {problem}", where="model", fix="look at the file") from problem


def _configured(config: Mapping[str, Any], height: int, width: int) -> Preprocessing:
    size, crop = _size(config.get("size")), _size(config.get("crop_size"))
    cut = bool(config.get("do_center_crop", False))
    share = config.get("crop_pct")
    if isinstance(size, int) and not cut and share is not None:  # ConvNeXt's way
        edge, cut = size, size < 384
        crop = (edge, edge)
        size = int(edge / share) if cut else crop
    elif isinstance(size, int) and not isinstance(config.get("size"), Mapping) and not cut:
        size = (size, size)
    if not config.get("do_resize", True):
        size = None
    elif size is None:
        size = (height, width)
    square = (crop, crop) if isinstance(crop, int) else crop
    cutting = (square or (height, width)) if cut else None
    normalized = config.get("do_normalize", True)
    return Preprocessing(
        size,
        cutting,
        tuple(map(float, config.get("image_mean") or IMAGENET_MEAN)) if normalized else (0.0,),
        tuple(map(float, config.get("image_std") or IMAGENET_STD)) if normalized else (1.0,),
        float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0,
        int(config.get("resample", _BILINEAR)),
    )


def _size(given: Any) -> tuple[int, int] | int | None:
    if isinstance(given, Mapping):
        if "shortest_edge" in given:
            return int(given["shortest_edge"])
        return int(given["height"]), int(given["width"])
    if isinstance(given, (list, tuple)):
        return int(given[0]), int(given[1])
    return None if given is None else int(given)


def pixels(path: Path, how: Preprocessing, channels: int) -> npt.NDArray[np.float32]:
    """A picture as float32 [channels, height, width]. Raises InputError for what is none."""
    image_module = needed("PIL.Image", "reading pictures", "cli", package="pillow")
    modes = {1: "L", 3: "RGB", 4: "RGBA"}
    if channels not in modes:
        raise InputError(f"the model takes {counted(channels, 'channel')}, pictures have 1, 3 or 4", where=str(path))
    try:
        with image_module.open(path) as opened:
            picture = opened.convert(modes[channels])
    except Exception as problem:  # Pillow's many kinds, and what its decoders raise
        said = getattr(problem, "strerror", None) or "no picture that Pillow can read"
        raise InputError(
            f"{path} is not usable: {said}", where="data", fix="take the file out of the folder"
        ) from problem
    if how.resize is not None:
        picture = picture.resize(_target(picture.size, how.resize), how.resample)
    if how.crop is not None:
        picture = _middle(picture, how.crop)
    numbers = np.asarray(picture, np.float32).reshape(picture.height, picture.width, channels).transpose(2, 0, 1)
    mean, std = (np.asarray(values, np.float32).reshape(-1, 1, 1) for values in (how.mean, how.std))
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, channels):
            raise InputError(
                f"{name} has {counted(len(values), 'number')}, the model takes {counted(channels, 'channel')}",
                where="data",
            )
    result: npt.NDArray[np.float32] = (numbers * np.float32(how.scale) - mean) / std
    return result


def _target(size: tuple[int, int], resize: tuple[int, int] | int) -> tuple[int, int]:
    """Pillow's (width, height)."""
    if isinstance(resize, tuple):
        return resize[1], resize[0]
    width, height = size
    shorter = min(width, height)
    return max(1, int(width * resize / shorter)), max(1, int(height * resize / shorter))


def _middle(picture: Any, crop: tuple[int, int]) -> Any:
    left, top = (picture.width - crop[1]) // 2, (picture.height - crop[0]) // 2
    return picture.crop((left, top, left + crop[1], top + crop[0]))
