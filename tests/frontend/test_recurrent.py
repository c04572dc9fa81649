"""LSTM and GRU: through the whole flow of each quantizer, and what of them is quantized by which setting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

import lower86
from lower86.frontend.quantizer import QuantizationConfig, X86Quantizer
from lower86.frontend.torchao import convert, prepare, prepare_qat
from lower86.graph.arguments import arguments
from lower86.ops.recurrent import gru, int8_gru, int8_lstm, lstm
from lower86.program.program import Loop
from tests.frontend.test_quantizer import A, is_read_quantized, nodes
from tests.models.quantized import quantize
from tests.models.recurrent import layer_and_inputs

STEP = 5e-4
"""What a state on the other side of an edge between two integers may change; quantization itself, ten times that."""

LAYERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "lstm": (nn.LSTM, {}),
    "gru": (nn.GRU, {}),
    "one row of one step": (nn.LSTM, {"times": 1, "batch": 1}),
    "one step": (nn.GRU, {"times": 1, "state": True}),
    "17 steps of one row": (nn.LSTM, {"times": 17, "batch": 1, "state": True}),
    "17 steps": (nn.GRU, {"times": 17, "bias": False}),
    "both directions": (nn.LSTM, {"bidirectional": True}),
    "two layers": (nn.GRU, {"num_layers": 2, "state": True, "dropout": 0.3}),
    "batch first": (nn.LSTM, {"batch_first": True, "bias": False}),
    "all of it": (nn.LSTM, {"num_layers": 2, "bidirectional": True, "batch_first": True, "state": True}),
    "all of it, gru": (nn.GRU, {"num_layers": 2, "bidirectional": True, "batch_first": True, "state": True}),
}


def flow(config: QuantizationConfig | None, model: nn.Module, inputs: tuple[Tensor, ...]) -> GraphModule:
    return quantize(model, inputs, quantizer=X86Quantizer().set_global(config))


def agree(lowered: Any, model: nn.Module, inputs: tuple[Tensor, ...], tolerance: float) -> None:
    """All results, in their structure, on other inputs than those of lowering."""
    fresh = [torch.rand_like(one) * 2 - 1 for one in inputs]
    with torch.no_grad():
        wanted, structure = pytree.tree_flatten(model(*fresh))
    got, same = pytree.tree_flatten(lowered(*fresh))
    assert same == structure
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", LAYERS)
def test_quantized_layers_are_int8_and_native(name: str) -> None:
    torch.manual_seed(0)
    kind, options = LAYERS[name]
    model, inputs = layer_and_inputs(kind, **options)
    quantized = flow(QuantizationConfig(), model, inputs)
    lowered = lower86.lower_pt2e_quantized_to_x86(quantized, inputs, on_fallback="raise")
    explanation = lower86.explain(lowered)
    assert (explanation.int8_fraction, explanation.foreign, explanation.regions) == (1.0, (), 1)
    agree(lowered, quantized, inputs, 2e-6 if options.get("times") == 1 else STEP)
    agree(quantized, model, inputs, 0.05)


@pytest.mark.parametrize("name", LAYERS)
def test_float_layers_are_native(name: str) -> None:
    kind, options = LAYERS[name]
    model, inputs = layer_and_inputs(kind, **options)
    lowered = lower86.lower_pt2e_quantized_to_x86(model, inputs, on_fallback="ignore")
    assert lower86.explain(lowered).foreign == ()
    agree(lowered, model, inputs, 2e-6)
    agree(lowered.run_reference, model, inputs, 2e-6)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize(
    "config",
    [
        QuantizationConfig(symmetric_activations=True, per_channel_weights=False),
        QuantizationConfig(reduce_range=True),
        QuantizationConfig.dynamic(),
        QuantizationConfig.dynamic(per_token=True, symmetric_activations=True),
        QuantizationConfig.dynamic(reduce_range=True),
    ],
    ids=str,
)
def test_settings(kind: Any, config: QuantizationConfig) -> None:
    torch.manual_seed(0)
    model, inputs = layer_and_inputs(kind, state=True, bidirectional=True)
    quantized = flow(config, model, inputs)
    lowered = lower86.lower_pt2e_quantized_to_x86(quantized, inputs, on_fallback="raise")
    agree(lowered, quantized, inputs, STEP)
    agree(quantized, model, inputs, 0.05)
    (first, _) = nodes(lowered.graph.owning_module, int8_lstm, int8_gru)
    given = arguments(first)
    assert (given["h_low"], given["h_high"]) == (config.activations.low, config.activations.high)
    if config.mode == "dynamic":
        reach = [given["h_scale"] * (end - given["h_zero_point"]) for end in (given["h_low"], given["h_high"])]
        assert reach == pytest.approx([-1, 1], abs=0.02)


@pytest.mark.parametrize("state", [False, True])
def test_the_scale_covers_the_initial_state(state: bool) -> None:
    model, inputs = layer_and_inputs(nn.GRU, state=True)
    inputs = (inputs[0], inputs[1] * (3 if state else 0))
    (node,) = nodes(flow(QuantizationConfig(), model, inputs), gru)
    largest = arguments(node)["h_scale"] * 255
    assert (largest > 4) == state


def test_readers_of_states_get_floats_and_layers_in_front_integers() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0])

    quantized = flow(QuantizationConfig(), Model(), (torch.randn(2, 5, 8),))
    (recurrence,) = nodes(quantized, lstm)
    first, last = nodes(quantized, A.linear.default)
    assert is_read_quantized(recurrence, 3)
    assert all(is_read_quantized(linear, operand) for linear in (first, last) for operand in (0, 1))
    assert arguments(recurrence)["x"] is first
    lowered = lower86.lower_pt2e_quantized_to_x86(quantized, (torch.randn(2, 5, 8),), on_fallback="raise")
    assert lower86.explain(lowered).int8_fraction == 1.0


class Two(nn.Module):
    """An LSTM, then a GRU, then a linear."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.LSTM(8, 6), nn.GRU(6, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x)[0])[0])


