"""torch's sizes, dtypes and example tensors in the Program's terms."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import GraphError
from ..program.sizes import FloorDiv, Size, SizeExpr, dim_atom

DTYPE_NAMES = {
    torch.float32: "f32",
    torch.float64: "f64",
    torch.bfloat16: "bf16",
    torch.float16: "f16",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.int16: "i16",
    torch.int8: "i8",
    torch.uint8: "u8",
    torch.bool: "bool",
}
"""What kernels load and store."""
TORCH_DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}

_CARRIERS = {
    torch.uint16: "i16",
    torch.uint32: "i32",
    torch.uint64: "i64",
    torch.complex64: "i64",
}
"""Dtypes that only foreign steps compute with: a program moves their bits as integers of the same size."""


def storage_of(dtype: torch.dtype) -> str | None:
    """The program's dtype whose elements hold a tensor's bits, or None if there is none."""
    return DTYPE_NAMES.get(dtype) or _CARRIERS.get(dtype)


def to_size(size: Any) -> Size:
    """An int or SymInt as a Size. Raises GraphError for arithmetic that sizes cannot express."""
    if isinstance(size, int):
        return size
    return from_expression(size.node.expr)


def to_sizes(sizes: Any) -> tuple[Size, ...]:
    """`to_size` of each."""
    return tuple(to_size(size) for size in sizes)


def most(size: Any) -> int | None:
    """The largest that an int or SymInt can be in any call, or None if there is no bound."""
    if isinstance(size, int):
        return size
    upper = size.node.shape_env.bound_sympy(size.node.expr).upper
    return int(upper) if upper.is_Integer else None


def from_expression(expression: Any) -> Size:
    """A sympy expression of dims as a Size. Raises GraphError for arithmetic that sizes cannot express."""
    if expression.is_Integer:
        return int(expression)
    if expression.is_Symbol:
        return dim_atom(str(expression))
    name = type(expression).__name__
    if name in ("Add", "Mul"):
        parts = [from_expression(part) for part in expression.args]
        total = parts[0]
        for part in parts[1:]:
            total = total + part if name == "Add" else total * part
        return total
    if name == "Pow" and expression.args[1].is_Integer and int(expression.args[1]) > 0:
        base = from_expression(expression.args[0])
        power: Size = 1
        for _ in range(int(expression.args[1])):
            power = power * base
        return power
    if name == "FloorDiv":
        top, bottom = (from_expression(part) for part in expression.args)
        return top // bottom if isinstance(top, SizeExpr) else dim_atom(FloorDiv(_as_expression(top), bottom))
    if name in ("Mod", "PythonMod"):
        top, bottom = (from_expression(part) for part in expression.args)
        quotient = top // bottom if isinstance(top, SizeExpr) else dim_atom(FloorDiv(_as_expression(top), bottom))
        return top - quotient * bottom
    raise GraphError(f"the size {expression} cannot be computed by a program", fix="simplify the shape arithmetic")


def _as_expression(size: Size) -> SizeExpr:
    return size if isinstance(size, SizeExpr) else SizeExpr((((), size),))
