"""X86Quantizer on small models: exactly the values that ought to be are quantized, and the result is near."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from lower86.frontend.quantizer import QuantizationConfig, X86Quantizer
from lower86.frontend.torchao import convert, prepare
from tests.models.counting import int8_macs, pairs, weights

A = torch.ops.aten
Q = torch.ops.quantized_decomposed


def quantize(
    model: nn.Module, *inputs: Any, quantizer: X86Quantizer | None = None, bound: float = 0.05, strict: bool = True
) -> GraphModule:
    """The model after the static (or dynamic) flow; its result is within `bound` of the model's, relative."""
    with torch.no_grad():
        wanted = model.eval()(*inputs)
    prepared = prepare(torch.export.export(model, inputs, strict=strict).module(), quantizer or X86Quantizer())
    with torch.no_grad():
        prepared(*inputs)
        converted = convert(prepared)
        result = converted(*inputs)
    assert float((result - wanted).norm() / wanted.norm()) < bound
    return converted


def nodes(model: GraphModule, *targets: Any) -> list[Node]:
    """The calls of `targets`, in order."""
    return [node for node in model.graph.nodes if node.op == "call_function" and node.target in targets]


def is_read_quantized(node: Node, operand: int = 0) -> bool:
    """Whether `node` reads the operand out of a dequantize."""
    return "dequantize" in str(getattr(node.args[operand], "target", ""))


def scale_of(node: Node, operand: int = 0) -> Any:
    """The scale with which `node` reads the operand."""
    source = node.args[operand]
    assert isinstance(source, Node)
    return source.args[1]


def test_activations_stay_with_the_linear_in_front_of_them() -> None:
    model = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 24), nn.GELU(), nn.Linear(24, 8))
    quantized = quantize(model, torch.randn(5, 16))
    assert pairs(quantized) == (3, 6)
    assert weights(quantized) == 3
    assert [is_read_quantized(node) for node in nodes(quantized, A.relu.default, A.gelu.default)] == [False, False]
    macs = int8_macs(quantized, torch.randn(5, 16))
    assert list(macs.values()) == [5 * 16 * 24, 5 * 24 * 24, 5 * 24 * 8]


class Shared(nn.Module):
    """One input for three linears, of which two are one module and one has the weight of a fourth."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.three.weight = self.two.weight
        self.unused = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        self.unused(x)
        return self.one(self.one(x)) + self.two(x) + self.three(x)


def test_one_quantize_for_all_readers_and_one_for_a_tied_weight() -> None:
    quantized = quantize(Shared(), torch.randn(5, 8))
    assert pairs(quantized) == (2, 8)  # x, the inner result; a dequantize for each of eight operands
    assert weights(quantized) == 2
    assert len(nodes(quantized, A.linear.default)) == 4  # the unused one is gone


class Residual(nn.Module):
    """A small residual network, in place where such networks are."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.first, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.down, self.wide = nn.Conv2d(8, 16, 1, stride=2), nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.relu, self.pool, self.mean = nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.norm(self.stem(x))))
        y = self.second(self.relu(self.first(x)))
        y += x
        x = self.relu(y)
        y = self.wide(x)
        y += self.down(x)
        return self.head(self.mean(self.relu(y)).flatten(1))


def test_residual_network() -> None:
    x = torch.randn(2, 3, 16, 16)
    quantized = quantize(Residual(), x)
    # x, relu, pool, relu, relu (two readers), wide (only for the sum), relu, mean, flatten
    assert pairs(quantized) == (9, 9 + 2 + 6)
    assert weights(quantized) == 6
    assert sum(int8_macs(quantized, x).values()) == 2 * (
        8 * 256 * 27 + 2 * 8 * 64 * 72 + 16 * 16 * 72 + 16 * 16 * 8 + 160
    )
    (pool,) = nodes(quantized, A.max_pool2d.default)
    first, second, down, wide = (n for n in nodes(quantized, A.conv2d.default)[1:])
    assert scale_of(pool) == scale_of(first)  # a pool passes on the parameters it reads
    one, two = nodes(quantized, A.add.Tensor)
    assert [is_read_quantized(one, i) for i in (0, 1)] == [False, True]  # the convolution's result stays float
    assert scale_of(one, 1) == scale_of(first)
    assert [is_read_quantized(two, i) for i in (0, 1)] == [True, False]  # the later convolution takes the sum in
    (mean,), (flatten,) = nodes(quantized, A.adaptive_avg_pool2d.default), nodes(quantized, A.flatten.using_ints)
    assert is_read_quantized(mean)
    assert scale_of(mean) > scale_of(flatten) == scale_of(nodes(quantized, A.linear.default)[0])
    assert not any(is_read_quantized(relu) for relu in nodes(quantized, A.relu.default))
    assert {second, down, wide} <= {one.args[0], two.args[1], two.args[0].args[0].args[0]}


