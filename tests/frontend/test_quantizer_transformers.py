"""X86Quantizer on the transformers library's BERT and GPT-2: all operands of all layers, counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.frontend.test_quantizer import A, Q, is_read_quantized, nodes, quantize, scale_of
from tests.models.counting import int8_macs, pairs


def bert(*, pooler: bool, attention: str = "sdpa") -> nn.Module:
    """A tiny BERT whose pooler, if it has one, nobody reads."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16, attn_implementation=attention,
    )  # fmt: skip

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = BertModel(config, add_pooling_layer=pooler)

        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            return self.bert(input_ids=ids, attention_mask=mask).last_hidden_state

    return Model()


@pytest.mark.parametrize(("pooler", "attention"), [(True, "sdpa"), (False, "eager")])
def test_bert(pooler: bool, attention: str) -> None:
    ids, mask = torch.randint(0, 50, (2, 8)), torch.ones(2, 8, dtype=torch.int64)
    mask[1, 5:] = 0
    quantized = quantize(bert(pooler=pooler, attention=attention), ids, mask)
    # Three tables. A layer: its input, q, k, v, p, the attention's result and its norm, the inner activation; 6 weights
    assert pairs(quantized) == (2 * 8, 2 * (10 + 6) + 3)
    linears, products = nodes(quantized, A.linear.default), nodes(quantized, A.matmul.default)
    assert (len(linears), len(products)) == (12, 4)
    assert all(is_read_quantized(node, i) for node in (*linears, *products) for i in (0, 1))
    assert all(scale_of(node) < 1 / 255 for node in products[1::2])
    tokens, width = 16, 16
    layer = tokens * (4 * width * width + 2 * width * 32) + 2 * 2 * (2 * 8 * 8 * 8)
    assert sum(int8_macs(quantized, ids, mask).values()) == 2 * layer


def test_gpt2() -> None:
    from transformers import GPT2Config, GPT2Model

    config = GPT2Config(vocab_size=50, n_positions=16, n_embd=16, n_layer=2, n_head=2, use_cache=False)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gpt = GPT2Model(config)

        def forward(self, ids: Tensor) -> Tensor:
            return self.gpt(input_ids=ids).last_hidden_state

    quantized = quantize(Model(), torch.randint(0, 50, (2, 8)))
    addmms, products = nodes(quantized, A.addmm.default), nodes(quantized, A.matmul.default)
    assert (len(addmms), len(products)) == (8, 4)
    assert all(is_read_quantized(node, i) for node in addmms for i in (1, 2))
    assert all(is_read_quantized(node, i) for node in products for i in (0, 1))
    tables = [node.args[0] for node in nodes(quantized, A.embedding.default)]
    assert {node.args[3] for node in nodes(quantized, Q.dequantize_per_channel.default) if node not in tables} == {1}
    assert [table.args[3] for table in tables] == [0, 0]
    assert pairs(quantized) == (2 * 8, 2 * (8 + 4) + 2)
