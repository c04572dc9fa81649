"""OpenVINO with NNCF's post-training quantization, compiled for latency."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule

from .peer import Inputs, Run, Work

PACKAGES = ("openvino", "nncf")


def quantized_openvino(work: Work) -> Any:
    """OpenVINO's model after NNCF, for transformers where there is attention."""
    import nncf
    import openvino

    example = work.inputs[0]
    shapes = [tuple(tensor.shape) for tensor in example]
    if any(isinstance(part, GraphModule) for part in work.model.modules()):  # which it cannot trace
        with torch.no_grad():
            converted = openvino.convert_model(torch.export.export(work.model, example))
    else:
        converted = openvino.convert_model(work.model, example_input=example, input=shapes)
    data = nncf.Dataset([tuple(tensor.numpy() for tensor in inputs) for inputs in work.calibration])
    kind = nncf.ModelType.TRANSFORMER if work.is_transformer else None
    return nncf.quantize(converted, data, model_type=kind, subset_size=len(work.calibration))


def openvino_int8(work: Work, threads: int) -> Run:
    """One request, called again and again."""
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(quantized_openvino(work), "CPU", settings)
    request, count = compiled.create_infer_request(), len(compiled.outputs)

    def run(inputs: Inputs) -> Any:
        results = request.infer([tensor.numpy() for tensor in inputs])
        if count == 1:
            return torch.from_numpy(results[0])
        return tuple(torch.from_numpy(results[i]) for i in range(count))

    return run