CONVOLUTIONS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "same": (lambda: nn.Conv1d(4, 6, 3, padding="same"), (2, 4, 9), 0),
    "no batch": (lambda: nn.Conv1d(4, 6, 3), (4, 9), 0),
    "2d": (lambda: nn.Conv2d(4, 6, 3, stride=2, groups=2), (2, 4, 9, 9), 0),
    "3d": (lambda: nn.Conv3d(4, 6, 2, dilation=2), (1, 4, 5, 5, 5), 0),
    "transposed 1d": (lambda: nn.ConvTranspose1d(4, 6, 3, stride=2), (2, 4, 9), 1),
    "transposed 2d": (lambda: nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False), (2, 4, 5, 5), 1),
    "transposed 3d": (lambda: nn.ConvTranspose3d(4, 6, 2), (1, 4, 3, 3, 3), 1),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_weights_of_convolutions_have_a_scale_for_each_output_channel(name: str) -> None:
    make, shape, axis = CONVOLUTIONS[name]
    quantized = quantize(nn.Sequential(make(), nn.ReLU()), torch.randn(shape))
    assert pairs(quantized) == (1, 2)
    (weight,) = nodes(quantized, Q.dequantize_per_channel.default)
    assert weight.args[3] == axis


class Product(nn.Module):
    """A product with a constant, as the function says."""

    def __init__(self, function: Callable[[Tensor, Tensor, Tensor], Tensor], *shape: int) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.randn(shape))
        self.bias = nn.Parameter(torch.randn(6))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight, self.bias)


PRODUCTS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "addmm": (lambda: Product(lambda x, w, b: torch.addmm(b, x, w), 8, 6), (5, 8), 1),
    "mm": (lambda: Product(lambda x, w, b: torch.mm(x, w), 8, 6), (5, 8), 1),
    "matmul": (lambda: Product(lambda x, w, b: x @ w, 8, 6), (2, 5, 8), 1),
    "transposed": (lambda: Product(lambda x, w, b: x @ w.t(), 6, 8), (2, 5, 8), 1),
    "batch": (lambda: Product(lambda x, w, b: torch.bmm(x, w), 2, 8, 6), (2, 5, 8), 2),
    "baddbmm": (lambda: Product(lambda x, w, b: torch.baddbmm(b, x, w), 2, 8, 6), (2, 5, 8), 2),
    "left": (lambda: Product(lambda x, w, b: w @ x, 6, 8), (2, 8, 5), 0),
    "computed": (lambda: Product(lambda x, w, b: nn.functional.linear(x, w * 2), 6, 8), (5, 8), 0),
    "vector": (lambda: Product(lambda x, w, b: nn.functional.linear(x, w), 6, 8), (8,), 0),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_with_a_constant(name: str) -> None:
    make, shape, axis = PRODUCTS[name]
    x = torch.randn(shape)
    quantized = quantize(make(), x)
    assert pairs(quantized) == (1, 2)
    (weight,) = nodes(quantized, Q.dequantize_per_channel.default)
    assert weight.args[3] == axis
    assert weights(quantized) == 1
    assert list(int8_macs(quantized, x).values()) == [x.numel() * 6]


def test_products_of_two_activations() -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return torch.bmm(x, y) + x @ x.transpose(1, 2) + nn.functional.linear(x, y[0].t())

    x, y = torch.randn(2, 5, 5), torch.randn(2, 5, 5)
    quantized = quantize(Model(), x, y)
    # x (four readers), x transposed, y (two readers), y[0], that transposed: movement of integers is integers
    assert pairs(quantized) == (5, 9)
    assert len({scale_of(node, 0) for node in nodes(quantized, A.bmm.default, A.matmul.default, A.linear.default)}) == 1
    assert len({scale_of(node, 1) for node in nodes(quantized, A.bmm.default, A.linear.default)}) == 1
    assert list(int8_macs(quantized, x, y).values()) == [250, 250, 250]


class Merged(nn.Module):
    """Two branches of different ranges, concatenated, pooled, flattened."""

    def __init__(self, *, tapped: bool = False) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Linear(8 * 4, 5)
        self.tapped = tapped

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.one(x), 3 * self.two(x)], 1)
        result = self.head(nn.functional.max_pool2d(both, 2).view(-1, 32))
        return result + both.mean() if self.tapped else result


def test_concatenation_shares_one_scale_down_to_the_linear() -> None:
    quantized = quantize(Merged(), torch.randn(2, 3, 4, 4))
    (cat,) = nodes(quantized, A.cat.default)
    read = [operand.args[1] for operand in cat.args[0]]
    chain = nodes(quantized, A.max_pool2d.default, A.view.default, A.linear.default)
    assert len({*read, *map(scale_of, chain)}) == 1
    assert pairs(quantized) == (6, 7 + 3)


