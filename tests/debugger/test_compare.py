"""`compare`: nothing is found where nothing is wrong; a planted fault is found where it is, and nowhere before."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torchao.quantization.pt2e import generate_numeric_debug_handle
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

import lower86
from lower86 import Comparison, QuantizationConfig, Recipe, X86Quantizer
from lower86.lowered import LoweredModule
from lower86.program.kernels import Contraction
from lower86.program.program import Step
from lower86.report.comparison import Row
from lower86.sources.exported import exported_bytes, from_exported
from lower86.sources.naming import Example
from tests.models import transformer
from tests.models.checks import lower, lower_anyhow
from tests.models.digits import DigitsNet
from tests.models.quantized import inductors, quantize

FAITHFUL = 60.0
"""dB that the program keeps of the quantized model: one value in some thousands is rounded the other way."""


def is_faithful(comparison: Comparison, joined: float = 1.0) -> None:
    """Whether the program does what the quantized model does, and the rows know it."""
    rows = comparison.rows
    assert sum(row.quantization_here is not None for row in rows) >= joined * len(rows)
    held = [row for row in rows if row.compiled_here is not None]
    assert len(held) >= len(rows) / 3
    for row in held:
        assert row.compiled_here is not None
        assert row.compiled_here.sqnr >= FAITHFUL, row
        assert not row.compiled_here.more, row
        assert row.kernel == ""
    for row in rows:
        assert row.compiled is not None or row.kernel in {other.node for other in held}, row


def compiled_here(row: Row) -> float:
    return math.inf if row.compiled_here is None else row.compiled_here.sqnr


@pytest.fixture(scope="module")
def network() -> tuple[nn.Module, GraphModule, Tensor]:
    torch.manual_seed(0)
    model, images = DigitsNet(), torch.rand(8, 1, 8, 8)
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(16, 1, 8, 8))
    dims = ({0: torch.export.Dim("batch", max=64)},)
    return model, quantize(model, (images,), quantizer=X86Quantizer(), dynamic_shapes=dims), images


def quantize_node(quantized: GraphModule, number: int) -> tuple[torch.fx.Node, torch.fx.Node]:
    """The quantize node behind a block's first ReLU, and its one dequantize."""
    readers = [n for n in quantized.graph.nodes if n.op == "call_function" and ".relu." in str(n.target)]
    (quantizer,) = [user for user in readers[number].users if "quantize_per_tensor" in str(user.target)]
    (dequantizer,) = quantizer.users
    return quantizer, dequantizer


