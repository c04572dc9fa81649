"""Every function against float64, in ulp; and the same bits from vectors, from scalars and from AVX2."""

from __future__ import annotations

import ctypes
import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lower86.codegen import mathematics
from lower86.codegen.builder import F32, I64, LANES, PTR, VOID, Module, vector
from lower86.codegen.isa import ISAS
from lower86.codegen.llvm import LoadedCode, assembly, object_code
from lower86.codegen.mathematics import FLOAT32_FUNCTIONS
from lower86.codegen.target import Target

COARSE = tuple(name for name in FLOAT32_FUNCTIONS if name.endswith("_coarse"))
FUNCTIONS = tuple(name for name in FLOAT32_FUNCTIONS if name not in COARSE)
AVX2 = Target("avx2", "haswell", "+avx2,+fma,+bmi,+bmi2,+f16c")
INF, NAN = math.inf, math.nan
Array = np.ndarray


def kernel(name: str, lanes: int, level: str) -> str:
    """`void kernel(const float *x, float *y, int64_t n)`, n a multiple of 16, as LLVM assembly."""
    module = Module("kernel", ISAS[level])
    code = module.function("kernel", VOID, PTR, PTR, I64)
    x, y, n = code.arguments
    with code.loop(0, n, lanes) as i:
        value = code.load(F32 if lanes == 1 else vector(F32, lanes), code.at(x, code.mul(i, 4)))
        code.store(FLOAT32_FUNCTIONS[name](code, value), code.at(y, code.mul(i, 4)))
    code.ret()
    return module.text()


@cache
def function(name: str, lanes: int = LANES, target: Target | None = None) -> Callable[[Array], Array]:
    chosen = target or Target.host()
    loaded = LoadedCode([object_code(kernel(name, lanes, chosen.level), chosen.cpu, chosen.features)])
    native = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(loaded.address("kernel"))

    def call(x: Array, loaded: LoadedCode = loaded) -> Array:
        padded = np.zeros(-(-x.size // LANES) * LANES, np.float32)
        padded[: x.size] = x
        result = np.full_like(padded, NAN)
        native(padded.ctypes.data, result.ctypes.data, padded.size)
        return result[: x.size]

    return call


def floats(step: int, first: int = 0, end: int = 0x7F800000) -> Array:
    """Every `step`th float from the bits `first` on, up to infinity, of either sign."""
    positive = np.arange(first, end, step, dtype=np.uint32).view(np.float32)
    return np.concatenate([positive, -positive])


@cache
def sweep() -> Array:
    """Five million floats of all exponents, more of them where most functions bend; and the neighbours of k·π/2."""
    turns = np.concatenate([np.arange(1, 200_000), np.geomspace(2e5, 2**49, 100_000).round()])
    return np.concatenate(
        [floats(1021), floats(127, 0x3C000000, 0x43000000), (turns * (math.pi / 2)).astype(np.float32)]
    )


Reference = Callable[[torch.Tensor], torch.Tensor]
REFERENCES: Mapping[str, tuple[Reference, float]] = {
    "exp": (torch.exp, 2),
    "expm1": (torch.expm1, 3),
    "log": (torch.log, 2),
    "log1p": (torch.log1p, 2),
    "erf": (torch.erf, 2),
    "tanh": (torch.tanh, 4),
    "sigmoid": (torch.sigmoid, 4),
    "sin": (torch.sin, 2),
    "cos": (torch.cos, 2),
    "gelu": (torch.nn.functional.gelu, 4),
    "gelu_tanh": (partial(torch.nn.functional.gelu, approximate="tanh"), 4),
    "silu": (torch.nn.functional.silu, 4),
    "softplus": (torch.nn.functional.softplus, 4),
    "rsqrt": (torch.rsqrt, 2),
}
"""The function in float64, and how many ulp of its result float32 may be off."""

SCALES: Mapping[str, Callable[[Array], Array]] = {
    "gelu": lambda x: x / 2,
    "gelu_tanh": lambda x: x / 2,
    "silu": lambda x: x * 2.0**-126,
}
"""What the last product multiplies: an ulp of that is meant where the result itself is smaller."""


def errors(name: str, x: Array) -> Array:
    """How far `name` is off at each x, in ulp."""
    wide = x.astype(np.float64)
    want = np.clip(REFERENCES[name][0](torch.from_numpy(wide)).numpy(), -(2.0**128), 2.0**128)
    got = np.clip(function(name)(x).astype(np.float64), -(2.0**128), 2.0**128)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    size = np.maximum(np.abs(SCALES[name](wide)), np.abs(want)) if name in SCALES else np.abs(want)
    _, exponent = np.frexp(np.clip(np.nan_to_num(size), 2.0**-126, 2.0**127))
    off: Array = np.nan_to_num(np.abs(got - want)) / np.ldexp(1.0, exponent - 24)
    return off


@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_stays_within_the_stated_bound(name: str) -> None:
    x = sweep()
    if name in ("sin", "cos"):
        x = x[np.abs(x) <= 2.0**50]
    off = errors(name, x)
    worst = int(np.argmax(off))
    assert off[worst] <= REFERENCES[name][1], f"{off[worst]:.2f} ulp at {x[worst]!r}"


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(deadline=None)  # the first example compiles
@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=40))
def test_any_finite_input(name: str, values: list[float]) -> None:
    x = np.array(values, np.float32)
    if name in ("sin", "cos"):
        np.testing.assert_array_equal(np.isnan(function(name)(x)), np.abs(x) > 2.0**50)
        x = x[np.abs(x) <= 2.0**50]
    assert (errors(name, x) <= REFERENCES[name][1]).all()


