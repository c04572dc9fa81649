"""Convolutions of every kind become int8, and give the bits of the quantized model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lower86
from lower86.lowered import LoweredModule
from tests.models.checks import agree, lower, near, same, warned
from tests.models.counting import int8_macs
from tests.models.qdq import S8, U8, Scale, grid
from tests.models.qdq_conv import GEOMETRIES, PLAIN, SIZES, TRANSPOSED, Conv, Kinds, Side

# PyTorch, of what it computes for padding="same" itself.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")

AUTO = torch.export.Dim.AUTO


def check(model: nn.Module, x: Tensor, operators: int) -> LoweredModule:
    """Every convolution is int8, and has the bits of the model's, by its kernel and by its reference."""
    lowered = lower(model, x)
    agree(model, lowered, x)
    same(lowered.run_reference(x), lowered(x))
    explanation = lower86.explain(lowered)
    assert explanation.int8_fraction == 1
    assert len(explanation.operators) == operators
    return lowered


@pytest.mark.parametrize("name", GEOMETRIES)
def test_geometry(name: str) -> None:
    dims, kinds = GEOMETRIES[name]
    model = Side(kinds, c=4, n=4, taps=(3,) * dims, transposed="transposed" in name)
    check(model, grid(2, 4, *SIZES[dims]), len(kinds))


@pytest.mark.parametrize(("dims", "batch"), [(1, ()), (2, ()), (3, ()), (2, (0,))], ids=str)
def test_no_batch_and_an_empty_one(dims: int, batch: tuple[int, ...]) -> None:
    kinds: Kinds = [{"padding": 1}, {"groups": 4, "stride": 2}, {"taps": (2,) * dims, "padding": "same"}]
    kinds += [{"transposed": True, "stride": 2}, {"pad": (1, 0), "groups": 4}]
    model, x = Side(kinds, c=4, n=4, taps=(3,) * dims), grid(*batch, 4, *SIZES[dims])
    agree(model, lower(model, x), x)


def test_a_transposed_convolution_is_no_convolution() -> None:
    """Of one weight, where shapes do not tell them apart."""
    plain, transposed = (Conv(4, 4, axis=None, padding=1, transposed=kind) for kind in (False, True))
    transposed.weight, transposed.bias = plain.weight, plain.bias
    x = grid(2, 4, 6, 6)
    results = [check(model, x, 1)(x) for model in (plain, transposed)]
    assert results[0].shape == results[1].shape
    assert not torch.equal(*results)


WEIGHTS: Kinds = [
    {}, {"axis": None}, {"bias": False}, {"weight": -128}, {"zero_point": 3}, {"zero_point": [-128, 127, 0, 5]},
    {"dtype": torch.uint8, "zero_point": 128}, {"dtype": torch.uint8, "axis": None},
    {"dtype": torch.uint8, "zero_point": 255, "weight": 0}, {"dtype": torch.uint8, "zero_point": [0, 255, 17, 128]},
]  # fmt: skip
ACTIVATIONS = [
    Scale(zero_point=0), Scale(zero_point=1), Scale(zero_point=127), Scale(zero_point=255), S8,
    Scale(2.0**-4, -128, -128, 127, torch.int8), Scale(2.0**-4, 127, -128, 127, torch.int8),
]  # fmt: skip


@pytest.mark.parametrize("number", range(4))
def test_dtypes_scales_and_zero_points(number: int) -> None:
    """Every activation and every weight, in other pairs each time; around x is its zero point."""
    options = ({}, {"groups": 2}, {"groups": 4}, {"groups": 2, "n": 8, "transposed": True, "stride": 2})[number]
    pairs = [(x, w) for i, x in enumerate(ACTIVATIONS) for j, w in enumerate(WEIGHTS) if (i + 2 * j) % 7 == number]
    model = Side([{"x": x, **w} for x, w in pairs], **{"c": 4, "n": 4, "taps": (3, 2), "padding": 1, **options})
    check(model, grid(2, 4, 5, 6), len(pairs))


@pytest.mark.parametrize("c", [1, 3, 4, 5, 64, 65])
def test_channels(c: int) -> None:
    kinds: Kinds = [{"n": n, "padding": 1} for n in (1, 17, 65)]
    kinds += [{"n": c, "groups": c, "padding": 1}, {"n": 2 * c, "groups": c, "stride": 2}, {"n": 64, "taps": (1, 1)}]
    kinds += [{"n": 5, "transposed": True, "stride": 2}]
    check(Side(kinds, c=c, taps=(3, 2), x=S8 if c % 2 else U8), grid(1, c, 4, 6), len(kinds))


@pytest.mark.parametrize("x", [Scale(zero_point=0), S8], ids=["u8", "s8"])
def test_sums_beyond_32_bits_are_exact(x: Scale) -> None:
    model = Conv(7800, 3, x=x, weight=127)
    inputs = torch.cat([torch.full((1, 7800, 3, 3), 99.0), torch.full((1, 7800, 3, 3), -99.0)])
    xs = (inputs.double() / x.scale).round().add(x.zero_point).clamp(x.low, x.high).sub(x.zero_point)
    sums = (xs * 127).sum((1, 2, 3))[:, None] * (x.scale * model.scales.double()) + model.bias.double()
    torch.testing.assert_close(lower(model, inputs)(inputs).double().flatten(1), sums, rtol=2.0**-23, atol=0)


