"""The register tile of a contraction: sums stay in registers while k runs.

A tile is up to 6 rows by 64 columns: 24 accumulators of 16 lanes. Each step of k loads 4 vectors of the right matrix,
and for every row broadcasts one word of the left one (4 bytes of int8, or one float):

    acc[row][j] += dot4(broadcast(left[row, k..k+3]), right[k..k+3, 16 j .. 16 j + 15])          j = 0..3

10 loads for 24 multiply-accumulate instructions: the arithmetic is the bottleneck, as it should be. The right matrix is
packed in panels of 64 columns, so that it streams in order.

k may be several dims, as in a convolution: loops over the outer ones (taps) around one over the innermost run, whose
elements lie next to each other. Rows are evenly spaced where m is one dim; else each has a pointer of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from ..program.dtypes import DTYPES
from ..program.kernels import TILE_COLUMNS, Contraction
from ..program.sizes import Size
from .builder import F32, I8, I16, I32, I64, LANES, PTR, VOID, Code, Module, Value, Variable, vector
from .isa import Isa
from .storage import load_everywhere, load_panel, load_vector

LINE_BYTES = 64
ROW_WORDS = 8
"""Bytes of a row's entry: where its left elements begin."""


@dataclass
class _Walk:
    """What a tile reads: a pointer for each of its rows, and the sizes and left strides (bytes) of k's dims."""

    rows: Sequence[Value]
    right: Value
    sizes: Sequence[Value | int]
    strides: Sequence[Value | int]

    @property
    def run(self) -> Value | int:
        return self.sizes[-1]


def is_spaced(kernel: Contraction) -> bool:
    """Whether rows lie at equal distances, so that one pointer tells all of a tile's."""
    return len(kernel.m) == 1


def element_bytes(kernel: Contraction) -> int:
    """Bytes of an element of either operand."""
    return DTYPES[kernel.kind].size if kernel.is_float else 1


def k_of_word(kernel: Contraction, isa: Isa) -> int:
    """How many k of a column lie side by side in the right matrix."""
    return (2 if kernel.in_pairs else 1) if kernel.is_float else isa.word


def word_bytes(kernel: Contraction, isa: Isa) -> int:
    """Bytes from one column to the next in a row of the right matrix."""
    return k_of_word(kernel, isa) * element_bytes(kernel)


@dataclass(frozen=True)
class Operands:
    """What a tile's function is given to compute its sums.

    `left` is the first row's place, or where the rows' places are listed. Cache lines from `ahead` on, one a word of k,
    are fetched meanwhile. `columns` are left from here on. `numbers`: strides of the left rows and of the right's k,
    the sizes of k's dims, their left strides; strides are in bytes. `panel`: columns of the packed right matrix.
    """

    left: Value
    right: Value
    ahead: Value
    start: Value
    columns: Value
    numbers: Sequence[Value]
    panel: int = TILE_COLUMNS


def number_count(kernel: Contraction) -> int:
    """How many `numbers` there are."""
    return 2 + 2 * len(kernel.k)


