"""`SentenceTransformer.encode` on int8 machine code.

    SentenceTransformer                  lowered
      Transformer: tokenizer, model        LoweredTransformer: the same tokenizer, the model as a program
      Pooling, Normalize, …                the same

Only the model is replaced, so prompts, batches sorted by length, pooling, precisions and all else of `encode` are the
library's own. One program serves all batches and lengths. What `save_pretrained` writes has the program in place of the
weights, and `load_sentence_transformer` reads it without executing anything that comes from the folder.
"""

from __future__ import annotations

import copy
import importlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from torch import Tensor, nn

from ..artifact.load import load
from ..artifact.loaded import LoadedProgram
from ..artifact.save import save
from ..codegen.target import Target
from ..errors import ArtifactError, InputError, Lower86Error, UnsupportedError, first_line
from ..lowered import LoweredModule
from ..lowering import lower_pt2e_quantized_to_x86
from ..quantization.quantize import quantize
from ..quantization.recipe import Recipe

PROGRAM = "lower86.safetensors"
"""The program's file in a saved folder, beside the tokenizer's and the pooling's."""
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_OUTPUT = "last_hidden_state"
_TEXTS_A_CALL = 8
"""Of calibration: texts of nearly one length, so that few positions are padding, as within `encode`."""


def lower_sentence_transformer(
    model: SentenceTransformer | str | os.PathLike[str],
    sentences: Iterable[str],
    *,
    recipe: str | Recipe = "balanced",
    quantizer: Any = None,
    on_fallback: str = "warn",
    target: str | Target | None = None,
    progress: bool = True,
) -> SentenceTransformer:
    """The same embeddings from int8 machine code.

    Args:
        model: a model whose first module is a `Transformer` encoder of text, or a local folder of one. It is not
            changed. Its `max_seq_length`, in tokens, is the most that the program will take.
        sentences: texts to calibrate with, a hundred or more like those that will be encoded, with the prompt if one
            belongs before them.
        recipe, quantizer, progress: as in `lower86.quantize`.
        on_fallback, target: as in `lower86.lower_pt2e_quantized_to_x86`.

    Returns:
        A `SentenceTransformer` for inference on this CPU: no gradients, no training.

    Raises:
        InputError: `sentences` has no texts, or what is no text.
        UnsupportedError: the model is not such a one.
        Lower86Error: as `quantize` and `lower_pt2e_quantized_to_x86` do.
    """
    texts = _checked_texts(sentences)
    if isinstance(model, (str, os.PathLike)):
        model = _folder(model)
    transformer = _transformer_of(model)
    calls = _calls(transformer, texts)
    example = calls[0]
    dims = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens", max=_most_tokens(transformer))}
    shapes = dict.fromkeys(example, dims)
    encoder = _Encoder(transformer.model).eval()
    quantized = quantize(
        encoder, calls, dynamic_shapes=shapes, recipe=recipe, quantizer=quantizer, progress=progress,
        subset_size=len(calls),
    )  # fmt: skip
    lowered = lower_pt2e_quantized_to_x86(
        quantized, (), example_kwargs=dict(example), dynamic_shapes=shapes, on_fallback=on_fallback, target=target
    )
    stand_in = ProgramOfModel(transformer.model.config, lowered, tuple(example))
    return _with(model, transformer, stand_in)


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
        raise _unreadable(place, "modules.json lists no modules")
    program = load(place / PROGRAM, target=target, num_threads=num_threads)
    modules = [LoweredTransformer.of_folder(place, program), *(_module(one, place) for one in described[1:])]
    kept = {name: settings.get(name) for name in ("prompts", "default_prompt_name", "similarity_fn_name")}
    return SentenceTransformer(modules=modules, device="cpu", **kept)


