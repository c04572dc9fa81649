"""The closed vocabulary of kernels: everything generated code can do, as frozen data.

A kernel says nothing of where its buffers lie: a step binds its slots, dims and params. Two steps with equal kernels
share machine code. Every kernel splits its work into independent units that threads take one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

from .body import Body
from .dtypes import DTYPES
from .sizes import Size, ceil_div, product

TILE_COLUMNS = 64
"""Columns of a contraction's register tile: four vectors of 16."""
TILE_ROWS = 6
"""Most rows of a contraction's register tile: 6 x 4 accumulators, 4 weights, 1 activation of 32 registers."""


@dataclass(frozen=True)
class Pointwise:
    """`body` at every point of `sizes`; lanes run along the last dim. A unit is `rows` rows by `chunk` columns."""

    sizes: tuple[Size, ...]
    body: Body
    rows: int
    chunk: int

    def units(self) -> Size:
        return ceil_div(product(self.sizes[:-1]), self.rows) * ceil_div(self.sizes[-1], self.chunk)


@dataclass(frozen=True)
class Interleave:
    """As `Pointwise`, for a last dim of a few elements: every store goes through it and the dim before without a gap.

    Lanes run along the second last dim. A unit is `rows` rows of that.
    """

    sizes: tuple[Size, ...]
    body: Body
    rows: int

    def units(self) -> Size:
        return ceil_div(product(self.sizes[:-2]), self.rows)


@dataclass(frozen=True)
class Reduction:
    """`kind` (sum, prod, max, min, any, all) of body node `node` over the reduced dims: `value` number `number`."""

    kind: str
    node: int


ROW_BYTES = 1 << 15
"""Bytes of a row's intermediate results that a row kernel may write down, to read them back in a later pass."""


@dataclass(frozen=True)
class Rows:
    """Reductions over `reduced` for every point of `kept`, each free to use the earlier ones' results, then the stores.

    Body dims are `kept` then `reduced`. Lanes run along the last reduced dim, or with `vertical` along the last kept
    one. A store whose strides stop at `kept` is made once a row. A unit is `rows` rows.
    """

    kept: tuple[Size, ...]
    reduced: tuple[Size, ...]
    vertical: bool
    reductions: tuple[Reduction, ...]
    body: Body
    rows: int

    def units(self) -> Size:
        rows = product(self.kept[:-1] if self.vertical else self.kept)
        return ceil_div(rows, self.rows)


@dataclass(frozen=True)
class Left:
    """How a contraction reads its left operand: `slot`, and element strides of its batch, m and k dims.

    For int8 the last k stride is 1. `slack`: up to a word beyond a run of the last k dim may be read.
    """

    slot: int
    batch: tuple[Size, ...]
    m: tuple[Size, ...]
    k: tuple[Size, ...]
    slack: bool = False


@dataclass(frozen=True)
class Right:
    """How a contraction reads its right operand: `slot`, and element strides of its batch dims and of k; n has 1.

    Or, when `packed`, as panels of 64 columns, [n/64][k…/word][64][word] bytes for int8 with each run of the last k dim
    in words of its own, [n/64][k/2][64][2] for bf16, where a run's left elements lie next to each other, [n/64][k][64]
    for other floats: then the batch strides count panels, and k has none.
    """

    slot: int
    batch: tuple[Size, ...]
    k: Size = 0
    packed: bool = False


@dataclass(frozen=True)
class Contraction:
    """`value 0` = Σ_k left[m, k]·right[k, n] for every point of `batch` x m x n, then `body` over (batch…, m…, n).

    m and k may be several dims: rows of a convolution are its output points, a sum runs over its taps and channels.
    `kind` is "u8s8" or "s8s8" (int8; slot `start` holds an int32 a column, for whole panels, that the sum starts with,
    and the value is the exact sum, as float32 or, if the body asks for it, as the integer) or the dtype of both
    operands, "f32", "bf16" or "f16", whose products are summed in float32. `wide`: 0, or after how many k the int32
    sums move to 64 bits, with an int64 `start`; k is one dim then. A unit is one panel of 64 columns by one of `blocks`
    blocks of rows, each of equally many register tiles. Neighbours have the same rows or, where there are fewer rows
    than `columns_below`, the same columns.
    """

    kind: str
    batch: tuple[Size, ...]
    m: tuple[Size, ...]
    n: Size
    k: tuple[Size, ...]
    left: Left
    right: Right
    start: int
    wide: int
    body: Body
    blocks: Size
    columns_below: int = 0

    @property
    def is_float(self) -> bool:
        return self.kind in DTYPES

    @property
    def in_pairs(self) -> bool:
        """Whether two k of a row and of a column are multiplied and added together, the second one first."""
        return self.kind == "bf16" and self.right.packed

    def macs(self) -> Size:
        """Multiply-accumulates."""
        return product(self.batch) * product(self.m) * product(self.k) * self.n

    def units(self) -> Size:
        return product(self.batch) * self.blocks * ceil_div(self.n, TILE_COLUMNS)

    @property
    def tiles(self) -> Size:
        """Register tiles of a block."""
        return ceil_div(ceil_div(product(self.m), self.tile_rows), self.blocks)

    @property
    def tile_count(self) -> Size:
        """Register tiles of a panel; where m varies, some may have no row."""
        tiles, rows = self.blocks * self.tiles, product(self.m)
        return min(tiles, rows) if isinstance(tiles, int) and isinstance(rows, int) else tiles

    @property
    def tile_rows(self) -> int:
        """Most rows a register tile holds; wide sums take twice the registers again."""
        return 2 if self.wide else TILE_ROWS


DEPTHWISE_CHANNELS = 64
"""Channels of a depthwise unit: a cache line of int8."""


