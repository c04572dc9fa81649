"""What every lowered model must do: agree with the quantized one, twice, and leave alone what is not its own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves

import lower86
from lower86.errors import Lower86Warning
from lower86.lowered import LoweredModule


def lower(model: nn.Module, *inputs: Any, **options: Any) -> LoweredModule:
    """Lowers, and raises if anything quantized stays float or is foreign."""
    return lower86.lower_pt2e_quantized_to_x86(model, inputs, **{"on_fallback": "raise", **options})


def lower_anyhow(model: nn.Module, *inputs: Any, **options: Any) -> LoweredModule:
    """Lowers, and does not mind what stays float."""
    return lower86.lower_pt2e_quantized_to_x86(model, inputs, **{"on_fallback": "ignore", **options})


def same(got: Any, expected: Any) -> None:
    """Equal values, structure and dtypes; a NaN equals a NaN."""
    _compare(got, expected, 0.0)


def near(got: Any, expected: Any) -> None:
    """Equal but for float32 rounding."""
    _compare(got, expected, 1e-5)


def _compare(got: Any, expected: Any, tolerance: float) -> None:
    (leaves, spec), (wanted, wanted_spec) = tree_flatten(got), tree_flatten(expected)
    assert spec == wanted_spec
    for leaf, other in zip(leaves, wanted, strict=True):
        assert type(leaf) is type(other)
        if isinstance(leaf, Tensor):
            torch.testing.assert_close(leaf, other, rtol=tolerance, atol=tolerance, equal_nan=True, check_stride=False)
        else:
            assert leaf == other


def agree(
    model: nn.Module,
    lowered: Callable[..., Any],
    *inputs: Any,
    compare: Callable[[Any, Any], None] = same,
    **named: Any,
) -> Any:
    """Compares two calls with the quantized model; returns the result.

    Inputs, parameters and the first result must not have changed, and no result may share memory with any of them.
    """
    held = [t for t in tree_leaves((inputs, named)) if isinstance(t, Tensor)]
    state = [*model.state_dict().values(), *(lowered.state_dict().values() if isinstance(lowered, nn.Module) else ())]
    before = [t.detach().clone() for t in (*held, *state)]
    with torch.no_grad():
        expected = model(*inputs, **named)
    first = lowered(*inputs, **named)
    compare(first, expected)
    kept = [t.clone() for t in tree_leaves(first) if isinstance(t, Tensor)]
    second = lowered(*inputs, **named)
    same(second, first)
    same([t for t in tree_leaves(first) if isinstance(t, Tensor)], kept)
    same([t.detach() for t in (*held, *state)], before)
    results = [t for t in (*tree_leaves(first), *tree_leaves(second)) if isinstance(t, Tensor) and t.numel()]
    places = [t.data_ptr() for t in results]
    assert len(set(places)) == len(places), "two results share memory"
    assert not {t.data_ptr() for t in (*held, *state) if t.numel()} & set(places), "a result shares memory"
    return first


def warned(model: nn.Module, *inputs: Any, **options: Any) -> tuple[LoweredModule, list[str]]:
    """The lowered model and the texts of lower86's warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lowered = lower86.lower_pt2e_quantized_to_x86(model, inputs, **options)
    return lowered, [str(w.message) for w in caught if issubclass(w.category, Lower86Warning)]
