"""Attention against float64: every size around a block, causal, grouped heads, strides, numbers that are none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from lower86.program.body import Body
from lower86.program.kernels import Attention
from lower86.program.sizes import Size, contiguous_strides, dim_atom
from tests.codegen.expressions import Expression
from tests.harness import Array, assert_near, run_kernel

D0, D1, D2 = (dim_atom(f"d{i}") for i in range(3))
Q, K, V, OUT, MASK, OUT2 = range(6)


def reference(q: Array, k: Array, v: Array, scale: float, mask: Array | None = None, causal: bool = False) -> Array:
    """In float64; a row with no key is 0. Head h of q reads head h // groups of k and v."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    k, v = (np.repeat(x, q.shape[1] // x.shape[1], axis=1) for x in (k, v))
    with np.errstate(all="ignore"):
        scores = q @ k.swapaxes(2, 3) * np.float32(scale)
        if causal:
            scores = np.where(np.arange(q.shape[2])[:, None] >= np.arange(k.shape[2]), scores, -np.inf)
        if mask is not None:
            scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
        top = scores.max(3, keepdims=True, initial=-np.inf)
        power = np.exp(scores - np.where(top == -np.inf, 0, top))
        total = power.sum(3, keepdims=True)
        result: Array = power @ v / np.where(total == 0, 1, total)
    return result


