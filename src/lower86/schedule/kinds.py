"""What a node is to the scheduler."""

from __future__ import annotations

import operator

import torch
from torch.fx import Node

from ..graph.qparams import is_whole_dequantize
from ..graph.state import is_write
from .attention import is_native_attention
from .cells import is_native_recurrence
from .conditions import in_float32
from .contractions import is_native_product
from .gathers import tables_of
from .geometry import is_native_convolution
from .joins import is_native_join
from .pointwise import pointwise_of
from .rows import is_native_row
from .views import MOVEMENT


def kind_of(node: Node) -> str:
    """What a node is to the scheduler: movement, pointwise, rows, anchor, join, recurrence, foreign, or leaf."""
    if node.op != "call_function":
        return "leaf"
    value = node.meta.get("val")
    if isinstance(value, (int, float, bool, torch.SymInt, torch.SymFloat, torch.SymBool)):
        return "leaf"  # arithmetic on sizes: whoever uses it has its value
    if is_write(node):
        return "leaf"  # what comes of it, is decided when all else is computed
    if node.target is operator.getitem or (node.target in MOVEMENT and isinstance(value, torch.Tensor)):
        return "movement"
    if pointwise_of(node) is not None:
        return "pointwise"
    if is_native_row(node):
        return "rows"
    if _is_native_anchor(node):
        return "anchor"
    if is_native_join(node):
        return "join"
    if is_native_recurrence(node):
        return "recurrence"
    return "foreign"


def _is_native_anchor(node: Node) -> bool:
    """Whether a contraction, a convolution or an attention kernel computes the node."""
    kinds = (is_native_product, is_native_convolution, is_native_attention)
    return in_float32(node) and any(is_native(node) for is_native in kinds)


def is_computed_by_its_reader(node: Node) -> bool:
    """Whether the node is a dequantize whose one reader is an elementwise operator, or a row operation over it."""
    if not is_whole_dequantize(node) or len(node.users) != 1:
        return False
    (reader,) = node.users
    kind = kind_of(reader)
    return (kind == "pointwise" and node not in tables_of(reader)) or (kind == "rows" and reader.args[0] is node)


def origin(node: Node) -> Node:
    """The node whose result a chain of movement reads."""
    while node.op == "call_function" and (node.target in MOVEMENT or node.target is operator.getitem):
        source = node.args[0]
        assert isinstance(source, Node)
        node = source
    return node