class ProgramOfModel(nn.Module):
    """Stands where `Transformer` has its model: takes its inputs, gives its last hidden states, float32 [n, t, d].

    `inputs` are the names of the tensors that the program takes, each int64 [n, t]; `file` is where a loaded one lies.
    """

    def __init__(
        self, config: Any, program: LoweredModule | LoadedProgram, inputs: Sequence[str], file: Path | None = None
    ) -> None:
        super().__init__()
        self.config, self.inputs, self.file = config, tuple(inputs), file
        self.__dict__["program"] = program  # no submodule: it has no parameters to be moved, listed or trained

    @property
    def device(self) -> torch.device:
        """Where inputs have to be."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """Of the results."""
        return torch.float32

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None, **others: Any
    ) -> dict[str, Tensor]:
        """Runs the program. Raises InputError for tensors that it was not lowered with."""
        given: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
        given |= {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        unknown = [*(given.keys() - set(self.inputs)), *(k for k, v in others.items() if isinstance(v, Tensor))]
        if unknown or len(given) < len(self.inputs):
            raise InputError(
                f"the tokenizer gave {', '.join(given)}{' and ' * bool(unknown)}{', '.join(unknown)}",
                where="encode",
                fix=f"the model was lowered with {', '.join(self.inputs)}: lower it with the tokenizer it is to have",
            )
        return {_OUTPUT: self.__dict__["program"](**given)}

    def save_pretrained(self, folder: str | os.PathLike[str], **_: Any) -> None:
        """Writes the model's configuration and the program. Raises as `lower86.save` does."""
        place = Path(folder) / PROGRAM
        self.config.save_pretrained(folder)
        if self.file is None:
            save(self.__dict__["program"], place)
        elif not (place.exists() and place.samefile(self.file)):
            try:
                shutil.copyfile(self.file, place)
            except OSError as problem:
                raise ArtifactError(
                    f"the program cannot be copied: {problem.strerror or problem}",
                    where=f"from {self.file} to {place}",
                    fix="keep the folder that it was loaded from, and choose one that can be written to",
                ) from problem


class LoweredTransformer(Transformer):
    """A `Transformer` whose model is a program."""

    _loaded: LoadedProgram | None = None
    """What `_load_model` is to give while `of_folder` loads the rest."""

    @classmethod
    def of(cls, transformer: Transformer, model: ProgramOfModel) -> LoweredTransformer:
        """With a copy of all that another one has but its model."""
        made = cls.__new__(cls)
        copied = copy.deepcopy(transformer, {id(transformer.model): model})
        made.__dict__.update(vars(copied))
        return made

    @classmethod
    def of_folder(cls, folder: Path, program: LoadedProgram) -> LoweredTransformer:
        """With what a saved folder says of tokenizer and configuration. Raises ArtifactError."""

        class Loading(cls):  # type: ignore[misc, valid-type]  # a class that is known only now
            _loaded = program

        try:
            made: LoweredTransformer = Loading.load(str(folder), local_files_only=True)
        except Exception as problem:  # whatever the libraries raise for their files
            raise _unreadable(folder, first_line(problem)) from problem
        made.__class__ = cls
        return made

    def _load_model(self, model_name_or_path: str, transformer_task: Any, config: Any, *_: Any, **__: Any) -> Any:
        file = Path(model_name_or_path) / PROGRAM
        program = self._loaded or load(file)
        return ProgramOfModel(config, program, [one.name for one in program.inputs], file)