@pytest.mark.parametrize(
    ("setting", "left"),
    [
        (("module_name", "first", None), A.lstm.input),
        (("module_type", nn.GRU, None), A.gru.input),
        (("function_type", torch.lstm, None), A.lstm.input),
        (("function_type", A.gru.input, None), A.gru.input),
    ],
    ids=["its name", "its type", "its function", "its operator"],
)
def test_a_setting_of_none_leaves_a_layer_whole(setting: tuple[Any, ...], left: Any) -> None:
    quantizer = X86Quantizer()
    getattr(quantizer, f"set_{setting[0]}")(*setting[1:])
    x = torch.randn(3, 2, 8)
    quantized = quantize(Two(), (x,), quantizer=quantizer)
    assert len(nodes(quantized, A.lstm.input, A.gru.input)) == 1
    assert len(nodes(quantized, left)) == 1
    lowered = lower86.lower_pt2e_quantized_to_x86(quantized, (x,), on_fallback="raise")
    assert [isinstance(step, Loop) for step in lowered.program.steps].count(True) == 2
    agree(lowered, quantized, (x,), STEP)


def test_only_one_layer() -> None:
    quantizer = X86Quantizer().set_global(None).set_function_type(torch.gru, QuantizationConfig())
    quantized = quantize(Two(), (torch.randn(3, 2, 8),), quantizer=quantizer)
    (recurrence,) = nodes(quantized, gru)
    (first, last) = nodes(quantized, A.linear.default)
    assert (is_read_quantized(first), is_read_quantized(recurrence, 2), is_read_quantized(last)) == (True, True, False)
    assert len(nodes(quantized, A.lstm.input)) == 1


def test_training_leaves_layers_whole_and_trainable() -> None:
    x = torch.randn(3, 2, 8)
    exported = torch.export.export(Two(), (x,), strict=True).module()
    prepared = prepare_qat(exported, X86Quantizer().set_global(QuantizationConfig.qat()))
    assert len(nodes(prepared, A.lstm.input, A.gru.input)) == 2
    prepared(x).sum().backward()
    assert all(p.grad is not None for p in prepared.parameters())


@pytest.mark.parametrize("quantizer", [X86Quantizer, None])
def test_projected_states_are_left_to_pytorchs_spelling(quantizer: Any) -> None:
    model, inputs = layer_and_inputs(nn.LSTM, times=3, proj_size=4, state=False)
    quantized = quantize(model, inputs, quantizer=quantizer() if quantizer else None)
    lowered = lower86.lower_pt2e_quantized_to_x86(quantized, inputs, on_fallback="ignore")
    assert lower86.explain(lowered).foreign == ()
    agree(lowered, model, inputs, 2e-6)


def test_torchaos_quantizer_leaves_layers_float_and_they_are_native() -> None:
    x = torch.randn(3, 2, 8)
    quantized = quantize(Two(), (x,))
    lowered = lower86.lower_pt2e_quantized_to_x86(quantized, (x,), on_fallback="raise")
    assert nodes(lowered.graph.owning_module, lstm, gru)
    assert lower86.explain(lowered).int8_fraction == 1.0  # of the head
    agree(lowered, quantized, (x,), 1e-4)


