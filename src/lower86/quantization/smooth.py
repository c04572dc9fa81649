"""Scales of single channels moved from what a layer reads into its weight, so that no channel needs the whole range.

    x ─ │q dq│ ─ layer(W)     ▶     x · 1/s ─ │q dq│ ─ layer(W · s)        the same function before rounding

SmoothQuant's rule (Xiao et al., arXiv:2211.10438), s = max|x|^a / max|W|^(1-a), with the exponent that gives each layer
the least error of its own output on a sample of what it read. A weight has a scale for each output channel, so a
depthwise convolution takes all of it. Where 1/s cannot be folded into what made x (equalize.py), it is a product in x's
own kernel.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from ..counted import counted
from ..frontend import torchao
from ..frontend.annotate import MOVEMENT
from ..frontend.contractions import CONVOLUTIONS, LINEARS, PRODUCTS
from ..graph.arguments import arguments, function_of, is_call
from ..graph.edit import insert, insert_constant, tensor_at
from ..graph.scaled import factors_of, mark_scaled
from .clip import rounded_weight, settle_weight
from .equalize import FLOATS, can_fold, fold_into_producer
from .recipe import Recipe
from .simulate import Rounded
from .slots import Slot
from .watch import Watch

_A = torch.ops.aten
_GAIN = 0.9
"""Of the error that is left without it, a layer's new error has to be less than this."""
_NORMS = (_A.layer_norm.default, _A.rms_norm.default)
_LARGEST = 1e3
_PLAIN = tuple(target for target in (*LINEARS, *PRODUCTS, *CONVOLUTIONS) if "transpose" not in str(target))


@dataclass(frozen=True)
class _Layer:
    """A reader: its node, its weight's observer and the call of that, and the weight: float32 [out, in / groups, …].

    The model has that weight in `dtype`, and the other way round if `turned`, as `x @ weight` reads it.
    """

    node: Node
    observer: Any
    call: Node
    weight: Tensor
    dtype: torch.dtype
    turned: bool

    def own(self, weight: Tensor) -> Tensor:
        """A weight as the model has it."""
        return (weight.t() if self.turned else weight).to(self.dtype)


def smooth(prepared: GraphModule, slots: list[Slot], seen: Mapping[str, Watch], recipe: Recipe) -> str:
    """Smooths every layer that it makes better, in place; the slots' ranges are settled anew. Says how many.

    seen: by slot name, of the graph as it was before any step.
    """
    done = folded = 0
    for slot in slots:
        layers = _layers(prepared, slot, slots)
        if not layers or slot.name not in seen or not seen[slot.name].sample:
            continue
        found = _search(slot, layers, seen[slot.name], recipe)
        if found is None:
            continue
        scales, low, high, gain = found
        if not all(_holds(layer, scales, low, high) for layer in layers):
            continue
        if gain < _wanted_gain(slot, recipe) and not can_fold(prepared, slot, len(scales)):
            continue
        for layer in layers:
            _scale_weight(prepared, layer, scales)
        if fold_into_producer(prepared, slot, 1 / scales):
            folded += 1
        else:
            _insert_product(prepared, slot, layers[0], 1 / scales)
        torchao.settle(slot.observer, torch.tensor(low), torch.tensor(high))
        done += 1
    prepared.graph.lint()
    prepared.recompile()
    inputs = counted(done, "layer's input", "layers' inputs")
    return f"{inputs}, {folded} of them at no cost"


def _holds(layer: _Layer, scales: Tensor, low: float, high: float) -> bool:
    """Whether the layer's dtype holds the smoothed weight and values: float16 ends at 65504."""
    scaled = layer.own(_scaled(layer.weight, scales))
    return bool(torch.isfinite(scaled).all()) and max(-low, high) < torch.finfo(layer.dtype).max


def _wanted_gain(slot: Slot, recipe: Recipe) -> float:
    """By what an error has to fall for a product: in a norm's kernel it is free, and after movement it is a pass."""
    if is_call(slot.source, *_NORMS):
        return 1 / _GAIN
    return recipe.product_gain * (2 if is_call(slot.source, *MOVEMENT) else 1)


def _layers(prepared: GraphModule, slot: Slot, slots: list[Slot]) -> list[_Layer]:
    """All readers of a slot; none if one of them is not a layer with a float weight of its own."""
    if slot.kind not in ("linear", "convolution") or len(slot.calls) != 1:
        return []
    observers = {str(call.target): other for other in slots for call in other.calls}
    layers = []
    for node in slot.readers:
        left, right = PRODUCTS.get(node.target, (0, 1))
        call: Any = node.args[right] if len(node.args) > right else None
        other = observers.get(str(getattr(call, "target", "")))
        if node.target not in _PLAIN or node.args[left] is not slot.calls[0] or other is None:
            return []
        if other.kind != "weight" or len(other.calls) != 1 or len(call.users) != 1:
            return []
        weight = tensor_at(prepared, str(other.source.target))
        if weight is None or weight.dtype not in FLOATS:
            return []
        turned = node.target in PRODUCTS
        plain = weight.detach().to(torch.float32)
        layers.append(_Layer(node, other.observer, call, plain.t() if turned else plain, weight.dtype, turned))
    return layers if len({layer.weight.dim() for layer in layers}) == 1 else []


