"""KEEP stays whole, other composites go: tells when torch changes what is composite."""

from __future__ import annotations

from typing import Any

import torch
import torchao.quantization.quant_primitives  # noqa: F401  # registers the operators
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
    qualified = [name if "::" in name else f"aten::{name}" for name in KEEP]
    missing = [name for name in qualified if not hasattr(getattr(torch.ops, name.split("::")[0]), name.split("::")[1])]
    assert missing == []


def test_the_table_holds_composites_alone() -> None:
    names = {operator._schema.name for operator in table()}
    assert not names & {f"aten::{name}" for name in KEEP}
    assert {"aten::reshape", "aten::flatten", "aten::type_as"} & names
    assert all(is_composite(operator) for operator in table())


class Calls(nn.Module):
    """Functions, each on the same input."""

    def __init__(self, *functions: Any) -> None:
        super().__init__()
        self.functions = functions

    def forward(self, x: Tensor) -> list[Any]:
        return [function(x) for function in self.functions]


X = torch.randn(2, 4, 6, 6)
KEPT: dict[str, Any] = {
    "linear": lambda x: F.linear(x, torch.ones(5, 6)),
    "matmul": lambda x: torch.matmul(x, x),
    "conv1d": lambda x: F.conv1d(x[0], torch.ones(3, 6, 2)),
    "conv2d": lambda x: F.conv2d(x, torch.ones(3, 4, 3, 3)),
    "conv_transpose2d": lambda x: F.conv_transpose2d(x, torch.ones(4, 3, 3, 3)),
    "scaled_dot_product_attention": lambda x: F.scaled_dot_product_attention(x, x, x),
    "layer_norm": lambda x: F.layer_norm(x, [6]),
    "group_norm": lambda x: F.group_norm(x, 2),
    "instance_norm": F.instance_norm,
    "rms_norm": lambda x: F.rms_norm(x, [6]),
    "softmax": lambda x: F.softmax(x, -1),
    "log_softmax": lambda x: F.log_softmax(x, -1),
    "pad": lambda x: F.pad(x, (1, 1)),
    "upsample_bilinear2d": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "gelu": F.gelu,
    "silu": F.silu,
    "relu6": F.relu6,
    "hardtanh": F.hardtanh,
}
GONE: dict[str, Any] = {
    "einsum": lambda x: torch.einsum("bchw,bcvw->bchv", x, x),  # products and movement, which have kernels
    "batch_norm": lambda x: F.batch_norm(x, torch.zeros(4), torch.ones(4)),
    "reshape": lambda x: x.reshape(8, 36),
    "flatten": lambda x: x.flatten(1),
    "type_as": lambda x: x.type_as(x.double()),
    "cosine_similarity": lambda x: F.cosine_similarity(x, x),
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "square": torch.square,
}


def test_kept_operators_stay_whole_and_others_go() -> None:
    assert set(KEPT) <= set(KEEP)
    graph = export_module(Calls(*KEPT.values(), *GONE.values()), (X,)).graph
    schemas = [node.target._schema for node in graph.nodes if hasattr(node.target, "_schema")]
    names = {schema.name.removeprefix("aten::") for schema in schemas}
    assert set(KEPT) - names == set()
    assert set(GONE) & names == set()


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
