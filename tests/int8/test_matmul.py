"""Int8 products of two activations: exact, whatever the operands, and as torchao's and our own quantizer write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as xiq
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.export import Dim

import lower86
from lower86 import X86Quantizer
from lower86.ops.matmul import int8_matmul
from lower86.program.kernels import Contraction, Pack
from tests.harness import examples
from tests.models.checks import agree, lower, lower_anyhow, near, same
from tests.models.counting import int8_macs
from tests.models.qdq import Q, Scale
from tests.models.quantized import in_float64, quantize

A = torch.ops.aten
U8, S8 = torch.uint8, torch.int8
LEVELS = ["avx512_vnni", "avx2"]


def scale(dtype: torch.dtype, zero_point: int) -> Scale:
    """A power of two, so that float32 computes products exactly while sums are small."""
    low, high = (0, 255) if dtype == U8 else (-128, 127)
    return Scale(2.0**-4, zero_point, low, high, dtype)


class Product(nn.Module):
    """Two activations, quantized by hand, changed by `before`, multiplied, and changed by `after`."""

    def __init__(
        self,
        left: Scale,
        right: Scale,
        before: Callable[[Tensor], Tensor] = lambda y: y,
        after: Callable[[Tensor], Tensor] = lambda z: z,
    ) -> None:
        super().__init__()
        self.left, self.right, self.before, self.after = left, right, before, after

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.after(torch.matmul(self.left(x), self.before(self.right(y))))


def over_all(*shape: int) -> Tensor:
    """Values that reach both ends of every quantization, and lie between steps."""
    return torch.randn(*shape) * 8


@st.composite
def products(draw: st.DrawFn) -> tuple[Product, Tensor, Tensor, str]:
    """Any dtypes, zero points, leading dims, sizes, and order of the right operand."""
    torch.manual_seed(draw(st.integers(0, 99)))
    scales = []
    for _ in range(2):
        dtype = draw(st.sampled_from([U8, S8]))
        ends = (0, 128, 255) if dtype == U8 else (-128, 0, 127)
        scales.append(scale(dtype, draw(st.sampled_from([*ends, 3]))))
    m, n = draw(st.sampled_from([1, 2, 6, 7, 13])), draw(st.sampled_from([1, 5, 16, 63, 64, 65, 130]))
    k = draw(st.sampled_from([0, 1, 2, 3, 4, 5, 18, 33, 64, 67]))
    leading = draw(
        st.sampled_from([((), ()), ((3,), (3,)), ((2, 3), (2, 3)), ((2, 3), ()), ((2, 1), (3,)), ((), (2,))])
    )
    order = draw(st.sampled_from([(0, 1), (1, 0)]))
    right = [(k, n)[d] for d in order]
    swap = (lambda y: y) if order == (0, 1) else (lambda y: y.transpose(-1, -2))
    x, y = over_all(*leading[0], m, k), over_all(*leading[1], *right)
    return Product(*scales, before=swap), x, y, draw(st.sampled_from(LEVELS))


@examples(12)
@given(case=products())
def test_products_are_exact(case: tuple[Product, Tensor, Tensor, str]) -> None:
    model, x, y, level = case
    lowered = lower(model, x, y, target=level)
    got = lowered(x, y)
    same(lowered.run_reference(x, y), got)
    same(got, model(x, y))


@pytest.mark.parametrize(
    ("left", "right", "level"),
    [(U8, U8, "avx512_vnni"), (U8, S8, "avx2"), (S8, U8, "avx2"), (S8, S8, "avx512_vnni")],
)
def test_sizes_that_vary(left: torch.dtype, right: torch.dtype, level: str) -> None:
    swaps = level == "avx2"
    zero_points = (255 if left == U8 else -128), (0 if right == U8 else 127)
    swap = (lambda y: y.transpose(-1, -2)) if swaps else (lambda y: y)
    model = Product(
        scale(left, zero_points[0]), scale(right, zero_points[1]), before=swap, after=lambda z: z.relu() + 1
    )
    b, m, k, n = Dim("b", max=9), Dim("m", max=99), Dim("k", max=300), Dim("n", max=200)
    x, y = over_all(2, 5, 7), over_all(2, 7, 9)
    shapes = {"x": {0: b, 1: m, 2: k}, "y": {0: b, 1: n, 2: k} if swaps else {0: b, 1: k, 2: n}}
    lowered = lower(model, x, swap(y).contiguous(), dynamic_shapes=shapes, target=level)
    assert not any("copy " in step.label for step in lowered.program.steps)
    for sizes in (
        (1, 1, 1, 1),
        (3, 13, 66, 65),
        (2, 0, 5, 3),
        (0, 4, 5, 3),
        (2, 3, 0, 5),
        (1, 6, 300, 130),
        (2, 3, 4, 0),
    ):
        x, y = over_all(*sizes[:3]), swap(over_all(sizes[0], *sizes[2:])).contiguous()
        same(lowered(x, y), model(x, y))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("most", [None, 100_000])
def test_sums_may_need_64_bits(level: str, most: int | None) -> None:
    """Of the largest terms, all of one sign, and in a size that export gives no bound, or a large one."""
    model = Product(scale(U8, 0), scale(U8, 255))
    k = Dim("k", max=most) if most else Dim("k")
    shapes = {"x": {1: k}, "y": {0: k}}
    x, y = torch.full((2, 8), 99.0), torch.full((8, 3), -99.0)
    lowered = lower(model, x, y, dynamic_shapes=shapes, target=level)
    assert [kernel.wide > 0 for kernel in lowered.program.kernels if isinstance(kernel, Contraction)] == [True]
    for size in (1, 7, 70_001):
        x, y = torch.full((2, size), 99.0), torch.full((size, 3), -99.0)
        wanted = torch.full((2, 3), -255.0 * 255 * size, dtype=torch.float64).float() * 2.0**-8
        same(lowered(x, y), wanted)


@pytest.mark.parametrize(
    ("zero_point", "has_rows"), [(scale(U8, 128), False), (scale(S8, 0), False), (scale(U8, 127), True)]
)
def test_rows_are_summed_only_where_that_matters(zero_point: Scale, has_rows: bool) -> None:
    x, y = over_all(3, 8), over_all(8, 5)
    lowered = lower(Product(scale(U8, 3), zero_point), x, y)
    (pack,) = [kernel for kernel in lowered.program.kernels if isinstance(kernel, Pack)]
    assert (pack.rows is not None) == has_rows


AFTER: dict[str, Callable[[Tensor], Tensor]] = {
    "a bias": lambda z: z + torch.linspace(-1, 1, z.shape[-1]),
    "relu and a number": lambda z: torch.relu(z) * 0.5,
    "quantized": lambda z: Q.quantize_per_tensor(torch.relu(z), 0.37, 4, 0, 255, U8),
    "permuted": lambda z: z.transpose(1, 2).reshape(2, -1),
    "reduced": lambda z: z.softmax(-1),
}


@pytest.mark.parametrize("name", AFTER)
def test_what_follows_is_part_of_it(name: str) -> None:
    x, y = over_all(2, 13, 33), over_all(2, 33, 70)
    model = Product(scale(U8, 7), scale(U8, 77), after=AFTER[name])
    lowered = lower(model, x, y)
    agree(model, lowered, x, y, compare=near)
    labels = [step.label for step in lowered.program.steps]
    # Two quantizes, the packing, the product; and what takes a step of its own in any case.
    assert len(labels) == (5 if name in ("reduced", "permuted") else 4), labels


class Heads(nn.Module):
    """Scores, and then what they would weight, without a softmax between: heads in the places projections leave."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(32, 32) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part(x).view(*x.shape[:2], 4, 8).transpose(1, 2) for part in (self.q, self.k, self.v))
        scores = torch.matmul(q, k.transpose(-1, -2)) / 9
        return self.out(torch.matmul(scores, v).transpose(1, 2).reshape(x.shape))


