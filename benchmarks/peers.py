"""The same encoder in other runtimes, as far as they are installed (`pip install openvino nncf`).

Each function takes the float encoder, tokens to calibrate with, and one example; it returns a callable that encodes the
example, and its result as a tensor.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

Tokens = tuple[torch.Tensor, torch.Tensor]
Call = Callable[[], Any]
Contender = tuple[Call, torch.Tensor]


def openvino_int8(encoder: torch.nn.Module, calibration: Sequence[Tokens], example: Tokens, threads: int) -> Contender:
    """NNCF's post-training quantization for transformers, compiled for latency."""
    import nncf
    import openvino as ov

    model = ov.convert_model(encoder, example_input=example, input=[tuple(t.shape) for t in example])
    data = nncf.Dataset([tuple(t.numpy() for t in tokens) for tokens in calibration])
    quantized = nncf.quantize(model, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(calibration))
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    request = ov.Core().compile_model(quantized, "CPU", settings).create_infer_request()
    arrays = [t.numpy() for t in example]

    def call() -> Any:
        return request.infer(arrays)[0]

    return call, torch.from_numpy(np.array(call()))


PEERS: dict[str, tuple[str, Callable[..., Contender]]] = {"OpenVINO int8": ("openvino", openvino_int8)}


def installed() -> dict[str, Callable[..., Contender]]:
    """The peers whose packages are there."""
    return {name: make for name, (package, make) in PEERS.items() if importlib.util.find_spec(package)}
