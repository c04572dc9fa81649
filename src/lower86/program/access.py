"""Where in its slots a kernel reads and writes, on concrete sizes: the lowest and the highest byte, exactly.

Strides are affine, so that the extremes lie at corners of the index space: Σ (size - 1)·stride over the strides of one
sign. An index space without points is never visited. Numbers are Python's, which do not overflow; what generated code
computes from the same numbers wraps modulo 2^64 and so ends at the same place, because that place is known to be small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import limits
from .body import Body, Node
from .dtypes import DTYPES
from .kernels import TILE_COLUMNS, Attention, Contraction, Depthwise, Fill, Interleave, Kernel, Pack, Pointwise, Rows
from .signatures import FUNCTIONS
from .sizes import Size, SizeExpr
from .validate_bodies import refuse

LANES = 16
"""Elements of a vector, on every CPU."""

At = Callable[[Size], int]
"""What a size is with the dims that a step gives its kernel."""


@dataclass(frozen=True)
class Reading:
    """How the CPU has the code generator read int8: how many k it takes at once, and whether 64 bytes at once."""

    word: int
    wide: bool


@dataclass
class Accesses:
    """What a kernel touches: for each slot, bytes [low, high) from where it begins; and an estimate of nanoseconds.

    Those are of its points; how many units it has counts besides.
    """

    where: str
    reads: dict[int, tuple[int, int]] = field(default_factory=dict)
    writes: dict[int, tuple[int, int]] = field(default_factory=dict)
    nanoseconds: float = 0.0

    def walk(
        self, slot: int, extents: Sequence[int], strides: Sequence[int], element: int, *, writes: bool = False,
        start: int = 0,
    ) -> None:  # fmt: skip
        """Adds `element` bytes at `start` plus every Σ index·stride (in bytes)."""
        low, high = start, start + element
        for extent, stride in zip(extents, strides, strict=True):
            if extent <= 0:
                return
            if stride < 0:
                low += (extent - 1) * stride
            else:
                high += (extent - 1) * stride
        if element > 0:
            table = self.writes if writes else self.reads
            before = table.get(slot)
            table[slot] = (low, high) if before is None else (min(low, before[0]), max(high, before[1]))


def accesses(
    kernel: Kernel, dims: Mapping[str, int], reading: Reading, where: str, sizes: Expressions | None = None
) -> Accesses:
    """What the kernel touches with these dims. Raises ArtifactError where its sizes make no sense.

    `sizes`: what `expressions` gives, if that is at hand.
    """
    # Generated code computes them all, wherever they are used. By identity: to compare them would take longer.
    numbers: dict[int, int] = {}
    for size, alike in (expressions(kernel) if sizes is None else sizes).items():
        found_number = number(size, dims, where)
        for one in alike:
            numbers[one] = found_number

    def at(size: Size) -> int:
        return size if isinstance(size, int) else numbers[id(size)]

    found = Accesses(where)
    _KINDS[type(kernel)](kernel, at, reading, found)
    return found


def number(size: Size, dims: Mapping[str, int], where: str) -> int:
    """A size as generated code computes it, in 64 bits. Raises ArtifactError where those would not hold it."""
    if isinstance(size, int):
        return size
    total = 0
    for monomial, coefficient in size.terms:
        for atom in monomial:
            if isinstance(atom, str):
                coefficient *= dims[atom]
            else:
                below = number(atom.denominator, dims, where)
                if below <= 0:
                    raise refuse(where, f"a size divided by {below}")
                coefficient *= number(atom.numerator, dims, where) // below
        total += coefficient
    if abs(total) > limits.MOST_NUMBER:
        raise refuse(where, f"a size or stride of {total}")
    return total


Expressions = Mapping[SizeExpr, Collection[int]]
"""Sizes that depend on dims, and the identities of the objects that are one of them."""


def expressions(whole: Kernel | tuple[Any, ...]) -> Expressions:
    """All sizes of a kernel, or of parts of a program, that depend on dims."""
    found: dict[SizeExpr, set[int]] = {}

    def collect(part: Any) -> None:
        if isinstance(part, SizeExpr):
            found.setdefault(part, set()).add(id(part))
        elif isinstance(part, tuple):
            for item in part:
                collect(item)
        elif not isinstance(part, (str, int, float, type(None))):
            for value in vars(part).values():
                collect(value)

    collect(whole)
    return found


def _space(dims: Sequence[Size], at: At, where: str, most: int = limits.MOST_POINTS) -> list[int]:
    extents = [at(size) for size in dims]
    if any(extent < 0 for extent in extents):
        raise refuse(where, f"a negative size among {extents}")
    if math.prod(max(1, extent) for extent in extents) > most:
        raise refuse(where, f"{' x '.join(map(str, extents))} points")
    return extents


def _weight(body: Body) -> float:
    """Nanoseconds a point, by a slow CPU."""
    return 1.0 + sum(4.0 if node.op in FUNCTIONS else 2.0 if node.op == "gather" else 0.25 for node in body.nodes)


def _body(
    body: Body,
    extents: Sequence[int],
    at: At,
    found: Accesses,
    *,
    own: Callable[[int, Node], Sequence[int]] | None = None,
) -> None:
    """The loads, gathers and stores of a body at every point. `own`: the extents of a node's walk, if others."""
    if 0 in extents and own is None:
        return
    for position, node in enumerate(body.nodes):
        if node.op not in ("load", "gather"):
            continue
        around = extents if own is None else own(position, node)
        size = DTYPES[node.dtype].size
        strides = [at(stride) * size for stride in node.strides]
        if 0 in around[len(strides) :]:
            continue
        if node.op == "load":
            found.walk(node.number, around[: len(strides)], strides, size)
            continue
        computed = node.attrs[2]
        assert isinstance(computed, tuple)
        bounds = [at(bound) for _, bound in computed]
        far = [at(stride) * size for stride, _ in computed]
        found.walk(node.number, [*around[: len(strides)], *bounds], [*strides, *far], size)
    for store in body.stores:
        size = DTYPES[body.nodes[store.node].dtype].size
        strides = [at(stride) * size for stride in store.strides]
        bounds = [at(bound) for _, _, bound in store.places]
        far = [at(stride) * size for _, stride, _ in store.places]
        found.walk(store.slot, [*extents[: len(strides)], *bounds], [*strides, *far], size, writes=True)


