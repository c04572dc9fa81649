"""The models of the benchmark: each with data to calibrate on, and inputs that calls take in turn."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]

from minilm.quiet import silence  # noqa: E402

silence()

import torch  # noqa: E402
from torch import nn  # noqa: E402

from lower86.peers.peer import Work  # noqa: E402

INPUTS = 4


@dataclass(frozen=True)
class Case(Work):
    """A float model in eval mode. All inputs have the shapes of the first."""

    has_transposed: bool = False
    """Whether it has transposed convolutions: torchao's quantizer leaves them in float, NNCF's and lower86's do not."""


def _minilm(length: int) -> Case:
    """The pretrained sentence encoder on docstrings of `length` tokens, none of them padding."""
    from minilm import corpus, encoder

    model, tokenize = encoder.load()
    texts = corpus.load(16, 16)
    words = " ".join(entry.body for entry in texts.entries)
    bodies = [words[start : start + 16 * length] for start in range(0, 40 * INPUTS, 40)]
    rows = [tokenize([text]) for text in (*bodies, *texts.calibration)]
    tokens = [tuple(part[:, :length].contiguous() for part in row) for row in rows]
    return Case(f"MiniLM, {length} tokens", model, tokens[INPUTS:], tokens[:INPUTS], is_transformer=True)


def _mlp(rows: int) -> Case:
    """Three linears with GELU between them, as in a recommender or a classifier's head."""
    generator = torch.Generator().manual_seed(0)
    layers = [nn.Linear(512, 1024), nn.GELU(), nn.Linear(1024, 1024), nn.GELU(), nn.Linear(1024, 64)]
    data = [(torch.randn(rows, 512, generator=generator),) for _ in range(INPUTS + 8)]
    return Case(f"MLP, {rows} rows", nn.Sequential(*layers).eval(), data[INPUTS:], data[:INPUTS])


def vision(name: str, batch: int = 1, size: int = 224) -> Case:
    """A convolutional network on noise."""
    from tests.models import vision

    generator = torch.Generator().manual_seed(1)
    data = [(torch.randn(batch, 3, size, size, generator=generator),) for _ in range(INPUTS + 8)]
    images = "" if batch == 1 else f", {batch} images"
    return Case(
        f"{name}{images}",
        vision.load(name, size),
        data[INPUTS:],
        data[:INPUTS],
        is_convolutional=True,
        has_transposed=name == "unet",
    )


def transformer(name: str, title: str) -> Case:
    """A transformer of random weights on random inputs."""
    from tests.models import transformer

    data = transformer.inputs(name, INPUTS + 8)
    # PyTorch's exporter to ONNX fails on attention with biases, unless it is written out.
    model = transformer.load(name, attention="eager" if name in ("t5-encoder", "swin-tiny") else "sdpa")
    return Case(title, model, data[INPUTS:], data[:INPUTS], is_transformer=True)


CASES: Mapping[str, Callable[[], Case]] = {
    "minilm-128": partial(_minilm, 128),
    "minilm-16": partial(_minilm, 16),
    "mlp-64": partial(_mlp, 64),
    "mlp-1": partial(_mlp, 1),
    "resnet-50": partial(vision, "resnet-50"),
    "resnet-18": partial(vision, "resnet-18"),
    "mobilenet-v2": partial(vision, "mobilenet-v2"),
    "efficientnet-b0": partial(vision, "efficientnet-b0"),
    "convnext-tiny": partial(vision, "convnext-tiny"),
    "regnet-y-4gf": partial(vision, "regnet-y-4gf"),
    "unet": partial(vision, "unet"),
    "bert-base-128": partial(transformer, "bert-base", "BERT-base, 128 tokens"),
    "distilbert-128": partial(transformer, "distilbert", "DistilBERT, 128 tokens"),
    "vit-s16": partial(transformer, "vit-s16", "ViT-S/16"),
    "swin-tiny": partial(transformer, "swin-tiny", "Swin-T"),
    "gpt2-128": partial(transformer, "gpt2", "GPT-2, 128 tokens at once"),
    "t5-encoder": partial(transformer, "t5-encoder", "T5-small's encoder, 128 tokens"),
    "whisper-tiny": partial(transformer, "whisper-tiny", "Whisper-tiny's encoder, 30 seconds"),
}


def add_cases(parser: argparse.ArgumentParser) -> None:
    """Adds the names of cases as arguments: `cases`, empty if none is named. One that there is not is a usage error."""
    parser.add_argument("cases", nargs="*", type=_known, help=f"of {', '.join(CASES)}; all if none is named")


def _known(name: str) -> str:
    if name not in CASES:
        raise argparse.ArgumentTypeError(f"there is no case {name}; there are {', '.join(CASES)}")
    return name
