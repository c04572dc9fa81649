"""Decomposed spellings become the whole operator again.

    addmm(b, x, permute(w)), mm(x, permute(w))   ->  linear(x, w, b)
    addmm(b, x, constant)                        ->  linear(x, permute(constant), b)
    reshape(linear(reshape(x), w, b))            ->  linear(x, w, b)        where only leading dims are merged
    add(linear(x, w), constant bias)             ->  linear(x, w, bias)
    native_layer_norm(…)[0]                      ->  layer_norm             _softmax, _safe_softmax  ->  softmax
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, shape_of
from ..graph.edit import insert, replace
from ..graph.qparams import is_dequantize

_A = torch.ops.aten


def spell_composites(module: GraphModule) -> None:
    """Rewrites decomposed linears, layer norms and softmaxes to the operator they came from."""
    for node in list(module.graph.nodes):
        if is_call(node, _A.addmm.default, _A.mm.default):
            _spell_linear(node)
        elif is_call(node, _A.native_layer_norm.default):
            _spell_layer_norm(node)
        elif is_call(node, _A._softmax.default, _A._safe_softmax.default):
            source, dim = node.args[0], node.args[1]
            replace(node, insert(node, _A.softmax.int, (source, dim), like=node, value=node.meta["val"]))
    for node in list(module.graph.nodes):
        if is_call(node, _A.reshape.default) and is_call(node.args[0], _A.linear.default):
            _lift_views(node, node.args[0])


def _spell_linear(node: Node) -> None:
    given = arguments(node)
    left, right = given.get("mat1", given.get("self")), given["mat2"]
    bias = given["self"] if "mat1" in given else None
    scaled = given.get("beta", 1) != 1 or given.get("alpha", 1) != 1
    plain_bias = bias is None or (len(shape_of(bias)) == 1 and shape_of(bias)[0] == shape_of(node)[1])
    if scaled or not plain_bias:
        return
    if is_call(right, _A.permute.default) and list(right.args[1]) == [1, 0]:
        weight = right.args[0]
    elif right.op == "get_attr" or (is_dequantize(right) and right.args[0].op == "get_attr"):
        weight = insert(node, _A.permute.default, (right, [1, 0]), like=node)
    else:
        return
    operands = (left, weight) if bias is None else (left, weight, bias)
    replace(node, insert(node, _A.linear.default, operands, like=node, value=node.meta["val"]))


def _lift_views(node: Node, linear: Node) -> None:
    source: Any = linear.args[0]
    if not is_call(source, _A.reshape.default) or len(linear.users) != 1:
        return
    whole = source.args[0]
    leading = shape_of(whole)[:-1]
    if shape_of(whole)[-1] != shape_of(source)[-1] or shape_of(node) != (*leading, shape_of(linear)[-1]):
        return
    lifted = insert(node, _A.linear.default, (whole, *linear.args[1:]), like=linear, value=node.meta["val"])
    replace(node, lifted)


def _spell_layer_norm(node: Node) -> None:
    firsts = [user for user in node.users if user.target is operator.getitem and user.args[1] == 0]
    if len(firsts) != len(node.users):
        return  # somebody reads the mean or the deviation as well
    given = arguments(node)
    operands = (given["input"], given["normalized_shape"], given["weight"], given["bias"], given["eps"])
    for first in firsts:
        replace(first, insert(node, _A.layer_norm.default, operands, like=node, value=first.meta["val"]))
