"""Bags of embeddings of one length are an embedding and a reduction.

    embedding_bag(w, i, [0, n, 2n, …])  ->  sum, mean or amax of embedding(w, reshape(i, [-1, n])) over dim 1

Weights of the samples are multiplied in; a padding index counts for nothing.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, shape_of
from ..graph.edit import constant_of, insert

_A = torch.ops.aten
BAGS = (_A._embedding_bag.default, _A._embedding_bag_forward_only.default)
_SUM, _MEAN, _MAX = range(3)


def spell_bags(module: GraphModule) -> None:
    """Rewrites bags of one length, known now."""
    for node in list(module.graph.nodes):
        if not is_call(node, *BAGS):
            continue
        results = [user for user in node.users if user.target is operator.getitem and user.args[1] == 0]
        length = _length(module, arguments(node))
        if length and len(results) == len(node.users):
            bags = _spelled(node, arguments(node), length)
            if bags is not None:
                for result in results:
                    result.replace_all_uses_with(bags)


def _length(module: GraphModule, given: dict[str, Any]) -> int | None:
    """How many indices each bag has, or None if that differs or is not known."""
    offsets, (total,) = given["offsets"], shape_of(given["indices"])
    if given["include_last_offset"]:
        return None
    if is_call(offsets, _A.arange.start_step):
        start, end, step = (arguments(offsets)[name] for name in ("start", "end", "step"))
        whole = start == 0 and isinstance(step, int) and _value(end) == total
        return step if whole else None
    constant = constant_of(module, offsets)
    if constant is None or not isinstance(total, int) or constant.numel() == 0 or total % constant.numel():
        return None
    length = total // constant.numel()
    return length if torch.equal(constant, torch.arange(constant.numel(), dtype=constant.dtype) * length) else None


def _value(size: Any) -> Any:
    return size.meta["val"] if isinstance(size, Node) else size


def _spelled(node: Node, given: dict[str, Any], length: int) -> Node | None:
    def call(target: Any, *args: Any) -> Node:
        return insert(node, target, args, like=node)

    padding, mode = given["padding_idx"], given["mode"]
    if mode == _MAX and padding >= 0:
        return None
    indices = call(_A.reshape.default, given["indices"], [-1, length])
    rows = call(_A.embedding.default, given["weight"], indices)
    if given["per_sample_weights"] is not None:
        rows = call(_A.mul.Tensor, rows, call(_A.reshape.default, given["per_sample_weights"], [-1, length, 1]))
    if mode == _MAX:
        return call(_A.amax.default, rows, [1])
    counts: Any = length
    if padding >= 0:
        present = call(_A.ne.Scalar, indices, padding)
        rows = call(_A.where.ScalarOther, call(_A.unsqueeze.default, present, 2), rows, 0.0)
        counts = call(_A.clamp_min.default, call(_A.sum.dim_IntList, present, [1], True), 1)
    total = call(_A.sum.dim_IntList, rows, [1])
    return call(_A.div.Tensor, total, counts) if mode == _MEAN else total
