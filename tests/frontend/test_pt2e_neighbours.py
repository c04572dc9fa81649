"""What else torchao's PT2E package offers, with lower86 behind it: its flags, its passes, its forms, its files."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as xiq
import torchao.testing.pt2e._xnnpack_quantizer as xnn
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.fx.passes.infra.pass_manager import PassManager
from torchao.quantization.pt2e import allow_exported_model_train_eval, move_exported_model_to_eval, qat_utils
from torchao.quantization.pt2e import reference_representation_rewrite as rewrite
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e, prepare_qat_pt2e
from torchao.quantization.pt2e.quantizer import DuplicateDQPass, PortNodeMetaForQDQ

import lower86
from lower86 import QuantizationConfig, X86Quantizer
from lower86.graph.qparams import is_dequantize
from tests.models.checks import agree, lower, near
from tests.models.quantized import inductors, quantize
from tests.models.small import MLP


class Shared(nn.Module):
    """Two linears and an addition that read one value; then a convolution and a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.conv = nn.Linear(8, 8), nn.Linear(8, 8), nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.one(x)) + self.two(x) + x
        return torch.relu(self.conv(x.unsqueeze(1))).mean(-1)


X = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(3))
QUANTIZERS: dict[str, Any] = {"torchao's": inductors, "lower86's": X86Quantizer}


def one_program(first: GraphModule, second: GraphModule, *inputs: Tensor) -> None:
    """Both lower to the same program and the same bits."""
    programs = [lower(model, *inputs) for model in (first, second)]
    kernels = [[(kernel.kind, kernel.shape) for kernel in lower86.explain(program).kernels] for program in programs]
    assert kernels[0] == kernels[1]
    assert torch.equal(*(program(*inputs) for program in programs))
    assert lower86.explain(programs[0]).int8_fraction == 1


@pytest.mark.parametrize("name", QUANTIZERS)
def test_shared_and_duplicate_dequantizes_are_one_program(name: str) -> None:
    quantized = quantize(Shared(), (X,), quantizer=QUANTIZERS[name]())
    merged = copy.deepcopy(quantized)
    for node in merged.graph.nodes:
        first, *others = [user for user in node.users if is_dequantize(user)] or [None]
        for other in others:
            other.replace_all_uses_with(first)
            merged.graph.erase_node(other)
    merged.recompile()
    count = [sum(map(is_dequantize, module.graph.nodes)) for module in (quantized, merged)]
    assert count[0] > count[1]
    one_program(quantized, merged, X)
    again = PassManager([DuplicateDQPass()])(merged).graph_module
    assert sum(map(is_dequantize, again.graph.nodes)) == count[0]
    one_program(quantized, again, X)


@pytest.mark.parametrize("name", QUANTIZERS)
def test_metadata_reaches_the_report(name: str) -> None:
    quantized = quantize(Shared(), (X,), quantizer=QUANTIZERS[name]())
    ported = PassManager([PortNodeMetaForQDQ()])(copy.deepcopy(quantized)).graph_module
    for module in (quantized, ported):
        lowered = lower(module, X)
        assert [op.module for op in lower86.explain(lowered).operators] == ["one", "two", "conv"]
        calls = [node for node in lowered.graph.nodes if "lower86" in str(node.target)]
        assert calls
        assert all("self." in node.meta["stack_trace"] for node in calls if "int8" in str(node.target))


@pytest.mark.parametrize("name", QUANTIZERS)
def test_weights_quantized_in_the_graph(name: str) -> None:
    prepared = prepare_pt2e(torch.export.export(Shared(), (X,)).module(), QUANTIZERS[name]())
    prepared(X)
    models = [convert_pt2e(copy.deepcopy(prepared), fold_quantize=fold) for fold in (True, False)]
    one_program(*models, X)


def test_copies_and_files_of_quantized_models() -> None:
    batch = torch.export.Dim("batch")
    quantized = quantize(Shared(), (X,), quantizer=X86Quantizer(), dynamic_shapes=({0: batch},))
    file = io.BytesIO()
    torch.export.save(torch.export.export(quantized, (X,), dynamic_shapes=({0: batch},)), file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    wanted = lower(quantized, X)
    for twin in (copy.deepcopy(quantized), loaded):
        lowered = lower(twin, X)
        assert lower86.explain(lowered).int8_fraction == 1
        for size in (1, 3, 4):
            x = torch.randn(size, 5, 8)
            assert torch.equal(lowered(x), wanted(x))


def test_modes_of_quantized_models() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 4))
    exported = torch.export.export(model.train(), (X,)).module()
    prepared = prepare_pt2e(exported, X86Quantizer())
    prepared(X)
    quantized = allow_exported_model_train_eval(convert_pt2e(prepared))
    quantized.eval()
    agree(quantized, lower(quantized, X), X, compare=near)
    moved = move_exported_model_to_eval(copy.deepcopy(quantized))
    one_program(quantized, moved, X)


