"""A kernel description to machine code: the name of its function, its LLVM assembly, its object code."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import GraphError
from ..program.kernels import Attention, Contraction, Depthwise, Fill, Interleave, Kernel, Pointwise, Rows
from ..program.layout import layout_of
from . import llvm
from .attention import emit_attention
from .builder import Module
from .contraction import emit_contraction
from .depthwise import emit_depthwise
from .fill import emit_fill
from .frame import Frame
from .int8_attention import emit_int8_attention
from .interleave import emit_interleave
from .isa import ISAS
from .pointwise import emit_pointwise
from .rows import emit_rows
from .target import Target


def _emit_attention(frame: Frame, kernel: Attention) -> None:
    (emit_int8_attention if kernel.integers else emit_attention)(frame, kernel)


_EMITTERS: Mapping[type[Any], Callable[..., None]] = {
    Pointwise: emit_pointwise,
    Interleave: emit_interleave,
    Rows: emit_rows,
    Contraction: emit_contraction,
    Attention: _emit_attention,
    Depthwise: emit_depthwise,
    Fill: emit_fill,
}


def kernel_name(kernel: Kernel) -> str:
    """A name for the kernel's function, the same for equal kernels and different for others."""
    digest = hashlib.sha256(repr(kernel).encode()).hexdigest()[:32]
    return f"{type(kernel).__name__.lower()}_{digest}"


def llvm_text(kernel: Kernel, level: str, bf16_dots: bool = False) -> str:
    """The kernel as LLVM assembly, for a target of this level, which may multiply pairs of bf16."""
    emit = _EMITTERS.get(type(kernel))
    if emit is None:
        raise GraphError(f"no code generator for a kernel of type {type(kernel).__name__}")
    name = kernel_name(kernel)
    module = Module(name, dataclasses.replace(ISAS[level], bf16_dots=bf16_dots))
    emit(Frame(module, name, layout_of(kernel)), kernel)
    return module.text()


def compile_kernel(kernel: Kernel, target: Target) -> bytes:
    """Object code that defines `kernel_name(kernel)`."""
    text = llvm_text(kernel, target.level, target.has_bf16_dots)
    return llvm.object_code(text, target.cpu, target.features)
