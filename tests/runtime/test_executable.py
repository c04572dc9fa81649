"""Whole programs: calls from several threads, across a fork, any number of threads, saved and read back as JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
import threading
import time
import warnings
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import lower86
from lower86.program.decode import program_from_json
from lower86.runtime.executable import WAITING_BYTES, WAITING_SIZES, Executable, bind_dims
from lower86.runtime.packing import aligned
from lower86.runtime.threads import Pool

TARGET = lower86.Target.host()


class Block(nn.Module):
    """An attention layer over gathered embeddings: every kind of kernel, and one foreign step."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 48)
        self.layer = nn.TransformerEncoderLayer(48, 3, 80, batch_first=True)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.layer(self.table(tokens))
        return torch.flip(x, [1]).sum(1) + x.mean(1)


@pytest.fixture(scope="module")
def lowered() -> lower86.LoweredModule:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lower86.Lower86Warning)
        return lower86.lower_pt2e_quantized_to_x86(Block().eval(), (torch.arange(40).reshape(2, 20),))


def tokens(seed: int) -> torch.Tensor:
    return torch.randint(0, 50, (2, 20), generator=torch.Generator().manual_seed(seed))


def test_result_matches_the_reference_and_outlives_the_next_call(lowered: lower86.LoweredModule) -> None:
    first = lowered(tokens(1))
    kept = first.clone()
    second = lowered(tokens(2))
    assert torch.equal(first, kept)
    assert not torch.equal(first, second)
    torch.testing.assert_close(first, lowered.run_reference(tokens(1)), rtol=1e-5, atol=1e-5)


def test_calls_from_many_threads_are_those_of_one(lowered: lower86.LoweredModule) -> None:
    expected = [lowered(tokens(seed)) for seed in range(8)]
    wrong: list[int] = []

    def work(seed: int) -> None:
        for _ in range(500):
            if not torch.equal(lowered(tokens(seed)), expected[seed]):
                wrong.append(seed)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def test_a_forked_child_runs_what_the_parent_ran(lowered: lower86.LoweredModule) -> None:
    expected = lowered(tokens(3)).numpy().tobytes()
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's, about forking with threads: that is the point
        child = os.fork()
    if child == 0:
        try:
            got = lowered(tokens(3)).numpy().tobytes() == expected
            os.write(writer, b"same" if got else b"other")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 10) == b"same"


def run(executable: Executable, inputs: list[np.ndarray], threads: int | None) -> list[np.ndarray]:
    program = executable.program
    dims = bind_dims(program, [x.shape for x in inputs], ["x"] * len(inputs))
    shapes = [program.values[v].shape for v in program.outputs]
    outputs = [np.full(shape, 7, np.float32) for shape in shapes]
    executable.run([a.ctypes.data for a in (*inputs, *outputs)], dims, threads)
    return outputs


@pytest.fixture(scope="module")
def native() -> lower86.LoweredModule:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(48, 3, 80, batch_first=True).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lower86.Lower86Warning)
        return lower86.lower_pt2e_quantized_to_x86(layer, (torch.randn(2, 20, 48),))


def test_the_number_of_threads_does_not_change_a_bit(native: lower86.LoweredModule) -> None:
    executable = Executable(native.program, lower86.Target.host())
    x = np.random.default_rng(0).standard_normal((2, 20, 48), np.float32)
    (alone,) = run(executable, [x], 1)
    for threads in (2, 3):
        assert np.array_equal(alone, run(executable, [x], threads)[0])


