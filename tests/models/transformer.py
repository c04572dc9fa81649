"""Transformers of the tests and the benchmark: architectures of `transformers` with random weights.

Random weights must not let attention become an average over all tokens: linears keep the variance of what they read,
so that scores vary by about 1. Each architecture comes in its usual size and in a small one, for tests: the same
operators in two layers, or two stages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

VOCABULARY = 1000
"""Tokens are below it, in small models and in large ones."""

Inputs = tuple[Tensor, ...]


class Hidden(nn.Module):
    """Takes tensors by position, under the names given, and gives the last hidden state, one row a token."""

    def __init__(self, model: nn.Module, *names: str) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> Tensor:
        hidden: Tensor = self.model(**dict(zip(self.names, inputs, strict=True))).last_hidden_state
        return hidden


class Prefill(Hidden):
    """The same of tokens none of which is padding. A mask says so; without it, models look for packed sequences."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return super().forward(*inputs, torch.ones_like(inputs[0]))


class Logits(nn.Module):
    """A classifier that takes and gives a tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Tensor:
        logits: Tensor = self.model(*inputs).logits
        return logits


def _bert(small: bool, attention: str) -> nn.Module:
    sizes = _of(small, vocab_size=VOCABULARY, num_hidden_layers=2, hidden_size=128, num_attention_heads=4)
    sizes |= _of(small, intermediate_size=512)
    config = transformers.BertConfig(**sizes, attn_implementation=attention)
    return Hidden(transformers.BertModel(config, add_pooling_layer=False), "input_ids", "attention_mask")


def _distilbert(small: bool, attention: str) -> nn.Module:
    sizes = _of(small, vocab_size=VOCABULARY, n_layers=2, dim=128, n_heads=4, hidden_dim=512)
    config = transformers.DistilBertConfig(**sizes, attn_implementation=attention)
    return Hidden(transformers.DistilBertModel(config), "input_ids", "attention_mask")


def _vit(small: bool, attention: str) -> nn.Module:
    """ViT-S/16."""
    sizes: dict[str, Any] = {
        "hidden_size": 384,
        "num_attention_heads": 6,
        "intermediate_size": 1536,
        "num_labels": 1000,
    }
    sizes |= _of(small, hidden_size=128, num_attention_heads=4, intermediate_size=512, num_labels=10)
    sizes |= _of(small, image_size=64, num_hidden_layers=2)
    config = transformers.ViTConfig(**sizes, attn_implementation=attention)
    return Logits(transformers.ViTForImageClassification(config))


def _swin(small: bool, attention: str) -> nn.Module:
    """Swin-T; the small one has 14 x 14 tokens, so that windows are shifted, and then 7 x 7."""
    sizes: dict[str, Any] = {"num_labels": 1000}
    sizes |= _of(small, image_size=56, embed_dim=48, depths=[2, 1], num_heads=[3, 6], num_labels=10)
    return Logits(
        transformers.SwinForImageClassification(transformers.SwinConfig(**sizes, attn_implementation=attention))
    )


def _gpt2(small: bool, attention: str) -> nn.Module:
    sizes = _of(small, vocab_size=VOCABULARY, n_layer=2, n_embd=128, n_head=4, n_positions=64)
    sizes |= _of(small, bos_token_id=0, eos_token_id=0)
    config = transformers.GPT2Config(**sizes, use_cache=False, attn_implementation=attention)
    return Prefill(transformers.GPT2Model(config), "input_ids", "attention_mask")


def _t5(small: bool, attention: str) -> nn.Module:
    """The encoder of t5-small."""
    sizes = _of(small, vocab_size=VOCABULARY, num_layers=2, d_model=128, num_heads=4, d_kv=32, d_ff=512)
    config = transformers.T5Config(**sizes, attn_implementation=attention)
    return Hidden(transformers.T5EncoderModel(config), "input_ids", "attention_mask")


def _whisper(small: bool, attention: str) -> nn.Module:
    """The encoder of whisper-tiny."""
    sizes = _of(
        small, encoder_layers=2, decoder_layers=1, d_model=128, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=512, max_source_positions=50,
    )  # fmt: skip
    config = transformers.WhisperConfig(**sizes, attn_implementation=attention)
    return Hidden(transformers.WhisperModel(config).encoder, "input_features")


def _of(small: bool, **sizes: Any) -> dict[str, Any]:
    return sizes if small else {}


def _tokens(small: bool, batch: int) -> Inputs:
    """Token ids, and a mask that leaves a few of the last ones out."""
    ids = torch.randint(0, VOCABULARY, (batch, 24 if small else 128))
    mask = torch.ones_like(ids)
    mask[:, -ids.shape[1] // 8 :] = 0
    return ids, mask


def _images(size: int, batch: int) -> Inputs:
    return (torch.randn(batch, 3, size, size),)


@dataclass(frozen=True)
class Architecture:
    """How to build a network, small or not, with an implementation of attention; and a batch of inputs for it."""

    build: Callable[[bool, str], nn.Module]
    inputs: Callable[[bool, int], Inputs]


ARCHITECTURES: Mapping[str, Architecture] = {
    "bert-base": Architecture(_bert, _tokens),
    "distilbert": Architecture(_distilbert, _tokens),
    "vit-s16": Architecture(_vit, lambda small, batch: _images(64 if small else 224, batch)),
    "swin-tiny": Architecture(_swin, lambda small, batch: _images(56 if small else 224, batch)),
    "gpt2": Architecture(_gpt2, lambda small, batch: _tokens(small, batch)[:1]),
    "t5-encoder": Architecture(_t5, _tokens),
    "whisper-tiny": Architecture(_whisper, lambda small, batch: (torch.randn(batch, 80, 100 if small else 3000),)),
}
"""By name."""


def load(name: str, *, small: bool = False, attention: str = "sdpa") -> nn.Module:
    """The network in eval mode; `attention` is "sdpa" for PyTorch's operator, "eager" for attention spelled out."""
    torch.manual_seed(0)
    model = ARCHITECTURES[name].build(small, attention)
    if name != "t5-encoder":  # which has weights of its own for scores that it does not scale
        for module in model.modules():
            if isinstance(module, (nn.Linear, Conv1D)):
                fan_in = module.in_features if isinstance(module, nn.Linear) else module.weight.shape[0]
                nn.init.normal_(module.weight, std=fan_in**-0.5)
    return model.eval()


def inputs(name: str, count: int, *, small: bool = False, batch: int = 1, seed: int = 1) -> list[Inputs]:
    """`count` times random inputs of one shape."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return [ARCHITECTURES[name].inputs(small, batch) for _ in range(count)]