class Joined(nn.Module):
    """`join(convolution of x, y)`, each join with a convolution of its own."""

    def __init__(self, joins: list[Any], **options: Any) -> None:
        super().__init__()
        self.joins, self.convolutions = joins, nn.ModuleList(Conv(4, 4, **options) for _ in joins)

    def forward(self, x: Tensor, y: Tensor) -> list[Any]:
        return [join(self.convolutions[i](x), y) for i, join in enumerate(self.joins)]


OUT = Scale(2.0**-3, 100)
JOINS = [
    lambda a, y: a + y,
    lambda a, y: torch.relu(y + a),
    lambda a, y: torch.relu(a) + y,
    lambda a, y: torch.add(a, y, alpha=2),
    lambda a, y: torch.add(y, a, alpha=2),
    lambda a, y: a.add_(y).relu_(),
    lambda a, y: a + y.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
    lambda a, y: a * y[:, :, :1, :1] + y[0, 0],
    lambda a, y: OUT(a + OUT(y)),
    lambda a, y: OUT(torch.relu(OUT(y) + a)),
    lambda a, y: (a, OUT(a), torch.relu(a + y)),
    lambda a, y: (OUT(torch.relu(a)), a.permute(0, 2, 3, 1)),
    lambda a, y: a.add(1).flatten(1),
]


@pytest.mark.parametrize("options", [{}, {"groups": 4}, {"transposed": True, "groups": 2}], ids=str)
def test_joined(options: dict[str, Any]) -> None:
    model, x, y = Joined(JOINS, padding=1, **options), grid(2, 4, 5, 6), grid(2, 4, 5, 6)
    agree(model, lower(model, x, y), x, y)


class Chain(nn.Module):
    """A residual block, whose values have readers with other paddings."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Conv(3, 4, padding=1), Conv(4, 4, x=OUT, padding=2, dilation=2)
        self.third, self.fourth = (
            Conv(4, 4, x=OUT, groups=4, padding=(0, 1)),
            Conv(4, 2, x=S8, transposed=True, stride=2),
        )

    def forward(self, x: Tensor) -> Any:
        a = torch.relu(self.first(x))
        b = self.second(a)
        return OUT(b + OUT(a)), self.third(a), self.fourth(torch.relu(b)), OUT(a)


def test_chained() -> None:
    check(Chain(), grid(2, 3, 6, 7), 4)


DYNAMIC: Kinds = [
    {"padding": 1}, {"stride": 2}, {"dilation": 2, "groups": 2, "padding": 2}, {"groups": 4, "padding": 1},
    {"groups": 4, "n": 8}, {"taps": (1, 1)}, {"transposed": True, "stride": 2, "padding": 1, "output_padding": 1},
    {"transposed": True, "stride": 3, "taps": (2, 2)}, {"transposed": True, "groups": 4, "stride": 2},
]  # fmt: skip
PADDED: Kinds = [{"pad": (1, 0, 2, 1)}, {"padding": "same", "taps": (2, 4)}]


@pytest.mark.parametrize("kinds", [DYNAMIC, PADDED], ids=["paddings", "pads"])
@pytest.mark.parametrize("axes", [(0,), (0, 2, 3)], ids=str)
def test_dynamic_sizes(axes: tuple[int, ...], kinds: Kinds) -> None:
    model, x = Side(kinds, c=4, n=4), grid(2, 4, 7, 9)
    lowered = lower(model, x, dynamic_shapes=(dict.fromkeys(axes, AUTO),))
    for shape in ((2, 4, 7, 9), (1, 4, 5, 6), (0, 4, 8, 8), (3, 4, 12, 5)):
        known = [shape[axis] if axis in axes else size for axis, size in enumerate(x.shape)]
        agree(model, lowered, grid(*known))


class Normed(nn.Module):
    """A convolution, and a batch norm that cannot be part of it: a scale and an offset a channel."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = Conv(4, 5, padding=1), nn.BatchNorm2d(5)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(torch.relu(self.convolution(x)))
        return normed


def test_a_batch_of_as_many_as_there_are_channels() -> None:
    model, x = Normed().eval(), grid(2, 4, 6, 7)
    lowered = lower(model, x, dynamic_shapes=({0: AUTO},))
    for batch in (2, 4, 5, 6, 7):
        agree(model, lowered, grid(batch, 4, 6, 7), compare=near)


@pytest.mark.parametrize("transposed", [False, True])
def test_scales_along_another_axis_are_refused(transposed: bool) -> None:
    axis = 0 if transposed else 1
    model, x = Conv(4, 6, axis=axis, transposed=transposed, padding=1), grid(2, 4, 5, 6)
    lowered, messages = warned(model, x)
    assert len(messages) == 1
    (record,) = lower86.explain(lowered).refused
    assert record.reason.startswith(f"the weight is quantized along axis {axis}, a summed one")
    agree(model, lowered, x)


def test_multiplications_are_counted() -> None:
    kinds = [*PLAIN[::3], *({"transposed": True, **kind} for kind in TRANSPOSED[::3])]
    model, x = Side(kinds, c=4, n=8), grid(2, 4, 7, 9)
    lowered = lower(model, x)
    counted = int8_macs(torch.export.export(model, (x,)).module(), x)
    assert [record.macs for record in lower86.explain(lowered).operators] == list(counted.values())
    again = lower86.explain(lower(lowered, x))
    assert [record.macs for record in again.operators] == list(counted.values())