def test_a_program_may_have_a_number_of_threads_of_its_own(
    native: lower86.LoweredModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(0).standard_normal((2, 20, 48), np.float32)
    asked = list[int]()
    real = Pool.run

    def noting(self: Pool, steps: int, count: int, status: int, threads: int) -> int:
        asked.append(threads)
        return real(self, steps, count, status, threads)

    monkeypatch.setattr(Pool, "run", noting)
    monkeypatch.setattr("lower86.runtime.executable.default_threads", lambda: 3)
    results = [run(Executable(native.program, TARGET, num_threads=n), [x], None)[0] for n in (1, 2, None)]
    assert asked == [1, 2, 3]
    assert all(np.array_equal(result, results[0]) for result in results)
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(lower86.InputError, match="not a number of threads"):
            Executable(native.program, TARGET, num_threads=wrong)


ALONE = """
import gc, json, os, sys, threading, time
import numpy as np
from lower86.codegen.target import Target
from lower86.program.decode import program_from_json
from lower86.runtime.executable import Executable

data, constants, x, want = sys.argv[1:]
with np.load(constants) as file:
    arrays = [file[f"arr_{i}"] for i in range(len(file.files))]
with open(data) as file:
    program = program_from_json(json.load(file), arrays)
x, want = np.load(x), np.load(want)

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def helpers():
    return [t.name for t in threading.enumerate() if t.name.startswith("lower86")]

def run(executable):
    got = np.zeros_like(want)
    executable.run([x.ctypes.data, got.ctypes.data], {}, 3)
    assert np.array_equal(got, want)

for turn in range(60):
    first, second = Executable(program, Target.host()), Executable(program, Target.host(), disk=False)
    run(first)
    del first
    run(second)
    assert len(helpers()) == 2
    if turn % 2:
        second.itself = second  # garbage collection finds it
    del second
    if turn % 3 == 0:
        gc.collect()
        patience = time.monotonic() + 5
        while helpers() and time.monotonic() < patience:
            time.sleep(0.001)
        assert helpers() == []
    if turn == 30:
        before = resident()
gc.collect()
print(resident() - before < 4 << 20)
last = Executable(program, Target.host())
run(last)  # and is there at exit
"""


def test_no_thread_is_left_when_the_last_program_is_gone(native: lower86.LoweredModule, tmp_path: Path) -> None:
    x = np.random.default_rng(3).standard_normal((2, 20, 48), np.float32)
    (want,) = run(Executable(native.program, TARGET), [x], 1)
    names = [tmp_path / name for name in ("program.json", "constants.npz", "x.npy", "want.npy")]
    names[0].write_text(json.dumps(native.program.to_json()))
    np.savez(names[1], *native.program.constants)
    np.save(names[2], x)
    np.save(names[3], want)
    command = [sys.executable, "-W", "error", "-c", ALONE, *map(str, names)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)


def test_owned_constants_stay_where_they_lie(native: lower86.LoweredModule) -> None:
    x = np.random.default_rng(4).standard_normal((2, 20, 48), np.float32)
    constants = []
    for constant in native.program.constants:
        place = aligned(constant.nbytes)[: constant.nbytes].view(constant.dtype).reshape(constant.shape)
        place[...] = constant
        constants.append(place)
    program = dataclasses.replace(native.program, constants=tuple(constants))
    plain, owned = (Executable(program, TARGET, owned=owned) for owned in (False, True))
    assert np.array_equal(run(plain, [x], 1)[0], run(owned, [x], 1)[0])
    kinds = [packing.kind for packing in program.packings]
    shared = [np.shares_memory(a, b) for a, b in zip(constants, owned._constants, strict=True)]
    assert shared == [kind == "none" for kind in kinds]
    assert not any(np.shares_memory(a, b) for a, b in zip(constants, plain._constants, strict=True))


def test_a_program_read_back_from_json_runs_the_same(native: lower86.LoweredModule) -> None:
    program = native.program
    again = program_from_json(json.loads(json.dumps(program.to_json())), program.constants)
    assert again == program
    x = np.random.default_rng(1).standard_normal((2, 20, 48), np.float32)
    results = [run(Executable(p, lower86.Target.host()), [x], 2)[0] for p in (program, again)]
    assert np.array_equal(*results)


def test_an_index_out_of_range_is_an_error_and_the_next_call_is_right(lowered: lower86.LoweredModule) -> None:
    good = lowered(tokens(4))
    bad = tokens(4)
    bad[1, 7] = 50
    with pytest.raises(lower86.InputError, match=r"index 50 is out of range for a dimension of size 50"):
        lowered(bad)
    bad[1, 7] = -1
    with pytest.raises(lower86.InputError, match=r"index -1 is out of range"):
        lowered(bad)
    assert torch.equal(lowered(tokens(4)), good)


def test_memory_does_not_grow(native: lower86.LoweredModule) -> None:
    x = torch.randn(2, 20, 48)

    def resident() -> int:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    for _ in range(200):
        native(x)
    before = resident()
    for _ in range(10_000):
        native(x)
    assert resident() - before < 1 << 20


def test_avx2_gives_the_same_bits(native: lower86.LoweredModule) -> None:
    x = np.random.default_rng(2).standard_normal((2, 20, 48), np.float32)
    levels = [lower86.Target.host(level=level) for level in (None, "avx2")]
    results = [run(Executable(native.program, level), [x], 2)[0] for level in levels]
    assert np.array_equal(*results)


@pytest.fixture(scope="module")
def varied() -> lower86.LoweredModule:
    """f32 [rows, 16], any number of rows."""
    torch.manual_seed(0)
    shapes = ({0: torch.export.Dim("rows", max=1 << 20)},)
    model, example = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 4)), (torch.randn(8, 16),)
    quantized = lower86.quantize(model, [example], dynamic_shapes=shapes, recipe="fast", progress=False)
    return lower86.lower_pt2e_quantized_to_x86(quantized, example, dynamic_shapes=shapes)


