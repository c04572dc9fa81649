"""The module that takes the place of a `Transformer`, and the program that takes the place of its model."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers.base.modules import Transformer
from torch import Tensor, nn

from ...artifact.load import load
from ...artifact.loaded import LoadedProgram
from ...artifact.save import save
from ...errors import ArtifactError, InputError, first_line
from ...lowered import LoweredModule

PROGRAM = "lower86.safetensors"
"""The program's file in a saved folder, beside the tokenizer's and the pooling's."""
OUTPUT = "last_hidden_state"
"""What the model's result has the token embeddings as."""


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
        return {OUTPUT: self.__dict__["program"](**given)}

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
            raise unreadable(folder, first_line(problem)) from problem
        made.__class__ = cls
        return made

    def _load_model(self, model_name_or_path: str, transformer_task: Any, config: Any, *_: Any, **__: Any) -> Any:
        file = Path(model_name_or_path) / PROGRAM
        program = self._loaded or load(file)
        return ProgramOfModel(config, program, [one.name for one in program.inputs], file)


def unreadable(folder: Path, what: str) -> ArtifactError:
    """The error for a folder that `save_pretrained` has not left like this."""
    return ArtifactError(
        what, where=os.fspath(folder), fix="save the model again: lower_sentence_transformer(…).save_pretrained(folder)"
    )
