"""What torchao's quantizer for x86 asks of a graph: which function of PyTorch every operator came from.

It looks for layers by that and not by their operators, so in a model that was exported before, as one from a file is,
it would find none, and the peers that start from its graph would be left out.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx import GraphModule
from torch.nn import functional

_A = torch.ops.aten
_FUNCTIONS: Mapping[Any, Callable[..., Any]] = {
    _A.linear.default: functional.linear,
    _A.conv1d.default: functional.conv1d,
    _A.conv2d.default: functional.conv2d,
    _A.batch_norm.default: functional.batch_norm,
    _A.relu.default: functional.relu,
    _A.relu_.default: functional.relu,
    _A.hardtanh.default: functional.hardtanh,
    _A.hardtanh_.default: functional.hardtanh,
    _A.hardswish.default: functional.hardswish,
    _A.hardswish_.default: functional.hardswish,
    _A.silu.default: functional.silu,
    _A.silu_.default: functional.silu,
    _A.gelu.default: functional.gelu,
    _A.leaky_relu.default: functional.leaky_relu,
    _A.leaky_relu_.default: functional.leaky_relu,
    _A.tanh.default: torch.tanh,
    _A.sigmoid.default: torch.sigmoid,
    _A.add.Tensor: operator.add,
    _A.add_.Tensor: operator.add,
    _A.mul.Tensor: operator.mul,
    _A.mul_.Tensor: operator.mul,
}


def spell_sources(graph: GraphModule) -> None:
    """Has operators that came from operators say which function of PyTorch means the same, in place."""
    for node in graph.graph.nodes:
        known = node.meta.get("source_fn_stack")
        if node.target in _FUNCTIONS and (not known or known[-1][1] is node.target):
            node.meta["source_fn_stack"] = [(node.name, _FUNCTIONS[node.target])]