def matmuls_too() -> Any:
    """torchao's own quantizer, with products of activations, which it leaves alone otherwise."""
    config = xiq.get_default_x86_inductor_quantization_config()
    return xiq.X86InductorQuantizer().set_global(config).set_function_type_qconfig(torch.matmul, config)


@pytest.mark.parametrize("make", [matmuls_too, X86Quantizer])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_quantized_graphs(make: Callable[[], Any], dtype: torch.dtype) -> None:
    model, x = Heads().to(dtype), torch.randn(2, 19, 32).to(dtype)
    quantized = quantize(model, (x,), quantizer=make())
    lowered = lower(quantized, x)
    explanation = lower86.explain(lowered)
    assert (explanation.int8_fraction, explanation.foreign) == (1.0, ())
    assert [record.macs for record in explanation.operators if record.operator == "matmul"] == [2 * 4 * 19 * 19 * 8] * 2
    assert sum(record.macs for record in explanation.operators) == sum(int8_macs(quantized, x).values())
    assert [node.target for node in lowered.graph.nodes].count(int8_matmul) == 2
    assert not any("copy " in step.label for step in lowered.program.steps)
    with torch.no_grad():
        exact, wanted, real = in_float64(quantized)(x.double()), quantized(x), model(x)
    if dtype == torch.float32:
        assert (lowered(x) - wanted).norm() <= 0.25 * (wanted - real).norm()
    else:
        assert (lowered(x) - exact).norm() <= 1.25 * (wanted - exact).norm()
    again = lower86.lower_pt2e_quantized_to_x86(lowered, (x,))
    assert [r.macs for r in lower86.explain(again).operators] == [r.macs for r in explanation.operators]


