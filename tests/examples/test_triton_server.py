"""The model for Triton's Python backend, with the part of the backend's interface that it uses."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lower86
from tests.examples.conftest import EXAMPLES, WORDS

FOLDER = EXAMPLES / "triton_server" / "minilm"
NAMES = ("input_ids", "attention_mask", "token_type_ids")


class Tensor:
    """As the backend has it: no strings of NumPy's own, and contiguous memory."""

    def __init__(self, name: str, array: np.ndarray) -> None:
        assert isinstance(array, np.ndarray)
        assert array.dtype.kind in "biufO"
        self._name, self._array = name, np.ascontiguousarray(array)

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray:
        return self._array


class TritonError:
    INVALID_ARG = 4

    def __init__(self, msg: str, code: int = 2) -> None:
        self._msg, self._code = msg, code

    def message(self) -> str:
        return self._msg

    def code(self) -> int:
        return self._code


class TritonModelException(Exception):
    pass


class InferenceRequest:
    def __init__(self, inputs: list[Tensor]) -> None:
        self._inputs = inputs

    def inputs(self) -> list[Tensor]:
        return self._inputs


class InferenceResponse:
    def __init__(self, output_tensors: list[Tensor], error: TritonError | None = None) -> None:
        assert type(output_tensors) is list
        self._tensors, self._error = output_tensors, error

    def output_tensors(self) -> list[Tensor]:
        return self._tensors

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> TritonError | None:
        return self._error


def get_input_tensor_by_name(request: InferenceRequest, name: str) -> Tensor | None:
    return next((tensor for tensor in request.inputs() if tensor.name() == name), None)


INTERFACE = (Tensor, TritonError, TritonModelException, InferenceRequest, InferenceResponse, get_input_tensor_by_name)


@pytest.fixture(scope="module")
def module() -> Any:
    interface = types.ModuleType("triton_python_backend_utils")
    vars(interface).update({one.__name__: one for one in INTERFACE})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, interface.__name__, interface)
        spec = importlib.util.spec_from_file_location("triton_model", FOLDER / "1" / "model.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


CONFIG = {
    "max_batch_size": 64,
    "input": [{"name": name, "data_type": "TYPE_INT64", "dims": [-1]} for name in NAMES],
    "output": [{"name": "output", "data_type": "TYPE_FP32", "dims": [-1, 16]}],
    "parameters": {"threads": {"string_value": "1"}},
}


def begun(module: Any, folder: Path, **changes: Any) -> Any:
    (folder / "1").mkdir(exist_ok=True)
    model = module.TritonPythonModel()
    arguments = {"model_config": json.dumps(CONFIG | changes), "model_repository": str(folder), "model_version": "1"}
    model.initialize({**arguments, "model_instance_kind": "CPU", "model_name": "minilm"})
    return model


@pytest.fixture(scope="module")
def repository(encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triton")
    (folder / "1").mkdir()
    (folder / "1" / "lower86.safetensors").symlink_to(encoder_folder / "lower86.safetensors")
    return folder


@pytest.fixture
def model(module: Any, repository: Path) -> Any:
    return begun(module, repository)


def inputs(rows: int, tokens: int, dtype: Any = np.int64) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(rows * 100 + tokens).integers(1, len(WORDS), (rows, tokens), dtype)
    return dict(zip(NAMES, (ids, np.ones_like(ids), np.zeros_like(ids)), strict=True))


def request(arrays: dict[str, np.ndarray]) -> InferenceRequest:
    return InferenceRequest([Tensor(name, array) for name, array in reversed(arrays.items())])


def counted(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each call of the program."""
    calls: list[int] = []
    run = model.program.run
    monkeypatch.setattr(model.program, "run", lambda given: calls.append(len(given["input_ids"])) or run(given))
    return calls


def test_requests_of_one_length_are_one_call(model: Any, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = lower86.load(repository / "1" / "lower86.safetensors")
    calls = counted(model, monkeypatch)
    given = [inputs(*shape) for shape in ((1, 7), (3, 5), (2, 7), (1, 7), (5, 24))]
    responses = model.execute([request(arrays) for arrays in given])
    assert sorted(calls) == [3, 4, 5]
    for arrays, response in zip(given, responses, strict=True):
        assert not response.has_error()
        (tensor,) = response.output_tensors()
        assert tensor.name() == "output"
        assert np.array_equal(tensor.as_numpy(), program.run(arrays)["output"])


def test_a_bad_request_is_an_error_of_its_own(model: Any) -> None:
    good, outside = inputs(2, 7), inputs(1, 7)
    outside["input_ids"][0, 3] = len(WORDS)
    uneven = inputs(2, 7) | {"attention_mask": np.ones((3, 7), np.int64)}
    partial = {name: array for name, array in good.items() if name != "attention_mask"}
    flat = {name: np.ones((), np.int64) for name in NAMES}
    bad = [outside, uneven, partial, inputs(1, 25), inputs(1, 7, np.int32), flat, inputs(65, 7)]
    responses = model.execute([request(arrays) for arrays in (good, *bad, good)])
    assert [response.has_error() for response in responses] == [False, *[True] * len(bad), False]
    for response in responses[1:-1]:
        assert response.error().code() == TritonError.INVALID_ARG
        assert response.error().message()
    assert "attention_mask is missing" in responses[3].error().message()
    first, last = (response.output_tensors()[0].as_numpy() for response in (responses[0], responses[-1]))
    assert np.array_equal(first, last)
    assert model.execute([]) == []


def test_without_batches_every_request_is_a_call(
    module: Any, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = begun(module, repository, max_batch_size=0)
    calls = counted(model, monkeypatch)
    assert not any(r.has_error() for r in model.execute([request(inputs(2, 7)) for _ in range(3)]))
    assert calls == [2, 2, 2]


def test_a_model_that_cannot_be_served_does_not_load(module: Any, repository: Path, tmp_path: Path) -> None:
    with pytest.raises(TritonModelException, match="inputs"):
        begun(module, repository, input=CONFIG["input"][:2])
    with pytest.raises(TritonModelException, match="outputs"):
        begun(module, repository, output=[{"name": "vectors"}])
    with pytest.raises(lower86.InputError):
        begun(module, repository, parameters={"threads": {"string_value": "0"}})
    with pytest.raises(lower86.ArtifactError):
        begun(module, tmp_path)


def test_the_configuration_names_what_the_encoder_has() -> None:
    text = (FOLDER / "config.pbtxt").read_text(encoding="utf-8")
    assert re.findall(r'^name: "(\w+)"', text, re.MULTILINE) == [FOLDER.name]
    assert re.findall(r'{ name: "(\w+)"', text) == [*NAMES, "output"]
    assert text.count("{") == text.count("}")
    assert text.count("[") == text.count("]")
    assert 'backend: "python"' in text
    assert re.findall(r'key: "(\w+)", value: { string_value: "1" }', text) == ["threads"]
