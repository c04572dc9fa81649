"""What the instruction set decides: the integer dot product, and how many sums fit the registers.

Everything else is written on vectors of 16 lanes that LLVM splits to the width there is. The dot product is not: each
set has its own instruction, and with it its own order of the packed weights.

    avx512_vnni   vpdpbusd zmm                                   words of 4 k, 16 columns an instruction
    avx_vnni      vpdpbusd ymm                                   words of 4 k, 8 columns
    avx2          vpmovsxbw, vpmovzxbw, vpmaddwd, vpaddd ymm     words of 2 k, 8 columns; exact, unlike vpmaddubsw

Pairs of bf16 are multiplied by vdpbf16ps zmm where the CPU has it, and else by what it does: two fused multiply-adds,
the second k first. The results are the same to the bit, but for denormal numbers, which the instruction takes for 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .builder import BF16, F32, I8, I16, I32, LANES, Code, Type, Value, is_vector, vector
from .storage import lower_halves, upper_halves


@dataclass(frozen=True)
class Isa:
    """One instruction set.

    `lanes`: columns that one dot product instruction adds to. `word`: how many k it takes at once. `vectors`: vectors
    of 16 columns whose sums a register tile of 6 rows can hold. `bf16_dots`: whether the CPU multiplies pairs of bf16.
    """

    name: str
    lanes: int
    word: int
    vectors: int
    bf16_dots: bool = False

    @property
    def word_type(self) -> Type:
        """An integer of `word` bytes."""
        return I32 if self.word == 4 else I16

    @property
    def sums(self) -> Type:
        """The vector of sums that one instruction adds to."""
        return vector(I32, self.lanes)

    def spread(self, code: Code, word: Value) -> Value:
        """A word of u8 activations, once for every column, as the dot product wants it."""
        if self.word == 4:
            return code.b.bitcast(code.splat(word, self.lanes), vector(I8, 4 * self.lanes))
        pairs = code.b.bitcast(code.splat(word, self.lanes), vector(I8, 2 * self.lanes))
        return code.b.zext(pairs, vector(I16, 2 * self.lanes))

    def weights(self, code: Code, pointer: Value) -> Value:
        """The words of `lanes` columns, from `lanes · word` bytes at `pointer`."""
        return self.weights_of(code, code.load(vector(I8, self.word * self.lanes), pointer, align=16))

    def weights_of(self, code: Code, values: Value) -> Value:
        """`lanes` words of s8 as the dot product wants them."""
        return values if self.word == 4 else code.b.sext(values, vector(I16, 2 * self.lanes))

    def activations_of(self, code: Code, values: Value) -> Value:
        """`lanes` words of u8 as the dot product wants them."""
        return values if self.word == 4 else code.b.zext(values, vector(I16, 2 * self.lanes))

    def dot(self, code: Code, sums: Value, activations: Value, weights: Value) -> Value:
        """`sums` plus, for every column, the dot product of a word of activations with a word of weights. Exact."""
        if self.word == 4:
            name = f"llvm.x86.avx512.vpdpbusd.{32 * self.lanes}"
            function = code.module.declare(name, self.sums, self.sums, weights.type, weights.type)
            return code.call(function, [sums, activations, weights])
        madd = code.module.declare("llvm.x86.avx2.pmadd.wd", self.sums, weights.type, weights.type)
        return code.b.add(sums, code.call(madd, [activations, weights]))

    def add_pairs(self, code: Code, sums: Value, x: Value, weights: Value) -> Value:
        """16 sums plus the products of pairs of bf16, which are 32 bits each: the upper ones, then the lower ones."""
        if self.bf16_dots:
            pairs = vector(BF16, 2 * LANES)
            dot = code.module.declare("llvm.x86.avx512bf16.dpbf16ps.512", sums.type, sums.type, pairs, pairs)
            return code.call(dot, [sums, code.b.bitcast(x, pairs), code.b.bitcast(weights, pairs)])
        for half in (upper_halves, lower_halves):
            sums = code.intrinsic("fma", half(code, x), half(code, weights), sums)
        return sums

    @property
    def wide(self) -> bool:
        """Whether one register holds 16 sums: then bytes of 64 channels or columns are handled together."""
        return self.lanes == LANES

    def packed(self, code: Code, values: Sequence[Value], zero: Value, dtype: str) -> Value:
        """Two to four vectors of i32, plus an i32 each, as one of u8 or i8, saturated; what is beyond is undefined.

        Saturated to 16 bits first: 8 bits and any zero point still saturate from there as they should.
        """
        pairs = [list(values[i : i + 2]) * 2 for i in range(0, len(values), 2)] * 2
        words = [self._narrowed(code, "packssdw", I16, first, second) for first, second, *_ in pairs[:2]]
        if not code.is_zero(zero):
            shift = code.splat(code.b.trunc(zero, I16), 2 * LANES)
            words = [code.intrinsic("sadd.sat", word, shift) for word in words]
        narrow = self._narrowed(code, "packuswb" if dtype == "u8" else "packsswb", I8, *words)
        # Each quarter of the result holds a word of four bytes of every vector.
        apart = code.b.bitcast(narrow, vector(I32))
        whole = code.shuffled(apart, [LANES // 4 * (i % 4) + i // 4 for i in range(LANES)])
        return code.b.bitcast(whole, vector(I8, 4 * LANES))

    def byte_words(self, code: Code, values: Sequence[Value], most: Value) -> Value:
        """A word of s8 for each of 16 lanes, a byte from each of `word` vectors of i32, which hold u8, 128 higher.

        Saturated at 0 and at `most`, an i32 in all lanes.
        """
        if not self.wide:
            whole: Value = None
            for i, value in enumerate(values):
                value = code.intrinsic("smax", code.intrinsic("smin", value, most), code.constant(value.type, 0))
                value = code.b.shl(code.b.xor(value, code.constant(value.type, 128)), code.constant(value.type, 8 * i))
                whole = value if whole is None else code.b.or_(whole, value)
            return code.b.trunc(whole, vector(self.word_type))
        low, high = (self._narrowed(code, "packssdw", I16, *values[i : i + 2]) for i in (0, 2))
        narrow = self._narrowed(code, "packuswb", I8, low, high)
        bytes_ = code.b.bitcast(code.b.mul(most, code.constant(most.type, 0x01010101)), narrow.type)
        narrow = code.b.xor(code.intrinsic("umin", narrow, bytes_), code.constant(narrow.type, 128))
        # Each quarter of the result holds a word of four bytes of every vector.
        order = [16 * quarter + 4 * i + lane for quarter in range(4) for lane in range(4) for i in range(4)]
        return code.shuffled(narrow, order)

    def sixteenth(self, code: Code, table: Sequence[float], index: Value) -> Value:
        """Of 16 float32, for each i32, a lane or a scalar, the one that its lowest four bits count to."""
        values = code.vector_of(F32, table)
        if not is_vector(index):
            return code.b.extract_element(values, code.b.and_(index, code.i32(15)))
        if self.wide:
            permute = code.module.declare("llvm.x86.avx512.permvar.sf.512", values.type, values.type, index.type)
            return code.call(permute, [values, index])
        half = vector(F32, LANES // 2)
        permute = code.module.declare("llvm.x86.avx2.permps", half, half, vector(I32, LANES // 2))
        low, high = (code.vector_of(F32, table[first : first + LANES // 2]) for first in (0, LANES // 2))
        pieces = []
        for first in (0, LANES // 2):
            part = code.part(index, first, LANES // 2)
            # The fourth bit, as the sign that a blend chooses by.
            upper = code.b.icmp_signed("<", code.b.shl(part, code.constant(part.type, 28)), code.constant(part.type, 0))
            pieces.append(code.b.select(upper, code.call(permute, [high, part]), code.call(permute, [low, part])))
        return code.joined(*pieces)

    def _narrowed(self, code: Code, name: str, element: Type, low: Value, high: Value) -> Value:
        kind = vector(element, 2 * low.type.count)
        return code.call(code.module.declare(f"llvm.x86.avx512.{name}.512", kind, low.type, low.type), [low, high])

    def multiply_add(self, code: Code, sums: Value, x: Value, weight: Value) -> Value:
        """`sums` plus x · weight in 16 lanes of 32 bits, where both fit 9. Exact.

        As a product of pairs of 16 bits: the upper one of the weight is 0 (see `runtime.packing`), so only the lower
        ones count.
        """
        pairs = vector(I16, 2 * self.lanes)
        madd = code.module.declare("llvm.x86.avx2.pmadd.wd", self.sums, pairs, pairs)
        halves = [code.part(v, first, self.lanes) for v in (x, weight) for first in (0, self.lanes)]
        low_x, high_x, low_w, high_w = (code.b.bitcast(half, pairs) for half in halves)
        products = code.call(madd, [low_x, low_w]), code.call(madd, [high_x, high_w])
        return code.b.add(sums, code.joined(*products))


ISAS: Mapping[str, Isa] = {
    isa.name: isa
    for isa in (
        Isa("avx512_vnni", lanes=16, word=4, vectors=4),
        Isa("avx_vnni", lanes=8, word=4, vectors=1),
        Isa("avx2", lanes=8, word=2, vectors=1),
    )
}
"""By the name of the target's level."""
