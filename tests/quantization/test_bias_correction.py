"""After bias correction, the mean difference of each layer's channels to the exact ones is nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lower86.quantization.bias_correction import correct_biases
from lower86.quantization.simulate import simulated
from lower86.quantization.watch import run
from tests.quantization.prepared import floats, settled, silent


class Addmm(nn.Module):
    """A linear as GPT-2 writes it, f32 [n, 8]; `beta` weighs its bias."""

    def __init__(self, *, beta: float = 1, wide: bool = True) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(8, 6)), nn.Parameter(torch.randn(6 if wide else 1))
        self.beta = beta

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight, beta=self.beta)


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "linear": (lambda: nn.Linear(8, 6), (4, 3, 8), -1),
    "linear without bias": (lambda: nn.Linear(8, 6, bias=False), (4, 8), -1),
    "linear of a vector": (lambda: nn.Linear(8, 6), (8,), -1),
    "convolution": (lambda: nn.Conv2d(4, 6, 3, groups=2), (2, 4, 7, 7), 1),
    "convolution without batch and bias": (lambda: nn.Conv2d(4, 6, 3, bias=False), (4, 7, 7), 0),
    "transposed": (lambda: nn.ConvTranspose1d(4, 6, 3), (2, 4, 7), 1),
    "addmm": (Addmm, (5, 8), -1),
    "addmm with one bias": (lambda: Addmm(wide=False), (5, 8), -1),
}


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("make", "shape", "channel"), LAYERS.values(), ids=LAYERS)
def test_no_channel_is_off_in_the_mean(
    make: Callable[[], nn.Module], shape: tuple[int, ...], channel: int, dtype: torch.dtype
) -> None:
    model = make().to(dtype)
    calls: list[tuple[Any, ...]] = [((torch.randn(shape) + 0.3).to(dtype),) for _ in range(4)]
    graph, _ = settled(model, calls)

    def means() -> Tensor:
        with simulated(graph):
            got = torch.stack([run(graph, call)[0] for call in calls]).double()
        exact = torch.stack([model(*call) for call in calls]).double()
        return (got - exact).movedim(channel + 1 if channel >= 0 else channel, 0).flatten(1).mean(1).abs()

    before = means().max()
    assert correct_biases(graph, calls, silent) == "1 layer"
    exact = torch.stack([model(*call) for call in calls]).abs().max()
    assert means().max() < (0.1 * before if dtype == torch.float32 else before + 2.0**-8 * exact)
    assert means().max() < (1e-5 if dtype == torch.float32 else 2.0**-7) * max(1.0, float(exact))


def test_a_bias_that_is_weighed_or_given_stays() -> None:
    class Given(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 8))

        def forward(self, x: Tensor, bias: Tensor) -> Tensor:
            return nn.functional.linear(x, self.weight, bias)

    for model, call in ((Addmm(beta=2), (torch.randn(5, 8),)), (Given(), (torch.randn(5, 8), torch.randn(6)))):
        graph, _ = settled(model, [call])
        before = floats(graph, *call)[0]
        assert correct_biases(graph, [call], silent) == "0 layers"
        assert torch.equal(floats(graph, *call)[0], before)


def test_a_module_called_twice_has_a_bias_for_each_call() -> None:
    linear = nn.Linear(8, 8)
    before = linear.bias.clone()
    calls = [(torch.randn(20, 8) + 0.5,)]
    graph, _ = settled(nn.Sequential(linear, nn.ReLU(), linear), calls)
    assert correct_biases(graph, calls, silent) == "2 layers"
    biases = {str(node.args[2]) for node in graph.graph.nodes if "linear" in str(node.target)}
    assert len(biases) == 2
    assert torch.equal(linear.bias, before), "the model's own"
