"""Static with other integers, dynamic, and quantization-aware training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torchao.quantization.pt2e import move_exported_model_to_eval, qat_utils

from lower86.frontend.quantizer import QuantizationConfig, X86Quantizer
from lower86.frontend.torchao import convert, prepare, prepare_qat
from tests.frontend.test_quantizer import A, Q, Residual, is_read_quantized, nodes, quantize
from tests.models.counting import pairs, weights


def quantizer(**options: object) -> X86Quantizer:
    return X86Quantizer().set_global(QuantizationConfig(**options))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 8))


INTEGERS = [
    ({}, (0, 255, torch.uint8)),
    ({"reduce_range": True}, (0, 127, torch.uint8)),
    ({"symmetric_activations": True}, (-127, 127, torch.int8)),
    ({"symmetric_activations": True, "reduce_range": True}, (-63, 63, torch.int8)),
]


@pytest.mark.parametrize(("options", "integers"), INTEGERS, ids=str)
def test_integers_of_activations(options: dict[str, bool], integers: tuple[int, int, torch.dtype]) -> None:
    quantized = quantize(mlp(), torch.randn(9, 16), quantizer=quantizer(**options), bound=0.1)
    pairs = nodes(quantized, Q.quantize_per_tensor.default)
    assert [node.args[3:] for node in pairs] == [integers] * 2
    if "symmetric_activations" in options:
        assert {node.args[2] for node in pairs} == {0}


def test_one_scale_for_a_weight() -> None:
    quantized = quantize(mlp(), torch.randn(9, 16), quantizer=quantizer(per_channel_weights=False))
    assert not nodes(quantized, Q.dequantize_per_channel.default)
    assert pairs(quantized) == (2, 4)
    assert weights(quantized) == 2


@pytest.mark.parametrize("symmetric", [False, True])
def test_dynamic(symmetric: bool) -> None:
    quantized = quantize(
        mlp(), torch.randn(9, 16), quantizer=quantizer(mode="dynamic", symmetric_activations=symmetric)
    )
    choose = Q.choose_qparams_symmetric.tensor if symmetric else Q.choose_qparams.tensor
    assert len(nodes(quantized, choose)) == 2
    assert pairs(quantized) == (2, 4)


def test_dynamic_per_token() -> None:
    x = torch.randn(2, 5, 16) * torch.tensor([1.0, 100.0])[:, None, None]
    quantized = quantize(mlp(), x, quantizer=quantizer(mode="dynamic", per_token=True))
    chosen = nodes(quantized, torch.ops.torchao.choose_qparams_affine)
    assert [node.args[2] for node in chosen] == [[1, 1, 16], [1, 1, 24]]
    with torch.no_grad():  # each row has a scale of its own: the small ones are exact to their own size
        rows = x[:1]
        assert float((quantized(x)[:1] - quantized(torch.cat([rows, rows]))[:1]).norm()) < 1e-5
    assert pairs(quantized) == (2, 4)


def test_dynamic_shapes_stay_open() -> None:
    batch = torch.export.Dim("batch", min=2)
    for options in ({}, {"mode": "dynamic"}, {"mode": "dynamic", "per_token": True}):
        graph = torch.export.export(mlp(), (torch.randn(4, 16),), dynamic_shapes=({0: batch},)).module()
        prepared = prepare(graph, quantizer(**options))
        with torch.no_grad():
            prepared(torch.randn(4, 16))
            assert convert(prepared)(torch.randn(7, 16)).shape == (7, 8)


def test_dynamic_leaves_convolutions_and_products_of_activations() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.linear = nn.Conv1d(4, 4, 1), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.linear(self.conv(x)))
            return self.linear(x @ x.transpose(1, 2) @ x) + x

    quantized = quantize(Model(), torch.randn(2, 4, 6), quantizer=quantizer(mode="dynamic"))
    assert pairs(quantized) == (2, 4)
    assert weights(quantized) == 1


def trained(model: nn.Module, x: Tensor, y: Tensor) -> tuple[GraphModule, list[float]]:
    """The model after a little quantization-aware training and convert; the losses on the way."""
    model.train()
    graph = torch.export.export(model, (x,)).module()
    prepared = prepare_qat(graph, X86Quantizer().set_global(QuantizationConfig.qat()))
    optimizer = torch.optim.SGD(prepared.parameters(), lr=0.05)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(prepared(x), y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    move_exported_model_to_eval(prepared)
    with torch.no_grad():
        fake = prepared(x)
        converted = convert(prepared)
        result = converted(x)
    assert float((result - fake).norm() / fake.norm()) < 0.02
    return converted, losses


def test_training_of_linears_and_attention() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(16, 24), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = torch.relu(self.one(x)).unsqueeze(0).chunk(3, -1)
            return self.two(nn.functional.scaled_dot_product_attention(q, k, v)[0])

    converted, losses = trained(Model(), torch.randn(9, 16), torch.randn(9, 4))
    assert losses[-1] < losses[0]
    assert pairs(converted) == (6, 8)
    assert weights(converted) == 2


def test_training_of_convolutions_with_batch_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    # torchao traces a hundred patterns, for half a minute; this model can only hold those of conv2d.
    for name in ("_fuse_conv_bn_qat_helper", "_fold_conv_bn_qat_helper"):
        every = getattr(qat_utils, name)

        def only(model: GraphModule, conv: object, *rest: Any, every: Any = every, **named: Any) -> GraphModule:
            return every(model, conv, *rest, **named) if conv is nn.functional.conv2d else model

        monkeypatch.setattr(qat_utils, name, only)
    converted, losses = trained(Residual(), torch.randn(4, 3, 16, 16), torch.randn(4, 10))
    assert losses[-1] < losses[0]
    assert not nodes(converted, A.batch_norm.default)
    assert all(is_read_quantized(node, i) for node in nodes(converted, A.conv2d.default) for i in (0, 1))
    assert pairs(converted) == (9, 9 + 2 + 6)


def test_training_of_weights_along_other_axes() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.weight = nn.ConvTranspose1d(4, 6, 3), nn.Parameter(torch.randn(9, 5))

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.up(x)) @ self.weight

    converted, _ = trained(Model(), torch.randn(2, 4, 7), torch.randn(2, 6, 5))
    scales = nodes(converted, Q.dequantize_per_channel.default)
    assert [node.args[3] for node in scales] == [1, 1]
