"""`lower_sentence_transformer`: the model within one quantized, lowered, and put in its place."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from torch import Tensor, nn

from ...codegen.target import Target
from ...errors import InputError, Lower86Error, UnsupportedError
from ...lowering import lower_pt2e_quantized_to_x86
from ...quantization.quantize import quantize
from ...quantization.recipe import Recipe
from .modules import OUTPUT, LoweredTransformer, ProgramOfModel

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
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


class _Encoder(nn.Module):
    """Token ids and mask, each int64 [n, t], to the last hidden states, float32 [n, t, d]."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        kinds = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        hidden: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask, **kinds)[OUTPUT]
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
        if (text.get("method"), text.get("method_output_name")) not in (("forward", OUTPUT), ("forward", (OUTPUT,))):
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
