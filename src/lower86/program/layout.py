"""What a kernel asks of the step that runs it: how many slots, which dims, how many params."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from .body import Node, Store
from .kernels import ATTENTION_PARAMS, Attention, Contraction, Depthwise, Fill, Kernel, Left, Right
from .sizes import FloorDiv, SizeExpr, names


@dataclass(frozen=True)
class Layout:
    """How many slots, and which dims and params a kernel's table holds."""

    slots: int
    dims: tuple[str, ...]
    params: int

    @property
    def words(self) -> int:
        return 1 + self.slots + len(self.dims) + self.params


def layout_of(kernel: Kernel) -> Layout:
    """The slots, dims and params that a kernel names, found by walking its description."""
    slots, params, dims = [0], [0], dict[str, None]()

    def walk(part: object) -> None:
        if isinstance(part, SizeExpr):
            dims.update(dict.fromkeys(names(part)))
        elif isinstance(part, tuple):
            for item in part:
                walk(item)
        elif dataclasses.is_dataclass(part) and not isinstance(part, FloorDiv):
            if isinstance(part, Node) and part.op in ("load", "gather"):
                slots.append(part.number + 1)
            elif isinstance(part, Node) and part.op == "param":
                params.append(part.number + 1)
            elif isinstance(part, (Store, Left, Right)):
                slots.append(part.slot + 1)
            elif isinstance(part, Contraction) and not part.is_float:
                slots.append(part.start + 1)
            elif isinstance(part, Depthwise):
                slots.extend([part.weight + 1, *([part.start + 1] if not part.is_float else [])])
            elif isinstance(part, Fill):
                slots.append(part.slot + 1)
                params.append(1)
            elif isinstance(part, Attention):
                slots.append(3)
                params.append(len(ATTENTION_PARAMS) if part.integers else 1)
            for field in vars(part).values():
                walk(field)

    walk(kernel)
    return Layout(max(slots), tuple(sorted(dims)), max(params))