class Normed(nn.Module):
    """A convolution and its batch norm, with what a classifier has behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


def test_torchaos_training(monkeypatch: pytest.MonkeyPatch) -> None:
    # torchao traces a hundred patterns, for half a minute: these are all that this model can hold.
    for helper in ("_fuse_conv_bn_qat_helper", "_fold_conv_bn_qat_helper"):
        every = getattr(qat_utils, helper)

        def only(model: GraphModule, conv: object, *rest: Any, every: Any = every, **named: Any) -> GraphModule:
            return every(model, conv, *rest, **named) if conv is nn.functional.conv2d else model

        monkeypatch.setattr(qat_utils, helper, only)
    options = [(True, True, False, training) for training in (True, False)]
    monkeypatch.setattr(qat_utils, "itertools", SimpleNamespace(product=lambda *_: options))
    quantizer = xiq.X86InductorQuantizer()
    quantizer.set_global(xiq.get_default_x86_inductor_quantization_config(is_qat=True))
    x = torch.randn(4, 3, 7, 7)
    prepared = prepare_qat_pt2e(torch.export.export(Normed().train(), (x,)).module(), quantizer)
    optimizer = torch.optim.SGD(prepared.parameters(), 0.1)
    prepared(x).square().mean().backward()
    optimizer.step()
    prepared(x)
    own = lower86.convert(prepared)
    move_exported_model_to_eval(prepared)
    quantized = convert_pt2e(prepared)
    lowered = lower(quantized, x)
    assert [op.module for op in lower86.explain(lowered).operators] == ["conv", "head"]
    assert lower86.explain(lowered).int8_fraction == 1
    agree(quantized, lowered, x, compare=near)
    assert torch.equal(lower(own, x)(x), lowered(x))


def _xnnpack(**options: Any) -> Any:
    return xnn.XNNPACKQuantizer().set_global(xnn.get_symmetric_quantization_config(**options))


def _symmetric() -> Any:
    return X86Quantizer().set_global(QuantizationConfig(symmetric_activations=True))


class Convolutions(nn.Module):
    """Two convolutions, a pool, and an addition of two quantized values."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        return nn.functional.max_pool2d(self.second(x) + x, 2)


REFERENCES: dict[str, tuple[Any, Any, tuple[int, ...]]] = {
    "linears in integers": (_xnnpack, lambda: nn.Sequential(nn.Linear(2000, 6), nn.Linear(6, 6)), (3, 2000)),
    "one scale": (_xnnpack, Convolutions, (2, 3, 8, 8)),
    "per channel": (lambda: _xnnpack(is_per_channel=True), Convolutions, (2, 3, 8, 8)),
    "u8": (X86Quantizer, MLP, (3, 16)),
    "s8": (_symmetric, MLP, (3, 16)),
}


@pytest.fixture(scope="module")
def traced_once() -> Iterator[None]:
    """Has torchao trace the patterns of the reference representation once, not for every model: ten seconds each."""
    trace, patterns = rewrite._get_aten_graph_module_for_pattern, {}

    def once(pattern: Any, *rest: Any, **named: Any) -> GraphModule:
        if pattern.fn not in patterns:
            patterns[pattern.fn] = trace(pattern, *rest, **named)
        return copy.deepcopy(patterns[pattern.fn])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rewrite, "_get_aten_graph_module_for_pattern", once)
        yield


@pytest.mark.filterwarnings("ignore:.treespec.children_specs. is deprecated:FutureWarning")
@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.usefixtures("traced_once")
def test_the_reference_representation(name: str) -> None:
    make_quantizer, make, shape = REFERENCES[name]
    x = torch.randn(shape)
    prepared = prepare_pt2e(torch.export.export(make().eval(), (x,)).module(), make_quantizer())
    prepared(x)
    quantized = convert_pt2e(copy.deepcopy(prepared))
    reference = convert_pt2e(prepared, use_reference_representation=True)
    assert any(is_dequantize(node) for node in quantized.graph.nodes)
    lowered = lower(reference, x)
    explanation = lower86.explain(lowered)
    assert len(explanation.operators) == len(lower86.explain(lower(quantized, x)).operators)
    assert (explanation.int8_fraction, explanation.foreign) == (1, ())
    agree(reference, lowered, x, compare=near)
