"""Quantization-aware training: what is trained is what is converted, and that is what is lowered."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as xiq
from torch import Tensor, nn
from torch.fx import GraphModule
from torchao.quantization.pt2e import move_exported_model_to_eval, move_exported_model_to_train

import lower86
from lower86 import QuantizationConfig, X86Quantizer
from tests.models.checks import agree, lower, near
from tests.models.quantized import quantize
from tests.models.small import MLP

A = torch.ops.aten


def train(prepared: GraphModule, x: Tensor, steps: int = 6, rate: float = 0.05) -> list[float]:
    """A little training towards a fixed random target; the losses on the way."""
    with torch.no_grad():
        wanted = torch.rand_like(prepared(x))
    optimizer = torch.optim.SGD(prepared.parameters(), rate)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (prepared(x) - wanted).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def called(module: GraphModule, *targets: Any) -> int:
    return sum(node.op == "call_function" and node.target in targets for node in module.graph.nodes)


class Residual(nn.Module):
    """Two convolutions with batch norms, the second with a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norms[0](self.first(x)))
        return torch.relu(self.norms[1](self.second(x)) + x)


class Attention(nn.Module):
    """One head between two linears."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.drop, self.out = nn.Linear(16, 48), nn.Dropout(0.2), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (2, 24)).transpose(1, 2).chunk(3, -1)
        attended = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(self.drop(attended.transpose(1, 2).flatten(2)))


def normed(conv: nn.Module, norm: nn.Module) -> nn.Module:
    return nn.Sequential(conv, norm, nn.ReLU())


MODELS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "conv": (lambda: normed(nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6)), (8, 4, 7, 7)),
    "its own eps": (lambda: normed(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6, eps=0.3)), (8, 4, 7, 7)),
    "no gamma": (lambda: normed(nn.Conv2d(4, 6, 3, 2), nn.BatchNorm2d(6, affine=False)), (8, 4, 7, 7)),
    "same padding": (lambda: normed(nn.Conv2d(4, 6, 3, padding="same"), nn.BatchNorm2d(6)), (8, 4, 7, 7)),
    "depthwise": (lambda: normed(nn.Conv2d(6, 6, 3, groups=6), nn.BatchNorm2d(6)), (8, 6, 7, 7)),
    "one dim": (lambda: normed(nn.Conv1d(4, 6, 3, dilation=2), nn.BatchNorm1d(6)), (8, 4, 9)),
    "three dims": (lambda: normed(nn.Conv3d(4, 6, 2), nn.BatchNorm3d(6)), (8, 4, 4, 4, 4)),
    "transposed": (lambda: normed(nn.ConvTranspose2d(4, 6, 3, 2), nn.BatchNorm2d(6)), (8, 4, 5, 5)),
    "transposed, groups": (lambda: normed(nn.ConvTranspose1d(4, 6, 3, groups=2), nn.BatchNorm1d(6)), (8, 4, 5)),
    "residual": (Residual, (8, 4, 7, 7)),
    "linears": (MLP, (8, 16)),
    "attention": (Attention, (3, 5, 16)),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_trained_is_what_runs(name: str) -> None:
    make, shape = MODELS[name]
    model, x = make().train(), torch.randn(shape)
    before = copy.deepcopy(model.state_dict())
    prepared = lower86.prepare_qat(model, (x,))
    losses = train(prepared, x)
    assert losses[-1] < losses[0]
    quantized = lower86.convert(prepared)
    assert not called(quantized, A.batch_norm.default, A.div.Tensor, nn.functional.batch_norm)
    prepared.eval()
    with torch.no_grad():
        trained, expected = prepared(x), quantized(x)
    # A value on the other side of an edge between two integers; without the fold it would be another function.
    assert float((trained - expected).abs().max()) < 0.03 * float(expected.abs().max())
    lowered = lower(quantized, x)
    assert lower86.explain(lowered).int8_fraction == 1
    agree(quantized, lowered, x, compare=near if name != "attention" else torch.testing.assert_close)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items()), "the model was trained"


def test_statistics_are_those_of_the_convolution() -> None:
    model = normed(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, momentum=0.25)).train()
    with torch.no_grad():
        model[1].running_var.mul_(9)
        model[1].weight.uniform_(0.5, 2)
    x = torch.randn(64, 4, 7, 7)
    prepared = lower86.prepare_qat(model, (x,))
    prepared(x)
    result = model(x)  # the same step, in float
    norm = prepared.get_submodule("1")
    torch.testing.assert_close(norm.running_mean, model[1].running_mean, rtol=0, atol=2e-3)
    torch.testing.assert_close(norm.running_var, model[1].running_var, rtol=2e-2, atol=0)
    torch.testing.assert_close(prepared(x), result, rtol=0, atol=0.1)
    assert int(norm.num_batches_tracked) == 2


def test_a_gamma_of_zero_is_its_bias() -> None:
    model, x = normed(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)).train(), torch.randn(8, 4, 7, 7)
    with torch.no_grad():
        model[1].weight[2], model[1].bias[2] = 0, 0.75
    prepared = lower86.prepare_qat(model, (x,))
    assert float((prepared(x)[:, 2] - 0.75).abs().max().detach()) < 0.01
    assert float((lower(lower86.convert(prepared), x)(x)[:, 2] - 0.75).abs().max()) < 0.01


class Modes(nn.Module):
    """A batch norm after a convolution, one after a linear, and a dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.first = nn.Conv1d(4, 64, 1), nn.BatchNorm1d(64, momentum=0.3, eps=0.01)
        self.linear, self.second, self.drop = nn.Linear(5, 5), nn.BatchNorm1d(64, momentum=0.7), nn.Dropout(0.9)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.second(self.linear(self.first(self.conv(x)))))