class Unrolled(nn.Module):
    """A loop over cells, as models write it themselves."""

    def __init__(self, cell: nn.LSTMCell | nn.GRUCell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        state: Any = [torch.zeros(x.shape[1], 19)] * 2
        found = []
        for each in x:
            state = self.cell(each, state) if isinstance(self.cell, nn.LSTMCell) else [self.cell(each, state[0])]
            found.append(state[0])
        return torch.stack(found)


@pytest.mark.parametrize("cell", [nn.LSTMCell(8, 19), nn.GRUCell(8, 19, bias=False)], ids=["lstm", "gru"])
def test_cells_in_a_loop_of_the_models_own(cell: Any) -> None:
    torch.manual_seed(0)
    x, model = torch.randn(4, 5, 8), Unrolled(cell).eval()
    quantized = flow(QuantizationConfig(), model, (x,))
    lowered = lower86.lower_pt2e_quantized_to_x86(quantized, (x,), on_fallback="raise")
    assert len([r for r in lower86.explain(lowered).operators if r.is_int8]) == 8
    agree(lowered, quantized, (x,), STEP)
    agree(quantized, model, (x,), 0.05)
    left = flow(None, model, (x,))
    assert len(nodes(left, A.lstm_cell.default, A.gru_cell.default)) == 4
    native = lower86.lower_pt2e_quantized_to_x86(left, (x,), on_fallback="ignore")
    assert lower86.explain(native).foreign == ()
    agree(native, model, (x,), 2e-6)


@pytest.mark.parametrize("config", [QuantizationConfig(), QuantizationConfig.dynamic()], ids=["static", "dynamic"])
def test_layers_that_are_decomposed_before(config: QuantizationConfig) -> None:
    torch.manual_seed(0)
    model, inputs = layer_and_inputs(nn.LSTM, 4)
    program = torch.export.export(model, inputs, strict=True).run_decompositions()
    prepared = prepare(program.module(), X86Quantizer().set_global(config))
    prepared(*inputs)
    quantized = convert(prepared)
    lowered = lower86.lower_pt2e_quantized_to_x86(quantized, inputs, on_fallback="raise")
    assert lower86.explain(lowered).int8_fraction == 1.0
    agree(lowered, quantized, inputs, 5e-3)


class Part(nn.Module):
    """What `take` makes of a layer's results."""

    def __init__(self, layer: nn.Module, take: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.take = layer, take

    def forward(self, x: Tensor) -> Tensor:
        return self.take(self.layer, x)


@pytest.mark.parametrize(
    ("layer", "take"),
    [
        (nn.LSTM(8, 8, 2), lambda layer, x: layer(x)[1][1]),
        (nn.LSTM(8, 8, 2), lambda layer, x: layer(x)[1][0]),
        (nn.GRU(8, 8), lambda layer, x: layer(x)[0][-1]),
        (nn.GRU(8, 8), lambda layer, x: layer(layer(x)[0])[0]),
        (nn.LSTM(8, 8), lambda layer, x: layer(x[:, 0])[0]),
    ],
    ids=["the last cells", "the last states", "the last of the states", "called twice", "without a batch"],
)
def test_parts_of_results(layer: nn.Module, take: Any) -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 3, 8)
    quantized = flow(QuantizationConfig(), Part(layer, take), (x,))
    lowered = lower86.lower_pt2e_quantized_to_x86(quantized, (x,), on_fallback="raise")
    assert lower86.explain(lowered).int8_fraction == 1.0
    agree(lowered, quantized, (x,), STEP)


def test_any_number_of_rows() -> None:
    model, inputs = layer_and_inputs(nn.LSTM, batch_first=True, bidirectional=True)
    quantized = quantize(model, inputs, quantizer=X86Quantizer(), dynamic_shapes=({0: torch.export.Dim("batch")},))
    lowered = lower86.lower_pt2e_quantized_to_x86(quantized, inputs, on_fallback="raise")
    for batch in (1, 2, 13):
        agree(lowered, quantized, (torch.randn(batch, 7, 8),), STEP)


def test_rows_that_the_quantized_graph_has_fixed_stay_fixed() -> None:
    model, inputs = layer_and_inputs(nn.LSTM, batch_first=True)
    quantized, rows = quantize(model, inputs, quantizer=X86Quantizer()), {0: torch.export.Dim.AUTO}
    lowered = lower86.lower_pt2e_quantized_to_x86(quantized, inputs, dynamic_shapes=(rows,))
    agree(lowered, quantized, inputs, STEP)
    for batch in (1, 2):
        with pytest.raises(lower86.InputError, match=rf"has shape \[{batch}, 7, 8\], the program takes \[5, 7, 8\]"):
            lowered(torch.randn(batch, 7, 8))
