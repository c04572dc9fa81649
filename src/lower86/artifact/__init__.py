"""A lowered model as one data-only file that runs without PyTorch: `lower86.save` and `lower86.load`."""

from ..program.limits import Limits
from .format import seal
from .loaded import LoadedProgram, TensorSpec

__all__ = ["Limits", "LoadedProgram", "TensorSpec", "seal"]
