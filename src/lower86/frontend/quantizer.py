"""`X86Quantizer`: tells torchao what lower86 runs in int8."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..errors import Lower86Error
from ..graph.source import describe
from ..normalize.inline_regions import inline_regions
from .annotate import OPERATORS, annotate
from .attention import take_apart_attention
from .configuration import QuantizationConfig
from .memory import replace_in_place
from .recurrent import spell_recurrent
from .settings import Settings, operator_packet, type_name
from .torchao import Quantizer, input_specs

__all__ = ["QuantizationConfig", "X86Quantizer"]


class X86Quantizer(Quantizer):
    """A torchao quantizer for `prepare_pt2e` and `prepare_qat_pt2e`; without settings, static and ready to use.

    Quantized are the operands of linears, of products with a constant on either side, of convolutions and transposed
    convolutions, of products of two activations, and so of attention; the tables of embeddings; and what lies between:
    pools, concatenations, views, relu, residual additions of convolutional networks. Biases, norms and softmax stay
    float.

    LSTM and GRU, layers and cells, are spelled out: their input projections are linears, and each step's product of the
    state is int8, with one scale for all states of a layer, from calibration or, with "dynamic", for [-1, 1]. With
    "qat" they stay float. A quantized model with one holds an operator of lower86: import it to run the model.

    The setters return the quantizer. A configuration of None leaves what it is for in float.
    """

    def __init__(self) -> None:
        super().__init__()
        self._settings = Settings()

    def set_global(self, config: QuantizationConfig | None) -> X86Quantizer:
        """For everything that no other setting is about."""
        self._settings.everywhere = config
        return self

    def set_module_name(self, name: str, config: QuantizationConfig | None) -> X86Quantizer:
        """For all in the module of this name, or in those that a glob fits: `encoder.layer.0`, `encoder.layer.*.query`.

        `*` stands for dots as well. `prepare_pt2e` raises Lower86Error if the name fits nothing in the model.
        """
        self._settings.names.pop(name, None)  # the later setting goes last
        self._settings.names[name] = config
        return self

    def set_module_type(self, kind: type[torch.nn.Module], config: QuantizationConfig | None) -> X86Quantizer:
        """For all in modules of this very type."""
        self._settings.types[type_name(kind)] = config
        return self

    def set_function_type(self, operator: Callable[..., Any], config: QuantizationConfig | None) -> X86Quantizer:
        """For one operator, in all its overloads: `torch.matmul`, `torch.ops.aten.conv2d`, `operator.add` …

        For `scaled_dot_product_attention`, None leaves attention whole. Raises Lower86Error for an operator that is
        never quantized.
        """
        self._settings.operators[operator_packet(operator, OPERATORS)] = config
        return self

    def transform_for_annotation(self, model: GraphModule) -> GraphModule:
        """Inlines no_grad regions, undoes in-place operators, spells out attention and recurrent layers, in place."""
        self._check_modes()
        self._settings.check_names(model)
        if not self._is_training():
            inline_regions(model)  # a region is there to keep gradients out: in training it is left alone, in float
        replace_in_place(model)
        take_apart_attention(model, self._wants_attention)
        spell_recurrent(model, self._settings.config_of)
        model.graph.lint()
        model.recompile()
        return model

    def annotate(self, model: GraphModule) -> GraphModule:
        """Marks what is to be quantized."""
        annotate(model, self._settings.config_of)
        return model

    def validate(self, model: GraphModule) -> None:
        """Raises Lower86Error for the one annotation that `convert_pt2e` would fail on, without a reason, later."""
        readers: dict[Node, Node] = {}
        for node in model.graph.nodes:
            config = self._settings.config_of(node)
            if config is None or config.mode != "dynamic" or config.per_token or not config.symmetric_activations:
                continue
            for operand in input_specs(node):
                if readers.setdefault(operand, node) is not node:
                    raise Lower86Error(
                        "several layers read one value with one symmetric scale from run time, which torchao's "
                        "convert_pt2e cannot write",
                        where=describe(node),
                        fix="use QuantizationConfig.dynamic(per_token=True, symmetric_activations=True), or leave "
                        "symmetric_activations out",
                    )

    def _wants_attention(self, node: Node) -> bool:
        config = self._settings.config_of(node)
        return config is not None and config.mode != "dynamic"

    def _is_training(self) -> bool:
        return any(config.mode == "qat" for config in self._settings.configs())

    def _check_modes(self) -> None:
        modes = {config.mode for config in self._settings.configs()}
        if "qat" in modes and len(modes) > 1:
            raise Lower86Error(
                "some settings are for training, some are not",
                where="X86Quantizer",
                fix='use mode="qat" in all settings with prepare_qat_pt2e (set_global too), in none with prepare_pt2e',
            )
