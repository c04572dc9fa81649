"""Does every architecture run in int8 with the right results? Small models with random weights from `transformers`.

    python benchmarks/survey.py [NAME ...] [--list]

Needs `transformers`. Each model is quantized and lowered twice: for the sizes of its example alone, and with rows (and
tokens) that vary, then called with several sizes. The table has, a line for each of the two:

    int8      the share of the quantized multiply-accumulates that runs on integers
    foreign   the steps that run in PyTorch, and their operators
    error     the largest distance from the quantized model in PyTorch, in units of its own from the float model

An error of some tenths is rounding in another order: one rounding step that falls to the other side moves what follows.
What fails is named in the line, and the exit status is the number of lines with a failure or an error above 1.
"""

from __future__ import annotations

import argparse
import inspect
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

import lower86

SHARED = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
TEXT = {**SHARED, "vocab_size": 99, "max_position_embeddings": 64}
LLAMA = {**TEXT, "num_key_value_heads": 2, "pad_token_id": 0}
HEADS = {**LLAMA, "head_dim": 8}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 99, "n_positions": 64}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 99}
PATCHES = {**SHARED, "image_size": 32, "patch_size": 8}
SWIN = {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "image_size": 32, "patch_size": 4, "window_size": 4}
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
BOTTLENECK = {"hidden_size": 32, "embedding_size": 16, "intra_bottleneck_size": 16}
LOCAL = {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "num_heads": 4}
RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16, "share_att_key": True}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}

TEXTS: dict[str, dict[str, Any]] = {
    "Bert": TEXT, "Roberta": TEXT, "XLMRoberta": TEXT, "Albert": {**TEXT, "embedding_size": 16},
    "Electra": {**TEXT, "embedding_size": 16}, "Deberta": TEXT, "DebertaV2": {**TEXT, **RELATIVE}, "MPNet": TEXT,
    "ModernBert": {**TEXT, **TOKENS}, "SqueezeBert": {**TEXT, "embedding_size": 32},
    "DistilBert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": 99},
    "MobileBert": {**TEXT, **BOTTLENECK}, "BigBird": {**TEXT, "attention_type": "original_full"},
    "GPT2": GPT, "GPTJ": {**GPT, "rotary_dim": 4}, "GPTNeoX": TEXT,
    "GPTNeo": {**LOCAL, "hidden_size": 32, "vocab_size": 99, "max_position_embeddings": 64},
    "OPT": {**TEXT, "ffn_dim": 64, "word_embed_proj_dim": 32},
    "Bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 99}, "Llama": HEADS,
    "Mistral": {**HEADS, "sliding_window": 8}, "Qwen2": LLAMA, "Qwen3": HEADS, "Gemma": HEADS,
    "Gemma2": {**HEADS, "sliding_window": 8}, "Phi": LLAMA, "Phi3": LLAMA, "StableLm": LLAMA,
    "T5Encoder": T5, "LayoutLM": {**TEXT, "max_2d_position_embeddings": 64},
}  # fmt: skip
PICTURES: dict[str, tuple[int, dict[str, Any]]] = {
    "ViT": (32, PATCHES), "DeiT": (32, PATCHES), "CLIPVision": (32, PATCHES), "SiglipVision": (32, PATCHES),
    "Beit": (32, {**PATCHES, "use_relative_position_bias": True}), "Dinov2": (32, PATCHES), "Swin": (32, SWIN),
    "Swinv2": (32, SWIN), "PoolFormer": (64, STAGES), "ConvNext": (64, STAGES), "ConvNextV2": (64, STAGES),
    "ResNet": (64, {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}),
    "RegNet": (64, {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "groups_width": 8}),
}  # fmt: skip
ROWS, LENGTH, MOST_ROWS, MOST_TOKENS = 3, 12, 6, 40
SIZES = ((ROWS, LENGTH), (1, 1), (2, 2), (1, 7), (5, 1), (MOST_ROWS, MOST_TOKENS), (ROWS, LENGTH))


class First(nn.Module):
    """A model of `transformers` of which only the first result is wanted."""

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        super().__init__()
        import transformers

        configuration = getattr(transformers, f"{name.removesuffix('Encoder')}Config")(**settings)
        self.model = getattr(transformers, f"{name}Model")(configuration)
        cached = "use_cache" in inspect.signature(self.model.forward).parameters
        self.options = {"use_cache": False} if cached else {}

    def forward(self, given: Tensor, mask: Tensor | None = None) -> Tensor:
        masks = {} if mask is None else {"attention_mask": mask}
        result: Tensor = self.model(given, **masks, **self.options)[0]
        return result


def texts(rows: int, tokens: int) -> tuple[Tensor, ...]:
    """Tokens, and a mask that hides the second half of the first of several rows."""
    mask = torch.ones(rows, tokens, dtype=torch.long)
    mask[: rows - 1][:1, tokens // 2 + 1 :] = 0
    return torch.randint(3, 90, (rows, tokens)), mask


def distance(one: Tensor, other: Tensor) -> float:
    """The norm of the difference."""
    return float((one.double() - other.double()).norm())


def lines(name: str) -> Iterator[tuple[str, bool]]:
    """A model's lines of the table, and whether each is good; what either lowering raises is one of them."""
    is_text = name in TEXTS
    size, settings = (0, TEXTS[name]) if is_text else PICTURES[name]
    make: Callable[..., tuple[Tensor, ...]] = texts if is_text else lambda rows, _: (torch.randn(rows, 3, size, size),)
    rows, tokens = Dim.AUTO(max=MOST_ROWS), Dim.AUTO(max=MOST_TOKENS)
    varying = ({0: rows, 1: tokens},) * 2 if is_text else ({0: rows},)
    for kind, shapes, sizes in (("static", None, SIZES[:1]), ("dynamic", varying, SIZES)):
        try:
            torch.manual_seed(0)
            model, data = First(name, settings).eval(), [make(ROWS, LENGTH) for _ in range(2)]
            quantized = lower86.quantize(model, data, dynamic_shapes=shapes, recipe="fast", progress=False)
            lowered = lower86.lower_pt2e_quantized_to_x86(quantized, data[0], on_fallback="ignore")
            error = 0.0
            for given in (make(*some) for some in sizes):
                expected, own = quantized(*given), model(*given)
                error = max(error, distance(lowered(*given), expected) / max(distance(expected, own), 1e-9))
        except Exception as problem:  # of any architecture, anything; the line is there to say it
            yield f"{name:14}{kind:9}{type(problem).__name__}: {' '.join(str(problem).split())[:180]}", False
            continue
        explained = lower86.explain(lowered)
        operators = " ".join(sorted({step.operator for step in explained.foreign}))
        columns = f"{explained.int8_fraction:6.1%}{len(explained.foreign):9}{error:9.3f}"
        yield f"{name:14}{kind:9}{columns}  {operators}", error <= 1


def main() -> None:
    """Prints the table of the models named, or of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of those that --list prints; all if none is given")
    parser.add_argument("--list", action="store_true", help="print the names")
    options = parser.parse_args()
    known = [*TEXTS, *PICTURES]
    if unknown := set(options.names) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; --list prints the names")
    if options.list:
        print(*known, sep="\n")
        return
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print(f"{'model':14}{'shapes':9}{'int8':>6}{'foreign':>9}{'error':>9}")
    bad = 0
    with torch.no_grad():
        for line, good in (each for name in options.names or known for each in lines(name)):
            print(line, flush=True)
            bad += not good
    raise SystemExit(bad)


if __name__ == "__main__":
    main()
