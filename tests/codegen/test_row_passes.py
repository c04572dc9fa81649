"""Passes over a row: which reductions share one, what is written down in between, and that no result tells."""

from __future__ import annotations

import numpy as np
import pytest

from lower86.codegen.row_passes import passes_of
from lower86.codegen.target import Target
from lower86.program.kernels import ROW_BYTES, Reduction, Rows
from lower86.program.sizes import Size, contiguous_strides
from tests.codegen.expressions import Expression
from tests.codegen.test_rows import D1, FULL, OUT, Sizes, X
from tests.harness import Array, assert_near, run_kernel

LENGTHS: tuple[Size, ...] = (1, 15, 16, 17, 100, 384, 1000, D1)


def strides_of(kept: int, reduced: Sizes, vertical: bool) -> Sizes:
    """Of a contiguous [kept, reduced…], or with `vertical` of [reduced…, kept]."""
    if vertical:
        *rest, _ = contiguous_strides((*reduced, kept))
        return (1, *rest)
    return contiguous_strides((kept, *reduced))


def quantized_softmax(kept: int, reduced: Sizes, vertical: bool) -> Rows:
    """p = exp(x - max x);  y = p / sum p;  round((y - min y) / (max y - min y) · 255), and max y."""
    strides = strides_of(kept, reduced, vertical)
    e = Expression()
    x = e.load(X, strides)
    power = e.call("exp", e.call("sub", x, e.value(0)))
    y = e.call("div", power, e.value(1))
    step = e.call("div", e.const(255.0), e.call("sub", e.value(3), e.value(2)))
    e.store(FULL, strides, e.call("rint", e.call("mul", e.call("sub", y, e.value(2)), step)))
    e.store(OUT, (1,), e.value(3))
    reductions = (Reduction("max", x), Reduction("sum", power), Reduction("min", y), Reduction("max", y))
    return Rows((kept,), reduced, vertical, reductions, e.build(), 2)


def test_reductions_of_the_same_values_share_a_pass() -> None:
    kernel = quantized_softmax(19, (100,), vertical=False)
    passes = passes_of(kernel)
    assert [this.reductions for this in passes] == [(0,), (1,), (2, 3), ()]
    nodes = kernel.body.nodes
    assert [[nodes[p].op for p in this.saved] for this in passes] == [[], ["exp"], ["div"], []]
    assert [[nodes[p].op for p in this.read] for this in passes] == [[], [], ["exp"], ["div"]]
    assert [nodes[p].op for p in passes[3].steady] == ["div", "value"]  # the step, and the least


def test_what_does_not_fit_is_computed_again() -> None:
    """A row of 32 KB is written down, once; the second intermediate result of that length is not."""
    longest = ROW_BYTES // 4
    fits, too_long = (passes_of(quantized_softmax(2, (n,), vertical=False)) for n in (longest, longest + 1))
    assert [len(this.saved) for this in fits] == [0, 1, 0, 0]
    assert not any(this.saved or this.read for this in too_long)
    assert not any(this.saved for this in passes_of(quantized_softmax(2, (D1,), vertical=False)))
    assert [len(this.saved) for this in passes_of(quantized_softmax(20, (513,), vertical=True))] == [0, 0, 0, 0]


def results(kernel: Rows, x: Array, level: str | None, n: int) -> dict[int, Array]:
    made = {FULL: (x.shape, "f4"), OUT: ((19,), "f4")}
    target = Target.host(level=level)
    return run_kernel(kernel, {X: x}, made, dims={"d1": n}, target=target)


