"""Dynamic quantization as plain arithmetic: parameters are computed like any other small tensor.

    choose_qparams(x, low, high, eps)   ->  lo = min(amin x, 0);  hi = max(amax x, 0)
                                            scale = max((hi - lo) / (high - low), eps)
                                            zero_point = clamp(low - round(lo / scale), low, high)
    choose_qparams_symmetric(x, …)      ->  scale = max(max(-lo, hi) / ((high - low) / 2), eps)
                                            zero_point = 0, or 128 for u8
    quantize(x, scale, zero_point, …)   ->  lower86::quantize(x, float32(1 / scale), float32(zero_point), …)

The order and the precisions are PyTorch's (torch.ao.quantization.utils.determine_qparams), so that the results are too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call
from ..graph.edit import insert, replace, replace_results
from ..graph.qparams import overloads
from ..ops.quantize import quantize

_A = torch.ops.aten


def spell_dynamic(module: GraphModule) -> None:
    """Rewrites per-tensor dynamic quantization; its dequantize stays, for the rules to take in."""
    for node in list(module.graph.nodes):
        if is_call(node, *overloads("choose_qparams.tensor", "choose_qparams_symmetric.tensor")):
            _spell_choose(node)
    for node in list(module.graph.nodes):
        if is_call(node, *overloads("quantize_per_tensor.tensor")) and isinstance(arguments(node)["scale"], Node):
            _spell_quantize(node)


def _spell_choose(node: Node) -> None:
    names = {"quant_min": "qmin", "quant_max": "qmax"}
    given = {names.get(name, name): value for name, value in arguments(node).items()}
    low, high = given["qmin"], given["qmax"]

    def call(target: Any, *args: Any, **kwargs: Any) -> Node:
        return insert(node, target, args, kwargs, like=node)

    x = given["input"]
    least = call(_A.clamp_max.default, call(_A.amin.default, x), 0.0)
    most = call(_A.clamp_min.default, call(_A.amax.default, x), 0.0)
    if is_call(node, *overloads("choose_qparams_symmetric.tensor")):
        largest = call(_A.maximum.default, call(_A.neg.default, least), most)
        scale = call(_A.clamp_min.default, call(_A.div.Tensor, largest, float(high - low) / 2), given["eps"])
        zero_point = call(_A.full.default, [], 128 if given["dtype"] == torch.uint8 else 0, dtype=torch.int32)
    else:
        raw = call(_A.div.Tensor, call(_A.sub.Tensor, most, least), float(high - low))
        scale = call(_A.clamp_min.default, raw, given["eps"])
        steps = call(_A._to_copy.default, call(_A.round.default, call(_A.div.Tensor, least, scale)), dtype=torch.int32)
        zero_point = call(_A.clamp.default, call(_A.rsub.Scalar, steps, low), low, high)
    results = (
        call(_A.view.default, call(_A._to_copy.default, scale, dtype=torch.float64), [1]),
        call(_A.view.default, call(_A._to_copy.default, zero_point, dtype=torch.int64), [1]),
    )
    replace_results(node, results)


def _spell_quantize(node: Node) -> None:
    given = arguments(node)
    inverse = insert(node, _A.reciprocal.default, (given["scale"],), like=node)
    inverse = insert(node, _A._to_copy.default, (inverse,), {"dtype": torch.float32}, like=node)
    zero_point = insert(node, _A._to_copy.default, (given["zero_point"],), {"dtype": torch.float32}, like=node)
    operands = (given["input"], inverse, zero_point, given["quant_min"], given["quant_max"], given["dtype"])
    replace(node, insert(node, quantize, operands, like=node, value=node.meta["val"]))