class Smoothed(nn.Module):
    """What smoothing folds into a norm and into a layer, and what it multiplies: f32 [n, 16]."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.out = nn.LayerNorm(16), nn.Linear(16, 4)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)
        with torch.no_grad():
            self.norm.weight[3] = 50
            self.up.weight[5] *= 20

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x + self.down(torch.relu(self.up(self.norm(x * 1)))))


def test_a_smoothed_model_is_compared_with_the_float_one_channel_by_channel() -> None:
    torch.manual_seed(0)
    model, calls = Smoothed().eval(), [torch.randn(30, 16) for _ in range(8)]
    for recipe in (Recipe(smooth=(0.5, 0.8), product_gain=1.0), Recipe()):
        quantized = lower86.quantize(model, calls, recipe=recipe, progress=False)
        comparison = lower86.compare(model, quantized, lower(quantized, calls[0]), (calls[0],))
        rows = comparison.in_order()
        assert {row.module for row in rows if row.operator == "linear"} == {"up", "down", "out"}
        assert "norm" in {row.module for row in rows}
        for row in rows:
            assert row.quantization_here is not None, row
            assert row.quantization_here.sqnr > 30, row
            assert row.quantization is not None
            assert row.quantization.sqnr > 25, row
            assert row.line, row
        readers = [node for node in quantized.graph.nodes if "dequantize_per_tensor" in str(node.target)]
        assert all(node.meta.get("stack_trace") for node in readers)
    assert quantized.meta["lower86"].steps == ()


def test_a_network_without_faults_at_other_sizes(network: tuple[nn.Module, GraphModule, Tensor]) -> None:
    model, quantized, images = network
    lowered = lower(quantized, images)
    comparison = lower86.compare(model, quantized, lowered, (images[:3],))
    is_faithful(comparison)
    rows = comparison.in_order()
    assert all(row.quantization_here is not None and row.quantization_here.sqnr > 30 for row in rows)
    # Batch norms are part of the convolutions, whose rows are compared with the norms' results.
    convolutions = [row.module for row in rows if row.operator == "conv2d"]
    assert convolutions == [
        "stem.0", *(f"blocks.{i}.{name}" for i in range(3) for name in ("first", "second", "shortcut")),
    ]  # fmt: skip
    assert all("digits.py:" in row.line for row in rows[1:])
    assert [row.worst for row in comparison.rows] == sorted(row.worst for row in rows)
    assert [row.number for row in rows] == list(range(len(rows)))


def test_a_wrong_scale_of_a_weight(network: tuple[nn.Module, GraphModule, Tensor]) -> None:
    model, quantized, images = network
    wrong = copy.deepcopy(quantized)
    (layer,) = [n for n in wrong.graph.nodes if "conv2d" in str(n.target) and n.name == "conv2d_4"]
    scale = wrong.get_buffer(str(layer.args[1].args[1].target))
    scale.copy_(scale * 1.5)
    comparison = lower86.compare(model, wrong, lower(wrong, images), (images,))
    is_faithful(comparison)
    worst, second = comparison.rows[:2]
    assert (worst.operator, worst.module) == ("conv2d", "blocks.1.first")
    assert worst.worst < 12 < second.worst


def test_a_wrong_scale_of_what_a_layer_reads(network: tuple[nn.Module, GraphModule, Tensor]) -> None:
    model, quantized, images = network
    wrong = copy.deepcopy(quantized)
    _, dequantizer = quantize_node(wrong, 1)
    dequantizer.update_arg(1, dequantizer.args[1] * 2)
    wrong.recompile()
    comparison = lower86.compare(model, wrong, lower(wrong, images), (images,))
    worst, second = comparison.rows[:2]
    assert (worst.operator, worst.module) == ("relu", "blocks.0")
    assert worst.worst < 5 < second.worst


def test_a_clipped_layer(network: tuple[nn.Module, GraphModule, Tensor]) -> None:
    model, quantized, images = network
    clipped = copy.deepcopy(quantized)
    for node in quantize_node(clipped, 5):
        node.update_arg(1, node.args[1] / 8)
    clipped.recompile()
    comparison = lower86.compare(model, clipped, lower(clipped, images), (images,))
    is_faithful(comparison)
    worst = comparison.rows[0]
    assert (worst.operator, worst.module) == ("relu", "blocks.2")
    assert worst.saturation is not None
    assert worst.saturation > 0.2
    # The zeros of a ReLU are at a limit, too, but nothing of them is lost.
    others = [row.saturation for row in comparison.rows[1:] if row.saturation is not None]
    assert max(others) < 0.01


def weights_of(lowered: LoweredModule, node: str) -> Any:
    """The packed weights that the step of a node of the INT8 graph multiplies by."""
    compiled = lowered.compiled()
    step = compiled.scheduled.program.steps[compiled.scheduled.step_of[node]]
    assert isinstance(step, Step)
    kernel = compiled.scheduled.program.kernels[step.kernel]
    assert isinstance(kernel, Contraction)
    value = compiled.scheduled.program.values[step.slots[kernel.right.slot][0]]
    return compiled.executable._constants[value.index].view("u1").reshape(-1)


def test_a_fault_of_the_program_alone(network: tuple[nn.Module, GraphModule, Tensor]) -> None:
    model, quantized, images = network
    lowered = lower(quantized, images)
    before = {row.node: row.quantization for row in lower86.compare(model, quantized, lowered, (images,)).rows}
    (node,) = [record.node for record in lowered.explanation.operators if record.module == "blocks.1.second"]
    weights = weights_of(lowered, node)
    weights[: len(weights) // 4] = 0
    comparison = lower86.compare(model, quantized, lowered, (images,))
    assert {row.node: row.quantization for row in comparison.rows} == before
    worst = comparison.rows[0]
    assert (worst.operator, worst.module) == ("conv2d", "blocks.1.second")
    assert worst.compiled_here is not None
    assert worst.compiled_here.sqnr < 20
    assert worst.compiled_here.more
    for row in comparison.in_order():
        if row.number < worst.number:
            assert row.compiled is None or row.compiled.sqnr >= FAITHFUL, row
        if row is not worst:
            assert compiled_here(row) >= FAITHFUL, row
    result = comparison.in_order()[-1]
    assert result.compiled is not None
    assert result.compiled.sqnr < FAITHFUL


def test_attention_in_int8() -> None:
    model, inputs = transformer.load("vit-s16", small=True), transformer.inputs("vit-s16", 2, small=True)
    quantized = quantize(model, inputs[0], quantizer=X86Quantizer())
    lowered = lower(quantized, *inputs[0])
    comparison = lower86.compare(model, quantized, lowered, inputs[1])
    is_faithful(comparison, joined=0.8)  # the float model has no scores: its attention is one operator
    scores = next(row for row in comparison.rows if "softmax" in row.operator)
    (attention,) = [row for row in comparison.rows if row.node == scores.kernel]
    assert scores.compiled is None
    assert attention.compiled is not None
    # Queries are quantized before they are parted into heads, the model does it after that.
    assert sum(row.operator == "transpose" and row.compiled is not None for row in comparison.rows) == 6
    weights = weights_of(lowered, next(r.node for r in lowered.explanation.operators if r.module.endswith("1.mlp.fc2")))
    weights[::7] ^= 64
    worst = lower86.compare(model, quantized, lowered, inputs[1]).rows[0]
    assert worst.compiled_here is not None
    assert worst.compiled_here.sqnr < 20
    assert "layers.1" in worst.module


def test_a_program_that_was_in_a_file_joins_as_before(tmp_path: Path) -> None:
    """It is exported once more, which gives other names: the second layer's queries are not the first one's values."""
    model, inputs = transformer.load("vit-s16", small=True), transformer.inputs("vit-s16", 2, small=True)
    quantized = quantize(model, inputs[0], quantizer=X86Quantizer())
    (tmp_path / "q.pt2").write_bytes(exported_bytes(quantized, Example(inputs[0], {})))
    again = from_exported(tmp_path / "q.pt2").graph
    found = [
        lower86.compare(model, one, lower(one, *inputs[0]), inputs[1]).in_order() for one in (quantized, again)
    ]  # fmt: skip
    before, after = ([row.quantization and row.quantization.sqnr for row in rows] for rows in found)
    assert after == pytest.approx(before)
    assert [row.operator for row in found[0]] == [row.operator for row in found[1]]


class Two(nn.Module):
    """Two linears, an activation in place, a keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 32), nn.Linear(32, 8)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, *, shift: Tensor) -> Tensor:
        result: Tensor = self.second(self.relu(self.first(x)) + shift)
        return result


