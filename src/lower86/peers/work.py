"""From a model and data as `lower86.quantize` takes them to what every peer can take: tensors by place, one shape."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..errors import InputError
from ..frontend.export import export_float
from ..quantization.calibration import Call, call_of, check_arguments, checker, gather
from .peer import Inputs, Work

TIMED = 4
"""So many inputs are taken in turn where nobody says which."""


class Flat(nn.Module):
    """A model that takes the tensors of a call by place, and gives those of its result: several in a tuple."""

    def __init__(self, model: nn.Module, leaves: Sequence[Any], spec: pytree.TreeSpec) -> None:
        super().__init__()
        self.model, self._spec = model, spec
        self._leaves = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self._places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

    def forward(self, *tensors: Tensor) -> Any:
        leaves = list(self._leaves)
        for place, tensor in zip(self._places, tensors, strict=True):
            leaves[place] = tensor
        args, kwargs = pytree.tree_unflatten(leaves, self._spec)
        results = tuple(leaf for leaf in pytree.tree_leaves(self.model(*args, **kwargs)) if isinstance(leaf, Tensor))
        return results[0] if len(results) == 1 else results


def work_of(
    model: nn.Module, calibration: Iterable[Any], inputs: Iterable[Any] | None, subset_size: int, name: str
) -> tuple[Work, tuple[str, ...]]:
    """The work, and notes on what of the data is not used. Raises InputError for data that do not fit."""
    if not isinstance(model, nn.Module):
        raise InputError(f"model is a {type(model).__name__}", where="model", fix="pass the float torch.nn.Module")
    calls = gather(calibration, None, subset_size)
    example = calls[0]
    check_arguments(model, example, "calibration, item 0")
    graph = export_float(model, example.args, dict(example.kwargs))
    given = None if inputs is None else [call_of(item, f"inputs, item {i}") for i, item in enumerate(inputs)]
    seen, timed = _alike(example, calls), _alike(example, calls[:TIMED] if given is None else given)
    if not timed:
        raise InputError("no input has the shapes of the first of calibration", where="inputs", fix="pass such inputs")
    notes: tuple[str, ...] = ()
    if len(seen) < len(calls):
        others = len(calls) - len(seen)
        have = "has another shape than the first and is" if others == 1 else "have other shapes than the first and are"
        notes = (f"{others} of {len(calls)} inputs {have} left out",)
    fits = checker(graph)
    for call in (*seen, *timed):
        fits(call, "inputs")
    leaves, spec = pytree.tree_flatten((example.args, dict(example.kwargs)))
    targets = [str(node.target) for node in graph.graph.nodes]
    work = Work(
        name,
        model if _is_plain(model, example) else Flat(model, leaves, spec).eval(),
        [_tensors(call) for call in seen],
        [_tensors(call) for call in timed],
        is_transformer=any("softmax" in target or "scaled_dot_product" in target for target in targets),
        is_convolutional=any("aten.conv" in target for target in targets),
    )
    return work, notes


def _is_plain(model: nn.Module, call: Call) -> bool:
    """Whether the model is called with tensors by place and gives one."""
    if call.kwargs or not all(isinstance(arg, Tensor) for arg in call.args):
        return False
    with torch.no_grad():
        return isinstance(model(*call.args), Tensor)


def _alike(example: Call, calls: Sequence[Call]) -> list[Call]:
    """Those of the same structure, shapes and dtypes."""
    wanted = _form(example)
    return [call for call in calls if _form(call) == wanted]


def _form(call: Call) -> Any:
    leaves, spec = pytree.tree_flatten((call.args, dict(call.kwargs)))
    return spec, [(leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf for leaf in leaves]


def _tensors(call: Call) -> Inputs:
    leaves = pytree.tree_leaves((call.args, dict(call.kwargs)))
    return tuple(leaf.contiguous() for leaf in leaves if isinstance(leaf, Tensor))