@pytest.mark.parametrize("torchaos", [False, True])
def test_modes(torchaos: bool) -> None:
    model, x = Modes().train(), torch.randn(8, 4, 5)
    prepared = lower86.prepare_qat(model, (x,))
    for _ in range(2):
        result, before = prepared(x), copy.deepcopy(prepared.state_dict())
        assert 0.85 < float((result == 0).float().mean()) < 0.95
        _ = move_exported_model_to_eval(prepared) if torchaos else prepared.eval()
        assert not prepared.training
        torch.testing.assert_close(prepared(x), prepared(x), rtol=0, atol=0.1)
        assert not (prepared(x) == 0).any()
        after = prepared.state_dict()
        assert all(torch.equal(after[name], before[name]) for name in before if "running" in name)
        _ = move_exported_model_to_train(prepared) if torchaos else prepared.train()
        assert prepared.training
        prepared(x)
        assert not torch.equal(prepared.get_submodule("second").running_mean, before["second.running_mean"])
    quantized = lower86.convert(prepared)
    assert called(quantized, A.batch_norm.default) == 1
    agree(quantized, lower(quantized, x), x, compare=near)


def test_training_goes_on_after_convert_and_in_copies() -> None:
    x = torch.randn(8, 4, 7, 7)
    prepared = lower86.prepare_qat(Residual().train(), (x,))
    train(prepared, x, 2)
    first, twin = lower86.convert(prepared), copy.deepcopy(prepared)
    assert prepared.training
    train(twin, x, 3)
    torch.testing.assert_close(lower86.convert(prepared)(x), first(x), rtol=0, atol=0)
    assert not torch.equal(lower86.convert(twin)(x), first(x))
    other = lower86.prepare_qat(Residual().train(), (x,))
    other.load_state_dict(twin.state_dict())
    torch.testing.assert_close(lower86.convert(other)(x), lower86.convert(twin)(x), rtol=0, atol=0)


def test_batches_of_any_size() -> None:
    batch = torch.export.Dim("batch", min=2)
    prepared = lower86.prepare_qat(Residual().train(), (torch.randn(4, 4, 7, 7),), dynamic_shapes=({0: batch},))
    for size in (2, 4, 9):
        train(prepared, torch.randn(size, 4, 7, 7), 1)
    quantized = lower86.convert(prepared)
    lowered = lower(quantized, torch.randn(4, 4, 7, 7))
    agree(quantized, lowered, torch.randn(3, 4, 7, 7), compare=near)


@pytest.mark.parametrize("per_channel", [True, False])
def test_torchaos_quantizer(per_channel: bool) -> None:
    x = torch.randn(8, 4, 7, 7)
    if per_channel:
        config = xiq.get_default_x86_inductor_quantization_config(is_qat=True)
        quantizer = xiq.X86InductorQuantizer().set_global(config)
    else:
        quantizer = X86Quantizer().set_global(QuantizationConfig.qat(per_channel_weights=False, reduce_range=True))
    prepared = lower86.prepare_qat(Residual().train(), (x,), quantizer=quantizer)
    train(prepared, x)
    quantized = lower86.convert(prepared)
    lowered = lower(quantized, x)
    assert lower86.explain(lowered).int8_fraction == 1
    agree(quantized, lowered, x, compare=near)


def test_training_recovers_what_calibration_loses() -> None:
    """One scale for weights whose channels differ by a factor of up to 500: most of them round to 0."""
    x = torch.randn(512, 8)
    labels = (x[:, 0] * x[:, 1] > 0).long() + 2 * (x[:, 2] * x[:, 3] > 0).long()
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4)).train()
    fit(model, x, labels, 150)
    with torch.no_grad():
        spread = 2.0 ** -torch.linspace(0, 9, 64)
        model[0].weight.mul_(spread[:, None])
        model[0].bias.mul_(spread)
        model[2].weight.div_(spread)
    wanted = right(model, x, labels)
    one_scale = {"per_channel_weights": False}
    static = X86Quantizer().set_global(QuantizationConfig(**one_scale))
    calibrated = quantize(copy.deepcopy(model), (x,), quantizer=static)
    qat = X86Quantizer().set_global(QuantizationConfig.qat(**one_scale))
    prepared = lower86.prepare_qat(model.train(), (x,), quantizer=qat)
    fit(prepared, x, labels, 150)
    before, after = right(calibrated, x, labels), right(lower(lower86.convert(prepared), x), x, labels)
    assert wanted > 0.9
    assert before < wanted - 0.2
    assert after > before + 0.1


def fit(model: nn.Module, x: Tensor, labels: Tensor, steps: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()


def right(model: Any, x: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float((model(x).argmax(1) == labels).float().mean())


class Whole(nn.Module):
    """An attention and an LSTM that keep their own dropouts."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.lstm = nn.Linear(16, 16), nn.LSTM(16, 16, 2, dropout=0.5)

    def forward(self, x: Tensor) -> Tensor:
        q = self.linear(x)
        p = 0.5 if self.training else 0.0
        return self.lstm(nn.functional.scaled_dot_product_attention(q, q, q, dropout_p=p))[0]


def test_modes_of_what_is_left_whole() -> None:
    x = torch.randn(2, 5, 16)
    quantizer = X86Quantizer().set_global(QuantizationConfig.qat())
    quantizer.set_function_type(nn.functional.scaled_dot_product_attention, None)
    prepared = lower86.prepare_qat(Whole().train(), (x,), quantizer=quantizer)
    for _ in range(2):
        assert float((prepared.train()(x) - prepared(x)).abs().max().detach()) > 1e-3
        assert torch.equal(prepared.eval()(x), prepared(x))
    agree(quantized := lower86.convert(prepared), lower(quantized, x), x, compare=torch.testing.assert_close)
