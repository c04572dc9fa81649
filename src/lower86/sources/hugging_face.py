"""A folder of Hugging Face's: config.json, weights, and beside them a tokenizer or how pictures are prepared.

Nothing is downloaded and no code of the folder runs: classes are those of `transformers`.
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from ..counted import counted
from ..errors import Lower86Error, first_line
from ..needed import needed
from .model import ModelOptions, ModelSource, Tokenize
from .naming import Example, inputs_of
from .pictures import of_folder

_LENGTH, _LONGEST = 128, 4096
"""Tokens of an example, and of a dim that varies where the model names no limit."""


def from_folder(folder: Path, options: ModelOptions) -> ModelSource:
    """The model of a folder, as its config's `architectures` says; batch and length vary unless they are fixed.

    Raises Lower86Error for a folder without such a model, and for kinds of models that are not called with texts or
    pictures alone.
    """
    if not (folder / "config.json").is_file():
        raise Lower86Error(
            f"{folder} holds no config.json", where="model", fix="give the folder that save_pretrained wrote"
        )
    with _offline():
        transformers = needed("transformers", "a folder of Hugging Face's", "cli")
        try:
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            model, loading = _class(transformers, config).from_pretrained(
                folder, config=config, local_files_only=True, output_loading_info=True, dtype=torch.float32
            )
        except Lower86Error:
            raise
        except Exception as problem:  # transformers raises OSError, ValueError, RuntimeError and others
            raise Lower86Error(
                f"{folder} cannot be loaded: {first_line(problem)}",
                where="model",
                fix="look at its config.json and weights; models with code of their own are loaded by module:function",
            ) from problem
    missing = sorted(loading["missing_keys"])
    if len(missing) >= len(model.state_dict()):
        raise Lower86Error(f"the weights in {folder} are of another model", where="model", fix="look at config.json")
    listed = f"{', '.join(missing[:3])}{', …' if len(missing) > 3 else ''}"
    unset = counted(len(missing), "weight is", "weights are")
    notes = [f"{unset} not in {folder} and random: {listed}"] if missing else []
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False
    model.eval()
    if model.main_input_name == "pixel_values":
        return _of_pictures(folder, model, options, notes)
    takes = inspect.signature(model.forward).parameters
    several = getattr(model.config, "is_encoder_decoder", False) or "pixel_values" in takes
    if model.main_input_name == "input_ids" and not several and hasattr(model.config, "vocab_size"):
        return _of_texts(folder, transformers, model, options, notes)
    raise Lower86Error(
        f"a {type(model).__name__} takes more than a text or a picture",
        where="model",
        fix="name module:function that returns the part to run and its example inputs",
    )


def _class(transformers: Any, config: Any) -> Any:
    for name in config.architectures or ():
        found = getattr(transformers, name, None)
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return found
    if config.architectures:
        raise Lower86Error(
            f"transformers {transformers.__version__} has no {config.architectures[0]}",
            where="config.json",
            fix="install the version that has it, or name module:function that makes the model",
        )
    return transformers.AutoModel


class _Named(nn.Module):
    """Calls a model of transformers by name, and gives its tensors by name: {"logits": …}."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def _called(self, **inputs: Tensor) -> dict[str, Tensor]:
        found = self.model(**inputs, return_dict=True)
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}


class _Pixels(_Named):
    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        return self._called(pixel_values=pixel_values)


class _Ids(_Named):
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        return self._called(input_ids=input_ids, attention_mask=attention_mask)


class _TypedIds(_Named):
    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> dict[str, Tensor]:
        return self._called(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)


def _of_pictures(folder: Path, model: Any, options: ModelOptions, notes: Sequence[str]) -> ModelSource:
    config = model.config
    size = getattr(config, "image_size", None) or 224
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    preprocessing, note = of_folder(folder, height, width)
    final = preprocessing.crop or preprocessing.resize
    if not hasattr(config, "image_size") and isinstance(final, tuple):
        height, width = final
    wrapped = _Pixels(model).eval()
    rows = options.batch or (1 if options.fixed else 2)
    channels = getattr(config, "num_channels", 3)
    generator = torch.Generator().manual_seed(0)
    example = Example((torch.randn(rows, channels, height, width, generator=generator),), {})
    shapes = None if options.fixed else ({0: Dim("batch")},)
    return ModelSource(
        folder.resolve().name, wrapped, example, shapes, inputs_of(wrapped, example, shapes),
        preprocessing=preprocessing, notes=(*notes, *([note] if note else [])),
    )  # fmt: skip


def _of_texts(folder: Path, transformers: Any, model: Any, options: ModelOptions, notes: Sequence[str]) -> ModelSource:
    tokenizer = _tokenizer(folder, transformers)
    limits = [getattr(model.config, "max_position_embeddings", None), getattr(tokenizer, "model_max_length", None)]
    most = min([limit for limit in limits if isinstance(limit, int) and limit > 0] + [_LONGEST])
    length = min(options.length or _LENGTH, most)
    takes = inspect.signature(model.forward).parameters
    typed = tokenizer is not None and "token_type_ids" in takes and "token_type_ids" in tokenizer.model_input_names
    wrapped = (_TypedIds(model) if typed else _Ids(model)).eval()
    rows = options.batch or (1 if options.fixed else 2)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, model.config.vocab_size, (rows, length), generator=generator)
    example = Example((ids, torch.ones_like(ids), *([torch.zeros_like(ids)] if typed else [])), {})
    dims = {0: Dim("batch"), 1: Dim("length", max=most)}
    shapes = None if options.fixed else tuple(dims for _ in example.args)
    names = [one.name for one in inputs_of(wrapped, example, None)]
    tokenize = None if tokenizer is None else _tokenize(tokenizer, names, length if options.fixed else None, most)
    return ModelSource(
        folder.resolve().name, wrapped, example, shapes, inputs_of(wrapped, example, shapes), tokenize,
        notes=tuple(notes),
    )  # fmt: skip


def _tokenizer(folder: Path, transformers: Any) -> Any:
    """The one beside the weights; None without."""
    if not any((folder / name).exists() for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt")):
        return None
    try:
        with _offline():
            return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as problem:  # OSError, ValueError, and the Rust tokenizers' plain Exception
        raise Lower86Error(
            f"the tokenizer in {folder} cannot be loaded: {first_line(problem)}",
            where="model",
            fix="look at its files, or take them out of the folder and give token ids",
        ) from problem


def _tokenize(tokenizer: Any, names: Sequence[str], length: int | None, most: int) -> Tokenize:
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token

    def tokenize(texts: Sequence[str]) -> dict[str, Tensor]:
        padding: Any = True if length is None and len(texts) > 1 else False if length is None else "max_length"
        found: Mapping[str, Tensor] = tokenizer(
            list(texts), padding=padding, truncation=True, max_length=length or most, return_tensors="pt"
        )
        return {name: found[name] for name in names}

    return tokenize


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Without a network, bars and advice."""
    before = dict(os.environ)
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")
    try:
        yield
    finally:
        for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_VERBOSITY"):
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]
