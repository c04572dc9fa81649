"""What a row kernel does in each of its passes over a row: which reductions share one, and what it leaves for later.

A reduction runs as soon as the results that its elements need are there, so that those of the same values (amin and
amax, a sum and a sum of squares) run side by side. What is the same all over the row is computed before the pass. What
takes long (exp, gelu) is computed in the first pass that needs it, written down, and read back in the later ones: a row
of it stays in the first cache level.

    softmax     m = max x  |  p = exp(x - m), written down;  s = sum p  |  p, read back;  p / s
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..program.body import Body, Node
from ..program.dtypes import DTYPES, computed
from ..program.kernels import ROW_BYTES, Rows
from ..program.sizes import ceil_div, product
from .builder import LANES
from .mathematics import FLOAT32_FUNCTIONS
from .powers import FLOAT32_POWERS

COSTLY = frozenset((*FLOAT32_FUNCTIONS, *FLOAT32_POWERS)) - {"rsqrt"}
"""Operations that take longer than writing their result down and reading it back."""


@dataclass
class Pass:
    """One walk over the row, for some reductions (by number), or for the stores; all else are body nodes."""

    reductions: tuple[int, ...]
    wanted: tuple[int, ...]
    """The reductions' elements, or what is stored."""
    steady: list[int] = field(default_factory=list)
    """Needed, and the same all over the row."""
    saved: list[int] = field(default_factory=list)
    """Written down for later passes."""
    read: list[int] = field(default_factory=list)
    """Written down by earlier ones."""


def passes_of(kernel: Rows) -> list[Pass]:
    """The passes, in order; the last one makes the stores at every element, if there are any."""
    passes = _bare_passes(kernel)
    varying = _varying(kernel.body, len(kernel.kept))
    costly = _costly(kernel.body, varying)
    first: dict[int, Pass] = {}
    room = ROW_BYTES
    for this in passes:
        stack, seen = [*this.wanted], set[int]()
        while stack:
            position = stack.pop()
            if position in seen:
                continue
            seen.add(position)
            node = kernel.body.nodes[position]
            if position not in varying:
                this.steady.append(position)
                continue
            before, size = first.get(position), _row_bytes(kernel, node)
            if before is not None and position in costly and position not in before.saved and size <= room:
                before.saved.append(position)
                room -= size
            if before is not None and position in before.saved:
                this.read.append(position)
            else:
                stack += node.args
        for position in seen & varying:
            first.setdefault(position, this)
    return passes


def row_elements(kernel: Rows) -> int:
    """How many elements a row has as it is written down, in whole vectors; 0 if that is not known."""
    *outer, last = kernel.reduced
    whole = last * LANES if kernel.vertical else ceil_div(last, LANES) * LANES
    count = product([*outer, whole])
    return count if isinstance(count, int) else 0


def _row_bytes(kernel: Rows, node: Node) -> int:
    """Bytes of a row of the node's elements; more than there is room for where it cannot be written down."""
    dtype = DTYPES[computed(node.dtype)]
    count = row_elements(kernel) if dtype.kind == "float" else 0
    return count * dtype.size or ROW_BYTES + 1


def _bare_passes(kernel: Rows) -> list[Pass]:
    """The passes, without what they need."""
    stages: list[int] = []
    for reduction in kernel.reductions:
        results = _results_in(kernel.body, reduction.node)
        stages.append(max((stages[number] + 1 for number in results), default=0))
    passes = []
    for stage in sorted(set(stages)):
        numbers = tuple(number for number, own in enumerate(stages) if own == stage)
        passes.append(Pass(numbers, tuple(kernel.reductions[number].node for number in numbers)))
    dims = len(kernel.kept) + len(kernel.reduced)
    stored = tuple(store.node for store in kernel.body.stores if len(store.strides) == dims)
    return [*passes, Pass((), stored)] if stored else passes


def _results_in(body: Body, position: int) -> set[int]:
    """The reductions that a node uses the results of."""
    found, seen, stack = set[int](), set[int](), [position]
    while stack:
        position = stack.pop()
        if position not in seen:
            seen.add(position)
            node = body.nodes[position]
            stack += node.args
            if node.op == "value":
                found.add(node.number)
    return found


def _varying(body: Body, kept: int) -> set[int]:
    """Nodes that are not known to be the same all over the row."""
    varying: set[int] = set()
    for position, node in enumerate(body.nodes):
        own = node.op in ("gather", "checked")  # which may fail the run: only where they are needed
        if node.op == "load":
            own = any(stride != 0 for stride in node.strides[kept:])
        elif node.op == "index":
            own = node.number >= kept
        if own or any(a in varying for a in node.args):
            varying.add(position)
    return varying


def _costly(body: Body, varying: set[int]) -> set[int]:
    """Nodes that vary along the row and take a costly operation that does."""
    costly: set[int] = set()
    for position, node in enumerate(body.nodes):
        if position in varying and (node.op in COSTLY or any(a in costly for a in node.args)):
            costly.add(position)
    return costly
