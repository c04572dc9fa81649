"""torchao as typed Python: the only file that imports it.

torchao ships no types. What the rest of the frontend needs of its PT2E flow is declared here once, as small as it is
used: the base class of quantizers, annotations, how a value is to be quantized, and the three steps of the flow.

One file, though it is long: what is without types, and may change with torchao's next version, is to be seen at once.
"""

from __future__ import annotations

import copy
import dataclasses
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import (
    CUSTOM_KEY,
    NUMERIC_DEBUG_HANDLE_KEY,
    FakeQuantize,
    FakeQuantizeBase,
    FusedMovingAvgObsFakeQuantize,
    HistogramObserver,
    MappingType,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    PerChannelMinMaxObserver,
    PerTensor,
    PerToken,
    PlaceholderObserver,
)
from torchao.quantization.pt2e.observer import (
    AffineQuantizedObserverBase,
    ObserverBase,
    UniformQuantizationObserverBase,
)
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e, prepare_qat_pt2e
from torchao.quantization.pt2e.quantizer import (
    QuantizationAnnotation,
    QuantizationSpec,
    SharedQuantizationSpec,
)

from .configuration import Integers, QuantizationConfig

if TYPE_CHECKING:

    class Quantizer(ABC):
        """torchao's quantizer: rewrites what it cannot annotate, annotates, and may check the result."""

        def transform_for_annotation(self, model: GraphModule) -> GraphModule:
            return model

        @abstractmethod
        def annotate(self, model: GraphModule) -> GraphModule: ...
        @abstractmethod
        def validate(self, model: GraphModule) -> None: ...

else:
    from torchao.quantization.pt2e.quantizer import Quantizer

__all__ = ["Quantizer"]

_KEY = "quantization_annotation"  # torchao's, in a node's metadata
_EPS = 2.0**-12  # the smallest scale, as in torchao's quantizer for x86
_WEIGHTS = Integers(torch.int8, -128, 127, symmetric=True)
_OBSERVERS = (ObserverBase, AffineQuantizedObserverBase)

Spec = Any
"""How one value is quantized: one of torchao's quantization specs."""


def prepare(model: GraphModule, quantizer: Quantizer) -> GraphModule:
    """An exported model with observers where `quantizer` wants values quantized."""
    prepared: GraphModule = prepare_pt2e(model, quantizer)
    return prepared


def prepare_qat(
    model: GraphModule, quantizer: Quantizer, annotated: Callable[[GraphModule], None] | None = None
) -> GraphModule:
    """An exported model that rounds in training as it will when it is quantized.

    `annotated` is called with the graph as soon as the quantizer has annotated it, before anything is inserted.
    """
    prepared: GraphModule = prepare_qat_pt2e(model, _Watched(quantizer, annotated) if annotated else quantizer)
    return prepared


def convert(model: GraphModule, *, fold_quantize: bool = True) -> GraphModule:
    """The quantized model: quantize/dequantize pairs in place of observers, weights as integers."""
    converted: GraphModule = convert_pt2e(model, fold_quantize=fold_quantize)
    return converted


def inductor_quantizer() -> Quantizer:
    """torchao's own quantizer for Inductor on x86, with its default configuration: static, per channel."""
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as xiq  # with Inductor, seconds of imports

    config = xiq.get_default_x86_inductor_quantization_config()
    quantizer: Quantizer = xiq.X86InductorQuantizer().set_global(config)
    return quantizer


def lowered_by_torchao(model: GraphModule, example: tuple[torch.Tensor, ...]) -> torch.nn.Module:
    """What torchao's own `lower_pt2e_quantized_to_x86` makes of a quantized model."""
    from torchao.quantization.pt2e.lowering import lower_pt2e_quantized_to_x86

    lowered: torch.nn.Module = lower_pt2e_quantized_to_x86(model, example)
    return lowered


def debug_handle(node: Node) -> int | None:
    """The number that torchao's `generate_numeric_debug_handle` gave the node, and all that was made from it."""
    found: int | None = node.meta.get(CUSTOM_KEY, {}).get(NUMERIC_DEBUG_HANDLE_KEY)
    return found


def is_range_observer(module: object) -> bool:
    """Whether the module watches a range from which `convert` makes scales and zero points that stay."""
    return isinstance(module, UniformQuantizationObserverBase) and not module.is_dynamic


