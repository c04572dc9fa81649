"""How a model is quantized, as data; three recipes have names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from ..errors import Lower86Error
from ..frontend.configuration import QuantizationConfig
from ..frontend.contractions import LINEARS
from ..frontend.quantizer import X86Quantizer

Estimator = Literal["minmax", "histogram", "percentile"]
_ESTIMATORS = ("minmax", "histogram", "percentile")


@dataclass(frozen=True)
class Recipe:
    """What `quantize` does beyond calibrating. Every step but the ranges is kept only if it helps on held-out inputs.

    linears, convolutions, others: how the range of what each kind of operator reads is estimated ("others": products of
        two activations, and what lies between). "minmax": all that was seen; "histogram": the least squared error;
        "percentile": `percentile` % of the values at either end.
    symmetric_activations: s8 around zero, else u8 with a zero point.
    dynamic_linears: a scale for each token at run time for linears, and for `addmm`, as which GPT-2 writes them; all
        else stays static. What they read has no range that could be smoothed.
    smooth: exponents to try for moving each channel's scale from activations into weights (SmoothQuant's alpha), and
        between convolutions; none to leave that out. Each layer takes the one with the least error of its output.
    product_gain: where a channel's scale cannot be folded into the operator before, it is a product there: free in a
        norm's kernel, a tenth of the time of a linear with gelu. There it has to divide the layer's error by this,
        and by twice as much behind movement.
    shrink: fractions of the range to try with each exponent.
    weight_clipping: scales of weights with the least squared error, not the largest weight's.
    bias_correction: the mean error of each layer's channels is taken off its bias.
    held_out: the share of the inputs that only judges, above 0 and at most 0.5.
    """

    linears: Estimator = "minmax"
    convolutions: Estimator = "minmax"
    others: Estimator = "minmax"
    percentile: float = 99.999
    symmetric_activations: bool = False
    dynamic_linears: bool = False
    smooth: tuple[float, ...] = ()
    product_gain: float = 4.0
    shrink: tuple[float, ...] = (1.0,)
    weight_clipping: bool = False
    bias_correction: bool = False
    held_out: float = 0.2

    def __post_init__(self) -> None:
        for name in ("linears", "convolutions", "others"):
            if getattr(self, name) not in _ESTIMATORS:
                _refuse(name, getattr(self, name), f"one of {', '.join(_ESTIMATORS)}")
        for name, low, high in (("percentile", 50.0, 100.0), ("held_out", 0.0, 0.5)):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and low < value <= high):
                _refuse(name, value, f"a number above {low:g} and at most {high:g}")
        if not all(0 <= alpha <= 1 for alpha in self.smooth):
            _refuse("smooth", self.smooth, "exponents from 0 to 1")
        if not self.shrink or not all(0 < part <= 1 for part in self.shrink):
            _refuse("shrink", self.shrink, "fractions above 0 and at most 1")

    def quantizer(self) -> X86Quantizer:
        """The quantizer that suits the recipe."""
        symmetric = self.symmetric_activations
        chosen = X86Quantizer().set_global(QuantizationConfig.static(symmetric_activations=symmetric))
        if self.dynamic_linears:
            config = QuantizationConfig.dynamic(per_token=True, symmetric_activations=symmetric)
            for operator in (*LINEARS, torch.ops.aten.addmm.default):
                chosen.set_function_type(operator, config)
        return chosen


RECIPES: Mapping[str, Recipe] = {
    "fast": Recipe(),
    "balanced": Recipe(smooth=(0.5, 0.6, 0.7, 0.8, 0.9, 1.0), weight_clipping=True, bias_correction=True),
    "accurate": Recipe(
        smooth=(0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
        product_gain=1.1,
        weight_clipping=True,
        bias_correction=True,
    ),
}
"""By name. "accurate" also multiplies where that costs time, and searches longer."""


def recipe_of(recipe: str | Recipe) -> Recipe:
    """The recipe, or the one of that name; Lower86Error if there is none."""
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, str) and recipe in RECIPES:
        return RECIPES[recipe]
    near = difflib.get_close_matches(str(recipe), RECIPES, n=1)
    raise Lower86Error(
        f"there is no recipe {recipe!r}",
        where="recipe",
        fix=f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(RECIPES)}, or a lower86.Recipe",
    )


def _refuse(name: str, value: object, wanted: str) -> None:
    raise Lower86Error(f"{name}={value!r}", where="Recipe", fix=f"give it {wanted}")