@pytest.mark.parametrize("vertical", [False, True], ids=["horizontal", "vertical"])
@pytest.mark.parametrize("length", LENGTHS, ids=str)
def test_every_length(length: Size, vertical: bool) -> None:
    n = length if isinstance(length, int) else 77
    x = np.random.default_rng(n).normal(0, 3, (n, 19) if vertical else (19, n)).astype(np.float32)
    axis = 0 if vertical else 1
    kernel = quantized_softmax(19, (length,), vertical)
    got = results(kernel, x, None, n)
    power = np.exp(x.astype(np.float64) - x.max(axis, keepdims=True))
    y = power / power.sum(axis, keepdims=True)
    assert_near(got[OUT], y.max(axis), 4)
    if n > 1:
        least, most = y.min(axis, keepdims=True), y.max(axis, keepdims=True)
        assert np.abs(got[FULL] - (y - least) / (most - least) * 255).max() <= 0.51
    narrow = results(kernel, x, "avx2", n)
    for slot, own in got.items():
        np.testing.assert_array_equal(own, narrow[slot])


@pytest.mark.parametrize("vertical", [False, True], ids=["horizontal", "vertical"])
@pytest.mark.parametrize("reduced", [(3, 20), (20, 3), (2, 5, 17), (1, 16)], ids=str)
def test_several_reduced_dims(reduced: tuple[int, ...], vertical: bool) -> None:
    """What is written down has a place for each index, and the same results as over one dim, where sums are."""
    n = int(np.prod(reduced))
    x = np.random.default_rng(n).normal(0, 3, (n, 19) if vertical else (19, n)).astype(np.float32)
    axis = 0 if vertical else 1
    got = results(quantized_softmax(19, reduced, vertical), x, None, n)
    power = np.exp(x.astype(np.float64) - x.max(axis, keepdims=True))
    y = power / power.sum(axis, keepdims=True)
    least, most = y.min(axis, keepdims=True), y.max(axis, keepdims=True)
    assert np.abs(got[FULL] - (y - least) / (most - least) * 255).max() <= 0.51
    assert_near(got[OUT], y.max(axis), 4)


def test_a_pass_is_as_if_it_were_alone() -> None:
    """Sums that share a pass are those of kernels of one reduction each, to the bit."""
    x = np.random.default_rng(0).normal(size=(5, 1000)).astype(np.float32)

    def kernel(*which: int) -> Rows:
        e = Expression()
        value = e.load(X, (1000, 1))
        kinds = (("sum", value), ("sum", e.call("mul", value, value)), ("max", value), ("min", value))
        for place, _ in enumerate(which):
            e.store(OUT + place, (1,), e.value(place))
        return Rows((5,), (1000,), False, tuple(Reduction(*kinds[w]) for w in which), e.build(), 2)

    together = run_kernel(kernel(0, 1, 2, 3), {X: x}, {OUT + place: ((5,), "f4") for place in range(4)})
    for place in range(4):
        alone = run_kernel(kernel(place), {X: x}, {OUT: ((5,), "f4")})
        np.testing.assert_array_equal(together[OUT + place], alone[OUT])


@pytest.mark.parametrize("vertical", [False, True])
@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_narrow_results_are_written_down_whole(dtype: str, vertical: bool) -> None:
    """y = exp x, rounded: stored, and summed up as it is stored."""
    e, strides = Expression(), strides_of(20, (100,), vertical)
    y = e.call("cast", e.call("exp", e.load(X, strides)), dtype=dtype)
    total = e.call("cast", y, dtype="f32")
    e.store(FULL, strides, y)
    e.store(OUT, (1,), e.value(0))
    kernel = Rows((20,), (100,), vertical, (Reduction("sum", total),), e.build(), 2)
    assert [kernel.body.nodes[p].dtype for this in passes_of(kernel) for p in this.saved] == [dtype]
    x = np.random.default_rng(0).normal(size=(100, 20) if vertical else (20, 100)).astype(np.float32)
    got = run_kernel(kernel, {X: x}, {FULL: (x.shape, "u2"), OUT: ((20,), "f4")})
    bits = got[FULL]
    found = (bits.astype(np.uint32) << 16).view(np.float32) if dtype == "bf16" else bits.view(np.float16).astype("f4")
    np.testing.assert_allclose(found, np.exp(x), rtol=2**-8)
    np.testing.assert_allclose(got[OUT], found.astype("f8").sum(0 if vertical else 1), rtol=1e-6)