def _search(slot: Slot, layers: list[_Layer], seen: Watch, recipe: Recipe) -> tuple[Tensor, float, float, float] | None:
    """The channels' scales, the ends of the smoothed values, and the error's gain; None where it is too small."""
    assert seen.channel_low is not None
    assert seen.channel_high is not None
    largest = torch.maximum(-seen.channel_low, seen.channel_high)
    active = largest > 0
    if not bool(active.any()):
        return None
    weights = torch.stack([_largest_of_inputs(layer, len(largest)) for layer in layers]).amax(0)
    exact = [[_output(layer, x, layer.weight) for layer in layers] for x in seen.sample]
    plain = _error(slot, layers, seen, exact, torch.ones_like(largest), None)
    best, found = _GAIN * plain, None
    for alpha in recipe.smooth:
        scales = _scales(largest, weights, active, alpha)
        low = min(float((seen.channel_low / scales).min()), 0.0)
        high = max(float((seen.channel_high / scales).max()), 0.0)
        for part in recipe.shrink:
            error = _error(slot, layers, seen, exact, scales, (low * part, high * part))
            if error < best:
                best, found = error, (scales, low * part, high * part, plain / max(error, 1e-30))
    return found


def _scales(largest: Tensor, weights: Tensor, active: Tensor, alpha: float) -> Tensor:
    """SmoothQuant's scales, around 1 in the mean; 1 for a channel that is always 0, before or behind its weights."""
    tiny = torch.finfo(torch.float32).tiny
    logarithms = alpha * largest.clamp(min=tiny).log2() - (1 - alpha) * weights.clamp(min=tiny).log2()
    active = active & (weights > 0)
    logarithms = logarithms - (logarithms[active].mean() if bool(active.any()) else 0.0)
    scales = torch.where(active, logarithms.exp2(), 1.0)
    return scales.clamp(1 / _LARGEST, _LARGEST)


def _largest_of_inputs(layer: _Layer, channels: int) -> Tensor:
    """The largest magnitude of the weights that each input channel meets."""
    groups = channels // layer.weight.shape[1]
    parts = layer.weight.abs().reshape(groups, -1, *layer.weight.shape[1:])
    return parts.flatten(3).amax(-1).amax(1).reshape(-1) if parts.dim() > 3 else parts.amax(1).reshape(-1)


def _scaled(weight: Tensor, scales: Tensor) -> Tensor:
    """The weight times the scales of its input channels: [out, in / groups, …] of any number of groups."""
    groups = len(scales) // weight.shape[1]
    parts = weight.reshape(groups, -1, *weight.shape[1:])
    shape = (groups, 1, weight.shape[1], *[1] * (weight.dim() - 2))
    return (parts * scales.reshape(shape)).reshape(weight.shape)


def _output(layer: _Layer, x: Tensor, weight: Tensor) -> Tensor:
    """What the layer makes of x, without its bias."""
    if layer.turned:
        return torch.nn.functional.linear(x, weight)
    given = arguments(layer.node)
    given.update({"input": x, "weight": weight, "bias": None})
    return torch.as_tensor(function_of(layer.node)(**given))


def _error(
    slot: Slot,
    layers: list[_Layer],
    seen: Watch,
    exact: list[list[Tensor]],
    scales: Tensor,
    ends: tuple[float, float] | None,
) -> float:
    """The squared error of all outputs, each against the size of its own; with the slot's own range for `ends` None."""
    observer = slot.observer
    if ends is not None:
        observer = copy.copy(observer)
        observer.__dict__ = dict(observer.__dict__)
        torchao.settle(observer, torch.tensor(ends[0]), torch.tensor(ends[1]))
    activations = Rounded(observer)
    total = 0.0
    rounded = [_rounded_weight(layer, scales) for layer in layers]
    shape = (-1, *[1] * (layers[0].weight.dim() - 2))
    for x, outputs in zip(seen.sample, exact, strict=True):
        values = activations(x / scales.reshape(shape))
        for layer, weight, wanted in zip(layers, rounded, outputs, strict=True):
            power = float(wanted.square().mean())
            total += float((_output(layer, values, weight) - wanted).square().mean()) / (power or 1.0)
    return total


def _rounded_weight(layer: _Layer, scales: Tensor) -> Tensor:
    rounded = rounded_weight(layer.observer, layer.own(_scaled(layer.weight, scales)).to(torch.float32))
    return rounded.t() if layer.turned else rounded


def _scale_weight(prepared: GraphModule, layer: _Layer, scales: Tensor) -> None:
    constant = insert_constant(prepared, layer.call, layer.own(_scaled(layer.weight, scales)), "_smoothed")
    old: Any = layer.call.args[0]
    constant.meta.update({key: value for key, value in old.meta.items() if key != "val"})
    torchao.annotate_instead(layer.node, old, constant)
    layer.call.args = (constant,)
    if not old.users:
        prepared.graph.erase_node(old)
    settle_weight(prepared, str(layer.call.target), constant)


def _insert_product(prepared: GraphModule, slot: Slot, layer: _Layer, factors: Tensor) -> None:
    (call,) = slot.calls
    source = slot.source
    before = factors_of(source)
    shape = (-1, *[1] * (layer.weight.dim() - 2))
    dtype = source.meta["val"].dtype
    constant = insert_constant(prepared, call, factors.reshape(shape).to(dtype), "_factors")
    product = insert(call, _A.mul.Tensor, (source, constant), like=source)
    mark_scaled(product, factors.reshape(shape) if before is None else before * factors.reshape(shape))
    for reader in call.users:
        torchao.annotate_instead(reader, source, product)
    call.args = (product,)
