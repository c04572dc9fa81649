"""Attention on integers against float64: sizes around tiles, blocks and rounds, zero points at both ends, strides."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from lower86.program.kernels import ATTENTION_PARAMS, Attention, IntegerProducts
from lower86.program.sizes import Size, contiguous_strides, dim_atom
from tests.codegen.expressions import Expression
from tests.codegen.test_attention import plain
from tests.harness import Array, run_kernel

D0, D1, D2 = (dim_atom(f"d{i}") for i in range(3))
Q, K, V, OUT, MASK = range(5)
DTYPES = {"u8": np.uint8, "i8": np.int8}


@dataclass
class Case:
    """Integers (batch, heads, rows, dim), and how they are quantized: zero points of q, k, v, and of the weights."""

    q: Array
    k: Array
    v: Array
    zeros: tuple[int, int, int]
    score_scale: float
    weight_scale: float = 1 / 255
    weight_zero: int = 0
    weights: tuple[int, int] = (0, 255)
    scale: float = 0.01
    inputs: list[Array] = field(default_factory=list)

    @staticmethod
    def random(
        queries: int, keys: int, head_dim: int, value_dim: int, *, batch: int = 1, heads: int = 2, groups: int = 1,
        dtypes: tuple[str, str, str] = ("u8", "u8", "u8"), zeros: tuple[int, int, int] = (120, 137, 126), **more: Any,
    ) -> Case:  # fmt: skip
        rng = np.random.default_rng(queries * 1009 + keys * 31 + head_dim)
        shapes = ((heads, queries, head_dim), (heads // groups, keys, head_dim), (heads // groups, keys, value_dim))
        made = []
        for shape, dtype in zip(shapes, dtypes, strict=True):
            info = np.iinfo(DTYPES[dtype])
            made.append(rng.integers(info.min, info.max + 1, (batch, *shape)).astype(DTYPES[dtype]))
        return Case(*made, zeros, 3.0 / (74 * 74 * np.sqrt(head_dim)), **more)

    def weights_of(self, mask: Array | None, causal: bool) -> tuple[Array, Array]:
        """The weights' integers, and how far each is from the middle between two, before rounding."""
        q, k = (x.astype(np.int64) - zero for x, zero in zip((self.q, self.k), self.zeros, strict=False))
        k = np.repeat(k, q.shape[1] // k.shape[1], axis=1)
        with np.errstate(all="ignore"):
            scores = (q @ k.swapaxes(2, 3)) * np.float64(np.float32(self.score_scale))
            if causal:
                scores = np.where(np.arange(q.shape[2])[:, None] >= np.arange(k.shape[2]), scores, -np.inf)
            if mask is not None:
                scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
            top = scores.max(3, keepdims=True, initial=-np.inf)
            power = np.exp(scores - np.where(top == -np.inf, 0, top))
            total = power.sum(3, keepdims=True)
            steps = np.nan_to_num(power / total) / self.weight_scale
        low, high = (bound - self.weight_zero for bound in self.weights)
        return np.clip(np.rint(steps), low, high), np.abs(steps - np.floor(steps) - 0.5)

    def kernel(self, *, dynamic: bool = False, **changes: Any) -> Attention:
        batch, heads, queries, head_dim = self.q.shape
        keys, value_dim = self.v.shape[2:]
        b, n, m = (D0, D1, D2) if dynamic else (batch, queries, keys)
        shapes: list[tuple[Size, ...]] = [
            (b, heads, n, head_dim), (b, self.k.shape[1], m, head_dim), (b, self.v.shape[1], m, value_dim)
        ]  # fmt: skip
        names = ["u8" if x.dtype == np.uint8 else "i8" for x in (self.q, self.k, self.v)]
        fields: dict[str, Any] = {
            "batch": b, "heads": heads, "queries": n, "keys": m, "head_dim": head_dim, "value_dim": value_dim,
            **{name: contiguous_strides(shape)[:3] for name, shape in zip("qkv", shapes, strict=True)},
            "groups": heads // self.k.shape[1], "causal": False, "mask": None, "mask_node": 0,
            "body": plain((b, heads, n, value_dim)), "integers": IntegerProducts(*names),
        }  # fmt: skip
        return Attention(**{**fields, **changes})

    def params(self) -> list[tuple[str, float]]:
        """As schedule/attention.py makes them."""
        q, k, v = (zero + shift for zero, shift in zip(self.zeros, self.shifts(), strict=True))
        weight = self.weight_zero - (128 if self.weights[1] > 127 else 0)
        values = {
            "score_scale": self.score_scale, "query_zero_point": q, "key_zero_point": k, "value_zero_point": v,
            "weight_zero_point": weight, "inverse_weight_scale": 1 / self.weight_scale,
            "most_weight": self.weights[1] + (0 if self.weights[1] > 127 else 128), "scale": self.scale,
        }  # fmt: skip
        return [("f32" if name.endswith("scale") else "i32", values[name]) for name in ATTENTION_PARAMS]

    def shifts(self) -> tuple[int, int, int]:
        signed = [x.dtype == np.int8 for x in (self.q, self.k, self.v)]
        return (0 if signed[0] else -128), (128 if signed[1] else 0), (128 if signed[2] else 0)

    def run(self, kernel: Attention, *inputs: Array) -> Array:
        shape = (*self.q.shape[:3], self.v.shape[3])
        given = dict(zip((Q, K, V, MASK), (self.q, self.k, self.v, *inputs), strict=False))
        dims = {"d0": shape[0], "d1": shape[2], "d2": self.k.shape[2]}
        return run_kernel(kernel, given, {OUT: (shape, "f4")}, dims=dims, params=self.params())[OUT]

    def check(self, got: Array, mask: Array | None = None, causal: bool = False) -> None:
        """Exact, but for weights that lie in the middle between two integers, which may be either."""
        weights, middle = self.weights_of(mask, causal)
        v = np.repeat(self.v.astype(np.int64) - self.zeros[2], self.q.shape[1] // self.v.shape[1], axis=1)
        want = weights @ v
        unsure = (middle < 1e-3) @ np.abs(v)
        off = np.abs(got / np.float32(self.scale) - want)
        assert (off <= unsure + 1e-5 * np.abs(weights) @ np.abs(v) + 1e-3).all()


SIZES = [
    (1, 1, 1, 1), (1, 200, 64, 64), (3, 65, 20, 32), (16, 16, 16, 16), (63, 64, 32, 20), (64, 63, 80, 80),
    (65, 130, 64, 1), (130, 3, 1, 128), (200, 1, 128, 64), (64, 64, 64, 64), (128, 128, 32, 32), (65, 65, 80, 17),
    (49, 49, 32, 32), (17, 7, 5, 6), (64, 6, 7, 11),
]  # fmt: skip


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_sizes(sizes: tuple[int, int, int, int], causal: bool) -> None:
    case = Case.random(*sizes)
    case.check(case.run(case.kernel(causal=causal)), causal=causal)


@pytest.mark.parametrize("zeros", [(0, 0, 0), (255, 255, 255), (0, 255, 128), (128, 1, 127)], ids=str)
def test_zero_points(zeros: tuple[int, int, int]) -> None:
    case = Case.random(20, 40, 32, 16, zeros=zeros)
    case.check(case.run(case.kernel()))


@pytest.mark.parametrize("dtypes", [("i8", "i8", "i8"), ("i8", "u8", "i8"), ("u8", "i8", "u8")], ids=str)
@pytest.mark.parametrize("zeros", [(0, 0, 0), (-128, -128, -128), (127, 127, 127)], ids=str)
def test_signed(dtypes: tuple[str, str, str], zeros: tuple[int, int, int]) -> None:
    case = Case.random(20, 40, 32, 16, dtypes=dtypes, zeros=zeros)
    case.check(case.run(case.kernel()))


@pytest.mark.parametrize(
    "weights",
    [
        {"weight_scale": 1 / 127, "weights": (0, 127)},
        {"weight_scale": 1 / 255, "weight_zero": -128, "weights": (-128, 127)},
        {"weight_scale": 0.001, "weight_zero": 3, "weights": (0, 255)},
        {"weight_scale": 1e-6, "weights": (0, 255)},
        {"weight_scale": 0.5, "weight_zero": 255, "weights": (0, 255)},
    ],
    ids=str,
)
def test_ranges_of_weights(weights: dict[str, Any]) -> None:
    case = Case.random(20, 40, 32, 16, **weights)
    case.check(case.run(case.kernel()))


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
def test_more_keys_than_a_unit_holds(causal: bool) -> None:
    for queries, keys in ((3, 2048), (2, 2049), (70, 4200)):
        case = Case.random(queries, keys, 16, 18, heads=1, weight_scale=1 / 4096, weights=(0, 255))
        case.check(case.run(case.kernel(causal=causal)), causal=causal)


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize(("head_dim", "value_dim"), [(64, 64), (20, 33)])
def test_sizes_known_only_when_it_runs(head_dim: int, value_dim: int, causal: bool) -> None:
    sizes = (1, 3, 16, 63, 64, 65, 130, 200)
    for queries, keys in zip((*sizes, *sizes), (*sizes, *sizes[3:], *sizes[:3]), strict=True):
        case = Case.random(queries, keys, head_dim, value_dim, heads=1)
        case.check(case.run(case.kernel(dynamic=True, causal=causal)), causal=causal)


def test_more_keys_than_a_unit_holds_by_sizes_known_only_when_it_runs() -> None:
    for keys in (2047, 2048, 2064, 4097):
        case = Case.random(5, keys, 8, 8, heads=1, weight_scale=1 / 4096)
        case.check(case.run(case.kernel(dynamic=True)))


@pytest.mark.parametrize("zeros", [(255, 137, 126), (3, 20, 200)], ids=str)
@pytest.mark.parametrize("keys", [2050, 3000])
def test_tiles_that_reach_beyond_what_a_unit_holds(keys: int, zeros: tuple[int, int, int]) -> None:
    larger = Case.random(40, 2100, 256, 256, heads=1)
    larger.run(larger.kernel(dynamic=True))  # leaves its numbers on the stack
    case = Case.random(40, keys, 16, 16, heads=1, zeros=zeros, weight_scale=1 / 4096)
    case.k[:] //= 32
    case.check(case.run(case.kernel(dynamic=True)))


@pytest.mark.parametrize("sizes", [(1, 2050, 512, 512), (40, 3000, 512, 512), (40, 2048, 32, 32)], ids=str)
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_small_stack_is_enough(sizes: tuple[int, int, int, int], dynamic: bool) -> None:
    case = Case.random(*sizes, heads=1, weight_scale=1 / 4096)
    results: list[Array] = []
    before = threading.stack_size(512 << 10)
    try:
        thread = threading.Thread(target=lambda: results.append(case.run(case.kernel(dynamic=dynamic))))
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    case.check(*results)


@pytest.mark.parametrize("dynamic", [False, True])
def test_no_keys_or_no_queries(dynamic: bool) -> None:
    case = Case.random(5, 0, 16, 16)
    assert not case.run(case.kernel(dynamic=dynamic)).any()
    case = Case.random(0, 5, 16, 16)
    assert case.run(case.kernel(dynamic=dynamic)).size == 0


def test_grouped_heads_and_batches() -> None:
    case = Case.random(33, 20, 16, 16, batch=2, heads=6, groups=3)
    case.check(case.run(case.kernel()))


def test_heads_side_by_side() -> None:
    """[batch, rows, heads, dim], as projections leave them."""
    case = Case.random(33, 50, 16, 16, batch=2, heads=3)
    strides = {name: (x.shape[2] * 48, 16, 48) for name, x in zip("qkv", (case.q, case.k, case.v), strict=True)}
    moved = [np.ascontiguousarray(x.transpose(0, 2, 1, 3)) for x in (case.q, case.k, case.v)]
    shape, params = (*case.q.shape[:3], 16), case.params()
    given = dict(zip((Q, K, V), moved, strict=True))
    case.check(run_kernel(case.kernel(**strides), given, {OUT: (shape, "f4")}, params=params)[OUT])


def masked(case: Case, mask: Array, causal: bool = False) -> Array:
    """The kernel's result with a mask [queries or 1, keys], whose queries lie next to each other."""
    queries, _ = mask.shape
    e = Expression()
    node = e.load(MASK, (0, 0, int(queries > 1), queries), "bool" if mask.dtype == bool else "f32")
    return case.run(case.kernel(mask=e.build(), mask_node=node, causal=causal), np.ascontiguousarray(mask.T))


@pytest.mark.parametrize("kind", ["bool", "added"])
@pytest.mark.parametrize("rows", [1, 70])
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
def test_masks(kind: str, rows: int, causal: bool) -> None:
    case, rng = Case.random(70, 90, 32, 16), np.random.default_rng(0)
    mask: Array = rng.random((rows, 90)) < 0.7
    if kind == "added":
        mask = np.where(mask, rng.normal(size=(rows, 90)) * 3, -np.inf).astype(np.float32)
    case.check(masked(case, mask, causal), mask, causal)


def test_a_row_without_keys_has_weights_of_zero() -> None:
    case = Case.random(20, 40, 32, 16, weight_zero=7)
    assert not masked(case, np.zeros((1, 40), bool)).any()
    assert not masked(case, np.full((1, 40), -np.inf, np.float32)).any()


def test_a_row_with_a_nan_has_weights_of_zero_and_the_others_are_right() -> None:
    case = Case.random(20, 40, 32, 16, weight_zero=7)
    mask = np.zeros((20, 40), np.float32)
    mask[3, 5] = mask[17, 39] = np.nan
    got = masked(case, mask)
    assert not got[:, :, [3, 17]].any()
    rest = [row for row in range(20) if row not in (3, 17)]
    np.testing.assert_array_equal(got[:, :, rest], case.run(case.kernel())[:, :, rest])