def test_a_quantized_graph_of_any_size() -> None:
    model, x = Heads(), torch.randn(2, 19, 32)
    shapes = {"x": {0: Dim("b", max=9), 1: Dim("n", max=300)}}
    quantized = quantize(model, (x,), quantizer=matmuls_too(), dynamic_shapes=shapes)
    lowered = lower(quantized, x)
    assert lower86.explain(lowered).int8_fraction == 1
    for b, n in ((1, 1), (2, 64), (9, 5), (1, 130)):
        x = torch.randn(b, n, 32)
        wanted = quantized(x)
        assert (lowered(x) - wanted).norm() <= 0.02 * wanted.norm()


class Weighted(nn.Module):
    """A product with a constant for each batch, quantized along its dim `axis`."""

    def __init__(self, axis: int, zero: int = 0, batch: int = 3) -> None:
        super().__init__()
        self.axis = axis
        self.register_buffer("weight", torch.randint(-128, 128, (batch, 8, 5), dtype=torch.int8))
        count = self.weight.shape[axis]
        self.register_buffer("scales", 2.0 ** torch.randint(-6, -2, (count,)).double())
        self.register_buffer("zeros", torch.full((count,), zero))

    def forward(self, x: Tensor) -> Tensor:
        weight = Q.dequantize_per_channel(self.weight, self.scales, self.zeros, self.axis, -128, 127, torch.int8)
        return torch.matmul(scale(U8, 9)(x), weight.to(torch.float32))


def test_a_constant_for_each_batch_has_a_scale_for_each_column() -> None:
    model, x = Weighted(2), over_all(3, 4, 8)
    agree(model, lower(model, x), x)


class Weighing(nn.Module):
    """A product of a constant for each batch, with a scale for each row, and an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randint(-128, 128, (3, 4, 8), dtype=torch.int8))
        self.register_buffer("scales", 2.0 ** torch.arange(-6, -2).double())
        self.register_buffer("zeros", torch.zeros(4, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        weight = Q.dequantize_per_channel(self.weight, self.scales, self.zeros, 1, -128, 127, torch.int8)
        return torch.matmul(weight.to(torch.float32), scale(U8, 9)(x))


def test_a_constant_for_each_batch_has_a_scale_for_each_row() -> None:
    model, x = Weighing(), over_all(3, 8, 5)
    agree(model, lower(model, x), x)


def test_a_linear_whose_weight_is_computed() -> None:
    class Linear(nn.Module):
        def forward(self, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
            return nn.functional.linear(scale(U8, 9)(x), scale(S8, -7)(w), b)

    x, w, b = over_all(2, 6, 18), over_all(33, 18), torch.randn(33)
    agree(Linear(), lower(Linear(), x, w, b), x, w, b, compare=near)


class Dynamic(nn.Module):
    """Parameters from the input."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        s, z = Q.choose_qparams.tensor(x, 0, 255, 1e-5, U8)
        q = Q.quantize_per_tensor.tensor(x, s, z, 0, 255, U8)
        return torch.matmul(Q.dequantize_per_tensor.tensor(q, s, z, 0, 255, U8), scale(U8, 9)(y))


class OneSide(nn.Module):
    """Only one operand is quantized."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.matmul(scale(U8, 9)(x), y)


class Words(nn.Module):
    """16 bits."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.matmul(Scale(2.0**-4, 0, -999, 999, torch.int16)(x), scale(U8, 9)(y))


class Vectors(nn.Module):
    """Float64 keeps the product of a matrix and a vector in its own spelling."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = (Q.quantize_per_tensor(t, *scale(U8, 9).all) for t in (x, y))
        x, y = (Q.dequantize_per_tensor(t, *scale(U8, 9).all, out_dtype=torch.float64) for t in (x, y))
        return torch.mv(x, y[:, 0]) + torch.matmul(x, y[:, 0])


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Dynamic(), "known only at run time"),
        (OneSide(), "only one operand"),
        (Words(), "no 8-bit integer"),
        (Vectors(), "a vector"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_stays_float_says_why(model: nn.Module, reason: str) -> None:
    x, y = over_all(4, 8), over_all(8, 5)
    lowered = lower_anyhow(model, x, y)
    assert lower86.explain(lowered).operators
    assert all(reason in record.reason for record in lower86.explain(lowered).operators)
    agree(model, lowered, x, y, compare=near)


@pytest.mark.parametrize(
    ("model", "reason"),
    [(Weighted(1), "axis 1"), (Weighted(0), "axis 0"), (Weighted(2, zero=3), "a zero point for each")],
)
def test_scales_that_cannot_leave_the_sum(model: nn.Module, reason: str) -> None:
    x = over_all(3, 4, 8)
    lowered = lower_anyhow(model, x)
    (record,) = lower86.explain(lowered).operators
    assert reason in record.reason
    agree(model, lowered, x, compare=near)
