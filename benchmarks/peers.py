"""lower86 and its peers: the same float model, the same calibration data, int8 each in its own best way.

A peer is made from a case and gives a function from inputs to the result as a float32 tensor. Peers whose packages are
missing are named, not skipped in silence: `make bench PEERS=1` installs them all.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import Case, Inputs
from torch import Tensor
from torch.fx import GraphModule

Run = Callable[[Inputs], Tensor]


class Unsuited(Exception):
    """Why a contender cannot take part in a case."""


@dataclass(frozen=True)
class Peer:
    """How to make a contender, of the case and its PT2E-quantized model; which packages that takes."""

    make: Callable[[Case, GraphModule, int], Run]
    packages: tuple[str, ...] = ()


def quantized(case: Case, quantizer: Any = None) -> GraphModule:
    """The model as torchao's PT2E flow leaves it: what lower86, Inductor and torchao's lowering start from."""
    import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as xiq
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    if quantizer is None:
        quantizer = xiq.X86InductorQuantizer().set_global(xiq.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(torch.export.export(case.model, case.inputs[0], strict=True).module(), quantizer)
    with torch.no_grad():
        for inputs in case.calibration:
            prepared(*inputs)
    result = convert_pt2e(prepared)
    assert isinstance(result, GraphModule)
    return result


def _module(model: Any) -> Run:
    def run(inputs: Inputs) -> Tensor:
        with torch.no_grad():
            result: Tensor = model(*inputs)
        return result

    return run


def _lower86(case: Case, model: GraphModule, threads: int) -> Run:
    """Quantized by its own quantizer where torchao's leaves things in float: transposed convolutions, attention."""
    import lower86

    own = case.has_transposed or case.is_transformer
    return _lowered(case, quantized(case, lower86.X86Quantizer()) if own else model)


def _lowered(case: Case, model: GraphModule) -> Run:
    import lower86

    wanted = _int8_macs(case, model)
    lowered = lower86.lower_pt2e_quantized_to_x86(model, case.inputs[0])
    done = sum(operator.macs for operator in lower86.explain(lowered).operators if operator.is_int8)
    if done != wanted:
        raise RuntimeError(f"{case.name}: {done} multiply-accumulates in int8 of the {wanted} that its graph asks for")
    return _module(lowered)


def _int8_macs(case: Case, model: GraphModule) -> int:
    from tests.models.counting import int8_macs

    wanted = sum(int8_macs(model, *case.inputs[0]).values())
    if not wanted:
        raise Unsuited("torchao's quantizer leaves all of it in float")
    return wanted


def _torchao(case: Case, model: GraphModule, threads: int) -> Run:
    from torchao.quantization.pt2e.lowering import lower_pt2e_quantized_to_x86

    _int8_macs(case, model)
    return _module(lower_pt2e_quantized_to_x86(model, case.inputs[0]))


def _inductor(case: Case, model: GraphModule, threads: int) -> Run:
    _int8_macs(case, model)
    torch.compiler.reset()
    torch._inductor.config.freezing = True
    return _module(torch.compile(model))


def openvino_int8(case: Case) -> Any:
    """OpenVINO's model after NNCF's post-training quantization, for transformers where there is attention."""
    import nncf
    import openvino as ov

    example = case.inputs[0]
    converted = ov.convert_model(case.model, example_input=example, input=[tuple(t.shape) for t in example])
    data = nncf.Dataset([tuple(t.numpy() for t in inputs) for inputs in case.calibration])
    kind = nncf.ModelType.TRANSFORMER if case.is_transformer else None
    return nncf.quantize(converted, data, model_type=kind, subset_size=len(case.calibration))


def _openvino(case: Case, model: GraphModule, threads: int) -> Run:
    """Compiled for latency."""
    import openvino as ov

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    request = ov.Core().compile_model(openvino_int8(case), "CPU", settings).create_infer_request()

    def run(inputs: Inputs) -> Tensor:
        return torch.from_numpy(request.infer([t.numpy() for t in inputs])[0])

    return run


def onnx_int8(case: Case, static: bool, path: Path) -> list[str]:
    """Writes ONNX Runtime's quantized model to `path`; gives the names of its inputs."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    names = [f"x{i}" for i in range(len(case.inputs[0]))]

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._rest = iter(case.calibration)

        def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
            inputs = next(self._rest, None)
            return None if inputs is None else dict(zip(names, (t.numpy() for t in inputs), strict=True))

    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{stage}.onnx") for stage in ("float", "shaped")]
        torch.onnx.export(
            case.model, case.inputs[0], paths[0], input_names=names, dynamo=True, external_data=False, verbose=False
        )
        quant_pre_process(paths[0], paths[1], skip_symbolic_shape=True)
        if static:
            # Of transformers, products only: what lies between them is faster in float. Of convolutions, all there is.
            kinds = None if case.is_convolutional else ["MatMul", "Gemm"]
            quantize_static(
                paths[1], str(path), Reader(), per_channel=True, activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8, op_types_to_quantize=kinds,
            )  # fmt: skip
        else:
            quantize_dynamic(paths[1], str(path), per_channel=True, weight_type=QuantType.QInt8)
    return names


def _onnxruntime(case: Case, static: bool, threads: int) -> Run:
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        names = onnx_int8(case, static, path)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(inputs: Inputs) -> Tensor:
        feed = dict(zip(names, (t.numpy() for t in inputs), strict=True))
        return torch.from_numpy(session.run(None, feed)[0])

    return run


_ORT = ("onnxruntime", "onnx", "onnxscript")
PEERS: Mapping[str, Peer] = {
    "lower86": Peer(_lower86),
    "lower86 (torchao)": Peer(lambda case, model, _: _lowered(case, model)),
    "OpenVINO int8": Peer(_openvino, ("openvino", "nncf")),
    "ONNX Runtime static": Peer(lambda case, _, threads: _onnxruntime(case, True, threads), _ORT),
    "ONNX Runtime dynamic": Peer(lambda case, _, threads: _onnxruntime(case, False, threads), _ORT),
    "Inductor int8": Peer(_inductor),
    "torchao lowering": Peer(_torchao),
    "PyTorch fp32": Peer(lambda case, *_: _module(case.model)),
}


def missing(peer: Peer) -> list[str]:
    """The packages that a peer needs and that are not installed."""
    return [package for package in peer.packages if importlib.util.find_spec(package) is None]
