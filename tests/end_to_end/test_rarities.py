"""What few models hold, but some do: writes, branches, recurrences, operators of one's own."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lower86
from tests.models.checks import agree, lower, lower_anyhow, near, warned
from tests.models.qdq import Linear, grid


class After(nn.Module):
    """`function(linear(x), x, module)`, the module one of `parts`."""

    def __init__(self, function: Any, part: nn.Module | None = None) -> None:
        super().__init__()
        self.linear, self.function, self.part = Linear(8, 8), function, part
        self.register_buffer("state", torch.zeros(3, 8))

    def forward(self, x: Tensor) -> Any:
        return self.function(self.linear(x), x, self.part if self.part is not None else self)


WRITES = {
    "a parameter": (lambda y, x, m: y + m.bias.detach().add_(1), "its parameter 'part.bias'"),
    "an input": (lambda y, x, m: y + x.mul_(2), "its input 'x'"),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_model_that_writes_is_refused(name: str) -> None:
    function, written = WRITES[name]
    with pytest.raises(lower86.GraphError, match=written) as caught:
        lower_anyhow(After(function, nn.Linear(8, 8)), grid(3, 8))
    assert "return what is to become of it" in str(caught.value)


def test_batch_norm_in_training_is_refused() -> None:
    model = After(lambda y, x, m: m(y), nn.BatchNorm1d(8)).train()
    with pytest.raises(lower86.GraphError, match=r"part\.(running_mean|num_batches_tracked)(.|\n)*eval mode"):
        lower_anyhow(model, grid(3, 8))


def test_writes_to_values_of_its_own_are_fine() -> None:
    def function(y: Tensor, x: Tensor, m: nn.Module) -> Tensor:
        z = y.clone()
        z[:, 1] = x[:, 2]
        z[0] += 1
        z.relu_()
        return torch.cat([z, y], 1)

    model, x = After(function), grid(3, 8)
    agree(model, lower_anyhow(model, x), x)


def test_batch_norm_at_inference_is_arithmetic() -> None:
    model = After(lambda y, x, m: m(y), nn.BatchNorm1d(8))
    for tensor in (model.part.running_mean, model.part.weight, model.part.bias):
        nn.init.normal_(tensor.data)
    model.eval()
    x = grid(3, 8)
    lowered = lower(model, x)
    agree(model, lowered, x, compare=near)
    assert len(lowered.program.steps) == 2  # quantize, linear with the norm behind it


def test_branches() -> None:
    def function(y: Tensor, x: Tensor, m: nn.Module) -> Tensor:
        return torch.cond(y.sum() > 0, lambda t: t * 2, lambda t: t - 1, (y,))

    model, x = After(function), grid(3, 8)
    lowered, (message,) = warned(model, x)
    assert "cond" in message
    for module in (lowered, copy.copy(lowered), copy.deepcopy(lowered)):
        agree(model, module, x)
        agree(model, module, -x)


def test_recurrences() -> None:
    model = After(lambda y, x, m: m(y[None])[0] * x, nn.GRU(8, 8, batch_first=True)).eval()
    x = grid(3, 8)
    agree(model, lower_anyhow(model, x), x, compare=near)


def test_an_autocast_region_is_part_of_the_graph() -> None:
    def function(y: Tensor, x: Tensor, m: nn.Module) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            z = nn.functional.linear(y, m.state)
        return z.float() + y

    model, x = After(function), grid(3, 8)
    model.state = torch.randn(8, 8)
    lowered = lower_anyhow(model, x)
    assert lower86.explain(lowered).foreign == ()
    # The product need not be rounded to bf16 here, as nothing stores it.
    agree(model, lowered, x, compare=partial(torch.testing.assert_close, rtol=2**-7, atol=2**-3))


def test_operators_of_ones_own() -> None:
    with torch.library._scoped_library("lower86_tests", "FRAGMENT") as library:
        library.define("twice(Tensor x) -> Tensor")
        library.impl("twice", lambda x: x * 2, "CompositeExplicitAutograd")
        torch.library.register_fake("lower86_tests::twice", torch.empty_like, lib=library)
        model, x = After(lambda y, x, m: torch.ops.lower86_tests.twice(y) + x), grid(3, 8)
        lowered, (message,) = warned(model, x)
        assert "lower86_tests::twice" in message
        agree(model, lowered, x)


def test_dropout_left_in_training_is_reported() -> None:
    model = After(lambda y, x, m: nn.functional.dropout(y, 0.5, training=True))
    _, (message,) = warned(model, grid(3, 8))
    assert "runs in PyTorch" in message


def test_sizes_as_results() -> None:
    model = After(lambda y, x, m: (y, x.shape[0], 2 * x.shape[0] + 1))
    lowered = lower(model, grid(3, 8), dynamic_shapes=({0: torch.export.Dim("batch")},))
    agree(model, lowered, grid(5, 8))
