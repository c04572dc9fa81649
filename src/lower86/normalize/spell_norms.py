"""Norms over channels as layer norm and arithmetic, which one kernel computes.

    group_norm(x, g, w, b)      ->  reshape(layer_norm(reshape(x, [n, g, c/g, …]), [c/g, …]) · w + b)
    instance_norm(x, w, b)      ->  layer_norm(x, [spatial dims]) · w + b
    batch_norm(x, w, b, m, v)   ->  x · a + (b - m · a),   a = w / sqrt(v + eps)     with given statistics

The parameters are reshaped to stand along the channels. Of batch norm with constant ones, x · a + c is left.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, shape_of, tensor_of
from ..graph.edit import insert
from .precision import as_dtype, widened
from .shapes import sizes_of

_A = torch.ops.aten
GROUP_NORMS = (_A.group_norm.default, _A.native_group_norm.default)
BATCH_NORMS = (
    _A.batch_norm.default, _A.native_batch_norm.default, _A._native_batch_norm_legit_no_training.default,
)  # fmt: skip
INSTANCE_NORMS = (_A.instance_norm.default,)


def spell_norms(module: GraphModule) -> None:
    """Rewrites the norms of inference, those whose statistics are not wanted by anybody else."""
    for node in list(module.graph.nodes):
        if not is_call(node, *GROUP_NORMS, *BATCH_NORMS, *INSTANCE_NORMS) or tensor_of(node.args[0]).dim() < 2:
            continue
        results = [node]
        if not isinstance(node.meta["val"], torch.Tensor):
            results = [user for user in node.users if user.target is operator.getitem and user.args[1] == 0]
            if len(results) != len(node.users):
                continue
        normed = _spelled(node)
        if normed is not None:
            for result in results:
                result.replace_all_uses_with(normed)


def _spelled(node: Node) -> Node | None:
    given = arguments(node)
    if is_call(node, *GROUP_NORMS):
        return _group_norm(node, given)
    if is_call(node, *INSTANCE_NORMS) and given["use_input_stats"]:
        x = given["input"]
        if len(shape_of(x)) < 3:
            return None
        return _affine(node, _layer_norm(node, x, sizes_of(node, x)[2:], given["eps"]), given, 1)
    learns = given.get("training", given.get("use_input_stats", False))
    return None if learns or given["running_mean"] is None else _batch_norm(node, given)


def _layer_norm(node: Node, x: Node, shape: list[Any], eps: float) -> Node:
    return insert(node, _A.layer_norm.default, (x, shape, None, None, eps), like=node)


def _affine(node: Node, x: Node, given: dict[str, Any], dims: int) -> Node:
    """x · weight + bias along the channels, which are the `dims` dims after the first."""
    shape = [*shape_of(x)[1 : 1 + dims], *[1] * (len(shape_of(x)) - 1 - dims)]
    for name, target in (("weight", _A.mul.Tensor), ("bias", _A.add.Tensor)):
        if given[name] is not None:
            parameter = insert(node, _A.reshape.default, (given[name], shape), like=node)
            x = insert(node, target, (x, parameter), like=node)
    return x


def _group_norm(node: Node, given: dict[str, Any]) -> Node | None:
    x = given["input"]
    groups = given["num_groups"] if "num_groups" in given else given["group"]
    batch, channels, *spatial = sizes_of(node, x)
    if not isinstance(channels, int):
        return None
    apart = [batch, groups, channels // groups, *spatial]
    normed = _layer_norm(node, insert(node, _A.reshape.default, (x, apart), like=node), apart[2:], given["eps"])
    return insert(node, _A.reshape.default, (_affine(node, normed, given, 2), [batch, channels, *spatial]), like=node)


def _batch_norm(node: Node, given: dict[str, Any]) -> Node:
    def call(target: Any, *args: Any) -> Node:
        return insert(node, target, args, like=node)

    names = ("running_mean", "running_var", "weight", "bias")
    mean, variance, weight, bias = (None if given[name] is None else widened(node, given[name]) for name in names)
    x = given["input"]
    shape = [-1, *[1] * (len(shape_of(x)) - 2)]
    scale = call(_A.reciprocal.default, call(_A.sqrt.default, call(_A.add.Tensor, variance, given["eps"])))
    if weight is not None:
        scale = call(_A.mul.Tensor, scale, weight)
    shift = call(_A.neg.default, call(_A.mul.Tensor, mean, scale))
    if bias is not None:
        shift = call(_A.add.Tensor, shift, bias)
    scaled = call(_A.mul.Tensor, x, call(_A.reshape.default, scale, shape))
    whole = call(_A.add.Tensor, scaled, call(_A.reshape.default, shift, shape))
    return as_dtype(node, whole, tensor_of(x).dtype)
