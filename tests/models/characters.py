"""Character-level models of Python's source, trained on modules of the standard library; kept in pytest's cache folder.

What they are measured by is bits per character on modules that they have not seen: how many bits it takes to say which
character comes next, for one who knows the model's guess. Uniform guessing takes 6.6, guessing by frequency 4.6.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONTEXT = 64
"""Characters of a window."""

_TRAIN = (
    "argparse", "ast", "bdb", "calendar", "cmd", "codecs", "configparser", "csv", "datetime", "difflib", "dis",
    "doctest", "enum", "fractions", "ftplib", "functools", "gettext", "heapq", "imaplib", "inspect", "locale",
    "mailbox", "optparse", "os", "pathlib", "pdb", "pickle", "pickletools", "platform", "plistlib", "posixpath",
    "pydoc", "random", "shutil", "smtplib", "socket", "ssl", "subprocess", "tarfile", "tempfile", "threading",
    "tokenize", "traceback", "turtle", "typing", "uuid", "warnings", "weakref", "zipfile",
)  # fmt: skip
_HELD_OUT = ("cgitb", "copy", "fileinput", "glob", "quopri", "sched", "shlex", "string", "textwrap", "timeit")
_SYMBOLS = ["\n", *map(chr, range(32, 127))]
VOCABULARY = len(_SYMBOLS) + 1
"""Newline, what ASCII prints, and one symbol for all else."""

_TRAINING, _RATE = {"Transformer": (220, 48), "Recurrent": (500, 24)}, 4e-3
"""Steps, and windows of each."""


def _text(names: tuple[str, ...]) -> Tensor:
    """The modules one after the other as symbols; a name that this Python has no file of is left out."""
    symbols = {character: i for i, character in enumerate(_SYMBOLS)}
    files = (Path(os.__file__).with_name(f"{name}.py") for name in names)
    text = "".join(file.read_text(encoding="utf-8") for file in files if file.exists())
    return torch.tensor([symbols.get(character, VOCABULARY - 1) for character in text])


def windows(count: int, *, held_out: bool) -> Tensor:
    """`count` windows of CONTEXT + 1 symbols, as far apart as the text allows, int64 [count, CONTEXT + 1]."""
    text = _text(_HELD_OUT if held_out else _TRAIN)
    starts = torch.linspace(0, len(text) - CONTEXT - 1, count).long()
    return text[starts[:, None] + torch.arange(CONTEXT + 1)]


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norms[0](x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norms[1](x))))


class Transformer(nn.Module):
    """Two blocks of 128 units; symbols [batch, CONTEXT] to scores of the next ones [batch, CONTEXT, VOCABULARY]."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.symbols, self.places = nn.Embedding(VOCABULARY, width), nn.Embedding(CONTEXT, width)
        self.blocks = nn.Sequential(_Block(width, 4), _Block(width, 4))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, VOCABULARY)

    def forward(self, symbols: Tensor) -> Tensor:
        x = self.symbols(symbols) + self.places(torch.arange(symbols.shape[1]))
        scores: Tensor = self.head(self.norm(self.blocks(x)))
        return scores


class Recurrent(nn.Module):
    """An LSTM of 192 units; symbols [batch, CONTEXT] to scores of the next ones [batch, CONTEXT, VOCABULARY]."""

    def __init__(self, width: int = 192) -> None:
        super().__init__()
        self.symbols = nn.Embedding(VOCABULARY, 64)
        self.lstm, self.head = nn.LSTM(64, width, batch_first=True), nn.Linear(width, VOCABULARY)

    def forward(self, symbols: Tensor) -> Tensor:
        scores: Tensor = self.head(self.lstm(self.symbols(symbols))[0])
        return scores


def trained(kind: type[nn.Module], cache: Path) -> nn.Module:
    """A model of the kind in eval mode, from the cache folder if it is there."""
    torch.manual_seed(0)
    model, path = kind(), cache / f"characters-{kind.__name__.lower()}.pt"
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
        return model.eval()
    text, (steps, batch) = _text(_TRAIN), _TRAINING[kind.__name__]
    optimizer = torch.optim.AdamW(model.parameters(), _RATE, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, steps, pct_start=0.15)
    for _ in range(steps):
        starts = torch.randint(len(text) - CONTEXT, (batch, 1))
        _loss(model, text[starts + torch.arange(CONTEXT + 1)]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    torch.save(model.state_dict(), path)
    return model.eval()


def _loss(model: Callable[[Tensor], Tensor], found: Tensor) -> Tensor:
    return F.cross_entropy(model(found[:, :-1]).flatten(0, 1), found[:, 1:].flatten())


def bits(model: Callable[[Tensor], Tensor], found: Tensor, batch: int = 64) -> float:
    """Bits per character of windows, [count, CONTEXT + 1]."""
    with torch.no_grad():
        losses = [_loss(model, part) * len(part) for part in found.split(batch)]
    return float(sum(losses)) / len(found) / math.log(2)
