"""Convolutions amid other operators: who reads what, through which view, with sizes that vary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lower86
from lower86 import X86Quantizer
from tests.models.checks import lower_anyhow
from tests.models.quantized import quantize

C = nn.Conv2d


class Graph(nn.Module):
    """Some modules, and what is made of them."""

    def __init__(self, modules: list[nn.Module], function: Callable[..., Any]) -> None:
        super().__init__()
        self.parts, self.function = nn.ModuleList(modules), function

    def forward(self, x: Tensor) -> Any:
        return self.function(x, *self.parts)


def three() -> list[nn.Module]:
    return [C(3, 16, 3, padding=1), C(16, 8, 3, padding=1), C(16, 8, 3, padding=1)]


def both(x: Tensor, a: Any, b: Any, c: Any, part: Callable[[Tensor], Tensor]) -> Any:
    """A padded reader of the whole value, and one of a part of it."""
    y = torch.relu(a(x))
    return b(y), c(part(y))


def check(model: nn.Module, x: Tensor, *others: Tensor, dynamic: Any = None) -> Any:
    """Nothing runs in PyTorch, and the results are the quantized model's, but for a rounding here and there."""
    quantized = quantize(model.eval(), (x,), quantizer=X86Quantizer(), dynamic_shapes=dynamic)
    lowered = lower_anyhow(quantized, x, **({} if dynamic is None else {"dynamic_shapes": dynamic}))
    explanation = lower86.explain(lowered)
    assert (explanation.foreign, explanation.refused) == ((), ())
    for given in (x, *others):
        got, wanted = lowered(given), quantized(given)
        for one, other in zip(*((r,) if isinstance(r, Tensor) else r for r in (got, wanted)), strict=True):
            # A rounding may fall the other way, which is a step of one element; what is wrong is wrong by far more.
            assert (one.shape, one.dtype) == (other.shape, other.dtype)
            assert (one - other).norm() <= 0.01 * other.norm()
    return lowered


