"""Row operations: one or several reductions over some dims of an input, then an expression. `ROWS` lists them.

The result of a softmax or a norm has the shape of its input; that of a sum or a maximum has only the kept dims.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.fx import Node

from ..graph.arguments import arguments, source_of, tensor_of
from .norms import NORMS
from .reductions import REDUCTIONS
from .rowbody import RowOperation
from .symbols import DTYPE_NAMES

ROWS: Mapping[Any, RowOperation] = {**REDUCTIONS, **NORMS}


def reduced_dims(node: Node) -> tuple[int, ...]:
    """The dims of the input that a row operation runs over."""
    given = arguments(node)
    rank = tensor_of(source_of(node)).dim()
    if "normalized_shape" in given:
        return tuple(range(rank - len(given["normalized_shape"]), rank))
    dims = given.get("dim")
    if dims is None or (isinstance(dims, (list, tuple)) and not dims):
        return tuple(range(rank))
    listed = dims if isinstance(dims, (list, tuple)) else [dims]
    return tuple(sorted(d % rank for d in listed)) if rank else ()


def is_native_row(node: Node) -> bool:
    """Whether a row kernel computes this node: operator, dtypes and options."""
    operation = ROWS.get(node.target)
    if operation is None or not node.args or not isinstance(node.args[0], Node):
        return False
    values = [node.meta.get("val"), *(n.meta.get("val") for n in node.all_input_nodes if not _is_size(n))]
    if not all(isinstance(value, torch.Tensor) and value.dtype in DTYPE_NAMES for value in values):
        return False
    if node.args[0].meta["val"].dim() == 0 or not reduced_dims(node):
        return False
    return operation.when.holds(node)


def _is_size(node: Node) -> bool:
    """A size among the arguments: shapes are read off the tensors."""
    return isinstance(node.meta.get("val"), torch.SymInt)
