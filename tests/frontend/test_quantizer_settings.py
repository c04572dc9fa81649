"""Which setting decides for which operator, and what a wrong one says."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule

from lower86.errors import Lower86Error
from lower86.frontend.quantizer import QuantizationConfig, X86Quantizer
from lower86.frontend.torchao import prepare
from tests.frontend.test_quantizer import A, is_read_quantized, nodes, quantize

STATIC = QuantizationConfig()


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.out = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.query(x)))


class Model(nn.Module):
    """Linears: layers.0.query, layers.0.out, layers.1.query, layers.1.out, head twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.head = nn.ModuleList([Layer(), Layer()]), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.head(torch.tanh(self.head(x)))


def settings(*calls: tuple[Any, ...]) -> X86Quantizer:
    """A quantizer set by calls of `set_…`, each the method's name and its arguments."""
    quantizer = X86Quantizer()
    for name, *arguments in calls:
        assert getattr(quantizer, f"set_{name}")(*arguments) is quantizer
    return quantizer


CASES: dict[str, tuple[tuple[tuple[Any, ...], ...], str]] = {
    "none": ((), "111111"),
    "global": ((("global", None),), "000000"),
    "one name": ((("module_name", "layers.0.query", None),), "011111"),
    "a module with modules in it": ((("module_name", "layers.0", None),), "001111"),
    "a container": ((("module_name", "layers", None),), "000011"),
    "a module called twice": ((("module_name", "head", None),), "111100"),
    "glob": ((("module_name", "*.query", None),), "010111"),
    "glob in the middle": ((("module_name", "layers.*.out", None),), "101011"),
    "the inner name": ((("module_name", "layers.0.out", STATIC), ("module_name", "layers.0", None)), "011111"),
    "the later of two": ((("module_name", "*.out", None), ("module_name", "layers.0.*", STATIC)), "111011"),
    "again": ((("module_name", "head", None), ("module_name", "head", STATIC)), "111111"),
    "type": ((("module_type", Layer, None),), "000011"),
    "inner type": ((("module_type", nn.Linear, None), ("module_type", Layer, STATIC)), "000000"),
    "only a name": ((("global", None), ("module_name", "head", STATIC)), "000011"),
    "name before type": ((("module_name", "layers.1", STATIC), ("module_type", nn.Linear, None)), "001100"),
    "operator": ((("function_type", F.linear, None),), "000000"),
    "name before operator": ((("function_type", F.linear, None), ("module_name", "head", STATIC)), "000011"),
    "operator before type": ((("module_type", Layer, None), ("function_type", F.linear, STATIC)), "111111"),
}


@pytest.mark.parametrize(
    ("name", "strict"), [*((name, True) for name in CASES), ("a module called twice", False), ("a container", False)]
)
def test_what_a_setting_is_for(name: str, strict: bool) -> None:
    calls, expected = CASES[name]
    graph = torch.export.export(Model(), (torch.randn(3, 8),), strict=strict).module()
    assert isinstance(graph, GraphModule)
    quantizer = settings(*calls)
    quantizer.annotate(quantizer.transform_for_annotation(graph))
    found = ["quantization_annotation" in node.meta for node in nodes(graph, A.linear.default)]
    assert "".join(str(int(one)) for one in found) == expected


WRONG = {
    "query": r'"\*\.query" fits all of that name',
    "layers.0.qurey": "did you mean layers.0.query",
    "layer.*.out": "did you mean layers",
    "xyz": "its modules are head, layers, layers.0",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_name_that_fits_nothing(name: str) -> None:
    graph = torch.export.export(Model(), (torch.randn(3, 8),)).module()
    with pytest.raises(Lower86Error, match=WRONG[name]):
        prepare(graph, X86Quantizer().set_module_name(name, None))


OPERATORS: list[Callable[..., Any]] = [
    F.linear, torch.matmul, operator.matmul, torch.ops.aten.matmul, A.matmul.default, F.conv2d, F.conv_transpose2d,
    torch.cat, F.max_pool2d, F.adaptive_avg_pool2d, torch.add, operator.iadd, F.relu, torch.bmm, torch.flatten,
    F.scaled_dot_product_attention, F.embedding,
]  # fmt: skip


@pytest.mark.parametrize("function", OPERATORS)
def test_operators_by_function(function: Callable[..., Any]) -> None:
    X86Quantizer().set_function_type(function, None)


def test_an_operator_that_is_never_quantized() -> None:
    with pytest.raises(Lower86Error, match=r"bilinear is no operator.*\n.*\n.*did you mean linear"):
        X86Quantizer().set_function_type(F.bilinear, None)
    with pytest.raises(Lower86Error, match="it quantizes adaptive_avg_pool1d"):
        X86Quantizer().set_function_type(torch.erfinv, None)


def test_an_operator_between_contractions_can_be_left_out() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 1))
    quantized = quantize(model, torch.randn(1, 3, 4, 4), quantizer=X86Quantizer().set_function_type(F.max_pool2d, None))
    assert not is_read_quantized(nodes(quantized, A.max_pool2d.default)[0])


def test_parts_with_different_integers_do_not_share_parameters() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 1))
    quantizer = X86Quantizer().set_module_name("2", QuantizationConfig(symmetric_activations=True))
    quantized = quantize(model, torch.randn(1, 3, 4, 4), quantizer=quantizer)
    assert not is_read_quantized(nodes(quantized, A.max_pool2d.default)[0])
    kinds = [node.args[0].args[-1] for node in nodes(quantized, A.conv2d.default)]
    assert kinds == [torch.uint8, torch.int8]


WRONG_CONFIGURATIONS: list[tuple[dict[str, Any], str]] = [
    ({"per_token": True}, "known only at run time"),
    ({"mode": "statics"}, "none of static, dynamic, qat"),
    ({"residual_adds": "some"}, "none of convolutions, all, none"),
]


@pytest.mark.parametrize(("options", "message"), WRONG_CONFIGURATIONS, ids=str)
def test_configurations_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(Lower86Error, match=message):
        QuantizationConfig(**options)


def test_training_and_calibration_do_not_mix() -> None:
    graph = torch.export.export(Model(), (torch.randn(3, 8),)).module()
    with pytest.raises(Lower86Error, match="some settings are for training"):
        prepare(graph, X86Quantizer().set_module_name("head", QuantizationConfig.qat()))
