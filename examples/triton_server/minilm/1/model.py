"""A saved model behind Triton's Python backend. NumPy and lower86 are all it needs where Triton runs; no PyTorch.

The program's file lies beside this one; it is what a saved SentenceTransformer has (docs/how-to/serving.md), or what
`lower86.save` wrote of any other model whose inputs and outputs config.pbtxt then names:

    cp minilm-int8/lower86.safetensors examples/triton_server/minilm/1/
    tritonserver --model-repository examples/triton_server

Triton hands over several requests at a time. Those whose shapes differ in the first dim alone run as one call.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

import lower86

PROGRAM = "lower86.safetensors"


class TritonPythonModel:
    """What Triton looks for by this name: one instance a process, called by one thread."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Loads the program. Whatever this raises, Triton reports, and does not serve the model."""
        config = json.loads(args["model_config"])
        threads = int(config.get("parameters", {}).get("threads", {}).get("string_value", "1"))
        file = Path(args["model_repository"]) / args["model_version"] / PROGRAM
        self.program = lower86.load(file, num_threads=threads)
        for kind, specs in (("input", self.program.inputs), ("output", self.program.outputs)):
            named, needed = {one["name"] for one in config[kind]}, {spec.name for spec in specs if spec.dtype}
            if not (named == needed if kind == "input" else named <= needed):
                raise pb_utils.TritonModelException(f"config.pbtxt names {kind}s {named}, the program has {needed}")
        self.outputs = [one["name"] for one in config["output"]]
        self.joins = config.get("max_batch_size", 0) > 0 and all(
            not spec.dtype or (spec.shape and isinstance(spec.shape[0], str))
            for spec in (*self.program.inputs, *self.program.outputs)
        )

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """A response for each request, in order. Raises nothing: what is wrong with a request is its own error."""
        responses: list[Any] = [None] * len(requests)
        taken: dict[int, dict[str, Any]] = {}
        for number, request in enumerate(requests):
            tensors = {s.name: pb_utils.get_input_tensor_by_name(request, s.name) for s in self.program.inputs}
            missing = [name for name, tensor in tensors.items() if tensor is None]
            if missing:
                responses[number] = _refused(f"{', '.join(missing)} is missing")
            else:
                taken[number] = {name: tensor.as_numpy() for name, tensor in tensors.items()}
        for _, group in groupby(sorted(taken, key=lambda i: _kind(taken[i])), key=lambda i: _kind(taken[i])):
            numbers = list(group)
            answers = self._answers([taken[number] for number in numbers])
            for number, answer in zip(numbers, answers, strict=True):
                responses[number] = answer
        return responses

    def _answers(self, calls: Sequence[dict[str, Any]]) -> list[Any]:
        """The responses to requests of one kind."""
        if len(calls) == 1 or not self.joins:
            return [self._answer(call) for call in calls]
        joined = {name: np.concatenate([call[name] for call in calls]) for name in calls[0]}
        try:
            results = self.program.run(joined)
        except lower86.InputError:  # of one of them, which must not spoil the others
            return [self._answer(call) for call in calls]
        ends = np.cumsum([len(next(iter(call.values()))) for call in calls])[:-1]
        parts = {name: np.split(results[name], ends) for name in self.outputs}
        return [self._response({name: parts[name][i] for name in parts}) for i in range(len(calls))]

    def _answer(self, call: dict[str, Any]) -> Any:
        try:
            return self._response(self.program.run(call))
        except lower86.InputError as problem:
            return _refused(str(problem))

    def _response(self, results: Mapping[str, Any]) -> Any:
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, results[name]) for name in self.outputs])


def _kind(call: Mapping[str, Any]) -> str:
    """Equal for requests that can be one call."""
    return str([(name, array.dtype.str, array.ndim, array.shape[1:]) for name, array in call.items()])


def _refused(what: str) -> Any:
    return pb_utils.InferenceResponse([], pb_utils.TritonError(what, pb_utils.TritonError.INVALID_ARG))
