"""Texts to unit vectors, with a saved model and its tokenizer: NumPy, `tokenizers` and lower86, no PyTorch.

The folder is what `save_pretrained` of a lowered `SentenceTransformer` wrote; see docs/how-to/serving.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

import lower86

PROGRAM, TOKENIZER = "lower86.safetensors", "tokenizer.json"
BATCH = 32
"""Texts a call at most: larger batches leave the cache and are no faster."""
MOST_TOKENS = 512
"""Where the program has no bound of its own."""


class Embedder:
    """Mean of the last hidden states of a text's tokens, normalized. Any number of threads may call it at once."""

    def __init__(self, folder: Path, num_threads: int | None = None) -> None:
        """Raises Lower86Error for a program that cannot be loaded, and OSError where there is no tokenizer."""
        self.program = lower86.load(folder / PROGRAM, num_threads=num_threads)
        self._tokenizer = _tokenizer_of(folder / TOKENIZER)
        self._tokenizer.no_padding()  # each batch has a length of its own
        spec = self.program.inputs[0]
        texts, tokens = (spec.ranges.get(str(size), (size, size))[1] for size in spec.shape)
        self.batch = min(BATCH, int(texts or BATCH))
        self.most_tokens = int(tokens or MOST_TOKENS)
        self._tokenizer.enable_truncation(self.most_tokens)

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """float32 [texts, width]; a text that is too long is cut off. Raises InputError for text that is no Unicode."""
        try:
            encodings = self._tokenizer.encode_batch(list(texts))
        except (TypeError, UnicodeError) as problem:
            raise lower86.InputError("a text is not valid Unicode", where="texts") from problem
        order = sorted(range(len(texts)), key=lambda i: len(encodings[i].ids))
        vectors: dict[int, npt.NDArray[np.float32]] = {}
        for start in range(0, len(order), self.batch):
            batch = order[start : start + self.batch]
            vectors |= zip(batch, self._embed([encodings[i] for i in batch]), strict=True)
        return np.stack([vectors[i] for i in range(len(texts))])

    def _embed(self, encodings: Sequence[Encoding]) -> npt.NDArray[np.float32]:
        length = max(len(encoding.ids) for encoding in encodings)
        names = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
        inputs = {
            spec.name: np.array(
                [pad + [0] * (length - len(pad)) for pad in (getattr(e, names[spec.name]) for e in encodings)],
                dtype=np.int64,
            )
            for spec in self.program.inputs
        }
        (hidden,) = self.program.run(inputs).values()
        weight = inputs["attention_mask"][..., None].astype(np.float32)
        pooled = (hidden * weight).sum(1) / np.maximum(weight.sum(1), 1e-9)
        unit: npt.NDArray[np.float32] = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
        return unit


def _tokenizer_of(path: Path) -> Tokenizer:
    if not path.is_file():
        raise FileNotFoundError(f"there is no tokenizer {path}")
    return Tokenizer.from_file(str(path))
