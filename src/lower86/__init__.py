"""lower86: int8 inference for PyTorch models on x86, in machine code made for the model and the CPU."""

from __future__ import annotations

from .codegen.target import Target
from .errors import (
    ExportError,
    FallbackError,
    GraphError,
    InputError,
    Lower86Error,
    Lower86Warning,
    TargetError,
    UnsupportedError,
)
from .lowered import LoweredModule
from .lowering import lower_pt2e_quantized_to_x86
from .report.explain import explain
from .runtime.threads import set_num_threads

__all__ = [
    "ExportError",
    "FallbackError",
    "GraphError",
    "InputError",
    "LoweredModule",
    "Lower86Error",
    "Lower86Warning",
    "Target",
    "TargetError",
    "UnsupportedError",
    "explain",
    "lower_pt2e_quantized_to_x86",
    "set_num_threads",
]
