"""How a `lower86::` operator comes to be: a schema, the reference that defines it, the fake for shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_library: Callable[..., Any] = torch.library.Library
_LIBRARY = _library("lower86", "FRAGMENT")


def operator(schema: str, reference: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    """The overload of a new operator; `schema` begins with its name."""
    name = schema.split("(")[0]
    _LIBRARY.define(schema)
    _LIBRARY.impl(name, reference, "CompositeExplicitAutograd")
    torch.library.register_fake(f"lower86::{name}", fake, lib=_LIBRARY)
    return getattr(torch.ops.lower86, name).default
