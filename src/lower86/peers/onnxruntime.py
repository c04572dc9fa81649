"""ONNX Runtime, exported by PyTorch and quantized by its own tools: statically, or with scales found at run time."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from .peer import Inputs, Run, Work

PACKAGES = ("onnxruntime", "onnx", "onnxscript")


def write_onnx_int8(work: Work, static: bool, path: Path) -> list[str]:
    """Writes ONNX Runtime's quantized model to `path`; gives the names of its inputs."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    names = [f"x{i}" for i in range(len(work.inputs[0]))]

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self._rest = iter(work.calibration)

        def get_next(self) -> dict[str, Any] | None:
            inputs = next(self._rest, None)
            return None if inputs is None else _feed(names, inputs)

    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{stage}.onnx") for stage in ("float", "shaped")]
        torch.onnx.export(
            work.model, work.inputs[0], paths[0], input_names=names, dynamo=True, external_data=False, verbose=False
        )
        quant_pre_process(paths[0], paths[1], skip_symbolic_shape=True)
        if static:
            # Of transformers, products only: what lies between them is faster in float. Of convolutions, all there is.
            kinds = None if work.is_convolutional else ["MatMul", "Gemm"]
            quantize_static(
                paths[1], str(path), Reader(), per_channel=True, activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8, op_types_to_quantize=kinds,
            )  # fmt: skip
        else:
            quantize_dynamic(paths[1], str(path), per_channel=True, weight_type=QuantType.QInt8)
    return names


def onnxruntime_static(work: Work, threads: int) -> Run:
    """Scales from calibration."""
    return _session(work, True, threads)


def onnxruntime_dynamic(work: Work, threads: int) -> Run:
    """Scales from each input."""
    return _session(work, False, threads)


def _feed(names: list[str], inputs: Inputs) -> dict[str, Any]:
    return dict(zip(names, (tensor.numpy() for tensor in inputs), strict=True))


def _session(work: Work, static: bool, threads: int) -> Run:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        names = write_onnx_int8(work, static, path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(inputs: Inputs) -> Any:
        results = session.run(None, _feed(names, inputs))
        return torch.from_numpy(results[0]) if len(results) == 1 else tuple(map(torch.from_numpy, results))

    return run
