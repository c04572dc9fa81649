"""Per-token quantization as plain arithmetic: every row of the last dim has a scale and a zero point of its own.

    choose_qparams_per_token(x)             ->  scale = clamp(amax |x|, 1e-5) / 127;  zero_point = 0
    choose_qparams_per_token_asymmetric(x)  ->  XNNPACK's choice between the errors at both ends of the range
    quantize_per_token(x, scale, zero, …)   ->  clamp(round(x · (1 / scale) + zero), low, high), as an integer

In PyTorch's order, so that the results are PyTorch's. The dequantize stays whole, for the rules to take in.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call
from ..graph.edit import insert, replace, replace_results
from ..graph.qparams import overloads

_A = torch.ops.aten
_LOW, _HIGH = -128, 127  # of both choices, whatever the dtype
_FLOOR = 1e-5


def spell_tokens(module: GraphModule) -> None:
    """Rewrites the choice of parameters and the quantization of rows."""
    for node in list(module.graph.nodes):
        if is_call(node, *overloads("choose_qparams_per_token.default")):
            replace_results(node, _symmetric(node))
        elif is_call(node, *overloads("choose_qparams_per_token_asymmetric.default")):
            replace_results(node, _asymmetric(node))
        elif is_call(node, *overloads("quantize_per_token.default")):
            _spell_quantize(node)


def _call(node: Node, target: Any, *args: Any, **kwargs: Any) -> Node:
    return insert(node, target, args, kwargs, like=node)


def _symmetric(node: Node) -> tuple[Node, Node]:
    largest = _call(node, _A.amax.default, _call(node, _A.abs.default, node.args[0]), [-1], True)
    scale = _call(node, _A.div.Scalar, _call(node, _A.clamp_min.default, largest, _FLOOR), _HIGH)
    return scale, _call(node, _A.zeros_like.default, scale)


def _asymmetric(node: Node) -> tuple[Node, Node]:
    x = node.args[0]
    least = _call(node, _A.clamp_max.default, _call(node, _A.amin.default, x, [-1], True), 0.0)
    most = _call(node, _A.clamp_min.default, _call(node, _A.amax.default, x, [-1], True), 0.0)
    raw = _call(node, _A.div.Scalar, _call(node, _A.sub.Tensor, most, least), float(_HIGH - _LOW))
    scale = _call(node, _A.clamp_min.default, raw, torch.finfo(torch.float32).eps)
    lower, upper = (_call(node, _A.div.Tensor, end, scale) for end in (least, most))
    errors = _call(node, _A.add.Tensor, *(_call(node, _A.add.Scalar, *p) for p in ((lower, _LOW), (upper, _HIGH))))
    candidates = (_call(node, _A.rsub.Scalar, *p) for p in ((lower, _LOW), (upper, _HIGH)))
    chosen = _call(node, _A.where.self, _call(node, _A.gt.Scalar, errors, 0), *candidates)
    zero_point = _call(node, _A.round.default, _call(node, _A.clamp.default, chosen, _LOW, _HIGH))
    return (
        _call(node, _A._to_copy.default, scale, dtype=torch.float64),
        _call(node, _A._to_copy.default, zero_point, dtype=torch.int64),
    )


def _spell_quantize(node: Node) -> None:
    given = arguments(node)
    scaled = _call(node, _A.mul.Tensor, given["input"], _call(node, _A.reciprocal.default, given["scales"]))
    steps = _call(node, _A.round.default, _call(node, _A.add.Tensor, scaled, given["zero_points"]))
    kept = _call(node, _A.clamp.default, steps, given["quant_min"], given["quant_max"])
    replace(node, _call(node, _A._to_copy.default, kept, dtype=given["dtype"]))