def _pointwise(kernel: Pointwise | Interleave, at: At, reading: Reading, found: Accesses) -> None:
    extents = _space(kernel.sizes, at, found.where)
    _body(kernel.body, extents, at, found)
    found.nanoseconds = math.prod(extents) * _weight(kernel.body)


def _rows(kernel: Rows, at: At, reading: Reading, found: Accesses) -> None:
    kept, reduced = (_space(dims, at, found.where) for dims in (kernel.kept, kernel.reduced))
    extents = _space((*kernel.kept, *kernel.reduced), at, found.where)
    count = len(kept)
    found.nanoseconds = math.prod(kept) * (1 + math.prod(reduced) * _weight(kernel.body) * (1 + len(kernel.reductions)))
    if 0 in kept:
        return
    # What is the same all over a row is computed once a row, even where the row is empty; and so is what is stored
    # once a row, at index 0 of the reduced dims.
    once = _reached(kernel.body, [store.node for store in kernel.body.stores if len(store.strides) == count])
    row = [*kept, *(1 for _ in reduced)]

    def own(position: int, node: Node) -> Sequence[int]:
        varies = any(stride != 0 for stride in node.strides[count:]) or node.op == "gather"
        return row if 0 in reduced and (position in once or not varies) else extents

    _body(kernel.body, extents, at, found, own=own)


def _reached(body: Body, nodes: Sequence[int]) -> set[int]:
    """Nodes that these follow from, and themselves."""
    seen, stack = set[int](), [*nodes]
    while stack:
        position = stack.pop()
        if position not in seen:
            seen.add(position)
            stack += body.nodes[position].args
    return seen