def copied(prepared: GraphModule) -> GraphModule:
    """A deep copy of a prepared graph, whose annotations are about its own nodes."""
    copy_of: GraphModule = copy.deepcopy(prepared)
    names = {node.name: node for node in copy_of.graph.nodes}
    for node in copy_of.graph.nodes:
        annotation = node.meta.get(_KEY)
        if annotation is not None:
            specs = {names[key.name]: spec for key, spec in annotation.input_qspec_map.items() if key.name in names}
            node.meta[_KEY] = dataclasses.replace(annotation, input_qspec_map=specs)
    return copy_of


def annotate_instead(reader: Node, operand: Node, by: Node) -> None:
    """Has what was said of `operand` in the annotation of `reader` said of `by`, which it reads instead."""
    specs = input_specs(reader)
    if operand in specs:
        reader.meta[_KEY] = dataclasses.replace(
            reader.meta[_KEY], input_qspec_map={by if key is operand else key: spec for key, spec in specs.items()}
        )


def limits(observer: Any) -> tuple[int, int]:
    """The least and the largest integer of a range observer."""
    return int(observer.quant_min), int(observer.quant_max)


def channel_axis(observer: Any) -> int | None:
    """The axis along which a range observer has a scale for each index; None for one scale."""
    per_channel = observer.qscheme in (torch.per_channel_symmetric, torch.per_channel_affine)
    return int(observer.ch_axis) if per_channel else None


def is_observer(module: object) -> bool:
    """Whether the module stands where `convert` writes a quantization, or watches for something that does."""
    return isinstance(module, _OBSERVERS)


@dataclass(frozen=True)
class RunTime:
    """Scales from each input: the integers, and whether around zero; one for each row of the last dim, or for all."""

    low: int
    high: int
    symmetric: bool
    by_rows: bool
    least_scale: float


def run_time(module: object) -> RunTime | None:
    """What an observer stands for whose scales are found at run time; None for any other."""
    if isinstance(module, PerTokenObserver):
        symmetric = module.mapping_type == MappingType.SYMMETRIC
        return RunTime(int(module.quant_min), int(module.quant_max), symmetric, True, float(module.eps))
    if not isinstance(module, PlaceholderObserver) or not module.is_dynamic or module.quant_min is None:
        return None
    symmetric = module.qscheme == torch.per_tensor_symmetric
    return RunTime(int(module.quant_min), int(module.quant_max), symmetric, False, float(module.eps))


def is_for_training(module: object) -> bool:
    """Whether the module rounds in training, as `prepare_qat_pt2e` wants it."""
    return isinstance(module, FakeQuantizeBase)


