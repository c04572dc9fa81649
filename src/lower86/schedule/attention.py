"""Attention, in float or on integers: which graph nodes are one, and how its operands have to lie.

`scaled_dot_product_attention` and `lower86::int8_attention` are one kernel; what joined the group is its body.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from ..graph.arguments import arguments, broadcasts_to, same_shape, shape_of
from ..ops.attention import MOST_DIMS, int8_attention
from ..program.body import without_unused
from ..program.dtypes import DTYPES
from ..program.kernels import ATTENTION_PARAMS, Attention, IntegerProducts
from .conditions import in_float32
from .emission import Emission, Finish, Space
from .memory import Memory
from .views import View

_A = torch.ops.aten


def is_native_attention(node: Node) -> bool:
    """Whether the kernel computes this node."""
    if node.target is int8_attention:
        return _is_of_its_scores(node)
    if node.target is not _A.scaled_dot_product_attention.default:
        return False
    given = arguments(node)
    tensors = [given[name].meta["val"] for name in ("query", "key", "value")]
    mask = given["attn_mask"]
    if any(t.dtype != tensors[0].dtype or t.dim() not in (3, 4) for t in tensors) or given["dropout_p"] != 0:
        return False
    if len({t.dim() for t in tensors}) != 1 or tensors[1].shape[:-1] != tensors[2].shape[:-1]:
        return False
    q, k, v = tensors
    sizes = (q.shape[-1], v.shape[-1])
    if not all(isinstance(size, int) and 0 < size <= MOST_DIMS for size in sizes):
        return False
    if q.dim() == 4 and q.shape[1] != k.shape[1] and not (given["enable_gqa"] and q.shape[1] % k.shape[1] == 0):
        return False
    if q.shape[0] != k.shape[0] or not _is_of_its_scores(node):
        return False
    return mask is None or (mask.meta["val"].dtype == torch.bool or in_float32(mask))


def _is_of_its_scores(node: Node) -> bool:
    """Whether the mask broadcasts to the scores, so that the result has the queries' shape.

    The shape functions that export asks take a mask with more batches, heads or dims than the queries, and give the
    result those too; PyTorch's kernel refuses it.
    """
    given = arguments(node)
    q, k, v = (shape_of(given[name]) for name in ("query", "key", "value"))
    mask = given["mask"] if node.target is int8_attention else given["attn_mask"]
    fits = mask is None or broadcasts_to(shape_of(mask), (*q[:-1], k[-2]))
    return fits and same_shape(shape_of(node), (*q[:-1], v[-1]))


def emit_attention(e: Emission, node: Node, memory: Memory, finish: Finish) -> Attention:
    """The kernel of an attention."""
    given = arguments(node)
    views = [memory.rows_of(given[name]) for name in ("query", "key", "value")]
    rank = len(views[0].shape)
    if rank == 3:
        views = [View(v.value, v.dtype, (1, *v.shape), (0, *v.strides), v.offset) for v in views]
    q, k, v = views
    for view in views:
        # Not `slot`: the three have these numbers even where they are one buffer.
        e.slots.append((view.value, view.offset * DTYPES[view.dtype].size))
    head_dim, value_dim = q.shape[-1], v.shape[-1]
    assert isinstance(head_dim, int)
    assert isinstance(value_dim, int)
    integers, mask_node = None, given.get("attn_mask")
    if node.target is int8_attention:
        integers, mask_node = IntegerProducts(*(view.dtype for view in views)), given["mask"]
        e.params.extend(_integer_params(given, integers))
    else:
        scale = given["scale"] if given["scale"] is not None else head_dim**-0.5
        e.params.append(("f32", float(scale)))
    groups = 1
    if isinstance(q.shape[1], int) and isinstance(k.shape[1], int) and k.shape[1]:
        groups = q.shape[1] // k.shape[1]
    mask_body, mask_place = None, 0
    if mask_node is not None:
        scores = (*q.shape[:3], k.shape[2])
        mask_place = e.load(memory.mask_of(mask_node), Space.of(scores[4 - rank :], rank=4))
        mask_body = e.body.build()
    shape = (*q.shape[:3], value_dim)
    finish(e.body.add("value", (), "f32", (0,)), Space.of(shape[4 - rank :], rank=4))
    q_strides, k_strides, v_strides = ((view.strides[0], view.strides[1], view.strides[2]) for view in views)
    # The mask's nodes are none of the body's, whose last dim is another.
    body = without_unused(e.body.build())
    return Attention(
        q.shape[0], q.shape[1], q.shape[2], k.shape[2], head_dim, value_dim, q_strides, k_strides, v_strides, groups,
        bool(given["is_causal"]), mask_body, mask_place, body, integers, "f32" if integers else q.dtype,
    )  # fmt: skip


def _integer_params(given: dict[str, Any], integers: IntegerProducts) -> list[tuple[str, float]]:
    """Zero points as those of s8 queries and weights, of u8 keys and values."""
    low = {"query": 128 * (integers.query == "u8"), "weight": 128 * (given["weight_high"] > 127)}
    high = {"key": 128 * (integers.key == "i8"), "value": 128 * (integers.value == "i8")}
    values = {
        **{f"{name}_zero_point": given[f"{name}_zero_point"] - shift for name, shift in low.items()},
        **{f"{name}_zero_point": given[f"{name}_zero_point"] + shift for name, shift in high.items()},
        "score_scale": given["score_scale"],
        "inverse_weight_scale": 1.0 / given["weight_scale"],
        "most_weight": given["weight_high"] + 128 - low["weight"],
        "scale": given["scale"],
    }
    return [("f32" if name.endswith("scale") else "i32", values[name]) for name in ATTENTION_PARAMS]