PARTS: dict[str, Callable[[Tensor], Tensor]] = {
    "inside": lambda y: y[:, :, 1:-1, 2:-2],
    "every other": lambda y: y[:, :, ::2, ::2],
    "turned": lambda y: y.transpose(2, 3),
    "batch and space": lambda y: y[:, :, :2].permute(2, 1, 0, 3),
    "spread": lambda y: y.mean((2, 3), keepdim=True).expand(2, 16, 7, 7),
    "flipped": lambda y: y.flip(3),
    "all": lambda y: y,
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_a_value_has_a_halo_of_its_own(part: str) -> None:
    check(Graph(three(), lambda x, *modules: both(x, *modules, PARTS[part])), torch.randn(2, 3, 9, 9))


def test_pools_and_convolutions_of_parts() -> None:
    def pools(x: Tensor, a: Any) -> Any:
        y = torch.relu(a(x))
        return F.max_pool2d(y, 3, 1, 1), F.max_pool2d(y[:, :, 2:-2], 3, 1, 1), F.avg_pool2d(y[:, 4:8], 3, 2, 1)

    check(Graph([C(3, 16, 3, padding=1)], pools), torch.randn(2, 3, 9, 9))
    check(Graph([C(3, 16, 3, padding=1), C(3, 8, 3, padding=1)], lambda x, a, b: (a(x), b(x[:, :, 1:]))),
          torch.randn(2, 3, 9, 9))  # fmt: skip


UNBATCHED: list[tuple[list[nn.Module], Callable[..., Any], tuple[int, ...]]] = [
    ([C(3, 16, 3, padding=1)], lambda x, a: F.max_pool2d(torch.relu(a(x)), 3, 2, 1), (3, 9, 9)),
    ([C(3, 16, 3, padding=1)], lambda x, a: F.avg_pool2d(torch.relu(a(x)), 3, 2, 1), (3, 9, 9)),
    ([nn.Conv1d(3, 16, 3, padding=1)], lambda x, a: a(F.max_pool1d(x, 3, 2, 1)), (3, 9)),
    ([nn.Conv1d(3, 16, 3, padding=1)], lambda x, a: F.adaptive_avg_pool1d(a(x), 4), (3, 9)),
]


@pytest.mark.parametrize(("modules", "function", "shape"), UNBATCHED)
def test_without_a_batch_dim(modules: list[nn.Module], function: Callable[..., Any], shape: tuple[int, ...]) -> None:
    check(Graph(modules, function), torch.randn(shape))


ALONG: dict[str, tuple[list[nn.Module], Callable[..., Any]]] = {
    "uneven average": ([C(3, 16, 3)], lambda x, a: F.adaptive_avg_pool2d(torch.relu(a(x)), (3, 4))),
    "uneven maximum": ([C(3, 16, 3)], lambda x, a: F.adaptive_max_pool2d(torch.relu(a(x)), (3, 4))),
    "float64": ([C(3, 16, 3)], lambda x, a: F.max_pool2d(a(x).double(), 3, 2, 1).float()),
    "nearest": (three(), lambda x, a, b, c: b(F.interpolate(torch.relu(a(x)), scale_factor=2))),
    "bilinear": (three(), lambda x, a, b, c: b(F.interpolate(torch.relu(a(x)), scale_factor=2, mode="bilinear"))),
    "shuffle": ([C(3, 16, 3), C(4, 4, 3, padding=1)], lambda x, a, b: b(F.pixel_shuffle(torch.relu(a(x)), 2))),
    "concat": (
        [C(3, 8, 3, padding=1), C(3, 8, 1), C(16, 4, 3, padding=1)],
        lambda x, a, b, c: c(torch.cat([a(x).relu(), b(x).relu()], 1)),
    ),
    "few taps": ([nn.ConvTranspose2d(3, 3, 1, stride=3, groups=3)], lambda x, a: a(x)),
    "two readers": ([C(3, 16, 3), nn.ConvTranspose2d(16, 8, 4, 2, 1)], lambda x, a, b: (lambda y: (y, b(y)))(a(x))),
    "norm": (
        [C(3, 16, 3), nn.LayerNorm(16), nn.Linear(16, 8)],
        lambda x, a, norm, b: b(norm(a(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2),
    ),
    "squeeze and excite": (
        [C(3, 16, 3), C(16, 4, 1), C(4, 16, 1), C(16, 8, 1)],
        lambda x, a, b, c, d: (lambda y: d(y * c(b(F.adaptive_avg_pool2d(y, 1)).relu()).sigmoid()))(F.silu(a(x))),
    ),
}


@pytest.mark.parametrize("name", ALONG)
def test_what_stands_between(name: str) -> None:
    check(Graph(*ALONG[name]), torch.randn(2, 3, 9, 9))


def test_the_parts_of_a_concatenation_are_computed_where_they_belong() -> None:
    lowered = check(Graph(*ALONG["concat"]), torch.randn(2, 3, 9, 9))
    assert not [step.label for step in lowered.program.steps if "part" in step.label]


A = torch.export.Dim.AUTO
VARYING: dict[str, tuple[list[nn.Module], Callable[..., Any], dict[int, Any], tuple[int, ...]]] = {
    "pad": ([C(3, 8, 3)], lambda x, a: a(F.pad(x, (0, 1, 0, 1))), {0: A}, (5, 3, 9, 9)),
    "same": ([C(3, 8, 4, padding="same")], lambda x, a: a(x), {0: A, 2: A, 3: A}, (4, 3, 11, 8)),
    "crop": ([C(3, 16, 3)], lambda x, a: a(F.pad(x, (-1, 1, 0, 1))), {0: A, 2: A}, (5, 3, 12, 9)),
    "batch": (three(), lambda x, a, b, c: both(x, a, b, c, lambda y: y[:, :, 1:]), {0: A}, (1, 3, 9, 9)),
    "nothing": (three(), lambda x, a, b, c: both(x, a, b, c, lambda y: y[:, :, 1:]), {0: A}, (0, 3, 9, 9)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", VARYING)
def test_sizes_that_vary(name: str) -> None:
    modules, function, dims, other = VARYING[name]
    check(Graph(modules, function), torch.randn(2, 3, 9, 9), torch.randn(other), dynamic=(dims,))


def test_a_mean_over_channels_last_of_any_batch() -> None:
    model = Graph([C(3, 16, 3)], lambda x, a: F.adaptive_avg_pool2d(torch.relu(a(x)), 1).flatten(1))
    x, other = (torch.randn(n, 3, 9, 9).to(memory_format=torch.channels_last) for n in (2, 5))
    check(model, x, other, dynamic=({0: A},))


def test_nan_is_the_zero_point_even_times_nothing() -> None:
    model = Graph([C(16, 4, 1)], lambda x, a: a(x * 0.0 - 0.5))
    x = torch.randn(1, 16, 3, 3)
    lowered = lower_anyhow(quantize(model, (x,), quantizer=X86Quantizer()), x)
    x[0, 0, 0, 0], x[0, 1, 1, 1] = float("nan"), float("inf")
    torch.testing.assert_close(lowered(x), lowered.run_reference(x))


def test_outputs_without_taps_do_not_read_the_input() -> None:
    model, x = nn.ConvTranspose2d(4, 2, 1, stride=2).eval(), torch.randn(1, 4, 3, 3)
    lowered = lower_anyhow(torch.export.export(model, (x,)).module(), x)
    x[0, 0, 0, 0] = float("nan")
    assert torch.equal(lowered(x).isnan(), model(x).isnan())
