"""The name of a kernel's function, by which a process that has its code finds it.

The code generator is not imported here: who finds all of its machine code in the cache never needs it.
"""

from __future__ import annotations

import hashlib

from ..program.kernels import Kernel


def kernel_name(kernel: Kernel) -> str:
    """A name for the kernel's function, the same for equal kernels and different for others."""
    digest = hashlib.sha256(repr(kernel).encode()).hexdigest()[:32]
    return f"{type(kernel).__name__.lower()}_{digest}"
