"""Every instruction set gives the same bits: kernels and whole programs, AVX2 beside AVX512."""

from __future__ import annotations

import numpy as np
import pytest

from lower86.codegen.compile import llvm_text
from lower86.codegen.llvm import assembly
from lower86.codegen.target import Target
from lower86.program.body import BodyBuilder
from lower86.program.kernels import Contraction, Left, Right
from lower86.runtime.packing import float_panels, int8_panels
from tests.harness import run_kernel

AVX2 = Target.host(level="avx2")


def product(kind: str, m: int, n: int, k: int, wide: int = 0) -> Contraction:
    body = BodyBuilder()
    body.store(3, (n, 1), body.add("value", (), "f32", (0,)))
    right = Right(1, (), packed=True)
    return Contraction(kind, (), (m,), n, (k,), Left(0, (), (k,), (1,)), right, 2, wide, body.build(), 3)


@pytest.mark.parametrize("kind", ["u8s8", "s8s8"])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (6, 64, 64), (13, 65, 33), (7, 130, 6), (5, 33, 131)])
def test_int8_sums_are_exact(kind: str, m: int, n: int, k: int) -> None:
    random = np.random.default_rng(m * n * k)
    low, high = (0, 256) if kind == "u8s8" else (-128, 128)
    x = random.integers(low, high, (m, k)).astype(np.uint8 if kind == "u8s8" else np.int8)
    weight = random.integers(-128, 128, (n, k), dtype=np.int8)
    shift = 128 if kind == "s8s8" else 0
    start = np.zeros(-(-n // 64) * 64, np.int32)
    start[:n] = -shift * weight.astype(np.int64).sum(1)
    given = {0: x, 1: int8_panels(weight, 2), 2: start}
    result = run_kernel(product(kind, m, n, k), given, {3: ((m, n), "float32")}, target=AVX2)[3]
    np.testing.assert_array_equal(result, (x.astype(np.int64) @ weight.T.astype(np.int64)).astype(np.float32))


def test_extreme_products_do_not_saturate() -> None:
    x, weight = np.full((3, 4000), 255, np.uint8), np.full((20, 4000), -128, np.int8)
    given = {0: x, 1: int8_panels(weight, 2), 2: np.zeros(64, np.int32)}
    result = run_kernel(product("u8s8", 3, 20, 4000), given, {3: ((3, 20), "float32")}, target=AVX2)[3]
    assert (result == -255.0 * 128 * 4000).all()


def test_wide_sums() -> None:
    x, weight = np.full((3, 70_000), 255, np.uint8), np.full((20, 70_000), 127, np.int8)
    given = {0: x, 1: int8_panels(weight, 2), 2: np.zeros(64, np.int64)}
    kernel = product("u8s8", 3, 20, 70_000, wide=32768)
    result = run_kernel(kernel, given, {3: ((3, 20), "float32")}, target=AVX2)[3]
    assert (result == np.float32(255 * 127 * 70_000)).all()


@pytest.mark.parametrize(("m", "n", "k"), [(1, 17, 9), (13, 130, 65)])
def test_float_products_are_bitwise_those_of_avx512(m: int, n: int, k: int) -> None:
    random = np.random.default_rng(0)
    x, weight = random.standard_normal((m, k), np.float32), random.standard_normal((n, k), np.float32)
    given = {0: x, 1: float_panels(weight)}
    results = [run_kernel(product("f32", m, n, k), given, {3: ((m, n), "float32")}, target=t)[3] for t in (None, AVX2)]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("level", ["avx2", "avx_vnni"])
def test_code_stays_within_its_level(level: str) -> None:
    features = AVX2.features + (",+avxvnni" if level == "avx_vnni" else "")
    text = assembly(llvm_text(product("u8s8", 128, 384, 384), level), AVX2.cpu, features)
    assert "%zmm" not in text
    assert "%k1" not in text
    assert ("vpdpbusd" in text) == (level == "avx_vnni")
    assert "vpmaddubsw" not in text
    inner = [line for line in text.splitlines() if ("vpdpbusd" in line or "vpmaddwd" in line) and "%ymm" in line]
    assert len(inner) == 2 * (6 + 5)  # two registers of columns, tiles of 6 and of 5 rows
    assert not any("(%rsp)" in line for line in inner)
