"""What this machine can do at most: products on registers alone, of int8 and of float32, and reading memory."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from ..codegen.builder import F32, I8, I64, PTR, VOID, Module, vector
from ..codegen.isa import ISAS, Isa
from ..codegen.llvm import LoadedCode, object_code
from ..codegen.target import Target
from ..runtime.threads import default_threads, pool

_CHAINS = 24
"""Independent sums, as in a register tile: more than latency times rate."""
_ROUNDS = 20_000
_READ_BYTES, _BLOCK_BYTES = 1 << 28, 1 << 20
"""More than any cache holds, and a unit's part of it."""


def measured_peak(threads: int | None = None, *, target: Target | None = None, seconds: float = 1.0) -> float:
    """Multiply-accumulates a second of the target's int8 dot product: the best of `seconds` of short runs."""
    threads, target = threads or default_threads(), target or Target.host()
    isa = ISAS[target.level]
    best = _best(_dot_products(isa), target, np.ones(256, np.uint8), threads, threads, seconds)
    return threads * _ROUNDS * _chains(isa) * isa.word * isa.lanes / best


def measured_f32_peak(threads: int | None = None, *, target: Target | None = None, seconds: float = 1.0) -> float:
    """Multiply-accumulates a second of the target's fused multiply-add of float32: the best of `seconds` of runs."""
    threads, target = threads or default_threads(), target or Target.host()
    isa = ISAS[target.level]
    memory = np.ones(64, np.float32).view(np.uint8)
    best = _best(_multiply_adds(isa), target, memory, threads, threads, seconds)
    return threads * _ROUNDS * _chains(isa) * isa.lanes / best


def measured_bandwidth(threads: int | None = None, *, target: Target | None = None, seconds: float = 1.0) -> float:
    """Bytes a second that `threads` read from memory together, one after the other: the best of `seconds` of runs."""
    threads, target = threads or default_threads(), target or Target.host()
    memory = np.ones(_READ_BYTES, np.uint8)  # written, so that there are pages behind all of it
    best = _best(_reading(ISAS[target.level]), target, memory, _READ_BYTES // _BLOCK_BYTES, threads, seconds)
    return _READ_BYTES / best


def _best(text: str, target: Target, memory: npt.NDArray[np.uint8], units: int, threads: int, seconds: float) -> float:
    """The least seconds that all units of the kernel `peak` take."""
    loaded = LoadedCode([object_code(text, target.cpu, target.features)])
    pool().serve(loaded)
    table = np.array([memory.ctypes.data], np.int64)
    steps = np.array([[loaded.address("peak"), table.ctypes.data, units, 0]], np.int64)
    status = np.zeros(3, np.int64)
    best = float("inf")
    end = time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < end:
        start = time.perf_counter()
        pool().run(steps.ctypes.data, 1, status.ctypes.data, threads)
        best = min(best, time.perf_counter() - start)
    return best


def _reading(isa: Isa) -> str:
    """A unit sums up its block, eight lines at a time."""
    module = Module("peak", isa)
    code = module.function("peak", VOID, PTR, I64)
    table, unit = code.arguments
    block = code.at(code.load(PTR, table, align=8), code.mul(unit, _BLOCK_BYTES))
    kind = vector(I8, 64)
    totals = [code.variable(code.constant(kind, 0)) for _ in range(8)]
    with code.loop(0, _BLOCK_BYTES // 512) as i:
        for line, total in enumerate(totals):
            place = code.at(block, code.add(code.mul(i, 512), 64 * line))
            total.set(code.b.add(total.get(), code.load(kind, place)))
    sum_ = totals[0].get()
    for total in totals[1:]:
        sum_ = code.b.add(sum_, total.get())
    code.store(sum_, block)  # or nothing would have to be read
    code.ret()
    return module.text()


def _chains(isa: Isa) -> int:
    """Half the registers where there are 16, so that the operands find room beside the sums."""
    return _CHAINS if isa.lanes == 16 else _CHAINS // 2


def _dot_products(isa: Isa) -> str:
    module = Module("peak", isa)
    code = module.function("peak", VOID, PTR, I64)
    table, _ = code.arguments
    pointer = code.load(PTR, table, align=8)
    left = isa.spread(code, code.load(isa.word_type, pointer))
    right = isa.weights(code, code.at(pointer, 64))
    chains = [code.variable(code.constant(isa.sums, 0)) for _ in range(_chains(isa))]
    with code.loop(0, _ROUNDS):
        for chain in chains:
            chain.set(isa.dot(code, chain.get(), left, right))
    total = chains[0].get()
    for chain in chains[1:]:
        total = code.b.add(total, chain.get())
    code.store(code.b.bitcast(total, vector(I8, 4 * isa.lanes)), code.at(pointer, 128))
    code.ret()
    return module.text()


def _multiply_adds(isa: Isa) -> str:
    module = Module("peak", isa)
    code = module.function("peak", VOID, PTR, I64)
    table, _ = code.arguments
    pointer, kind = code.load(PTR, table, align=8), vector(F32, isa.lanes)
    left, right = code.load(kind, pointer), code.load(kind, code.at(pointer, 64))
    chains = [code.variable(code.constant(kind, 0)) for _ in range(_chains(isa))]
    with code.loop(0, _ROUNDS):
        for chain in chains:
            chain.set(code.intrinsic("fma", left, right, chain.get()))
    total = chains[0].get()
    for chain in chains[1:]:
        total = code.b.fadd(total, chain.get())
    code.store(total, code.at(pointer, 128))
    code.ret()
    return module.text()