class _Encoder(nn.Module):
    """Token ids and mask, each int64 [n, t], to the last hidden states, float32 [n, t, d]."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        kinds = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        hidden: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask, **kinds)[_OUTPUT]
        return hidden


def _checked_texts(sentences: Iterable[str]) -> list[str]:
    where, fix = "sentences", "give a list of texts, such as those that will be encoded"
    if isinstance(sentences, (str, bytes)) or not isinstance(sentences, Iterable):
        raise InputError(f"sentences is a {type(sentences).__name__}, not a collection of texts", where=where, fix=fix)
    texts = list(sentences)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"a {type(text).__name__} is no text", where=f"sentences, item {number}", fix=fix)
    if not texts:
        raise InputError("there are no texts to calibrate with", where=where, fix=fix)
    return texts


def _folder(path: str | os.PathLike[str]) -> SentenceTransformer:
    if not Path(path).is_dir():
        raise InputError(
            f"there is no folder {os.fspath(path)}",
            where="model",
            fix="give a local folder, or load it yourself: lower_sentence_transformer(SentenceTransformer(name), …)",
        )
    return SentenceTransformer(os.fspath(path), device="cpu", local_files_only=True)


def _transformer_of(model: SentenceTransformer) -> Transformer:
    """The first module, if it is one whose model can be lowered. Raises UnsupportedError, Lower86Error."""
    if not isinstance(model, SentenceTransformer):
        raise Lower86Error(f"model is a {type(model).__name__}", where="model", fix="give a SentenceTransformer")
    first = next(iter(model), None)
    what = ""
    if not isinstance(first, Transformer):
        what = f"it begins with a {type(first).__name__}"
    elif isinstance(first, LoweredTransformer):
        what = "it is lowered already"
    elif first.backend != "torch":
        what = f"its backend is {first.backend}"
    else:
        text: Mapping[str, Any] = first.modality_config.get("text", {})
        if (text.get("method"), text.get("method_output_name")) not in (("forward", _OUTPUT), ("forward", (_OUTPUT,))):
            what = "its embeddings are not the last hidden states of a forward call for text"
        elif getattr(first.config, "output_hidden_states", False):
            what = "it gives the hidden states of all layers"
        else:
            return cast(Transformer, first)
    raise UnsupportedError(
        f"the model cannot be lowered: {what}",
        where="model",
        fix="give a SentenceTransformer of a text encoder in PyTorch, as SentenceTransformer(name) loads it",
    )


def _calls(transformer: Transformer, texts: Sequence[str]) -> list[dict[str, Tensor]]:
    """The model's inputs for all texts, as `encode` would have them: sorted by length, padded to the longest."""
    ordered = sorted(texts, key=len, reverse=True)
    calls = []
    for start in range(0, len(ordered), _TEXTS_A_CALL):
        features = transformer.preprocess(ordered[start : start + _TEXTS_A_CALL])
        taken = {name: features[name] for name in _INPUTS if name in features}
        others = [name for name, value in features.items() if isinstance(value, Tensor) and name not in taken]
        if others or len(taken) < 2:
            raise UnsupportedError(
                f"the model takes {', '.join([*taken, *others])}",
                where="model",
                fix=f"only models that take no more than {', '.join(_INPUTS)} can be lowered so",
            )
        calls.append(taken)
    return calls


def _most_tokens(transformer: Transformer) -> int:
    known = (transformer.max_seq_length, getattr(transformer.config, "max_position_embeddings", None))
    bounds = [most for most in known if most is not None and 0 < most < 1 << 20]
    if bounds:
        return min(bounds)
    raise UnsupportedError(
        "neither the tokenizer nor the model says how many tokens a text may have",
        where="model",
        fix="set model.max_seq_length, such as to 512",
    )


def _with(model: SentenceTransformer, transformer: Transformer, stand_in: ProgramOfModel) -> SentenceTransformer:
    """A copy of a model with another first module."""
    replaced = LoweredTransformer.of(transformer, stand_in)
    return copy.deepcopy(model, {id(transformer): replaced}).eval()


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise _unreadable(path.parent, f"{path.name} cannot be read: {problem}") from problem


def _module(described: Mapping[str, Any], folder: Path) -> nn.Module:
    """A module after the first. Raises ArtifactError."""
    kind, path = _module_class(described, folder), str(described.get("path", ""))
    if Path(path).name != path:
        raise _unreadable(folder, f"modules.json names the folder {path!r}")
    try:
        module: nn.Module = kind.load(str(folder), subfolder=path, local_files_only=True)
    except Exception as problem:  # whatever the library raises for its files
        raise _unreadable(folder, f"{path} cannot be read: {first_line(problem)}") from problem
    return module


def _module_class(described: Mapping[str, Any], folder: Path) -> Any:
    """The class of a module of `modules.json`. It has to be the library's own: others are code of whoever wrote it."""
    module, _, name = str(described.get("type", "")).rpartition(".")
    if module.partition(".")[0] == "sentence_transformers":
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as problem:
            raise _unreadable(folder, f"there is no {module}.{name}") from problem
        if isinstance(found, type) and issubclass(found, nn.Module) and hasattr(found, "load"):
            return found
    raise _unreadable(folder, f"modules.json names {module}.{name}, which is no module of Sentence Transformers")


def _unreadable(folder: Path, what: str) -> ArtifactError:
    return ArtifactError(
        what, where=os.fspath(folder), fix="save the model again: lower_sentence_transformer(…).save_pretrained(folder)"
    )
