"""`SentenceTransformer.encode` on int8 machine code.

    SentenceTransformer                  lowered
      Transformer: tokenizer, model        LoweredTransformer: the same tokenizer, the model as a program
      Pooling, Normalize, …                the same

Only the model is replaced, so prompts, batches sorted by length, pooling, precisions and all else of `encode` are the
library's own. One program serves all batches and lengths. What `save_pretrained` writes has the program in place of the
weights, and `load_sentence_transformer` reads it without executing anything that comes from the folder.
"""

from __future__ import annotations

try:
    from sentence_transformers import SentenceTransformer
except ModuleNotFoundError as problem:
    message = f"this needs {problem.name}: pip install 'lower86[sentence-transformers]'"
    raise ModuleNotFoundError(message, name=problem.name) from problem

from .load import load_sentence_transformer
from .lower import lower_sentence_transformer
from .modules import LoweredTransformer, ProgramOfModel

__all__ = [
    "LoweredTransformer",
    "ProgramOfModel",
    "SentenceTransformer",
    "load_sentence_transformer",
    "lower_sentence_transformer",
]
