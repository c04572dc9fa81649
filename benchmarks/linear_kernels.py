"""The int8 linear kernel by itself, as a share of the dot-product peak that the same run measures.

    python benchmarks/linear_kernels.py [--rows 128 16 1] [--sizes 384 768 1536 3072 4096] [--seconds 0.6] [--json FILE]

Each kernel has bias, scale and requantization to u8, and runs as the steps of a program do: on the pool, with all
threads. The time is that of one step out of a long row of equal steps.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time

import numpy as np
from json_output import add_json, write_json

from lower86.codegen.target import Target
from lower86.program.body import BodyBuilder
from lower86.program.kernels import Contraction, Left, Right
from lower86.program.program import Packing, Program, Step, Value
from lower86.report.peak import measured_peak
from lower86.runtime.executable import Executable
from lower86.runtime.threads import default_threads
from lower86.schedule.contractions import row_blocks


def linear_program(m: int, n: int, k: int, repeats: int) -> Program:
    """`repeats` times the same u8 x s8 linear of [m, k] and [n, k] with a u8 result."""
    body = BodyBuilder()
    total = body.add("value", (), "f32", (0,))
    scaled = body.add("mul", (total, body.add("load", (), "f32", (3, (0, 1)))), "f32")
    real = body.add("add", (scaled, body.add("load", (), "f32", (4, (0, 1)))), "f32")
    numbers = [body.add("param", (), "f32", (i,)) for i in range(4)]
    body.store(5, (n, 1), body.add("quantize", (real, *numbers), "u8"))
    kernel = Contraction(
        "u8s8", (), (m,), n, (k,), Left(0, (), (k,), (1,)), Right(1, (), packed=True), 2, 0, body.build(),
        row_blocks(m, n, k, 6, below=0, left=m * k),
    )  # fmt: skip
    random = np.random.default_rng(0)
    padded = -(-n // 64) * 64
    constants = (
        random.integers(-127, 128, (n, k), dtype=np.int8),
        np.zeros(padded, np.int32),
        np.full(n, 1e-5, np.float32),
        np.zeros(n, np.float32),
    )
    values = (
        Value("u8", (m, k), "input", 0),
        Value("i8", (n, k), "constant", 0),
        Value("i32", (padded,), "constant", 1),
        Value("f32", (n,), "constant", 2),
        Value("f32", (n,), "constant", 3),
        Value("u8", (m, n), "output", 0),
    )
    params = (("f32", 10.0), ("f32", 128.0), ("f32", 0.0), ("f32", 255.0))
    step = Step(0, tuple((i, 0) for i in range(6)), (), params, "linear")
    packings = (Packing("int8_panels"), Packing(), Packing(), Packing())
    return Program((), values, (0,), (5,), (kernel,), (step,) * repeats, 0, packings, constants)


def measure(m: int, n: int, k: int, threads: int, seconds: float) -> tuple[float, float]:
    """Minimum and median seconds of one linear, measured for about `seconds`."""
    repeats = max(4, int(3e8 / (m * n * k)))
    executable = Executable(linear_program(m, n, k, repeats), Target.host())
    random = np.random.default_rng(1)
    x, out = random.integers(0, 256, (m, k), dtype=np.uint8), np.empty((m, n), np.uint8)
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 10:
        start = time.perf_counter()
        executable.run([x.ctypes.data, out.ctypes.data], {}, threads)
        times.append((time.perf_counter() - start) / repeats)
    return min(times), statistics.median(times)


def main() -> None:
    """Prints a table; with --json also writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="+", type=int, default=[128, 16, 1])
    parser.add_argument("--sizes", nargs="+", type=int, default=[384, 768, 1536, 3072, 4096], help="of n and of k")
    parser.add_argument("--seconds", type=float, default=0.6, help="for each kernel")
    add_json(parser)
    options = parser.parse_args()
    threads = default_threads()
    rows = []
    for m, n, k in itertools.product(options.rows, options.sizes, options.sizes):
        peak = measured_peak(threads, seconds=options.seconds / 2)
        best, median = measure(m, n, k, threads, options.seconds)
        rate = m * n * k / median
        rows.append(
            {"m": m, "n": n, "k": k, "us": median * 1e6, "min_us": best * 1e6, "peak": peak, "share": rate / peak}
        )
        print(
            f"{m:4d} x {n:4d} x {k:4d}: {median * 1e6:8.1f} us (min {best * 1e6:8.1f})  {rate / 1e9:5.0f} GMAC/s, "
            f"{100 * rate / peak:5.1f} % of {peak / 1e9:.0f}",
            flush=True,
        )
    write_json(options.json, {"threads": threads, "rows": rows})


if __name__ == "__main__":
    main()