def _columns(n: Size, at: At) -> int:
    """Columns of which whole vectors are read: to a vector where n is known to the code, and else to a panel."""
    return -(-at(n) // LANES) * LANES if isinstance(n, int) else -(-at(n) // TILE_COLUMNS) * TILE_COLUMNS


def _contraction(kernel: Contraction, at: At, reading: Reading, found: Accesses) -> None:
    where, left, right = found.where, kernel.left, kernel.right
    batch, (n,) = [at(size) for size in kernel.batch], _space((kernel.n,), at, where)
    m = _space(kernel.m, at, where, limits.MOST_ROWS)
    k = _space(kernel.k, at, where)
    extents = _space((*kernel.batch, *kernel.m, kernel.n), at, where)
    if not 1 <= at(kernel.blocks) <= limits.MOST_ROWS:
        raise refuse(where, f"{at(kernel.blocks)} blocks of rows")
    macs = math.prod(extents) * math.prod(k)
    found.nanoseconds = math.prod(extents) * _weight(kernel.body) + macs * (0.25 if kernel.is_float else 0.05)
    if 0 in extents:
        return
    _body(kernel.body, extents, at, found)
    size = DTYPES[kernel.kind].size if kernel.is_float else 1
    word = (2 if kernel.in_pairs else 1) if kernel.is_float else reading.word
    batched, panels = [at(stride) for stride in right.batch], -(-n // TILE_COLUMNS)
    if not kernel.is_float:
        each = 8 if kernel.wide else 4
        panel, last = TILE_COLUMNS * each, _columns(kernel.n, at) - TILE_COLUMNS * (panels - 1)
        found.walk(kernel.start, [*batch, panels], [*(stride * panel for stride in batched), panel], last * each)
    *taps, run = k
    if 0 in k:
        return
    whole = -(-run // word) * word if left.slack and not kernel.is_float and not kernel.wide else run
    *apart, inner = (at(stride) * size for stride in left.k)
    strides = [*(at(stride) * size for stride in (*left.batch, *left.m)), *apart]
    if word > 1:  # elements of a word lie next to each other
        inner = size
    found.walk(left.slot, [*batch, *m, *taps, whole], [*strides, inner], size)
    if right.packed:
        panel = math.prod(taps) * -(-run // word) * word * TILE_COLUMNS * size
        found.walk(right.slot, [*batch, panels], [*(stride * panel for stride in batched), panel], panel)
    else:
        rows = [*(stride * size for stride in batched), at(right.k) * size]
        found.walk(right.slot, [*batch, math.prod(k), n], [*rows, size], size)


def _depthwise(kernel: Depthwise, at: At, reading: Reading, found: Accesses) -> None:
    left, taps, channels = kernel.left, list(kernel.taps), kernel.channels
    _space(kernel.m[:-1], at, found.where, limits.MOST_ROWS)
    extents = _space((*kernel.m, channels), at, found.where)
    count = math.prod(taps)
    found.nanoseconds = math.prod(extents) * (_weight(kernel.body) + 0.5 * count)
    if 0 in extents:
        return
    _body(kernel.body, extents, at, found)
    size = DTYPES[kernel.kind].size if kernel.is_float else 1
    whole = -(-channels // LANES) * LANES
    if not kernel.is_float:
        found.walk(kernel.start, (), (), 4 * whole)
    if not count:
        return
    strides = [at(stride) * size for stride in (*left.m, *left.k)]
    found.walk(left.slot, [*extents[:-1], *taps, channels], [*strides, size], size)
    if reading.wide and not kernel.is_float:
        phases = 1 + kernel.shares_columns
        found.walk(kernel.weight, (), (), whole * math.prod(taps[:-1]) * phases * -(-(taps[-1] + phases - 1) // 4) * 4)
    else:
        found.walk(kernel.weight, (), (), 4 * whole * count)


def _attention(kernel: Attention, at: At, reading: Reading, found: Accesses) -> None:
    batch, heads, queries, keys = _space((kernel.batch, kernel.heads, kernel.queries, kernel.keys), at, found.where)
    extents = [batch, heads, queries, kernel.value_dim]
    points = batch * heads * queries
    each = 0.25 * (kernel.head_dim + kernel.value_dim) + 8 + (_weight(kernel.mask) if kernel.mask else 0)
    found.nanoseconds = points * (keys * each + kernel.value_dim * _weight(kernel.body))
    if 0 in extents:
        return
    if kernel.causal:
        keys = min(keys, -(-queries // TILE_COLUMNS) * TILE_COLUMNS)
    size = 1 if kernel.integers else DTYPES[kernel.dtype].size
    key_heads = (heads - 1) // kernel.groups + 1
    for slot, operand, rows, width in (
        (0, kernel.q, [batch, heads, queries], kernel.head_dim),
        (1, kernel.k, [batch, key_heads, keys], kernel.head_dim),
        (2, kernel.v, [batch, key_heads, keys], kernel.value_dim),
    ):
        found.walk(slot, rows, [at(stride) * size for stride in operand], width * size)
    if kernel.mask is not None:
        _body(kernel.mask, [batch, heads, queries, keys], at, found)
    _body(kernel.body, extents, at, found)


def _pack(kernel: Pack, at: At, reading: Reading, found: Accesses) -> None:
    where, (k, n) = found.where, (at(kernel.k), at(kernel.n))
    extents = _space((*kernel.batch, kernel.k, kernel.n), at, where)
    batch, each = extents[:-2], 8 if kernel.wide else 4
    found.nanoseconds = 0.5 * math.prod(extents)
    found.walk(0, extents, [at(stride) for stride in kernel.strides], 1)
    panels = math.prod(batch) * -(-n // TILE_COLUMNS)
    if panels:
        words, last = -(-k // reading.word), (n - 1) % TILE_COLUMNS + 1
        panel = words * reading.word * TILE_COLUMNS
        # A panel's last words are written to whole vectors, and its sums are taken of all there is.
        rows = [panels - 1, words - 1] if words else [0, 0]
        written = rows[0] * panel + rows[1] * reading.word * TILE_COLUMNS
        found.walk(1, (), (), panels * panel)
        if words:
            found.walk(1, (), (), written + reading.word * LANES * -(-last // LANES), writes=True)
        lanes = LANES if reading.wide else LANES // 2
        found.walk(2, (), (), ((panels - 1) * TILE_COLUMNS + -(-last // lanes) * lanes) * each, writes=True)
    if kernel.rows is not None:
        rows_of = _space(kernel.rows.sizes, at, where, limits.MOST_ROWS)
        found.nanoseconds += math.prod(_space((*kernel.rows.sizes, kernel.k), at, where)) + 10 * math.prod(rows_of)
        found.walk(3, [*rows_of, k], [*(at(stride) for stride in kernel.rows.strides), 1], 1)
        found.walk(4, (), (), math.prod(rows_of) * each, writes=True)


def _fill(kernel: Fill, at: At, reading: Reading, found: Accesses) -> None:
    if at(kernel.elements) <= 0:
        return
    size = DTYPES[kernel.dtype].size
    for band in kernel.bands:
        shape = _space(band.shape, at, found.where)
        strides = [*(at(stride) * size for stride in band.strides), size]
        found.walk(kernel.slot, shape, strides, size, writes=True, start=at(band.offset) * size)
        found.nanoseconds += math.prod(shape) + math.prod(shape[:-1]) * 4.0


_KINDS: Mapping[type[Any], Callable[[Any, At, Reading, Accesses], None]] = {
    Pointwise: _pointwise,
    Interleave: _pointwise,
    Rows: _rows,
    Contraction: _contraction,
    Depthwise: _depthwise,
    Attention: _attention,
    Pack: _pack,
    Fill: _fill,
}
