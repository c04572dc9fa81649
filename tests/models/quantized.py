"""torchao's PT2E flow on a tiny model, in one call."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as xiq
from torch import nn
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e


def inductors() -> Any:
    """torchao's own quantizer for x86, as it comes."""
    quantizer = xiq.X86InductorQuantizer()
    return quantizer.set_global(xiq.get_default_x86_inductor_quantization_config())


def quantize(
    model: nn.Module,
    inputs: tuple[Any, ...],
    kwargs: dict[str, Any] | None = None,
    *,
    quantizer: Any = None,
    dynamic_shapes: Any = None,
    strict: bool = True,
    fold_quantize: bool = True,
) -> GraphModule:
    """The model as a quantizer (X86InductorQuantizer) and `convert_pt2e` leave it, calibrated on `inputs` alone."""
    exported = torch.export.export(model.eval(), inputs, kwargs, dynamic_shapes=dynamic_shapes, strict=strict)
    prepared = prepare_pt2e(exported.module(), inductors() if quantizer is None else quantizer)
    with torch.no_grad():
        prepared(*inputs, **(kwargs or {}))
    return convert_pt2e(prepared, fold_quantize=fold_quantize)


def in_float64(quantized: GraphModule) -> GraphModule:
    """The same integers and scales, everything else in float64."""
    wide = copy.deepcopy(quantized)
    for node in wide.graph.nodes:
        if "decomposed.dequantize" in str(node.target):
            node.kwargs = {**node.kwargs, "out_dtype": torch.float64}
        if "decomposed.quantize" in str(node.target) or "choose_qparams" in str(node.target):
            with wide.graph.inserting_before(node):
                single = wide.graph.call_method("float", (node.args[0],))
            node.update_arg(0, single)
        if node.target is torch.ops.aten.to.dtype and node.args[1] in (torch.bfloat16, torch.float16):
            node.update_arg(1, torch.float64)
    wide.recompile()
    return wide.double()
