"""Constants with equal contents become one: tied weights are packed once.

linear(x, w0), linear(y, w1), w0 = w1    ->  linear(x, w0), linear(y, w0)
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch.fx import GraphModule, Node

from ..graph.edit import constant_of, replace

_SAMPLE = 64
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def share_constants(module: GraphModule) -> None:
    """Lets every reader of a constant read the first one that holds the same dtype, shape and bits."""
    alike: dict[object, list[tuple[Node, torch.Tensor]]] = defaultdict(list)
    for node in list(module.graph.nodes):
        tensor = constant_of(module, node)
        if tensor is None or tensor.layout != torch.strided:
            continue
        known = alike[_key(tensor)]
        twin = next((other for other, held in known if _equal(held, tensor)), None)
        if twin is None:
            known.append((node, tensor))
        else:
            replace(node, twin)


def _key(tensor: torch.Tensor) -> object:
    """Tells most tensors apart without reading them whole."""
    sample = tensor.reshape(-1)[:_SAMPLE]
    return tensor.dtype, tuple(tensor.shape), _bits(sample).numpy().tobytes()


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    same_memory = a.data_ptr() == b.data_ptr() and a.stride() == b.stride()
    return same_memory or torch.equal(_bits(a), _bits(b))


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """The same memory as integers: -0.0 is not 0.0, and a NaN equals itself."""
    real = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor.resolve_neg()
    return real.view(_INTEGERS[real.element_size()])
