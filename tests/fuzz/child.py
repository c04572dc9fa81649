"""Runs cases in a process of its own: within guard pages, in bounded time and memory; its death is somebody else's."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import math
import mmap
import multiprocessing
import os
import signal
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

import lower86
from lower86.artifact.load import opened
from lower86.codegen.target import Target
from lower86.errors import Lower86Error
from lower86.program.dtypes import DTYPES
from lower86.program.limits import Limits
from lower86.program.program import Program
from lower86.program.sizes import evaluate
from lower86.runtime.executable import Executable, bind_dims
from tests.fuzz.mutations import Case, Mutator
from tests.fuzz.sealed import sealed
from tests.fuzz.spending import Spending

LIMITS = Limits(memory=64 << 20, seconds=0.2)
"""What a call may take here: a case has a second."""
PATIENCE = 30.0
"""Seconds of the clock until a case counts as hanging, on a machine that may be busy."""

_LIBC = ctypes.CDLL(None, use_errno=True)
_PAGE = mmap.PAGESIZE


class Memory:
    """Buffers between pages that nobody may touch; each ends, or with `front` begins, at one."""

    def __init__(self, front: bool) -> None:
        self._front = front
        self._maps: list[tuple[mmap.mmap, int, int]] = []

    def allocate(self, size: int, alignment: int = 64) -> Any:
        """`size` bytes; up to 63 beyond them are free where both the beginning and the end are to be aligned."""
        pages = -(-max(size, 1) // _PAGE)
        memory = mmap.mmap(-1, (pages + 2) * _PAGE)
        base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for page in (0, pages + 1):
            _protect(base + page * _PAGE, _PAGE, 0)
        start = _PAGE if self._front else (pages + 1) * _PAGE - -(-size // alignment) * alignment
        self._maps.append((memory, base + _PAGE, pages * _PAGE))
        raw = (ctypes.c_uint8 * max(size, 1)).from_address(base + start)
        array = np.frombuffer(raw, np.uint8)[:size] if size else np.empty(0, np.uint8)
        return array if size else _Empty(base + start)

    def protect(self) -> None:
        """Nothing that has been allocated so far may be written any more."""
        for _, start, size in self._maps:
            _protect(start, size, mmap.PROT_READ)


class _Empty:
    """No bytes, somewhere: what stands for an array of none."""

    def __init__(self, address: int) -> None:
        self.ctypes = self
        self.data = address


def _protect(address: int, size: int, how: int) -> None:
    assert _LIBC.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), how) == 0


@dataclass
class Outcome:
    """`what` became of a case: refused, failed (an index out of range, too large), ran, or broken, and why."""

    what: str
    why: str


def run_case(mutator: Mutator, case: Case) -> Outcome:
    """Seals, reads, compiles and runs a case here; every fourth one also as users do, by `lower86.load`."""
    with tempfile.TemporaryFile() as file:  # without a name: nothing is left of it, however this process ends
        file.write(sealed(*mutator.apply(case)))
        file.flush()
        path = f"/proc/self/fd/{file.fileno()}"
        try:
            _, saved = opened(path)
            memory = Memory(front=bool(case.call % 2))
            executable = Executable(saved.program, Target.host(), limits=LIMITS, allocate=memory.allocate)
        except Lower86Error as error:
            return Outcome("refused", f"{error.what} at {error.where}")
        try:
            _call(saved.program, executable, memory, case.call)
            if case.call % 4 == 0:
                _call_loaded(path, case.call)
        except Lower86Error as error:
            return Outcome("failed", f"{error.what} at {error.where}")
    return Outcome("ran", "")


def _call_loaded(path: str, seed: int) -> None:
    loaded = lower86.load(path, limits=LIMITS)
    program, rng = loaded.program, np.random.default_rng(seed)
    dims = _dims(program, rng)
    arrays = []
    for number in program.inputs:
        value = program.values[number]
        shape = [evaluate(size, dims) for size in value.shape]
        if any(size < 0 for size in shape) or math.prod(shape) > LIMITS.memory // 8:
            return
        arrays.append(rng.integers(0, 2, shape).astype(DTYPES[value.dtype].numpy))
    loaded(*arrays)


def _dims(program: Program, rng: np.random.Generator) -> dict[str, int]:
    dims = {dim.name: max(dim.low, int(rng.integers(0, 9))) for dim in program.dims}
    with contextlib.suppress(ZeroDivisionError):
        shapes = [[evaluate(size, dims) for size in program.values[v].shape] for v in program.inputs]
        return bind_dims(program, shapes, [f"input{i}" for i in range(len(shapes))])
    return dims


def _call(program: Program, executable: Executable, memory: Memory, seed: int) -> None:
    memory.protect()  # of its constants
    rng = np.random.default_rng(seed)
    dims = _dims(program, rng)
    executable.admit(dims)
    addresses = []
    for number in program.inputs:
        value = program.values[number]
        size = int(np.prod([evaluate(s, dims) for s in value.shape], dtype=object)) * DTYPES[value.dtype].size
        if size > LIMITS.memory:
            return  # inputs are the caller's: nobody passes so much
        buffer = memory.allocate(size, 1)
        if size:
            kind, count = DTYPES[value.dtype].numpy, size // DTYPES[value.dtype].size
            numbers = rng.standard_normal(count) if kind.kind == "f" else rng.integers(0, 5, count)
            buffer[:] = np.ascontiguousarray(numbers.astype(kind)).view(np.uint8)
            if seed % 5 == 0:
                buffer[rng.integers(0, size, 3)] = 255
        addresses.append(buffer.ctypes.data)
    memory.protect()
    for number in [*program.outputs, *(state.value for state in program.states)]:
        value = program.values[number]
        size = int(np.prod([evaluate(s, dims) for s in value.shape], dtype=object)) * DTYPES[value.dtype].size
        addresses.append(memory.allocate(size, 1).ctypes.data)
    for threads in (1, 2)[: 1 + (seed % 3 == 0)]:
        executable.run(addresses, dims, threads)


def measured(mutator: Mutator, case: Case) -> Outcome:
    """As `run_case`; any other exception, and what takes too long or too much memory, is a broken case."""
    with Spending() as spent:
        try:
            outcome = run_case(mutator, case)
        except Exception:  # whatever it is: this is what the fuzzer looks for
            outcome = Outcome("broken", traceback.format_exc())
    return Outcome("broken", f"{spent}: {outcome.what} {outcome.why}") if spent.is_too_much else outcome


class Child:
    """A process that runs cases, and another one when that has died."""

    def __init__(self, mutator: Mutator) -> None:
        self._mutator = mutator
        self._process: Any = None

    def run(self, case: Case) -> Outcome:
        """What became of the case; a process that dies or hangs is a broken one."""
        if self._process is None:
            self._start()
        before, idle = int(self._stat()[11]), 0
        self._pipe.send(case)
        try:
            for _ in range(20):
                if self._pipe.poll(PATIENCE):
                    outcome: Outcome = self._pipe.recv()
                    return outcome
                # It waits for something, or works on; else others have the CPUs, or somebody has stopped it. Where both
                # were stopped, the first look comes before it can have gone on.
                idle += self._stat()[0] not in "RTt"
                if idle > 1 or int(self._stat()[11]) - before > PATIENCE * 50:
                    break
            why = f"hangs for {PATIENCE} s\n{self._whereabouts()}"
        except (EOFError, ConnectionError):
            self._process.join()
            why = f"dies with exit code {self._process.exitcode}"
        self.stop()
        return Outcome("broken", why)

    def _stat(self) -> list[str]:
        """The child's state, and more: see proc(5)."""
        with open(f"/proc/{self._process.pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()

    def _whereabouts(self) -> str:
        """What the child is doing: its state, the CPU time it has had, and where its threads are."""
        os.kill(self._process.pid, signal.SIGUSR1)
        time.sleep(0.5)
        fields = self._stat()
        self._trace.seek(0)
        return f"state {fields[0]}, {fields[11]} + {fields[12]} ticks\n{self._trace.read()}"

    def _start(self) -> None:
        self._trace = tempfile.TemporaryFile("w+")  # noqa: SIM115 -- it lives as long as the process
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(self._mutator, theirs, self._trace), daemon=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python's, about forking with threads
            self._process.start()
        theirs.close()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._pipe.close()
            self._trace.close()
            self._process = None


def _serve(mutator: Mutator, pipe: Any, trace: Any) -> None:
    faulthandler.disable()
    faulthandler.register(signal.SIGUSR1, file=trace)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)  # what LLVM says before it ends the process
    gc.freeze()
    for number in range(1 << 40):
        case = pipe.recv()
        pipe.send(measured(mutator, case))
        if number % 64 == 0:
            gc.collect()
