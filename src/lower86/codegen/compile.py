"""A kernel description to machine code: the name of its function, its argument layout, its LLVM assembly."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import GraphError
from ..program.body import Node, Store
from ..program.kernels import (
    ATTENTION_PARAMS,
    Attention,
    Contraction,
    Depthwise,
    Fill,
    Interleave,
    Kernel,
    Left,
    Pack,
    Pointwise,
    Right,
    Rows,
)
from ..program.sizes import FloorDiv, SizeExpr, names
from . import llvm
from .attention import emit_attention
from .builder import Module
from .contraction import emit_contraction
from .depthwise import emit_depthwise
from .fill import emit_fill
from .frame import Frame, Layout
from .int8_attention import emit_int8_attention
from .interleave import emit_interleave
from .isa import ISAS
from .pack import emit_pack
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
    Pack: emit_pack,
    Fill: emit_fill,
}


def layout_of(kernel: Kernel) -> Layout:
    """The slots, dims and params that a kernel names, found by walking its description."""
    slots, params, dims = [0], [0], dict[str, None]()

    def walk(part: object) -> None:
        if isinstance(part, SizeExpr):
            dims.update(dict.fromkeys(names(part)))
        elif isinstance(part, tuple):
            for item in part:
                walk(item)
        elif dataclasses.is_dataclass(part) and not isinstance(part, FloorDiv):
            if isinstance(part, Node) and part.op in ("load", "gather"):
                slots.append(part.number + 1)
            elif isinstance(part, Node) and part.op == "param":
                params.append(part.number + 1)
            elif isinstance(part, (Store, Left, Right)):
                slots.append(part.slot + 1)
            elif isinstance(part, Contraction) and not part.is_float:
                slots.append(part.start + 1)
            elif isinstance(part, Depthwise):
                slots.extend([part.weight + 1, *([part.start + 1] if not part.is_float else [])])
            elif isinstance(part, Fill):
                slots.append(part.slot + 1)
                params.append(1)
            elif isinstance(part, Pack):
                slots.append(5 if part.rows is not None else 3)
                params.append(2)
            elif isinstance(part, Attention):
                slots.append(3)
                params.append(len(ATTENTION_PARAMS) if part.integers else 1)
            for field in dataclasses.fields(part):
                walk(getattr(part, field.name))

    walk(kernel)
    return Layout(max(slots), tuple(sorted(dims)), max(params))


def kernel_name(kernel: Kernel) -> str:
    """A name for the kernel's function, the same for equal kernels and different for others."""
    digest = hashlib.sha256(repr(kernel).encode()).hexdigest()[:16]
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
