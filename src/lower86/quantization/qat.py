"""Quantization-aware training: `prepare_qat` before it, `convert` after it.

prepared = lower86.prepare_qat(model.train(), (images,))
... train it like any other model: prepared.train(), prepared.eval(), prepared.parameters() ...
quantized = lower86.convert(prepared)
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch.fx import Graph, GraphModule

from ..counted import counted
from ..errors import Lower86Error
from ..frontend.configuration import QuantizationConfig
from ..frontend.export import capture
from ..frontend.quantizer import X86Quantizer
from ..frontend.torchao import convert as convert_prepared
from ..frontend.torchao import is_quantizer, observers, range_of, roundings
from ..frontend.torchao import prepare_qat as prepare_graph
from ..frontend.training import fold_after_training, set_training, spell_for_training
from ..graph.pytrees import specs_copied_quietly
from ..graph.source import describe

_NAMED = 3
"""As many layers are named in an error."""


class TrainableModule(GraphModule):
    """What `prepare_qat` returns: the model's graph, which rounds values as the quantized model will.

    `train()` and `eval()` move its batch norms and dropouts, as torchao's `move_exported_model_to_eval` and
    `move_exported_model_to_train` do.
    """

    def __init__(self, root: torch.nn.Module | dict[str, Any], graph: Graph, class_name: str = "TrainableModule"):
        super().__init__(root, graph, class_name=class_name)
        if isinstance(root, GraphModule):
            self.meta.update(root.meta)  # torchao keeps there what it needs to convert

    def train(self, mode: bool = True) -> TrainableModule:
        """Training, or what comes after it."""
        super().train(mode)
        set_training(self, mode)
        return self

    @property
    def _exported_training(self) -> bool:
        """What torchao's functions read and write to move an exported model."""
        return self.training

    @_exported_training.setter
    def _exported_training(self, training: bool) -> None:
        self.train(training)


def prepare_qat(
    model: torch.nn.Module,
    example_inputs: tuple[Any, ...],
    *,
    dynamic_shapes: Any = None,
    quantizer: Any = None,
) -> TrainableModule:
    """A copy of `model` that rounds weights and activations in training as its quantized form will.

    A convolution and the batch norm after it round the weight that the two have when they are one, and are one after
    `convert`. What the graph holds of the mode of training are batch norms and dropouts, and `train()` and `eval()`
    move these; a model's own `if self.training` is decided here, for good.

    Args:
        model: in training mode. It is not modified, and shares no tensor with the result.
        example_inputs: positional arguments of one call; shapes not named in `dynamic_shapes` are fixed to theirs.
        dynamic_shapes: as in `torch.export.export`; name the batch if the last one of an epoch is smaller.
        quantizer: any of torchao's PT2E flow that is set up for training; without one, `X86Quantizer` with
            `QuantizationConfig.qat()`.

    Raises:
        ExportError: the model cannot be traced.
        Lower86Error: the model is in eval mode, or the quantizer is none, is not for training or finds nothing to do.
    """
    where = "lower86.prepare_qat"
    if isinstance(model, torch.nn.Module) and not model.training:
        raise Lower86Error(
            "the model is in eval mode, so its batch norms and dropouts would not be trained with",
            where=where,
            fix="call model.train() first; to train with batch norms as they are, call .eval() on the result",
        )
    if quantizer is None:
        quantizer = X86Quantizer().set_global(QuantizationConfig.qat())
    if not is_quantizer(quantizer):
        raise Lower86Error(
            f"quantizer is a {type(quantizer).__name__}, which is no quantizer of torchao's PT2E flow",
            where=where,
            fix="pass an X86Quantizer, or leave it out; a configuration goes into X86Quantizer().set_global(…)",
        )
    if isinstance(model, torch.nn.Module):
        model = copy.deepcopy(model)
    graph = capture(model, example_inputs, dynamic_shapes=dynamic_shapes).module()
    assert isinstance(graph, GraphModule)
    prepared = prepare_graph(graph, quantizer, spell_for_training)
    if not roundings(prepared):
        watches = bool(observers(prepared))
        raise Lower86Error(
            "the quantizer is set up for calibration, not for training"
            if watches
            else "the quantizer finds nothing in the model to quantize",
            where=where,
            fix="use QuantizationConfig.qat(), or what other quantizers have for it (is_qat=True)"
            if watches
            else "check its settings; X86Quantizer quantizes linears, convolutions, products and embeddings",
        )
    return TrainableModule(prepared, prepared.graph).train()


def convert(prepared: GraphModule) -> GraphModule:
    """The quantized model that a trained one stands for, to be lowered; `prepared` may be trained on.

    Batch norms have the statistics of training, and those after convolutions are biases.

    Args:
        prepared: what `prepare_qat`, or torchao's `prepare_qat_pt2e`, returned, after some training. In either mode.

    Raises:
        Lower86Error: it is not prepared for training, no batch went through it, or training has diverged.
    """
    where = "lower86.convert"
    if not isinstance(prepared, GraphModule) or not roundings(prepared):
        known = isinstance(prepared, torch.nn.Module)
        calibrated = known and bool(observers(prepared))
        raise Lower86Error(
            "the model is prepared for calibration, not for training"
            if calibrated
            else f"expected what prepare_qat returned, got {'a model that rounds nothing' if known else ''}"
            f"{'' if known else type(prepared).__name__}",
            where=where,
            fix="use torchao's convert_pt2e"
            if calibrated
            else "call lower86.prepare_qat(model, …), train, then convert",
        )
    _check_trained(prepared, where)
    with torch.no_grad(), specs_copied_quietly():
        own = copy.deepcopy(prepared)
        if isinstance(own, TrainableModule):
            own.train(False)
            meta, own = own.meta, GraphModule(own, own.graph)
            own.meta.update(meta)
        quantized = convert_prepared(own)
        fold_after_training(quantized)
    return quantized


def _check_trained(prepared: GraphModule, where: str) -> None:
    """Raises for roundings without a range, and for those whose range is no range."""
    unseen, broken = [], []
    users = {str(node.target): node for node in prepared.graph.nodes if node.op == "call_module"}
    for name, rounding in roundings(prepared).items():
        found, node = range_of(rounding), users.get(name)
        if found is None or node is None:
            continue
        least, most = found
        if not least.numel() or bool((least > most).any()):
            unseen.append(node)
        elif not bool(torch.isfinite(least).all() and torch.isfinite(most).all()):
            broken.append(node)
    if unseen:
        raise Lower86Error(
            f"no batch has gone through {len(unseen)} of the model's {counted(len(users), 'rounding')}: they have no "
            "scales",
            where="; ".join(describe(node.all_input_nodes[0]) for node in unseen[:_NAMED]),
            fix=f"call the prepared model on batches (train it) before {where}",
        )
    if broken:
        raise Lower86Error(
            f"{counted(len(broken), 'value has', 'values have')} become infinite or NaN in training, so they have no "
            "scales",
            where="; ".join(describe(node.all_input_nodes[0]) for node in broken[:_NAMED]),
            fix="look for NaN in the data, lower the learning rate, clip gradients, and prepare the model again",
        )
