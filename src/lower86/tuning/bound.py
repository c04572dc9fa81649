"""How much of the metric may be lost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ..errors import Lower86Error

DropType = Literal["absolute", "relative"]


@dataclass(frozen=True)
class Bound:
    """`most` is the largest drop from `exact`, the float model's metric; a relative one is a share of that."""

    exact: float
    most: float
    kind: DropType

    def drop(self, metric: float) -> float:
        """By how much the metric is lower than the float model's; negative where it is higher."""
        lost = self.exact - metric
        return lost if self.kind == "absolute" else lost / abs(self.exact)

    @property
    def allowed(self) -> float:
        """The largest drop in units of the metric."""
        return self.most if self.kind == "absolute" else self.most * abs(self.exact)

    def holds(self, metric: float) -> bool:
        """Whether no more is lost than may be, but for the rounding of the difference itself."""
        slack = 1e-9 * max(1.0, abs(self.exact)) if self.kind == "absolute" else 1e-9
        return self.drop(metric) <= self.most + slack


def check_bound(max_drop: object, drop_type: object) -> None:
    """Raises Lower86Error for what is no bound."""
    is_number = isinstance(max_drop, (int, float)) and not isinstance(max_drop, bool)
    if not is_number or not math.isfinite(float(str(max_drop))) or float(str(max_drop)) < 0:
        raise Lower86Error(
            f"max_drop={max_drop!r}",
            where="quantize_with_accuracy_control",
            fix="give how much of the metric may be lost, a number of at least 0: 0.01 is one point of an accuracy",
        )
    if drop_type not in ("absolute", "relative"):
        raise Lower86Error(
            f"drop_type={drop_type!r}",
            where="quantize_with_accuracy_control",
            fix='use "absolute" or "relative" (a share of the float model\'s metric)',
        )


def bound_of(exact: float, max_drop: float, drop_type: DropType) -> Bound:
    """The bound; Lower86Error for a share of nothing."""
    if drop_type == "relative" and exact == 0:
        raise Lower86Error(
            "the float model's metric is 0, and no drop is a share of that",
            where="quantize_with_accuracy_control",
            fix='use drop_type="absolute", or look at why the metric is 0',
        )
    return Bound(exact, max_drop, drop_type)
