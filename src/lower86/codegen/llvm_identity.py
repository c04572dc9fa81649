"""Which LLVM machine code comes from, found without importing it: that takes 40 ms and 35 MB."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

_LIBRARY = Path("binding", "libllvmlite.so")


@cache
def llvm_identity() -> str:
    """A text that changes with the installed LLVM: llvmlite's own version, and the size of its library, which has LLVM.

    Where they are not laid out as expected, LLVM is asked itself.
    """
    spec = importlib.util.find_spec("llvmlite")
    try:
        package = Path((spec and spec.origin) or "").parent
        version = (package / "_version.py").read_text(encoding="utf-8")
        return f"llvmlite {version}, {(package / _LIBRARY).stat().st_size} bytes"
    except (OSError, ValueError):
        from .llvm import VERSION

        return VERSION
