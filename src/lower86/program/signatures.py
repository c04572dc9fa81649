"""What each scalar operation takes and gives, by dtype: the grammar of bodies.

`codegen.operations` emits just these. LLVM ends the process on code that it cannot select, so that a body which breaks
the grammar must never reach it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

FLOATS = frozenset(("f32", "f64"))
INTEGERS = frozenset(("i64", "i32", "i16", "i8", "u8"))
NUMBERS = FLOATS | INTEGERS
COMPUTED = NUMBERS | {"bool"}
"""What bodies compute with."""
STORED = COMPUTED | {"bf16", "f16"}
"""What memory may hold."""

Signature = Callable[[Sequence[str], str], bool]
"""(dtypes of the arguments, dtype of the result) -> whether the operation has this form."""


def _alike(count: int, among: frozenset[str]) -> Signature:
    """So many arguments and a result of one dtype."""
    return lambda given, result: len(given) == count and {*given} == {result} and result in among


def _comparison(given: Sequence[str], result: str) -> bool:
    return len(given) == 2 and given[0] == given[1] and given[0] in COMPUTED and result == "bool"


def _select(given: Sequence[str], result: str) -> bool:
    return len(given) == 3 and given[0] == "bool" and given[1] == given[2] == result and result in STORED


def _cast(given: Sequence[str], result: str) -> bool:
    return len(given) == 1 and given[0] in STORED and result in STORED


def _quantize(given: Sequence[str], result: str) -> bool:
    return tuple(given) == ("f32",) * 5 and result in ("u8", "i8", "i16", "i32")


def _quantize_bounded(given: Sequence[str], result: str) -> bool:
    return tuple(given) == ("f32", "f32", "i32") and result in ("u8", "i8")


def _dequantize(given: Sequence[str], result: str) -> bool:
    return len(given) == 3 and given[0] in INTEGERS and given[1] == given[2] == result == "f32"


_F32 = frozenset(("f32",))
_BITS = INTEGERS | {"bool"}
FUNCTIONS = frozenset(
    ("exp", "expm1", "log", "log1p", "erf", "tanh", "sigmoid", "sin", "cos", "gelu", "gelu_coarse", "gelu_tanh",
     "gelu_tanh_coarse", "silu", "softplus", "rsqrt", "exp2", "log2", "log10", "pow", "fmod")
)  # fmt: skip
"""Operations that are themselves a dozen others or more."""
WEIGHTS: Mapping[str, int] = {
    **dict.fromkeys(FUNCTIONS, 16), **dict.fromkeys(("exp2", "log2", "log10", "fmod"), 32), "pow": 64,
    "quotient": 12, "gather": 4, "checked": 4,
}  # fmt: skip
"""How long an operation takes to compile, where it is longer than an addition (some 0.5 ms, a vector and its rest)."""

SIGNATURES: Mapping[str, Signature] = {
    **dict.fromkeys(("add", "sub", "mul", "max", "min"), _alike(2, COMPUTED)),
    "div": _alike(2, FLOATS),
    "fma": _alike(3, FLOATS),
    **dict.fromkeys(("neg", "abs", "sqrt", "rint", "floor", "ceil", "trunc"), _alike(1, NUMBERS)),
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge"), _comparison),
    **dict.fromkeys(("and", "or", "xor"), _alike(2, _BITS)),
    "not": _alike(1, _BITS),
    "select": _select,
    "cast": _cast,
    "quantize": _quantize,
    "quantize_bounded": _quantize_bounded,
    "dequantize": _dequantize,
    **dict.fromkeys(("quotient", "shl", "shr"), _alike(2, INTEGERS)),
    **dict.fromkeys(FUNCTIONS - {"pow", "fmod"}, _alike(1, _F32)),
    **dict.fromkeys(("pow", "fmod"), _alike(2, _F32)),
}

REDUCED: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(("sum", "prod"), frozenset(("f32", "f64", "i64"))),
    **dict.fromkeys(("max", "min"), frozenset(("f32", "f64", "i64", "i32", "i8", "u8"))),
    **dict.fromkeys(("any", "all"), frozenset(("bool",))),
}
"""The dtypes that each kind of reduction takes."""