@dataclass
class Case:
    """Tensors (batch, heads, rows, dim), and a kernel for them; `sizes` are those the kernel knows."""

    q: Array
    k: Array
    v: Array
    scale: float

    @staticmethod
    def random(
        queries: int, keys: int, head_dim: int, value_dim: int, batch: int = 1, heads: int = 2, groups: int = 1
    ) -> Case:
        rng = np.random.default_rng(queries * 1009 + keys * 31 + head_dim)
        shapes = ((heads, queries, head_dim), (heads // groups, keys, head_dim), (heads // groups, keys, value_dim))
        q, k, v = (rng.normal(size=(batch, *shape)).astype(np.float32) for shape in shapes)
        return Case(q, k, v, head_dim**-0.5)

    def kernel(self, *, dynamic: bool = False, **changes: Any) -> Attention:
        batch, heads, queries, head_dim = self.q.shape
        keys, value_dim = self.v.shape[2:]
        b, n, m = (D0, D1, D2) if dynamic else (batch, queries, keys)
        shapes: list[tuple[Size, ...]] = [
            (b, heads, n, head_dim), (b, self.k.shape[1], m, head_dim), (b, self.v.shape[1], m, value_dim)
        ]  # fmt: skip
        fields: dict[str, Any] = {
            "batch": b, "heads": heads, "queries": n, "keys": m, "head_dim": head_dim, "value_dim": value_dim,
            **{name: contiguous_strides(shape)[:3] for name, shape in zip("qkv", shapes, strict=True)},
            "groups": heads // self.k.shape[1], "causal": False, "mask": None, "mask_node": 0,
            "body": plain((b, heads, n, value_dim)),
        }  # fmt: skip
        return Attention(**{**fields, **changes})

    def run(self, kernel: Attention, *inputs: Array) -> Array:
        shape = (*self.q.shape[:3], self.v.shape[3])
        given = dict(zip((Q, K, V, MASK), (self.q, self.k, self.v, *inputs), strict=False))
        dims = {"d0": shape[0], "d1": shape[2], "d2": self.k.shape[2]}
        return run_kernel(kernel, given, {OUT: (shape, "f4")}, dims=dims, params=[("f32", self.scale)])[OUT]

    def check(self, got: Array, mask: Array | None = None, causal: bool = False) -> None:
        want = reference(self.q, self.k, self.v, self.scale, mask, causal)
        # What is added up: values, weighted; as weights sum to 1, at most the largest value.
        assert_near(got, want, 4, np.abs(np.nan_to_num(self.v)).max())


def plain(shape: tuple[Size, ...]) -> Body:
    e = Expression()
    e.store(OUT, contiguous_strides(shape), e.value())
    return e.build()


# (queries, keys, head_dim, value_dim): each size with each kind of neighbour

SIZES = [
    (1, 1, 1, 1), (1, 200, 64, 64), (3, 65, 20, 32), (16, 16, 16, 16), (63, 64, 32, 20), (64, 63, 80, 80),
    (65, 130, 64, 1), (130, 3, 1, 128), (200, 1, 128, 64), (64, 64, 64, 64), (128, 128, 32, 32), (65, 65, 80, 16),
]  # fmt: skip


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_sizes(sizes: tuple[int, int, int, int], causal: bool) -> None:
    case = Case.random(*sizes)
    case.check(case.run(case.kernel(causal=causal)), causal=causal)


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize(("head_dim", "value_dim"), [(64, 64), (20, 33)])
def test_sizes_known_only_when_it_runs(head_dim: int, value_dim: int, causal: bool) -> None:
    sizes = (1, 3, 16, 63, 64, 65, 130, 200)
    for queries, keys in zip((*sizes, *sizes, *sizes), (*sizes, *sizes[3:], *sizes[:3], *reversed(sizes)), strict=True):
        case = Case.random(queries, keys, head_dim, value_dim, heads=1)
        case.check(case.run(case.kernel(dynamic=True, causal=causal)), causal=causal)


@pytest.mark.parametrize("dynamic", [False, True])
def test_no_keys_or_no_queries(dynamic: bool) -> None:
    case = Case.random(5, 0, 16, 16)
    assert not case.run(case.kernel(dynamic=dynamic)).any()
    case = Case.random(0, 5, 16, 16)
    assert case.run(case.kernel(dynamic=dynamic)).size == 0


@pytest.mark.parametrize("groups", [2, 3, 6])
def test_query_heads_share_key_heads(groups: int) -> None:
    case = Case.random(20, 70, 32, 32, batch=2, heads=6, groups=groups)
    case.check(case.run(case.kernel()))


def test_a_long_row_of_equal_scores_loses_nothing() -> None:
    case = Case.random(16, 5000, 16, 16, heads=1)
    case.q[...] = 0
    case.v[...] = 1 + np.abs(case.v) / 100
    case.check(case.run(case.kernel()))


# Layout of operands and results


def test_operands_in_place_of_one_projection() -> None:
    """q, k and v as one projection leaves them, (batch, rows, 3, heads, dim); the result as the next one reads it."""
    batch, heads, rows, dim = 2, 3, 70, 20
    qkv = np.random.default_rng(0).normal(size=(batch, rows, 3, heads, dim)).astype(np.float32)
    case = Case(*(np.ascontiguousarray(qkv[:, :, i].swapaxes(1, 2)) for i in range(3)), dim**-0.5)
    strides = (rows * 180, 20, 180)
    e = Expression()
    e.store(OUT, (rows * 60, 20, 60, 1), e.value())
    kernel = case.kernel(q=strides, k=strides, v=strides, body=e.build())
    given = {slot: qkv.reshape(-1)[slot * 60 :][: qkv.size - 120] for slot in (Q, K, V)}
    got = run_kernel(kernel, given, {OUT: ((batch, rows, heads, dim), "f4")}, params=[("f32", case.scale)])[OUT]
    case.check(got.swapaxes(1, 2))


@pytest.mark.parametrize("value_dim", [1, 16, 17, 64])
def test_result_is_quantized_where_it_is_written(value_dim: int) -> None:
    case = Case.random(70, 65, 32, value_dim)
    shape = (1, 2, 70, value_dim)
    e = Expression()
    e.store(OUT, contiguous_strides(shape), e.value())
    e.store(OUT2, (0, value_dim, 2 * value_dim, 1), e.quantize(e.value(), 1, "u8"))
    inverse = np.float32(1 / 0.013)
    params = [("f32", v) for v in (case.scale, inverse, 120.0, 0.0, 255.0)]
    made = {OUT: (shape, "f4"), OUT2: ((70, 2, value_dim), "u1")}
    got = run_kernel(case.kernel(body=e.build()), {Q: case.q, K: case.k, V: case.v}, made, params=params)
    case.check(got[OUT])
    want = np.clip(np.rint(got[OUT] * inverse) + 120, 0, 255)
    np.testing.assert_array_equal(got[OUT2], want[0].swapaxes(0, 1))


# Numbers that are none


@pytest.mark.parametrize("dynamic", [False, True])
def test_large_scores_do_not_overflow(dynamic: bool) -> None:
    case = Case.random(20, 130, 16, 16)
    case.q *= 1000
    got = case.run(case.kernel(dynamic=dynamic))
    assert np.isfinite(got).all()
    # float32 scores in the thousands are exact to a few thousandths only
    np.testing.assert_allclose(got, reference(case.q, case.k, case.v, case.scale), atol=0.01)


def test_nan_stays_in_its_row_or_column() -> None:
    case = Case.random(20, 70, 16, 16)
    clean = case.run(case.kernel())
    case.q[0, 0, 3, 5], case.v[0, 1, 69, 2] = np.nan, np.nan
    got = case.run(case.kernel())
    nan = np.zeros(got.shape, bool)
    nan[0, 0, 3], nan[0, 1, :, 2] = True, True
    np.testing.assert_array_equal(np.isnan(got), nan)
    np.testing.assert_array_equal(got[~nan], clean[~nan])


def test_infinite_scores() -> None:
    case = Case.random(3, 70, 4, 4, heads=1)
    case.q[...], case.k[...] = 1, 0
    case.k[0, 0, 5:, 0] = -np.inf  # -inf leaves the key out, as a mask does
    got = case.run(case.kernel())
    assert_near(got, np.broadcast_to(case.v[0, 0, :5].astype(np.float64).mean(0), got.shape), 4, np.abs(case.v).max())
    case.k[0, 0, 69, 0] = np.inf  # inf - inf
    assert np.isnan(case.run(case.kernel())).all()