def test_concatenations_of_concatenations() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(7, 4, 1), nn.Conv2d(18, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            first = torch.cat([x, self.one(x)], 1)
            second = torch.cat([first, self.two(first)], 1)
            return self.head(torch.cat([second, first], 1))

    x = torch.randn(2, 3, 4, 4)
    quantized = quantize(Model(), x)
    assert len({scale_of(conv) for conv in nodes(quantized, A.conv2d.default)}) == 1
    assert all("dequantize" in str(part.target) for cat in nodes(quantized, A.cat.default) for part in cat.args[0])


def test_a_value_that_somebody_reads_as_float_stays_float() -> None:
    quantized = quantize(Merged(tapped=True), torch.randn(2, 3, 4, 4))
    (cat,) = nodes(quantized, A.cat.default)
    assert not any("dequantize" in str(operand.target) for operand in cat.args[0])
    assert is_read_quantized(nodes(quantized, A.max_pool2d.default)[0])


def test_pooling_of_a_value_needed_as_float_reads_the_float() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.gate, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.one(x))
            return self.two(x * torch.sigmoid(self.gate(nn.functional.adaptive_avg_pool2d(x, 1))))

    quantized = quantize(Gated(), torch.randn(2, 3, 4, 4))
    assert pairs(quantized) == (3, 6)
    assert not is_read_quantized(nodes(quantized, A.adaptive_avg_pool2d.default)[0])


def test_relu_and_views_pass_on_integers_where_there_are_some() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.three = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(16, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.one(x) + self.two(x.relu()) + self.three(x.view(2, 16)).repeat(2, 1)

    quantized = quantize(Model(), torch.randn(4, 8))
    readers = nodes(quantized, A.linear.default, A.relu.default, A.view.default)
    assert len({scale_of(node) for node in readers}) == 1
    assert pairs(quantized) == (3, 5 + 3)


def test_embedding_is_read_quantized() -> None:
    quantized = quantize(nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 4)), torch.arange(7))
    assert pairs(quantized) == (1, 3)  # with the two weights


class Block(nn.Module):
    """Residual additions as transformers have them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.dropout = nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.dropout(self.down(torch.nn.functional.gelu(self.up(x)))))


def test_residual_additions_of_linears_stay_float_unless_asked_for() -> None:
    x = torch.randn(5, 8)
    by_default = quantize(Block(), x)
    (add,) = nodes(by_default, A.add.Tensor)
    assert not is_read_quantized(add)
    assert pairs(by_default) == (2, 4)
    asked = quantize(Block(), x, quantizer=X86Quantizer().set_global(QuantizationConfig(residual_adds="all")))
    (add,) = nodes(asked, A.add.Tensor)
    assert is_read_quantized(add)
    assert pairs(asked) == (2, 5)  # the linear's own integers


def test_residual_additions_of_convolutions_can_stay_float() -> None:
    config = QuantizationConfig(residual_adds="none")
    quantized = quantize(Residual(), torch.randn(2, 3, 16, 16), quantizer=X86Quantizer().set_global(config))
    assert not any(is_read_quantized(add, i) for add in nodes(quantized, A.add.Tensor) for i in (0, 1))
    # x, relu and relu; the first pool's result is read as float as well, so it stays one in front of the pair
    assert pairs(quantized) == (7, 7 + 1 + 6)


UNTOUCHED: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "float64": (lambda: nn.Linear(8, 4).double(), torch.randn(3, 8, dtype=torch.float64)),
    "empty": (lambda: Product(lambda x, w, b: x[:, :0] @ w[:0], 8, 6), torch.randn(3, 8)),
    "constant": (lambda: Product(lambda x, w, b: x + w @ w.t(), 8, 8), torch.randn(8, 8)),
    "vector": (lambda: Product(lambda x, w, b: x @ w[0], 8, 8), torch.randn(3, 8)),
}


@pytest.mark.parametrize("name", UNTOUCHED)
def test_what_cannot_be_quantized_is_left_alone(name: str) -> None:
    make, x = UNTOUCHED[name]
    model = make()
    prepared = prepare(torch.export.export(model.eval(), (x,)).module(), X86Quantizer())
    with torch.no_grad():
        prepared(x)
        quantized = convert(prepared)
        torch.testing.assert_close(quantized(x), model(x))
    assert pairs(quantized) == (0, 0)


class NoGrad(nn.Module):
    """Half of it in a no_grad region."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            y = self.one(x)
        return self.two(y)


@pytest.mark.parametrize("strict", [True, False])
def test_regions_without_gradients_are_quantized(strict: bool) -> None:
    assert pairs(quantize(NoGrad(), torch.randn(3, 8), strict=strict)) == (2, 4)


class Written(nn.Module):
    """Products of a cache that is written in place, of a view's base, and of what no one writes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("cache", torch.zeros(6, 4))

    def forward(self, x: Tensor) -> Tensor:
        self.cache[:3] = x
        y = x * 2
        row = y[0]
        before = self.linear(y)
        row.add_(1)
        return x @ self.cache.t() + self.linear(y) @ torch.ones(4, 6) + before.sum()


def test_what_is_written_in_place_later_is_read_as_float() -> None:
    quantized = quantize(Written(), torch.randn(3, 4))
    first, second = nodes(quantized, A.linear.default)
    assert not is_read_quantized(first)
    assert not is_read_quantized(second)
    cached, plain = nodes(quantized, A.matmul.default)
    assert not is_read_quantized(cached, 1)
    assert is_read_quantized(plain)