def test_sizes_that_take_turns_are_prepared_once(
    varied: lower86.LoweredModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable = varied.compiled().executable
    made: list[dict[str, int]] = []
    prepare = executable._writer.tables
    monkeypatch.setattr(executable._writer, "tables", lambda dims: made.append(dims) or prepare(dims))
    inputs = [torch.randn(rows, 16) for rows in (3, 70, 1, 200, 0)]
    first = [varied(x) for x in inputs]
    assert len(made) == len(inputs)
    for _ in range(3):
        for x, expected in zip(reversed(inputs), reversed(first), strict=True):
            assert torch.equal(varied(x), expected)
    assert len(made) == len(inputs)


def test_what_waits_for_other_sizes_is_little(varied: lower86.LoweredModule) -> None:
    executable = varied.compiled().executable

    def waiting() -> int:
        tables = sum(one.nbytes for waiting in executable._tables.values() for one in waiting)
        return tables + sum(arena.size for arena in executable._arenas)

    executable._tables.clear()
    for rows in range(100_000, 1_000_000, 100_000):  # arenas of 8 to 80 MB
        varied(torch.zeros(rows, 16))
        assert len(executable._arenas) == 1
    varied(torch.zeros(1, 16))
    assert waiting() <= WAITING_BYTES + (1 << 20)
    for rows in range(1, WAITING_SIZES + 20):
        varied(torch.zeros(rows, 16))
    assert len(executable._tables) <= WAITING_SIZES


def test_arenas_that_are_let_go_of_are_gone(varied: lower86.LoweredModule) -> None:
    executable, arenas = varied.compiled().executable, []
    for rows in (100_000, 200_000, 900_000, 1, 1_000_000):
        varied(torch.zeros(rows, 16))
        arenas.append(weakref.ref(executable._arenas[-1].memory))
    assert [arena() is None for arena in arenas] == [True] * 4 + [False]


def test_sizes_that_are_called_often_are_kept(varied: lower86.LoweredModule, monkeypatch: pytest.MonkeyPatch) -> None:
    executable = varied.compiled().executable
    monkeypatch.setattr("lower86.runtime.executable.WAITING_SIZES", 3)
    made: list[list[int]] = []
    prepare = executable._writer.tables
    monkeypatch.setattr(executable._writer, "tables", lambda dims: made.append([*dims.values()]) or prepare(dims))
    executable._tables.clear()
    for rows in (1, 2, 1, 3, 1, 4, 1, 5, 1):
        varied(torch.zeros(rows, 16))
    assert made == [[1], [2], [3], [4], [5]]


def test_calls_of_all_sizes_have_the_same_arena(varied: lower86.LoweredModule) -> None:
    executable = varied.compiled().executable
    varied(torch.zeros(500, 16))
    (arena,) = executable._arenas
    for rows in (3, 0, 499, 77, 3):
        varied(torch.zeros(rows, 16))
        assert executable._arenas == [arena]


def test_calls_of_many_sizes_at_once(varied: lower86.LoweredModule, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for three sizes, threads let go of what others are about to take, and put back what is let go of."""
    monkeypatch.setattr("lower86.runtime.executable.WAITING_SIZES", 3)
    monkeypatch.setattr("lower86.runtime.bounds._MOST_PASSED", 3)
    inputs = [torch.randn(rows, 16) for rows in range(1, 13)]
    expected = [varied(x) for x in inputs]
    executable, gate, problems = varied.compiled().executable, threading.Barrier(6), list[object]()

    def call(seed: int) -> None:
        order = random.Random(seed)
        gate.wait()
        try:
            until = time.monotonic() + 0.7
            while time.monotonic() < until:
                number = order.randrange(len(inputs))
                if not torch.equal(varied(inputs[number]), expected[number]):
                    problems.append(number)
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(6)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert problems == []
    assert len(executable._tables) < 3 + len(threads)
    assert len(executable._arenas) <= len(threads)
