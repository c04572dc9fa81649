"""`torch.compile` with lower86 behind it gives what the model gives, whatever changes between calls."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lower86
from lower86.integrations.torch_compile import CompiledFrame, backend

from ..models.quantized import quantize


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch.compiler.reset()
    with torch.no_grad():
        yield
    torch.compiler.reset()


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Linear(40, 9)).eval()


def near(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def compiled(model: Any, **settings: Any) -> tuple[Any, list[CompiledFrame]]:
    """The compiled model, and the frames that lower86 was given."""
    frames: list[CompiledFrame] = []

    def recording(graph_module: Any, example_inputs: Any, **options: Any) -> Any:
        frames.append(backend(graph_module, example_inputs, **options))
        return frames[-1]

    settings.setdefault("options", {"on_fallback": "raise"})
    return torch.compile(model, backend=recording, **settings), frames


@pytest.mark.parametrize("dynamic", [None, True, False])
def test_float(dynamic: bool | None) -> None:
    model = network()
    run, frames = compiled(model, dynamic=dynamic)
    for n in (4, 7, 1, 33):
        x = torch.randn(n, 24)
        near(run(x), model(x))
    assert len(frames) == {None: 3, True: 2, False: 4}[dynamic], "1 is a graph of its own"


def test_quantized_graphs_run_in_int8() -> None:
    x = torch.randn(16, 24)
    model = quantize(network(), (x,))
    run, frames = compiled(model)
    near(run(x), model(x))
    (frame,) = frames
    assert frame.lowered is not None
    found = lower86.explain(frame.lowered)
    assert found.int8_fraction == 1
    assert not found.foreign


def test_by_name() -> None:
    model, x = network(), torch.randn(3, 24)
    assert "lower86" in torch.compiler.list_backends()
    near(torch.compile(model, backend="lower86")(x), model(x))


def test_weights_that_change() -> None:
    model, x = network(), torch.randn(3, 24)
    run, _ = compiled(model)
    near(run(x), model(x))
    for change in (lambda: model[0].weight.mul_(2), lambda: model[1].running_mean.add_(1)):
        change()
        near(run(x), model(x))
    model[3].weight = nn.Parameter(torch.randn(9, 40))
    near(run(x), model(x))


def test_sizes_and_numbers() -> None:
    def function(x: Tensor, n: float, p: int) -> tuple[Tensor, int, Tensor]:
        return (x * n).view(x.shape[0] // 2, -1), x.shape[0] + p, x.sum(1)

    run, frames = compiled(function)
    for rows, n, p in ((4, 2.0, 1), (6, 3.0, 2), (8, 4.0, 3)):
        x = torch.randn(rows, 6)
        for got, wanted in zip(run(x, n, p), function(x, n, p), strict=True):
            near(torch.as_tensor(got), torch.as_tensor(wanted))
    assert len(frames) == 2


def test_numbers_that_keep_changing_go_to_pytorch() -> None:
    def function(x: Tensor, n: float) -> Tensor:
        return x * n

    run, _ = compiled(function, dynamic=True, options={"on_fallback": "warn"})
    x = torch.randn(5, 6)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for n in range(12):
            near(run(x, n + 0.5), function(x, n + 0.5))
    assert any("keep changing" in str(one.message) for one in heard)


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = nn.Buffer(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        return x + self.calls


def test_state_goes_to_pytorch() -> None:
    model, x = Counting(), torch.zeros(2, 3)
    run, _ = compiled(model, options={})
    with pytest.warns(lower86.Lower86Warning, match="a graph runs in PyTorch.* writes"):
        near(run(x), torch.ones(2, 3))
    near(run(x), torch.full((2, 3), 2.0))
    assert model.calls == 2


def test_gradients_go_to_pytorch() -> None:
    model, x = network(), torch.randn(3, 24)
    run, _ = compiled(model, options={})
    with torch.enable_grad(), pytest.warns(lower86.Lower86Warning, match="gradients are wanted"):
        run(x).sum().backward()
    assert model[0].weight.grad is not None
    near(run(x), model(x))


def test_what_cannot_be_is_said() -> None:
    model, x = Counting(), torch.zeros(2, 3)
    run, _ = compiled(model)
    with pytest.raises(Exception, match="writes"):
        run(x)
    with pytest.raises(Exception, match="unknown options"):
        compiled(network(), options={"targets": "avx2"})[0](torch.randn(3, 24))