@pytest.mark.parametrize(
    ("other", "lanes"), [(None, 1), (AVX2, LANES), (AVX2, 1)], ids=["scalar", "avx2", "avx2-scalar"]
)
@pytest.mark.parametrize("name", [*FUNCTIONS, *COARSE])
def test_same_bits_from_scalars_and_from_avx2(name: str, other: Target | None, lanes: int) -> None:
    x = np.concatenate([sweep()[::7], np.array([INF, -INF, NAN, -NAN], np.float32)])
    one, two = function(name)(x), function(name, lanes, other)(x)
    np.testing.assert_array_equal(one.view(np.uint32), two.view(np.uint32))


SPECIALS: Mapping[str, tuple[float, ...]] = {
    # of 0, -0, Inf and -Inf
    "exp": (1, 1, INF, 0),
    "expm1": (0, -0.0, INF, -1),
    "log": (-INF, -INF, INF, NAN),
    "log1p": (0, -0.0, INF, NAN),
    "erf": (0, -0.0, 1, -1),
    "tanh": (0, -0.0, 1, -1),
    "sigmoid": (0.5, 0.5, 1, 0),
    "sin": (0, -0.0, NAN, NAN),
    "cos": (1, 1, NAN, NAN),
    "gelu": (0, -0.0, INF, NAN),
    "gelu_tanh": (0, -0.0, INF, NAN),
    "silu": (0, -0.0, INF, NAN),
    "softplus": (math.log(2), math.log(2), INF, 0),
    "rsqrt": (INF, -INF, 0, NAN),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_zeros_infinities_and_nan(name: str) -> None:
    got = function(name)(np.array([0.0, -0.0, INF, -INF, NAN, -NAN], np.float32))
    want = np.array([*SPECIALS[name], NAN, NAN], np.float32)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got[want == 0]), np.signbit(want[want == 0]))


def test_poles_of_the_logarithms() -> None:
    assert function("log1p")(np.array([-1.0], np.float32)) == -INF
    assert np.isnan(function("log1p")(np.array([np.nextafter(np.float32(-1), np.float32(-2))]))).all()
    assert np.isnan(function("log")(np.array([-1e-45, -1.0, -3e38], np.float32))).all()


def test_exp_underflows_gradually_and_overflows_late() -> None:
    x = np.array([88.72283, 88.72284, -87.4, -103.0, -103.97, -104.0, -1e30], np.float32)
    got = function("exp")(x)
    assert np.isfinite(got[0])
    assert got[1] == INF
    assert (got[2:5] > 0).all()
    assert (got[5:] == 0).all()


@pytest.mark.parametrize(("name", "low"), [("erf", -1), ("tanh", -1), ("sigmoid", 0), ("sin", -1), ("cos", -1)])
def test_result_stays_in_range(name: str, low: float) -> None:
    got = function(name)(sweep())
    assert low <= np.nanmin(got) <= np.nanmax(got) <= 1


