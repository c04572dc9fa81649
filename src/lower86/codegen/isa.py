"""What the instruction set decides: the integer dot product, and how many sums fit the registers.

Everything else is written on vectors of 16 lanes that LLVM splits to the width there is. The dot product is not: each
set has its own instruction, and with it its own order of the packed weights.

    avx512_vnni   vpdpbusd zmm                                   words of 4 k, 16 columns an instruction
    avx_vnni      vpdpbusd ymm                                   words of 4 k, 8 columns
    avx2          vpmovsxbw, vpmovzxbw, vpmaddwd, vpaddd ymm     words of 2 k, 8 columns; exact, unlike vpmaddubsw
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .builder import I8, I16, I32, Code, Type, Value, vector


@dataclass(frozen=True)
class Isa:
    """One instruction set.

    `lanes`: columns that one dot product instruction adds to. `word`: how many k it takes at once. `vectors`: vectors
    of 16 columns whose sums a register tile of 6 rows can hold.
    """

    name: str
    lanes: int
    word: int
    vectors: int

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
        values = code.load(vector(I8, self.word * self.lanes), pointer, align=16)
        return values if self.word == 4 else code.b.sext(values, vector(I16, 2 * self.lanes))

    def dot(self, code: Code, sums: Value, activations: Value, weights: Value) -> Value:
        """`sums` plus, for every column, the dot product of a word of activations with a word of weights. Exact."""
        if self.word == 4:
            name = f"llvm.x86.avx512.vpdpbusd.{32 * self.lanes}"
            function = code.module.declare(name, self.sums, self.sums, weights.type, weights.type)
            return code.call(function, [sums, activations, weights])
        madd = code.module.declare("llvm.x86.avx2.pmadd.wd", self.sums, weights.type, weights.type)
        return code.b.add(sums, code.call(madd, [activations, weights]))


ISAS: Mapping[str, Isa] = {
    isa.name: isa
    for isa in (
        Isa("avx512_vnni", lanes=16, word=4, vectors=4),
        Isa("avx_vnni", lanes=8, word=4, vectors=1),
        Isa("avx2", lanes=8, word=2, vectors=1),
    )
}
"""By the name of the target's level."""