@pytest.mark.parametrize("config", [None, QuantizationConfig.dynamic(), QuantizationConfig.dynamic(per_token=True)])
def test_keywords_operators_in_place_and_scales_of_the_moment(config: QuantizationConfig | None) -> None:
    model, x, named = Two().eval(), torch.randn(6, 16), {"shift": torch.randn(32)}
    quantizer = inductors() if config is None else X86Quantizer().set_global(config)
    quantized = quantize(model, (x,), named, quantizer=quantizer)
    lowered = lower_anyhow(quantized, x, example_kwargs=named)
    kept = x.clone()
    comparison = lower86.compare(model, quantized, lowered, (x,), named)
    assert torch.equal(x, kept)
    is_faithful(comparison)
    assert {row.module for row in comparison.rows if row.operator == "linear"} == {"first", "second"}


def test_debug_handles_join_what_has_other_names() -> None:
    model, x = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8)).eval(), torch.randn(6, 16)
    program = torch.export.export(model, (x,), strict=True)
    generate_numeric_debug_handle(program)
    floats = program.module()
    prepared = prepare_pt2e(program.module(), X86Quantizer())
    with torch.no_grad():
        prepared(x)
    quantized = convert_pt2e(prepared)
    for number, node in enumerate(floats.graph.nodes):
        node.meta.pop("from_node", None)
        if node.op == "call_function":
            node.name = f"renamed_{number}"
    is_faithful(lower86.compare(floats, quantized, lower(quantized, x), (x,)))


class Cache(nn.Module):
    """Adds up what it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 16)
        self.register_buffer("seen", torch.zeros(4, 16))

    def forward(self, x: Tensor) -> Tensor:
        self.seen.add_(self.linear(x))
        return self.seen * 2


def test_state_is_read_and_left_alone() -> None:
    model, x = Cache().eval(), torch.randn(4, 16)
    exported = torch.export.export(model, (x,), strict=True)
    prepared = prepare_pt2e(exported.module(), X86Quantizer())
    with torch.no_grad():
        prepared(x)
    quantized = convert_pt2e(prepared)
    lowered = lower(quantized, x)
    lowered(x)
    modules = (model, quantized, lowered)
    before = [{name: tensor.clone() for name, tensor in module.named_buffers()} for module in modules]
    comparison = lower86.compare(model, quantized, lowered, (x,))
    for module, values in zip(modules, before, strict=True):
        assert all(torch.equal(tensor, values[name]) for name, tensor in module.named_buffers())
    result = comparison.in_order()[-1]
    assert result.operator == "mul"
    for found in (result.compiled, result.quantization):
        assert found is not None
        assert found.sqnr > 30, "all began with the lowered module's state"
    assert torch.equal(before[2]["seen"], lowered.get_buffer("seen"))
    assert not torch.equal(before[1]["seen"], before[2]["seen"])


def test_inputs_with_nan(network: tuple[nn.Module, GraphModule, Tensor]) -> None:
    model, quantized, images = network
    lowered = lower(quantized, images)
    holed = images.clone()
    holed[3, 0, 2, 2] = math.nan
    with pytest.raises(lower86.InputError, match="the inputs hold NaN"):
        lower86.compare(model, quantized, lowered, (holed,))
