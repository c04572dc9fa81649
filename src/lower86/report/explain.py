"""`lower86.explain`: which quantized operators run in int8, in which kernel, and why the others do not."""

from __future__ import annotations

from typing import Any

from ..errors import Lower86Error
from .explanation import Explanation


def explain(lowered: Any) -> Explanation:
    """What became of every quantized operator of a lowered or loaded model, and why.

    Raises Lower86Error for anything else.
    """
    explanation = getattr(lowered, "explanation", None)
    if not isinstance(explanation, Explanation):
        raise Lower86Error(
            f"{type(lowered).__name__} is not a lowered module",
            where="explain",
            fix="pass what lower_pt2e_quantized_to_x86 or lower86.load returned",
        )
    return explanation
