"""Scales and zero points held in constant tensors become numbers.

quantize_per_tensor.tensor(x, scale tensor, zero point tensor, …)  ->  quantize_per_tensor(x, 0.02, 128, …)
"""

from __future__ import annotations

from torch.fx import GraphModule

from ..graph.arguments import arguments
from ..graph.edit import insert, replace
from ..graph.qparams import is_dequantize, is_quantize, operators, qparams_of


def scalar_qparams(module: GraphModule) -> None:
    """Rewrites the `.tensor` overloads whose parameters are known; those computed at run time stay."""
    for node in list(module.graph.nodes):
        overload = str(getattr(node.target, "_overloadname", ""))
        if not overload.startswith("tensor") or not (is_quantize(node) or is_dequantize(node)):
            continue
        parameters = qparams_of(module, node)
        if not parameters.is_static:
            continue
        packet = operators().quantize_per_tensor if is_quantize(node) else operators().dequantize_per_tensor
        numbers = (parameters.scale, parameters.zero_point, parameters.low, parameters.high, parameters.dtype)
        out_dtype = arguments(node).get("out_dtype")
        extra = {"out_dtype": out_dtype} if out_dtype is not None else {}
        plain = insert(node, packet.default, (node.args[0], *numbers), extra, like=node, value=node.meta["val"])
        replace(node, plain)
