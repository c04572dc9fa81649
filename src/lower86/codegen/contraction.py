"""Contractions: the register tile that reaches the CPU's dot-product peak, and the epilogue on its results.

A tile is up to 6 rows by 64 columns: 24 accumulators of 16 lanes stay in registers while k runs. Each step of k loads
4 vectors of the right matrix, and for every row broadcasts one word of the left one (4 bytes of int8, or one float):

    acc[row][j] += dot4(broadcast(left[row, k..k+3]), right[k..k+3, 16 j .. 16 j + 15])          j = 0..3

10 loads for 24 multiply-accumulate instructions: the arithmetic is the bottleneck, as it should be. The right matrix is
packed in panels of 64 columns, so that it streams in order. The accumulators then go to a small buffer in the first
cache level, and one epilogue function, the same for all tile heights, computes the kernel's body row by row: 24 stores
against thousands of cycles of arithmetic, for a sixth of the code to compile.

Rows are shared out evenly: 128 rows are 18 tiles of 6 and 4 of 5, never 21 of 6 and one of 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..program.body import Body
from ..program.kernels import TILE_COLUMNS, Contraction
from .builder import F32, I8, I32, I64, LANES, PTR, VOID, Code, Module, Type, Value, Variable, vector
from .frame import Frame, Layout
from .pointwise import LEAVES, BodyEmitter, Point

_VECTORS = TILE_COLUMNS // LANES


class _Tiles:
    """The functions of one contraction, made on first use: tiles by (height, vectors, masked), and epilogues."""

    def __init__(self, module: Module, layout: Layout, kernel: Contraction) -> None:
        self.module, self.layout, self.kernel = module, layout, kernel
        self._made: dict[tuple[object, ...], Value] = {}

    def tile(self, height: int, vectors: int, masked: bool) -> Value:
        key = ("tile", height, vectors, masked)
        if key not in self._made:
            self._made[key] = _emit_tile(self, height, vectors, masked)
        return self._made[key]

    def epilogue(self, vectors: int, masked: bool) -> Value:
        key = ("epilogue", vectors, masked)
        if key not in self._made:
            self._made[key] = _emit_epilogue(self, vectors, masked)
        return self._made[key]

    @property
    def element(self) -> Type:
        """What the accumulators hand to the epilogue."""
        if self.kernel.kind == "f32":
            return F32
        return I64 if self.kernel.wide else I32


def emit_contraction(frame: Frame, kernel: Contraction) -> None:
    """The whole kernel: one panel of columns by a block of tiles, for one point of the batch dims."""
    code = frame.code
    if kernel.m == 0:
        code.ret()  # there are no units either, and no rows to share out
        return
    tiles, isa = _Tiles(code.module, frame.layout, kernel), code.module.isa
    m, n = frame.size(kernel.m), frame.size(kernel.n)
    rows = kernel.tile_rows
    count = code.div(code.add(m, rows - 1), rows)
    blocks = code.div(code.add(count, kernel.tiles - 1), kernel.tiles)
    panels = code.div(code.add(n, TILE_COLUMNS - 1), TILE_COLUMNS)
    block, rest = code.rem(frame.unit, blocks), code.div(frame.unit, blocks)
    panel = code.rem(rest, panels)
    batch = frame.split(code.div(rest, panels), kernel.batch)

    left, right = kernel.left, kernel.right
    left_at: Value = frame.slots[left.slot]
    right_at: Value = frame.slots[right.slot]
    size = 4 if kernel.kind == "f32" else 1
    for index, left_stride, right_stride in zip(batch, left.batch, right.batch, strict=True):
        left_at = code.at(left_at, code.mul(index, code.mul(frame.size(left_stride), size)))
        right_at = code.at(right_at, code.mul(index, code.mul(frame.size(right_stride), size)))
    column = code.mul(panel, TILE_COLUMNS)
    right_at = code.at(right_at, code.mul(panel, _panel_bytes(frame, kernel)))
    start = right_at
    if kernel.kind != "f32":
        start = code.at(frame.slots[kernel.start], code.mul(column, 8 if kernel.wide else 4))

    scratch = code.stack(vector(tiles.element), rows * _VECTORS)
    base, extra = code.div(m, count), code.rem(m, count)
    left_row = code.mul(frame.size(left.own[0]), size)
    first = code.mul(block, kernel.tiles)
    with code.loop(first, code.minimum(count, code.add(first, kernel.tiles))) as t:
        row = code.add(code.mul(t, base), code.minimum(t, extra))
        longer = code.b.zext(code.less(t, extra), I64)
        height = code.add(base, longer)
        tile_left = code.at(left_at, code.mul(row, left_row))

        def run(vectors: int, masked: bool) -> None:
            k = code.i64(frame.size(kernel.k))
            strides = [code.i64(code.mul(frame.size(stride), size)) for stride in (*left.own, right.own[0])]
            for h in _heights(kernel):
                with code.when(code.b.icmp_signed("==", code.i64(height), code.i64(h))):
                    for first_vector in range(0, vectors, isa.vectors):
                        some, skipped = min(isa.vectors, vectors - first_vector), first_vector * LANES
                        cut = masked and (not isinstance(kernel.n, int) or first_vector + some == vectors)
                        places = [
                            tile_left,
                            code.at(right_at, skipped * (4 if kernel.kind == "f32" else isa.word)),
                            code.at(start, skipped * (8 if kernel.wide else 4)),
                            code.at(scratch, skipped * (8 if kernel.wide else 4)),
                        ]
                        columns = code.i64(code.sub(code.sub(n, column), skipped))
                        code.call(tiles.tile(h, some, cut), [*places, k, columns, *strides])
            where = [code.i64(v) for v in (row, height, column, code.sub(n, column), *batch)]
            code.call(tiles.epilogue(vectors, masked), [frame.table, scratch, *where])

        _by_width(code, kernel, panel, panels, run)
    code.ret()


def _by_width(
    code: Code, kernel: Contraction, panel: Value | int, panels: Value | int, run: Callable[[int, bool], None]
) -> None:
    """Runs the full-width code on all panels, but the last one's own code on the last if it is narrower."""
    if isinstance(kernel.n, int):
        rest = kernel.n % TILE_COLUMNS
        narrow = (-(-rest // LANES), rest % LANES != 0)
        if rest == 0:
            run(_VECTORS, False)
            return
        if kernel.n < TILE_COLUMNS:
            run(*narrow)
            return
    else:
        narrow = (_VECTORS, True)
    last = code.b.icmp_signed("==", code.i64(panel), code.i64(code.sub(panels, 1)))
    with code.b.if_else(last) as (then, otherwise):
        with then:
            run(*narrow)
        with otherwise:
            run(_VECTORS, False)


def _heights(kernel: Contraction) -> Sequence[int]:
    if not isinstance(kernel.m, int):
        return range(1, kernel.tile_rows + 1)
    count = -(-kernel.m // kernel.tile_rows)
    base, extra = divmod(kernel.m, count)
    return (base, base + 1) if extra else (base,)


def _panel_bytes(frame: Frame, kernel: Contraction) -> Value | int:
    if not kernel.right.packed:
        return TILE_COLUMNS * 4
    k = frame.size(kernel.k)
    if kernel.kind == "f32":
        return frame.code.mul(k, TILE_COLUMNS * 4)
    word = frame.code.module.isa.word
    return frame.code.mul(frame.code.div(frame.code.add(k, word - 1), word), TILE_COLUMNS * word)


def _emit_tile(tiles: _Tiles, height: int, vectors: int, masked: bool) -> Value:
    """`void(left, right, start, scratch, k, columns left, strides in bytes…)`: fills the scratch tile.

    The strides are the left operand's along m and k, and the right one's along k.
    """
    kernel = tiles.kernel
    name = f"tile_{height}x{vectors}{'_masked' if masked else ''}"
    code = tiles.module.function(name, VOID, *[PTR] * 4, *[I64] * 5, internal=True)
    left, right, start, scratch, k, columns, *strides = code.arguments
    if isinstance(kernel.k, int):
        k = kernel.k
    size = 4 if kernel.kind == "f32" else 1
    for i, known in enumerate((*kernel.left.own, kernel.right.own[0])):
        if isinstance(known, int):
            strides[i] = known * size
    if kernel.kind == "f32":
        sums = _float_tile(code, kernel, (left, right, k, columns), strides, (height, vectors, masked))
    else:
        sums = _int8_tile(code, kernel, (left, right, start, k), strides[0], (height, vectors))
    pieces = len(sums) // height
    element = 8 if kernel.wide else 4
    for i, total in enumerate(sums):
        row, piece = divmod(i, pieces)
        place = row * TILE_COLUMNS + piece * (vectors * LANES // pieces)
        code.store(total.get(), code.at(scratch, place * element), align=32)
    code.ret()
    return code.function


def _int8_tile(
    code: Code,
    kernel: Contraction,
    places: tuple[Value, Value, Value, Value | int],
    left_row: Value | int,
    shape: tuple[int, int],
) -> list[Variable]:
    left, right, start, k = places
    height, isa = shape[0], code.module.isa
    pieces = shape[1] * LANES // isa.lanes
    # Sums begin with the zero point's share of each column, so that the epilogue need not subtract it.
    # Wide sums begin with it in 64 bits: there it may not fit 32.
    zero = code.constant(isa.sums, 0)
    starts = [zero if kernel.wide else code.load(isa.sums, code.at(start, 4 * isa.lanes * p)) for p in range(pieces)]
    sums = [code.variable(starts[p]) for _ in range(height) for p in range(pieces)]
    # s8 as u8, 128 higher; `start` takes the 128 back.
    flip = code.signed(isa.word_type, int.from_bytes(b"\x80" * isa.word, "little", signed=True))

    def step(k_word: Value | int, word_at: Callable[[Value], Value]) -> None:
        weights_at = code.at(right, code.mul(k_word, isa.word * TILE_COLUMNS))
        weights = [isa.weights(code, code.at(weights_at, isa.word * isa.lanes * p)) for p in range(pieces)]
        for row in range(height):
            word = word_at(code.at(left, code.add(code.mul(left_row, row), code.mul(k_word, isa.word))))
            if kernel.kind == "s8s8":
                word = code.b.xor(word, flip)
            activations = isa.spread(code, word)
            for p in range(pieces):
                total = sums[row * pieces + p]
                total.set(isa.dot(code, total.get(), activations, weights[p]))

    def words(first: Value | int, last: Value | int) -> None:
        with code.loop(first, last) as word:
            step(word, lambda pointer: code.load(isa.word_type, pointer))

    full = code.div(k, isa.word)
    wide_sums: list[Variable] = []
    wide = vector(I64, isa.lanes)
    if kernel.wide:
        wide_starts = [code.load(wide, code.at(start, 8 * isa.lanes * p)) for p in range(pieces)]
        wide_sums = [code.variable(wide_starts[p]) for _ in range(height) for p in range(pieces)]
        chunk_words = kernel.wide // isa.word
        with code.loop(0, full, chunk_words) as chunk:
            words(chunk, code.minimum(full, code.add(chunk, chunk_words)))
            for narrow, total in zip(sums, wide_sums, strict=True):
                total.set(code.b.add(total.get(), code.b.sext(narrow.get(), wide)))
                narrow.set(zero)
    else:
        words(0, full)
    for rest in range(1, isa.word):
        partial = _rest_of_word(code, rest)
        if isinstance(k, int):
            if k % isa.word == rest:
                step(full, partial)
        else:
            with code.when(code.b.icmp_signed("==", code.i64(code.rem(k, isa.word)), code.i64(rest))):
                step(full, partial)
    for narrow, total in zip(sums, wide_sums, strict=False):
        total.set(code.b.add(total.get(), code.b.sext(narrow.get(), wide)))
    return wide_sums or sums


def _rest_of_word(code: Code, count: int) -> Callable[[Value], Value]:
    """Loads `count` bytes, never one beyond, as the low bytes of a word."""
    kind = code.module.isa.word_type

    def load(pointer: Value) -> Value:
        word = code.signed(kind, 0)
        for i in range(count):
            byte = code.b.zext(code.load(I8, code.at(pointer, i)), kind)
            word = code.b.or_(word, code.b.shl(byte, code.signed(kind, 8 * i)))
        return word

    return load


def _float_tile(
    code: Code,
    kernel: Contraction,
    places: tuple[Value, Value, Value | int, Value],
    strides: Sequence[Value | int],
    shape: tuple[int, int, bool],
) -> list[Variable]:
    left, right, k, columns = places
    left_row, left_step, right_row = strides
    height, vectors, masked = shape
    masks = [code.lanes_below(code.sub(columns, LANES * j)) if masked else None for j in range(vectors)]
    sums = [code.variable(code.constant(vector(F32), 0.0)) for _ in range(height * vectors)]
    with code.loop(0, k) as i:
        if kernel.right.packed:
            at = code.at(right, code.mul(i, 4 * TILE_COLUMNS))
            values = [code.load(vector(F32), code.at(at, 64 * j), align=64) for j in range(vectors)]
        else:
            at = code.at(right, code.mul(i, right_row))
            values = [code.masked_load(F32, code.at(at, 64 * j), masks[j]) for j in range(vectors)]
        for row in range(height):
            pointer = code.at(left, code.add(code.mul(left_row, row), code.mul(i, left_step)))
            broadcast = code.splat(code.load(F32, pointer))
            for j in range(vectors):
                total = sums[row * vectors + j]
                total.set(code.intrinsic("fma", broadcast, values[j], total.get()))
    return sums


def _emit_epilogue(tiles: _Tiles, vectors: int, masked: bool) -> Value:
    """`void(table, scratch, row, height, column, columns left, batch…)`: the body on every row of the scratch tile."""
    kernel = tiles.kernel
    name = f"epilogue_{vectors}{'_masked' if masked else ''}"
    kinds = [PTR, I64, I64, I64, I64, *(I64 for _ in kernel.batch)]
    frame = Frame(tiles.module, name, tiles.layout, *kinds, internal=True)
    code, scratch = frame.code, frame.unit
    row, height, column, columns, *batch = frame.arguments
    lane = len(kernel.batch) + 1
    size = 8 if kernel.wide else 4
    # Only the last vector of a panel can be cut, except where n is not known: then any can.
    dynamic = not isinstance(kernel.n, int)
    masks = [
        code.lanes_below(code.sub(columns, LANES * j)) if masked and (dynamic or j == vectors - 1) else None
        for j in range(vectors)
    ]
    wanted = {node.dtype for node in kernel.body.nodes if node.op == "value"}
    as_float = kernel.kind != "f32" and wanted == {"f32"}
    steady = _row_independent(kernel.body, lane)
    columns_only = []
    for j in range(vectors):
        emitter = BodyEmitter(frame, kernel.body, Point([*batch, row, code.add(column, LANES * j)], lane, masks[j], {}))
        columns_only.append({position: emitter.node(position) for position in steady})
    with code.loop(0, height) as r:
        for j in range(vectors):
            at = code.at(scratch, code.add(code.mul(r, _VECTORS * LANES * size), j * LANES * size))
            value = code.load(vector(tiles.element), at, align=64)
            if as_float:
                value = code.b.sitofp(value, vector(F32))
            point = Point([*batch, code.add(row, r), code.add(column, LANES * j)], lane, masks[j], {0: value})
            BodyEmitter(frame, kernel.body, point, columns_only[j]).stores()
    code.ret()
    return code.function


def _row_independent(body: Body, lane: int) -> list[int]:
    """Nodes that are the same for every row of a tile: computed once, outside the loop over rows.

    LLVM could not hoist them itself: for all it knows, the stores write where they are loaded from.
    """
    steady: set[int] = set()
    for position, node in enumerate(body.nodes):
        if node.op in ("const", "param"):
            steady.add(position)
        elif node.op == "load":
            strides = node.attrs[1]
            assert isinstance(strides, tuple)
            if all(stride == 0 for dim, stride in enumerate(strides) if dim != lane):
                steady.add(position)
        elif node.op not in LEAVES and all(a in steady for a in node.args):
            steady.add(position)
    return sorted(steady)
