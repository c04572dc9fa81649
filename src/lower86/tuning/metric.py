"""The user's metric and validation data, checked on the float model before anything costs time."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any

import torch
from torch.fx import GraphModule

from ..errors import InputError, Lower86Error, first_line
from ..quantization.calibration import Call, checker

Metric = Callable[[Callable[..., Any], Any], Any]

_WHERE = "metric"


def repeatable(validation: Any) -> Any:
    """`validation`, or a list of it if it can be gone through only once. Raises InputError if it is empty."""
    try:
        first = iter(validation)
    except TypeError as problem:
        raise InputError(
            f"validation is a {type(validation).__name__}, which cannot be iterated",
            where="validation",
            fix="give a list, a DataLoader, or whatever the metric goes through with `for`",
        ) from problem
    missing = object()
    item = next(first, missing)
    if item is missing:
        raise InputError(
            "the validation set is empty",
            where="validation",
            fix="give at least one item; an iterator that was used up gives none",
        )
    return [item, *first] if iter(validation) is first else validation


def measured(metric: Metric, run: Callable[..., Any], validation: Any, what: str) -> float:
    """The metric of `run`; Lower86Error if it fails or gives no number. NaN and infinities come back as they are."""
    try:
        with torch.no_grad():
            value = metric(run, validation)
    except Lower86Error:
        raise
    except Exception as problem:  # the caller's own function
        raise Lower86Error(
            f"the metric failed on {what}: {type(problem).__name__}: {first_line(problem)}",
            where=_WHERE,
            fix="metric(run, validation) has to work with `run` called as the model is; see the error's cause",
        ) from problem
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    item = getattr(value, "item", None)  # NumPy's scalars
    if not isinstance(value, numbers.Real) and callable(item) and getattr(value, "size", 0) == 1:
        value = item()
    if not isinstance(value, numbers.Real):
        raise Lower86Error(
            f"the metric gave {_shown(value)} for {what}, not a number",
            where=_WHERE,
            fix="return one number, the higher the better" + (": is a `return` missing?" if value is None else ""),
        )
    return float(value)


def measured_float(metric: Metric, model: Callable[..., Any], graph: GraphModule, validation: Any) -> float:
    """The float model's metric, with every call checked against the exported graph, as compiled programs will.

    State that the model keeps in buffers is left as it was.
    """
    fits = checker(graph)

    def run(*args: Any, **kwargs: Any) -> Any:
        fits(Call(args, kwargs), "validation, a call by the metric")
        return model(*args, **kwargs)

    buffers = list(model.buffers()) if isinstance(model, torch.nn.Module) else []
    before = [buffer.clone() for buffer in buffers]
    try:
        value = measured(metric, run, validation, "the float model")
    finally:
        for buffer, kept in zip(buffers, before, strict=True):
            if not torch.equal(buffer, kept):
                buffer.copy_(kept)
    if not math.isfinite(value):
        raise Lower86Error(
            f"the metric of the float model is {value}",
            where=_WHERE,
            fix="look for an empty mean or a division by zero: without it there is nothing to compare with",
        )
    return value


def _shown(value: object) -> str:
    if value is None:
        return "None"
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {list(value.shape)}"
    return f"a {type(value).__name__}"