def parameters(observer: Any, low: torch.Tensor, high: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The scales and zero points with which a range observer's integers reach from `low` to `high`."""
    scale, zero_point = observer._calculate_qparams(low, high)
    return scale, zero_point


def is_state_observer(module: object) -> bool:
    """Whether the module watches the states of a recurrent layer, which that layer itself quantizes."""
    return isinstance(module, StateObserver)


def forget(node: Node) -> None:
    """Takes back what a quantizer has decided on `node`."""
    node.meta.pop(_KEY, None)


def settle(observer: Any, low: torch.Tensor, high: torch.Tensor) -> None:
    """Has a range observer stand for values from `low` to `high`, float32, scalars or one a channel."""
    scale, zero_point = parameters(observer, low, high)
    observer.calculate_qparams = lambda: (scale, zero_point)


class _Watched(Quantizer):
    """A quantizer, and what is to happen after it."""

    def __init__(self, inner: Quantizer, annotated: Callable[[GraphModule], None]) -> None:
        super().__init__()
        self._inner, self._annotated = inner, annotated

    def transform_for_annotation(self, model: GraphModule) -> GraphModule:
        return self._inner.transform_for_annotation(model)

    def annotate(self, model: GraphModule) -> GraphModule:
        return self._inner.annotate(model)

    def validate(self, model: GraphModule) -> None:
        self._inner.validate(model)
        self._annotated(model)

    def prepare_obs_or_fq_callback(self, model: GraphModule, edges: Any) -> None:
        inner: Any = self._inner
        inner.prepare_obs_or_fq_callback(model, edges)


def is_quantizer(value: object) -> bool:
    """Whether `value` is a quantizer of torchao's PT2E flow."""
    return isinstance(value, Quantizer)


def roundings(model: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """What rounds in a model prepared for training, by name."""
    return {name: part for name, part in model.named_modules() if isinstance(part, FakeQuantizeBase)}


def observers(model: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """What watches values in a model prepared for calibration or for training, by name."""
    return {name: part for name, part in model.named_modules() if is_observer(part)}


def range_of(rounding: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The least and the greatest of what a rounding has seen; None if it does not keep them."""
    seen: Any = getattr(rounding, "activation_post_process", None)
    least, most = getattr(seen, "min_val", None), getattr(seen, "max_val", None)
    return (least, most) if isinstance(least, torch.Tensor) and isinstance(most, torch.Tensor) else None


def annotate_input(node: Node, operand: Node, spec: Spec) -> None:
    """Has `node` read `operand` quantized."""
    _annotation(node).input_qspec_map[operand] = spec


def annotate_output(node: Node, spec: Spec) -> None:
    """Has every reader of `node` read it quantized."""
    _annotation(node).output_qspec = spec


def input_specs(node: Node) -> dict[Node, Spec]:
    """The operands that `node` reads quantized, and how."""
    annotation = node.meta.get(_KEY)
    return annotation.input_qspec_map if annotation is not None else {}


def rename_input(node: Node, operand: Node, now: Node) -> None:
    """Has `node` read `now` as it was to read `operand`."""
    specs = input_specs(node)
    specs[now] = specs.pop(operand)


def is_annotated(node: Node) -> bool:
    """Whether some quantizer has already decided on `node`."""
    return bool(getattr(node.meta.get(_KEY), "_annotated", False))


def output_spec(node: Node) -> Spec | None:
    """How every reader of `node` reads it; None if each for itself."""
    return getattr(node.meta.get(_KEY), "output_qspec", None)


def integers_of(spec: Spec | None) -> Integers | None:
    """The integers of a value whose parameters come from calibration or training; None for any other."""
    while isinstance(spec, SharedQuantizationSpec):
        operand, reader = spec.edge_or_node
        spec = input_specs(reader)[operand]
    if not isinstance(spec, QuantizationSpec) or isinstance(spec, StateSpec) or spec.is_dynamic:
        return None
    return Integers(spec.dtype, spec.quant_min, spec.quant_max, spec.qscheme == torch.per_tensor_symmetric)


def _annotation(node: Node) -> Any:
    return node.meta.setdefault(_KEY, QuantizationAnnotation(_annotated=True))


def shared(operand: Node, reader: Node) -> Spec:
    """Quantized with the parameters with which `reader` reads `operand`."""
    return SharedQuantizationSpec((operand, reader))


def activation_spec(config: QuantizationConfig) -> Spec:
    """How `config` quantizes an activation: one scale a tensor (or a token) and one zero point."""
    integers = config.activations
    if config.mode == "qat":
        observer = FusedMovingAvgObsFakeQuantize.with_args(observer=MovingAverageMinMaxObserver, eps=_EPS)
    elif config.mode == "static":
        observer = HistogramObserver.with_args(eps=_EPS)
    elif config.per_token:
        observer = PerTokenObserver.with_args(eps=_EPS)
    else:
        observer = PlaceholderObserver.with_args(eps=_EPS)
    return QuantizationSpec(
        dtype=integers.dtype,
        quant_min=integers.low,
        quant_max=integers.high,
        qscheme=torch.per_tensor_symmetric if integers.symmetric else torch.per_tensor_affine,
        is_dynamic=config.mode == "dynamic",
        observer_or_fake_quant_ctr=observer,
    )


@dataclass(frozen=True)
class StateSpec(QuantizationSpec):  # type: ignore[misc]  # torchao has no types
    """Watched, but quantized by the recurrent layer itself, inside: its readers get floats."""


def state_spec(config: QuantizationConfig) -> Spec:
    """How `config` quantizes the states of a recurrent layer."""
    return StateSpec(
        **{**vars(activation_spec(config)), "observer_or_fake_quant_ctr": StateObserver.with_args(eps=_EPS)}
    )


def probability_spec(config: QuantizationConfig) -> Spec:
    """How `config` quantizes the weights of an attention: as an activation, but the largest one seen is never clipped.

    Not as a fixed range of [0, 1]: among 1,500 keys most weights would be less than half a step.
    """
    if config.mode != "static":
        return activation_spec(config)
    integers = config.activations
    return QuantizationSpec(
        dtype=integers.dtype,
        quant_min=integers.low,
        quant_max=integers.high,
        qscheme=torch.per_tensor_symmetric if integers.symmetric else torch.per_tensor_affine,
        observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=_EPS),
    )


def table_spec(config: QuantizationConfig) -> Spec:
    """How `config` quantizes the table of an embedding: as a weight, but scales may be as small as the rows are.

    A norm that follows makes small rows as large as others, and their rounding with them.
    """
    return weight_spec(config, 0, torch.finfo(torch.float32).eps)


def weight_spec(config: QuantizationConfig, axis: int, eps: float = _EPS) -> Spec:
    """How `config` quantizes a weight: s8 around zero, one scale for each index of `axis`, or one for all."""
    per_channel = config.per_channel_weights
    observer: Any = PerChannelMinMaxObserver if per_channel else MinMaxObserver
    options: dict[str, Any] = {}
    if config.mode == "qat":
        observer = FakeQuantize if axis else FusedMovingAvgObsFakeQuantize  # the fused one knows axis 0 only
        options["observer"] = MovingAveragePerChannelMinMaxObserver if per_channel else MovingAverageMinMaxObserver
        # A weight's range is known, and not to be guessed from earlier ones: clipping would hold back those that grow.
        options["averaging_constant"] = 1.0
        if per_channel:
            options["ch_axis"] = axis  # torchao passes the spec's own axis on to observers only
    return QuantizationSpec(
        dtype=_WEIGHTS.dtype,
        quant_min=_WEIGHTS.low,
        quant_max=_WEIGHTS.high,
        qscheme=torch.per_channel_symmetric if per_channel else torch.per_tensor_symmetric,
        ch_axis=axis if per_channel else None,
        observer_or_fake_quant_ctr=observer.with_args(eps=eps, **options),
    )


class StateObserver(AffineQuantizedObserverBase):  # type: ignore[misc]  # torchao has no types
    """Watches the states of a recurrent layer; `convert` tells that layer their parameters, and writes nothing else."""

    def __init__(
        self, *, dtype: torch.dtype, quant_min: int, quant_max: int, qscheme: Any, is_dynamic: bool, eps: float
    ) -> None:
        super().__init__(MappingType.ASYMMETRIC, dtype, PerTensor(), quant_min, quant_max, eps)
        self._range = HistogramObserver(dtype=dtype, quant_min=quant_min, quant_max=quant_max, qscheme=qscheme, eps=eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self._range(x.detach())
        return x

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        scale, zero_point = self._range.calculate_qparams()
        return scale, zero_point

    def convert(self, model: GraphModule, observer_node: Node) -> None:
        scale, zero_point = self.calculate_qparams()
        states = observer_node.args[0]
        assert isinstance(states, Node)
        layer = states.args[0] if states.target is operator.getitem else states
        assert isinstance(layer, Node)
        given = {"h_scale": float(scale), "h_zero_point": int(zero_point)}
        layer.kwargs = {**layer.kwargs, **given, "h_low": self.quant_min, "h_high": self.quant_max}
        observer_node.replace_all_uses_with(states)
        model.graph.erase_node(observer_node)


class PerTokenObserver(AffineQuantizedObserverBase):  # type: ignore[misc]  # torchao has no types
    """Stands where `convert` writes a quantization with one run-time scale for each row of the last dim."""

    def __init__(
        self, *, dtype: torch.dtype, quant_min: int, quant_max: int, qscheme: Any, is_dynamic: bool, eps: float
    ) -> None:
        symmetric = qscheme == torch.per_tensor_symmetric
        mapping = MappingType.SYMMETRIC if symmetric else MappingType.ASYMMETRIC
        super().__init__(mapping, dtype, PerToken(), quant_min, quant_max, eps, torch.float32, torch.int32)
        self.is_dynamic = is_dynamic

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Ones but for the last dim: right for any number of rows, so that dynamic shapes stay open.
        self.block_size = [*[1] * (x.dim() - 1), x.shape[-1]]
        self.original_dtype = x.dtype
        return x

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        # The base class demands the method; what is computed at run time has no parameters for `convert` to ask for.
        raise NotImplementedError("the parameters are computed at run time")