@dataclass(frozen=True)
class Depthwise:
    """`value 0` = Σ_t left[m…, t…, c]·weight[t…, c] for every point of `m` and channel c, then `body` over (m…, c).

    `left.k` are the strides of the taps' dims; its channels lie next to each other. Slot `weight` holds the weights as
    `runtime.packing` lays them out for the CPU, those of floats in float32, slot `start` what the sums of int8 begin
    with, an int32 a channel, to whole vectors. `kind` as in contractions. A unit is up to `rows` rows of the last m dim
    by 64 channels.
    """

    kind: str
    m: tuple[Size, ...]
    channels: int
    taps: tuple[int, ...]
    left: Left
    weight: int
    start: int
    body: Body
    rows: int

    @property
    def is_float(self) -> bool:
        return self.kind in DTYPES

    def macs(self) -> Size:
        """Multiply-accumulates."""
        return product(self.m) * self.channels * product(self.taps)

    def units(self) -> Size:
        return self.blocks * ceil_div(self.channels, DEPTHWISE_CHANNELS)

    @property
    def shares_columns(self) -> bool:
        """Whether an output's second element of x, in each row of taps, is the next output's first."""
        return self.left.m[-1] == self.left.k[-1]

    @property
    def blocks(self) -> Size:
        """Units that share a group of channels, each of as many rows as the others, or one less."""
        return ceil_div(product(self.m[:-1]), self.rows)


@dataclass(frozen=True)
class IntegerProducts:
    """Dtypes, "u8" or "i8", of an attention's operands where its products are integer ones."""

    query: str
    key: str
    value: str


@dataclass(frozen=True)
class Attention:
    """`value 0` = softmax(scale·q·kᵀ + mask)·v for every point of (batch, heads, queries, head_dim), then `body`.

    q, k, v are slots 0, 1, 2 with element strides (batch, head, row); their last dim is contiguous. `mask` is a body
    over (batch, heads, queries, keys) whose node `mask_node` is f32 (added) or bool (False: the key is left out), or
    None. `causal`: key j counts for query i only if j <= i. `scale` is param 0. `groups`: query heads that share one
    key head. `dtype` is that of q, k and v. With `integers`, params 1 to 7 quantize (see `ATTENTION_PARAMS`). A unit is
    up to 64 queries of one head.
    """

    batch: Size
    heads: Size
    queries: Size
    keys: Size
    head_dim: int
    value_dim: int
    q: tuple[Size, Size, Size]
    k: tuple[Size, Size, Size]
    v: tuple[Size, Size, Size]
    groups: int
    causal: bool
    mask: Body | None
    mask_node: int
    body: Body
    integers: IntegerProducts | None = None
    dtype: str = "f32"

    def macs(self) -> Size:
        """Multiply-accumulates."""
        return self.batch * self.heads * self.queries * self.keys * (self.head_dim + self.value_dim)

    def units(self) -> Size:
        return self.batch * self.heads * ceil_div(self.queries, TILE_COLUMNS)


ATTENTION_PARAMS = (
    "score_scale",
    "query_zero_point",
    "key_zero_point",
    "value_zero_point",
    "weight_zero_point",
    "inverse_weight_scale",
    "most_weight",
    "scale",
)
"""The params of attention on integers, by number: scales are f32, the others i32.

Zero points are those of s8 queries and weights, of u8 keys and values, whatever the dtypes: an s8 is the u8 128 higher.
`most_weight` is the weights' highest integer, as u8."""


@dataclass(frozen=True)
class RowSums:
    """Rows of `k` elements that lie next to each other, at every point of `sizes`, to be added up; "u8" or "i8"."""

    sizes: tuple[Size, ...]
    strides: tuple[Size, ...]
    dtype: str


PACKED_ROWS = 32
"""Rows that a unit of `Pack` adds up."""


@dataclass(frozen=True)
class Pack:
    """An activation as the right operand of int8 contractions: panels, and what their columns' sums begin with.

    Slot 0 holds elements (batch…, k, n) of `dtype`, "u8" or "i8", with these strides, of which k's or n's is 1. Slot 1
    gets panels [batch…][n/64][k/word][64][word] of i8, where a u8 is 128 lower, slot 2 the start of each panel's
    columns, i32 or, if `wide`, i64. With `rows`, slot 3 holds the left operand, and slot 4 gets what comes off the sums
    of each of its rows. Params 0 and 1 are the zero points, of the left operand as u8, of the right one as i8. A unit
    is a panel, or some rows.
    """

    batch: tuple[Size, ...]
    k: Size
    n: Size
    strides: tuple[Size, ...]
    dtype: str
    wide: bool
    rows: RowSums | None = None

    def units(self) -> Size:
        rows = ceil_div(product(self.rows.sizes), PACKED_ROWS) if self.rows is not None else 0
        return self.panels + rows

    @property
    def panels(self) -> Size:
        """All panels of all batches."""
        return product(self.batch) * ceil_div(self.n, TILE_COLUMNS)


@dataclass(frozen=True)
class Band:
    """Elements `offset` + Σ index·stride of a buffer, and as many after each as the last size says."""

    offset: Size
    shape: tuple[Size, ...]
    strides: tuple[Size, ...]


@dataclass(frozen=True)
class Fill:
    """Param 0 at every element of some bands of slot `slot`, a buffer of `elements`; nothing if that is 0. One unit."""

    slot: int
    dtype: str
    elements: Size
    bands: tuple[Band, ...]

    def units(self) -> Size:
        return 1


Kernel = Pointwise | Interleave | Rows | Contraction | Depthwise | Attention | Pack | Fill
KINDS = (Pointwise, Interleave, Rows, Contraction, Depthwise, Attention, Pack, Fill)
