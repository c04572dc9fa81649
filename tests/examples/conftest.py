"""A sentence encoder in small, saved as `save_pretrained` of a lowered SentenceTransformer saves one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn

import lower86
from tests.models.small import Attention

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))
WORDS = (
    "[PAD]",
    "[CLS]",
    "[SEP]",
    "[UNK]",
    *["a", "cat", "sits", "on", "the", "mat", "and", "dog", "runs", "far", "away", "from", "it"],
)


class Encoder(nn.Module):
    """int64 [n, t] ids, mask and types to float32 [n, t, 16]."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.types, self.layer = nn.Embedding(len(WORDS), 16), nn.Embedding(2, 16), Attention()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        return self.layer(self.table(input_ids) + self.types(token_type_ids), attention_mask.bool())


@pytest.fixture(scope="package")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    tokenizer.enable_padding(length=12)
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    ids = torch.randint(1, len(WORDS), (4, 12))
    inputs = (ids, torch.ones_like(ids), torch.zeros_like(ids))
    dims = {0: torch.export.Dim("texts", max=64), 1: torch.export.Dim("tokens", max=24)}
    shapes = (dims,) * 3
    quantized = lower86.quantize(Encoder().eval(), [inputs], dynamic_shapes=shapes, recipe="fast", progress=False)
    lowered = lower86.lower_pt2e_quantized_to_x86(quantized, inputs, dynamic_shapes=shapes)
    lower86.save(lowered, folder / "lower86.safetensors")
    return folder
