"""Smoothing: the float function stays, each layer's error falls, and what is folded is noted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lower86.counted import counted
from lower86.graph.scaled import factors_of
from lower86.quantization.judge import Judge
from lower86.quantization.recipe import Recipe
from lower86.quantization.slots import slots_of
from lower86.quantization.smooth import smooth
from lower86.quantization.watch import run
from tests.quantization.prepared import floats, settled

ALL = Recipe(smooth=(0.5, 0.8, 1.0), product_gain=1.05)


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


class Norm(nn.Module):
    """A norm with one channel fifty times the others, and what reads it."""

    def __init__(self, read: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.norm, self.read = nn.LayerNorm(16), read
        self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)
        self.table = nn.Embedding(20, 16)
        self.matrix, self.bias = nn.Parameter(torch.randn(16, 8)), nn.Parameter(torch.randn(8))
        self.norm.weight[3] = 50
        self.norm.bias[5] = 3

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self, self.norm(x))


def _addmm(m: Any, x: Tensor) -> Tensor:
    return torch.addmm(m.bias, x.view(-1, 16), m.matrix)


READ: dict[str, tuple[Callable[[Any, Tensor], Tensor], int, int]] = {
    "one": (lambda m, x: m.a(x), 1, 1),
    "two": (lambda m, x: m.a(x) + m.b(x), 1, 1),
    "the residual as well": (lambda m, x: m.a(x) + x, 1, 0),
    "relu and dropout": (lambda m, x: m.a(functional.dropout(torch.relu(x), 0.1, m.training)), 1, 1),
    "addmm behind a view": (_addmm, 1, 1),
    "matmul": (lambda m, x: torch.matmul(x, m.matrix), 1, 1),
    "called twice": (lambda m, x: m.a(x) + m.a(x * 2), 0, 0),
    "tied to a table": (lambda m, x: functional.linear(x, m.table.weight) + m.table.weight[:, 0].sum(), 1, 1),
    "a product of activations": (lambda m, x: x @ x.transpose(-1, -2), 0, 0),
}


@pytest.mark.parametrize(("read", "done", "free"), READ.values(), ids=READ)
def test_linears(read: Callable[[Any, Tensor], Tensor], done: int, free: int) -> None:
    calls = [(torch.randn(2, 5, 16),) for _ in range(4)]
    graph, seen = settled(Norm(read), calls)
    exact, judge = floats(graph, *calls[0]), Judge(graph, calls)
    before = judge.sqnr(graph)
    note = smooth(graph, slots_of(graph), seen, ALL)
    inputs = counted(done, "layer's input", "layers' inputs")
    assert note == f"{inputs}, {free} of them at no cost"
    (value,) = floats(graph, *calls[0])
    torch.testing.assert_close(value, exact[0], rtol=1e-5, atol=1e-5 * float(exact[0].abs().max()))
    assert judge.sqnr(graph) >= before + 3 * done


def test_a_matrix_read_twice_stays() -> None:
    model = Norm(lambda m, x: torch.matmul(x, m.matrix) @ m.matrix.t())
    calls = [(torch.randn(5, 16),) for _ in range(3)]
    graph, seen = settled(model, calls)
    (exact,) = floats(graph, *calls[0])
    smooth(graph, slots_of(graph), seen, ALL)
    torch.testing.assert_close(floats(graph, *calls[0])[0], exact, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits(dtype: torch.dtype) -> None:
    calls = [(torch.randn(20, 16).to(dtype),) for _ in range(4)]
    graph, seen = settled(Norm(lambda m, x: m.a(x)).to(dtype), calls)
    (exact,), judge = floats(graph, *calls[0]), Judge(graph, calls)
    before = judge.sqnr(graph)
    assert smooth(graph, slots_of(graph), seen, ALL).startswith("1 ")
    (value,) = floats(graph, *calls[0])
    assert value.dtype == dtype
    torch.testing.assert_close(value, exact, rtol=0, atol=0.03 * float(exact.abs().max()))
    assert judge.sqnr(graph) > before + 3


def test_what_float16_does_not_hold_stays() -> None:
    model = nn.Linear(16, 4).half()
    model.weight[:] = 6e4
    x = torch.randn(20, 16).half() * 0.01
    x[:, 3] *= 1000
    graph, seen = settled(model, [(x,)])
    smooth(graph, slots_of(graph), seen, Recipe(smooth=(1.0,), product_gain=1.0))
    tensors = [tensor for name, tensor in graph.state_dict().items() if "activation_post_process" not in name]
    assert tensors
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


CONVOLUTIONS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "one dim": (lambda: nn.Conv1d(4, 8, 3), (2, 4, 20)),
    "groups": (lambda: nn.Conv2d(4, 8, 3, groups=2), (2, 4, 9, 9)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4), (2, 4, 9, 9)),
    "three dims, no bias": (lambda: nn.Conv3d(4, 8, 2, bias=False), (1, 4, 5, 5, 5)),
    "no batch": (lambda: nn.Conv2d(4, 8, 3), (4, 9, 9)),
    "padding by name": (lambda: nn.Conv2d(4, 8, 3, padding="same"), (2, 4, 9, 9)),
}


@pytest.mark.parametrize(("make", "shape"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolutions(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    factors = 10 ** torch.linspace(-1.5, 1.5, 4).reshape(-1, *[1] * (2 if shape[0] == 4 else len(shape) - 2))
    calls = [(torch.randn(shape) * factors,) for _ in range(4)]
    model = make()
    own: Any = model.weight
    inputs = own.shape[1]
    if inputs == 1:  # depthwise: an input's channel is an output's
        own /= factors.reshape(-1, *[1] * (own.dim() - 1))
    elif inputs == 4:
        own /= factors.reshape(1, -1, *[1] * (own.dim() - 2))
    graph, seen = settled(model, calls)
    (exact,), judge = floats(graph, *calls[0]), Judge(graph, calls)
    before = judge.sqnr(graph)
    assert smooth(graph, slots_of(graph), seen, ALL) == "1 layer's input, 0 of them at no cost"
    torch.testing.assert_close(floats(graph, *calls[0])[0], exact, rtol=1e-5, atol=1e-5 * float(exact.abs().max()))
    assert judge.sqnr(graph) > before


def test_transposed_convolutions_stay() -> None:
    calls = [(torch.randn(1, 4, 5, 5) * torch.tensor([1.0, 50, 1, 1])[:, None, None],)]
    graph, seen = settled(nn.ConvTranspose2d(4, 8, 2), calls)
    assert smooth(graph, slots_of(graph), seen, ALL).startswith("0 ")


def test_dead_channels_and_zeros() -> None:
    model = nn.Linear(8, 4)
    model.weight[:, 2] = 0
    model.weight[1] = 0
    uneven = torch.randn(50, 8) * torch.tensor([0, 1, 1, 100, 1, 1, 1, 1])
    for x in (torch.zeros(3, 8), torch.full((3, 8), 0.7), uneven):
        graph, seen = settled(model, [(x,)])
        (exact,) = floats(graph, x)
        smooth(graph, slots_of(graph), seen, ALL)
        (value,) = floats(graph, x)
        torch.testing.assert_close(value, exact, rtol=1e-5, atol=1e-5 * float(exact.abs().max()))


def test_scaled_values_say_so() -> None:
    calls = [(torch.randn(2, 5, 16),) for _ in range(4)]
    graph, seen = settled(Norm(lambda m, x: m.a(functional.gelu(m.a(x)) * 1) + m.b(x)), calls)
    plain = {node.name: node for node in graph.graph.nodes}
    assert all(factors_of(node) is None for node in plain.values())
    graph, seen = settled(Norm(lambda m, x: m.b(functional.gelu(m.a(x)))), calls)
    inside = {str(node.target): node for node in graph.graph.nodes}
    smooth(graph, slots_of(graph), seen, ALL)
    run(graph, calls[0])
    assert factors_of(inside["aten.layer_norm.default"]) is not None
    assert factors_of(inside["aten.gelu.default"]) is None
