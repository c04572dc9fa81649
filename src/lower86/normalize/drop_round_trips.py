"""quantize(dequantize(q)) with the same parameters is q: rounding gives back the integer that was there.

Of integers that lie in the range of the parameters: all, if that is the dtype's, or those that a quantize made.
"""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import is_call, source_of
from ..graph.edit import replace
from ..graph.qparams import QParams, is_plain_quantize, is_whole_dequantize, qparams_of, same
from ..ops.windows import windows
from .move_dequantize import MOVEMENT

_A = torch.ops.aten
_PICKING = (*MOVEMENT, windows, _A.amax.default)
"""What gives values that it was given, or numbers beside them that no result is made of."""


def drop_round_trips(module: GraphModule) -> None:
    """Erases quantizes of what has just been dequantized with the same parameters."""
    for node in list(module.graph.nodes):
        if not is_plain_quantize(node) or not is_whole_dequantize(source_of(node)):
            continue
        parameters, integers = qparams_of(module, node), source_of(source_of(node))
        if same(parameters, qparams_of(module, source_of(node))) and _are_within(module, integers, parameters):
            replace(node, integers)


def _are_within(module: GraphModule, integers: Node, parameters: QParams) -> bool:
    limits = torch.iinfo(parameters.dtype)
    if (parameters.low, parameters.high) == (limits.min, limits.max):
        return True
    while is_call(integers, *_PICKING):
        integers = source_of(integers)
    if not is_plain_quantize(integers):
        return False
    made = qparams_of(module, integers)
    return parameters.low <= made.low and made.high <= parameters.high