def emit_tile(
    module: Module,
    kernel: Contraction,
    height: int,
    vectors: int,
    masked: bool,
    stem: str = "tile",
    panel: int = TILE_COLUMNS,
) -> Value:
    """`void(left, right, ahead, start, scratch, columns, numbers…)`: fills the scratch tile with sums.

    A row of the scratch tile, and of an integer kernel's packed right matrix, has `panel` columns.
    """
    name = f"{stem}_{height}x{vectors}{'_masked' if masked else ''}"
    code = module.function(name, VOID, *[PTR] * 5, *[I64] * (1 + number_count(kernel)), internal=True)
    left, right, ahead, start, scratch, columns, *numbers = code.arguments
    sums = tile_sums(
        code, kernel, Operands(left, right, ahead, start, columns, numbers, panel), height, vectors, masked
    )
    pieces = len(sums) // height
    element = 8 if kernel.wide else 4
    for i, total in enumerate(sums):
        row, piece = divmod(i, pieces)
        place = row * panel + piece * (vectors * LANES // pieces)
        code.store(total.get(), code.at(scratch, place * element), align=32)
    code.ret()
    return code.function


def tile_sums(
    code: Code, kernel: Contraction, given: Operands, height: int, vectors: int, masked: bool
) -> list[Variable]:
    """The sums of a tile, row by row, each in as many registers as its `vectors` take."""
    size, rank = element_bytes(kernel), len(kernel.k)
    row_stride = _known(kernel.left.m[0], size, given.numbers[0])
    right_stride = _known(kernel.right.k, size, given.numbers[1])
    k = given.numbers[2:]
    sizes = [_known(extent, 1, number) for extent, number in zip(kernel.k, k[:rank], strict=True)]
    strides = [_known(stride, size, number) for stride, number in zip(kernel.left.k, k[rank:], strict=True)]
    if is_spaced(kernel):
        rows = [code.at(given.left, code.mul(row_stride, row)) for row in range(height)]
    else:
        rows = [code.load(PTR, code.at(given.left, ROW_WORDS * row), align=8) for row in range(height)]
    walk = _Walk(rows, given.right, sizes, strides)
    if kernel.in_pairs:
        return _pair_sums(code, walk, vectors)
    if kernel.is_float:
        masks = [code.lanes_below(code.sub(given.columns, LANES * j)) if masked else None for j in range(vectors)]
        return _float_sums(code, kernel, walk, right_stride, masks)
    return _int8_sums(code, kernel, walk, given, vectors)


def _known(size: Size, scale: int, given: Value) -> Value | int:
    """A size in units of `scale` as a number, where it is one, or as it was given."""
    return size * scale if isinstance(size, int) else given


@contextmanager
def _taps(code: Code, walk: _Walk) -> Iterator[tuple[Value | int, Value | int]]:
    """Loops over the outer dims of k: yields the tap's number, and how far its left elements lie from the first's."""
    with ExitStack() as stack:
        number: Value | int = 0
        offset: Value | int = 0
        for size, stride in zip(walk.sizes[:-1], walk.strides[:-1], strict=True):
            if isinstance(size, int) and size == 1:
                continue
            i = stack.enter_context(code.loop(0, size))
            number = code.add(code.mul(number, size), i)
            offset = code.add(offset, code.mul(i, stride))
        yield number, offset


def _int8_sums(code: Code, kernel: Contraction, walk: _Walk, given: Operands, vectors: int) -> list[Variable]:
    isa, ahead, start = code.module.isa, given.ahead, given.start
    height, run = len(walk.rows), walk.run
    pieces = vectors * LANES // isa.lanes
    # Sums begin with the zero point's share of each column, so that the epilogue need not subtract it.
    # Wide sums begin with it in 64 bits: there it may not fit 32.
    zero = code.constant(isa.sums, 0)
    starts = [zero if kernel.wide else code.load(isa.sums, code.at(start, 4 * isa.lanes * p)) for p in range(pieces)]
    sums = [code.variable(starts[p]) for _ in range(height) for p in range(pieces)]
    # s8 as u8, 128 higher; `start` takes the 128 back.
    flip = code.signed(isa.word_type, int.from_bytes(b"\x80" * isa.word, "little", signed=True))
    full = code.div(run, isa.word)
    words_a_run = code.div(code.add(run, isa.word - 1), isa.word)

    def step(tap: tuple[Value | int, Value | int], k_word: Value | int, word_at: Callable[[Value], Value]) -> None:
        number, offset = tap
        here = code.add(code.mul(number, words_a_run), k_word)
        weights_at = code.at(walk.right, code.mul(here, isa.word * given.panel))
        code.prefetch(code.at(ahead, code.mul(here, LINE_BYTES)))
        weights = [isa.weights(code, code.at(weights_at, isa.word * isa.lanes * p)) for p in range(pieces)]
        place = code.add(offset, code.mul(k_word, isa.word))
        for row, pointer in enumerate(walk.rows):
            word = word_at(code.at(pointer, place))
            if kernel.kind == "s8s8":
                word = code.b.xor(word, flip)
            activations = isa.spread(code, word)
            for p in range(pieces):
                total = sums[row * pieces + p]
                total.set(isa.dot(code, total.get(), activations, weights[p]))

    def whole(pointer: Value) -> Value:
        return code.load(isa.word_type, pointer)

    def words(tap: tuple[Value | int, Value | int], first: Value | int, last: Value | int) -> None:
        with code.loop(first, last) as word:
            step(tap, word, whole)

    def rest(tap: tuple[Value | int, Value | int]) -> None:
        """What of a run does not fill a word."""
        for count in range(1, isa.word):
            partial = rest_of_word(code, count)
            if isinstance(run, int):
                if run % isa.word == count:
                    step(tap, full, partial)
            else:
                with code.when(code.b.icmp_signed("==", code.i64(code.rem(run, isa.word)), code.i64(count))):
                    step(tap, full, partial)

    if not kernel.wide:
        with _taps(code, walk) as tap:
            # Beyond the run lie other bytes, but there the weights are 0.
            words(tap, 0, words_a_run if kernel.left.slack else full)
            if not kernel.left.slack:
                rest(tap)
        return sums
    wide = vector(I64, isa.lanes)
    wide_starts = [code.load(wide, code.at(start, 8 * isa.lanes * p)) for p in range(pieces)]
    wide_sums = [code.variable(wide_starts[p]) for _ in range(height) for p in range(pieces)]

    def flush() -> None:
        for narrow, total in zip(sums, wide_sums, strict=True):
            total.set(code.b.add(total.get(), code.b.sext(narrow.get(), wide)))
            narrow.set(zero)

    chunk_words = kernel.wide // isa.word
    with _taps(code, walk) as tap:
        with code.loop(0, full, chunk_words) as chunk:
            words(tap, chunk, code.minimum(full, code.add(chunk, chunk_words)))
            flush()
        rest(tap)
        flush()
    return wide_sums


def rest_of_word(code: Code, count: int) -> Callable[[Value], Value]:
    """Loads `count` bytes, never one beyond, as the low bytes of a word."""
    kind = code.module.isa.word_type

    def load(pointer: Value) -> Value:
        word = code.signed(kind, 0)
        for i in range(count):
            byte = code.b.zext(code.load(I8, code.at(pointer, i)), kind)
            word = code.b.or_(word, code.b.shl(byte, code.signed(kind, 8 * i)))
        return word

    return load


def _float_sums(
    code: Code, kernel: Contraction, walk: _Walk, right_stride: Value | int, masks: Sequence[Value | None]
) -> list[Variable]:
    height, vectors, size = len(walk.rows), len(masks), element_bytes(kernel)
    sums = [code.variable(code.constant(vector(F32), 0.0)) for _ in range(height * vectors)]
    with _taps(code, walk) as (number, offset), code.loop(0, walk.run) as i:
        here = code.add(code.mul(number, walk.run), i)
        if kernel.right.packed:
            at = code.at(walk.right, code.mul(here, size * TILE_COLUMNS))
            values = [load_panel(code, kernel.kind, code.at(at, size * LANES * j)) for j in range(vectors)]
        else:
            at = code.at(walk.right, code.mul(here, right_stride))
            values = [
                load_vector(code, kernel.kind, code.at(at, size * LANES * j), mask) for j, mask in enumerate(masks)
            ]
        place = code.add(offset, code.mul(i, walk.strides[-1]))
        for row, pointer in enumerate(walk.rows):
            broadcast = load_everywhere(code, kernel.kind, code.at(pointer, place))
            for j in range(vectors):
                total = sums[row * vectors + j]
                total.set(code.intrinsic("fma", broadcast, values[j], total.get()))
    return sums


def _pair_sums(code: Code, walk: _Walk, vectors: int) -> list[Variable]:
    """The sums of bf16, two k at a time; what is missing of a run's last pair is 0 on both sides."""
    isa, run = code.module.isa, walk.run
    sums = [code.variable(code.constant(vector(F32), 0.0)) for _ in range(len(walk.rows) * vectors)]
    full, pairs_a_run = code.div(run, 2), code.div(code.add(run, 1), 2)

    def step(tap: tuple[Value | int, Value | int], pair: Value | int, load: Callable[[Value], Value]) -> None:
        number, offset = tap
        here = code.add(code.mul(number, pairs_a_run), pair)
        at = code.at(walk.right, code.mul(here, 4 * TILE_COLUMNS))
        weights = [code.load(vector(I32), code.at(at, 64 * j), align=64) for j in range(vectors)]
        place = code.add(offset, code.mul(pair, 4))
        for row, pointer in enumerate(walk.rows):
            x = code.splat(load(code.at(pointer, place)))
            for j in range(vectors):
                total = sums[row * vectors + j]
                total.set(isa.add_pairs(code, total.get(), x, weights[j]))

    def whole(pointer: Value) -> Value:
        return code.load(I32, pointer)

    def half(pointer: Value) -> Value:
        return code.b.zext(code.load(I16, pointer), I32)

    with _taps(code, walk) as tap:
        with code.loop(0, full) as pair:
            step(tap, pair, whole)
        last = code.rem(run, 2)
        if not isinstance(last, int):
            with code.when(code.less(0, last)):
                step(tap, full, half)
        elif last:
            step(tap, full, half)
    return sums
