"""What this CPU can do at most: the integer dot product on registers alone, on one thread and on all.

python benchmarks/peak.py
"""

from __future__ import annotations

import time

import numpy as np

from lower86.codegen.builder import I8, I32, I64, LANES, PTR, VOID, Module, vector
from lower86.codegen.llvm import LoadedCode, object_code
from lower86.codegen.target import Target
from lower86.runtime.threads import default_threads, pool

_CHAINS = 24  # independent sums, as in the real tile: more than latency times rate
_ROUNDS = 20_000


def _dot_product_kernel() -> str:
    module = Module("peak")
    code = module.function("peak", VOID, PTR, I64)
    table, _ = code.arguments
    sums, data = vector(I32), vector(I8, 4 * LANES)
    dot4 = module.declare("llvm.x86.avx512.vpdpbusd.512", sums, sums, data, data)
    pointer = code.load(PTR, table, align=8)
    left, right = code.load(data, pointer), code.load(data, code.at(pointer, 64))
    chains = [code.variable(code.constant(sums, 0)) for _ in range(_CHAINS)]
    with code.loop(0, _ROUNDS):
        for chain in chains:
            chain.set(code.call(dot4, [chain.get(), left, right]))
    total = chains[0].get()
    for chain in chains[1:]:
        total = code.b.add(total, chain.get())
    code.store(total, code.at(pointer, 128))
    code.ret()
    return module.text()


def vnni_peak(threads: int, seconds: float = 1.0) -> float:
    """Multiply-accumulates a second of `vpdpbusd` on 512-bit registers: the best of `seconds` of short runs."""
    target = Target.host()
    loaded = LoadedCode([object_code(_dot_product_kernel(), target.cpu, target.features)])
    memory = np.ones(256, np.uint8)
    table = np.array([memory.ctypes.data], np.int64)
    steps = np.array([[loaded.address("peak"), table.ctypes.data, threads, 0]], np.int64)
    status = np.zeros(3, np.int64)
    best = float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        pool().run(steps.ctypes.data, 1, status.ctypes.data, threads)
        best = min(best, time.perf_counter() - start)
    return threads * _ROUNDS * _CHAINS * 4 * LANES / best


if __name__ == "__main__":
    for count in sorted({1, default_threads()}):
        print(f"vpdpbusd zmm, {count} threads: {vnni_peak(count) / 1e9:.0f} GMAC/s")
