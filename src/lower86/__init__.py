"""lower86: int8 inference for PyTorch models on x86, in machine code made for the model and the CPU.

Names are imported when they are first used, so that what needs no torch (`lower86.runtime`) comes without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import artifact
    from .artifact.load import load
    from .artifact.save import save
    from .codegen.target import Target
    from .debugger.compare import compare
    from .errors import (
        ArtifactError,
        ExportError,
        FallbackError,
        GraphError,
        InputError,
        Lower86Error,
        Lower86Warning,
        TargetError,
        UnsupportedError,
    )
    from .frontend.configuration import QuantizationConfig
    from .frontend.quantizer import X86Quantizer
    from .lowered import LoweredModule
    from .lowering import lower_pt2e_quantized_to_x86
    from .peers.compare import benchmark_peers
    from .quantization.qat import convert, prepare_qat
    from .quantization.quantize import quantize
    from .quantization.recipe import Recipe
    from .report.benchmark import benchmark
    from .report.comparison import Comparison
    from .report.explain import explain
    from .report.page.write import write_report
    from .report.profile import profile
    from .runtime.threads import set_num_threads
    from .tuning.accuracy_control import quantize_with_accuracy_control
    from .tuning.report import AccuracyReport

__all__ = [
    "AccuracyReport",
    "ArtifactError",
    "Comparison",
    "ExportError",
    "FallbackError",
    "GraphError",
    "InputError",
    "Lower86Error",
    "Lower86Warning",
    "LoweredModule",
    "QuantizationConfig",
    "Recipe",
    "Target",
    "TargetError",
    "UnsupportedError",
    "X86Quantizer",
    "artifact",
    "benchmark",
    "benchmark_peers",
    "compare",
    "convert",
    "explain",
    "load",
    "lower_pt2e_quantized_to_x86",
    "prepare_qat",
    "profile",
    "quantize",
    "quantize_with_accuracy_control",
    "save",
    "set_num_threads",
    "write_report",
]

_HOMES = {
    "AccuracyReport": "tuning.report",
    "Comparison": "report.comparison",
    "LoweredModule": "lowered",
    "QuantizationConfig": "frontend.configuration",
    "Recipe": "quantization.recipe",
    "Target": "codegen.target",
    "benchmark": "report.benchmark",
    "benchmark_peers": "peers.compare",
    "compare": "debugger.compare",
    "convert": "quantization.qat",
    "explain": "report.explain",
    "load": "artifact.load",
    "lower_pt2e_quantized_to_x86": "lowering",
    "prepare_qat": "quantization.qat",
    "profile": "report.profile",
    "quantize": "quantization.quantize",
    "quantize_with_accuracy_control": "tuning.accuracy_control",
    "save": "artifact.save",
    "X86Quantizer": "frontend.quantizer",
    "set_num_threads": "runtime.threads",
    "write_report": "report.page.write",
}
"""The module of each public name that is not an error."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "artifact":
        return importlib.import_module(".artifact", __name__)
    try:
        value = getattr(importlib.import_module(f".{_HOMES.get(name, 'errors')}", __name__), name)
    except ModuleNotFoundError as problem:
        if problem.name not in ("torch", "torchao"):
            raise
        message = f"lower86.{name} needs {problem.name}: pip install 'lower86[torch]'"
        raise ModuleNotFoundError(message, name=problem.name) from problem
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
