"""KEEP stays whole, other composites go: tells when torch changes what is composite."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lower86.frontend.decompositions import KEEP, is_composite, table
from lower86.frontend.export import export_module

A = torch.ops.aten


def test_what_is_composite() -> None:
    for operator in (A.linear.default, A.matmul.default, A.scaled_dot_product_attention.default, A.layer_norm.default):
        assert is_composite(operator)
    for operator in (A.add.Tensor, A.gelu.default, A.addmm.default, A.native_layer_norm.default):
        assert not is_composite(operator)
    assert not is_composite(torch.relu)


def test_kept_operators_exist() -> None:
    """A name that torch no longer has would silently keep nothing."""
    missing = [name for name in KEEP if not hasattr(A, name)]
    assert missing == []


def test_the_table_holds_composites_alone() -> None:
    names = {operator._schema.name for operator in table()}
    assert not names & {f"aten::{name}" for name in KEEP}
    assert {"aten::reshape", "aten::flatten", "aten::type_as"} & names
    assert all(is_composite(operator) for operator in table())


class Calls(nn.Module):
    """One function on the inputs."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def operators(function: Any, *inputs: Tensor) -> set[str]:
    """The ATen operators that export leaves."""
    graph = export_module(Calls(function), inputs).graph
    return {
        str(node.target._schema.name).removeprefix("aten::") for node in graph.nodes if hasattr(node.target, "_schema")
    }


X, W = torch.randn(2, 4, 6, 6), torch.randn(3, 4, 3, 3)
WHOLE = {
    "linear": lambda: operators(F.linear, X, torch.randn(5, 6), torch.randn(5)),
    "matmul": lambda: operators(torch.matmul, X, X),
    "conv1d": lambda: operators(
        F.conv1d, X[0], W[..., 0].transpose(1, 2)[:, :3].transpose(1, 2).repeat(1, 2, 1)[:, :6]
    ),
    "conv2d": lambda: operators(F.conv2d, X, W),
    "conv_transpose2d": lambda: operators(F.conv_transpose2d, X, W.transpose(0, 1)),
    "scaled_dot_product_attention": lambda: operators(F.scaled_dot_product_attention, X, X, X),
    "layer_norm": lambda: operators(lambda x: F.layer_norm(x, [6]), X),
    "group_norm": lambda: operators(lambda x: F.group_norm(x, 2), X),
    "instance_norm": lambda: operators(F.instance_norm, X),
    "rms_norm": lambda: operators(lambda x: F.rms_norm(x, [6]), X),
    "softmax": lambda: operators(lambda x: F.softmax(x, -1), X),
    "log_softmax": lambda: operators(lambda x: F.log_softmax(x, -1), X),
    "einsum": lambda: operators(lambda x: torch.einsum("bchw,bcvw->bchv", x, x), X),
    "pad": lambda: operators(lambda x: F.pad(x, (1, 1)), X),
    "upsample_bilinear2d": lambda: operators(lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), X),
    "gelu": lambda: operators(F.gelu, X),
    "silu": lambda: operators(F.silu, X),
    "hardtanh": lambda: operators(F.hardtanh, X),
}


@pytest.mark.parametrize("name", WHOLE)
def test_kept_operators_stay_whole(name: str) -> None:
    assert name in KEEP
    assert name in WHOLE[name]()


GONE = {
    "batch_norm": lambda: operators(lambda x: F.batch_norm(x, torch.zeros(4), torch.ones(4)), X),
    "reshape": lambda: operators(lambda x: x.reshape(8, 36), X),
    "flatten": lambda: operators(lambda x: x.flatten(1), X),
    "type_as": lambda: operators(lambda x: x.type_as(x.double()), X),
    "cosine_similarity": lambda: operators(F.cosine_similarity, X, X),
    "swapaxes": lambda: operators(lambda x: x.swapaxes(0, 1), X),
    "multi_head_attention": lambda: operators(lambda x: nn.MultiheadAttention(6, 2, bias=False)(x, x, x)[0], X[0]),
}


@pytest.mark.parametrize("name", GONE)
def test_other_composites_go(name: str) -> None:
    assert name not in GONE[name]()


def test_the_graph_is_functional() -> None:
    def mutates(x: Tensor) -> Tensor:
        y = x.clone()
        y[:, 0] = 1
        y.add_(x).relu_()
        return y

    graph = export_module(Calls(mutates), (X,)).graph
    schemas = [node.target._schema for node in graph.nodes if hasattr(node.target, "_schema")]
    assert schemas
    assert not any(schema.is_mutable for schema in schemas)