@pytest.mark.parametrize("name", ["erf", "tanh", "sin"])
def test_odd_functions_are_odd_to_the_bit(name: str) -> None:
    x = floats(4099)
    np.testing.assert_array_equal(function(name)(-x), -function(name)(x))


def test_softmax_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FLOAT32_FUNCTIONS, "softmax_weight", mathematics.softmax_weight)
    x = -np.concatenate([floats(1021, 0, 0x42AE0000)[:1_000_000], np.linspace(0, 87, 1_000_000, dtype=np.float32)])
    x = x[(x <= 0) & (x >= -87)]
    want = np.exp(x.astype(np.float64))
    off = np.abs(function("softmax_weight")(x) - want) / np.ldexp(1.0, np.frexp(want)[1] - 24)
    assert off[x >= -20].max() <= 3
    assert off.max() <= 6
    ends = np.array([0, -0.0, -88, -103, -INF, NAN], np.float32)
    np.testing.assert_array_equal(function("softmax_weight")(ends), np.array([1, 1, 0, 0, 0, NAN], np.float32))


@pytest.mark.parametrize("name", COARSE)
def test_coarse_functions_are_near_the_exact_ones(name: str) -> None:
    x = np.concatenate([sweep(), np.linspace(-6, 6, 4001, dtype=np.float32)])
    x = x[np.abs(x) < 1e30]
    exact = REFERENCES[name.removesuffix("_coarse")][0](torch.from_numpy(x.astype(np.float64))).numpy()
    off = np.abs(function(name)(x) - exact) - 2.0**-23 * np.abs(exact)
    assert off.max() < 5e-7
    np.testing.assert_array_equal(function(name)(np.array([NAN, INF], np.float32)), [NAN, INF])
    assert abs(function(name)(np.array([-INF], np.float32))[0]) < 5e-7


def test_gelu_keeps_digits_where_one_plus_erf_cancels() -> None:
    x = np.linspace(-3.5, -1e-3, 100_000, dtype=np.float32)
    wide = torch.from_numpy(x.astype(np.float64))
    want = (wide * torch.special.ndtr(wide)).numpy()
    np.testing.assert_allclose(function("gelu")(x), want, rtol=2.0**-14)
    beyond = np.array([-9.96, -10, -1e3, -3e38, 9.9, 10, 1e3, 3e38], np.float32)
    np.testing.assert_array_equal(function("gelu")(beyond), np.maximum(beyond, 0))


def test_gelu_tanh_rounds_in_pytorchs_order() -> None:
    x = np.linspace(-12, 12, 100_000, dtype=np.float32)
    half, one = np.float32(0.5), np.float32(1)
    inner = np.float32((2 / math.pi) ** 0.5) * (x + np.float32(0.044715) * (x * x * x))
    np.testing.assert_array_equal(function("gelu_tanh")(x), half * x * (one + function("tanh")(inner)))


@pytest.mark.parametrize(("beta", "threshold"), [(2.0, 20.0), (0.5, 5.0)])
def test_softplus_takes_beta_and_threshold(beta: float, threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    emit = partial(mathematics.softplus, beta=beta, threshold=threshold)
    monkeypatch.setitem(FLOAT32_FUNCTIONS, f"softplus {beta}", emit)
    x = np.linspace(-30, 60, 10_001, dtype=np.float32)
    want = torch.nn.functional.softplus(torch.from_numpy(x).double(), beta, threshold).numpy()
    np.testing.assert_allclose(function(f"softplus {beta}")(x), want, rtol=5 * 2.0**-23)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(("target", "wide"), [(Target.host(), True), (AVX2, False)], ids=["host", "avx2"])
def test_no_branch_and_no_call(name: str, target: Target, wide: bool) -> None:
    text = assembly(kernel(name, LANES, target.level), target.cpu, target.features)
    jumps = [line for line in text.splitlines() if line.startswith(("\tj", "\tcall"))]
    assert len(jumps) <= 2  # the loop's own: whether to begin, whether to go on
    assert ("zmm" in text) == wide


def test_tables_are_what_the_script_prints() -> None:
    script = Path(__file__).parents[2] / "tools" / "fit_polynomials.py"
    printed = subprocess.run([sys.executable, script], capture_output=True, check=True, encoding="utf-8").stdout
    assert printed.startswith("# exp(r) =")
    assert printed in Path(mathematics.__file__).read_text("utf-8")
