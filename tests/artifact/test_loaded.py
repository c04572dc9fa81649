"""Saved and loaded models: the same bits as the module's, whatever they take, give and keep."""

from __future__ import annotations

import copy
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lower86
from lower86.artifact import LoadedProgram, saved
from lower86.artifact.format import read
from lower86.codegen.llvm import host_features
from lower86.codegen.target import LEVELS
from lower86.lowered import LoweredModule
from tests.artifact.round_trip import again, agrees, as_numpy, same_bits
from tests.end_to_end.test_signatures import TOGETHER, Inputs, Pair, Wrapped, sample
from tests.end_to_end.test_state import CASES, Stateful
from tests.models.checks import lower, lower_anyhow
from tests.models.qdq import Linear, grid
from tests.models.quantized import quantize
from tests.models.recurrent import layer_and_inputs
from tests.models.small import MLP, Attention, Embedding

HERE = [level for level, needs in LEVELS.items() if all(host_features().get(need) for need in needs)]


class Wide(nn.Module):
    """Embedding, attention, norm, gelu, an int8 linear: i64 [n, 8], bool [n, 8] to f32 [n, 10], f32 [n, 8, 16]."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.attention, self.up = nn.Embedding(50, 16), Attention(), nn.Linear(16, 10)

    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        x = self.attention(self.table(ids), mask)
        return {"logits": nn.functional.gelu(self.up(x)).mean(1), "hidden": (x, x.amax(1))}


@pytest.fixture(scope="module")
def wide() -> LoweredModule:
    torch.manual_seed(0)
    inputs = torch.randint(0, 50, (3, 8)), torch.arange(24).view(3, 8) % 8 < 6
    batch = torch.export.Dim("batch", max=40)
    dims = {"ids": {0: batch}, "mask": {0: batch}}
    return lower(quantize(Wide(), inputs, dynamic_shapes=dims), *inputs, dynamic_shapes=dims)


@pytest.fixture(scope="module")
def loaded(wide: LoweredModule, tmp_path_factory: pytest.TempPathFactory) -> LoadedProgram:
    return again(wide, tmp_path_factory.mktemp("wide"))


def wide_inputs(n: int) -> tuple[Tensor, Tensor]:
    return torch.randint(0, 50, (n, 8)), torch.rand(n, 8) < 0.8


@pytest.mark.parametrize("n", [1, 3, 7, 40])
def test_sizes_that_vary(wide: LoweredModule, loaded: LoadedProgram, n: int) -> None:
    ids, mask = wide_inputs(n)
    agrees(wide, loaded, ids, mask)
    agrees(wide, loaded, mask=mask, ids=ids)


def test_results_are_named_and_nested(loaded: LoadedProgram) -> None:
    ids, mask = as_numpy(wide_inputs(2))
    result = loaded(ids, mask)
    assert list(result) == ["logits", "hidden"]
    assert type(result["hidden"]) is tuple
    flat = loaded.run({"mask": mask, "ids": ids})
    assert [spec.name for spec in loaded.outputs] == list(flat) == ["logits", "hidden.0", "hidden.1"]
    same_bits(list(flat.values()), result)


def test_what_it_says_of_itself(wide: LoweredModule, loaded: LoadedProgram) -> None:
    ids, mask = loaded.inputs
    (dim,) = loaded.program.dims
    assert (ids.name, ids.dtype, ids.shape, ids.ranges) == ("ids", "i64", (dim.name, 8), {dim.name: (0, 40)})
    assert (mask.name, mask.dtype) == ("mask", "bool")
    assert str(loaded.outputs[0]) == f"logits: f32 [{dim.name}, 10], {dim.name} 0 … 40"
    assert "hidden.1: f32" in repr(loaded)
    assert str(loaded.explain()) == str(lower86.explain(wide))
    assert lower86.explain(loaded) is loaded.explain()
    assert loaded.explain().int8_fraction == 1
    assert {"torch", "torchao"} <= set(loaded.versions)
    assert loaded.target == lower86.Target.host()


def test_every_call_has_results_of_its_own(loaded: LoadedProgram) -> None:
    first = loaded(*as_numpy(wide_inputs(5)))["logits"]
    kept = first.copy()
    second = loaded(*as_numpy(wide_inputs(5)))["logits"]
    assert np.array_equal(first, kept)
    assert not np.shares_memory(first, second)
    assert first.flags.writeable


@pytest.mark.parametrize("level", HERE)
def test_one_file_gives_the_same_bits_on_every_level(wide: LoweredModule, tmp_path: Path, level: str) -> None:
    program = again(wide, tmp_path, target=level, num_threads=2)
    assert program.target.level == level
    agrees(wide, program, *wide_inputs(6))


def test_without_the_cache(wide: LoweredModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWER86_CACHE_DIR", str(tmp_path / "cache"))
    agrees(wide, again(wide, tmp_path, cache=False), *wide_inputs(2))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2"])
def test_no_number_of_threads(wide: LoweredModule, tmp_path: Path, threads: Any) -> None:
    with pytest.raises(lower86.InputError, match="number of threads"):
        again(wide, tmp_path, num_threads=threads)


def test_profile(loaded: LoadedProgram) -> None:
    inputs = as_numpy(wide_inputs(4))
    before = loaded(*inputs)
    profile = loaded.profile(*inputs, seconds=0.05)
    assert len(profile.steps) == len(loaded.program.steps)
    assert sum(step.macs for step in profile.steps) > 0
    assert "ms a call" in str(lower86.profile(loaded, ids=inputs[0], mask=inputs[1], seconds=0.05))
    same_bits(loaded(*inputs), before)


def test_calls_from_many_threads(loaded: LoadedProgram) -> None:
    inputs = [as_numpy(wide_inputs(n)) for n in (1, 4, 9, 4)]
    expected = [loaded(*one)["logits"].tobytes() for one in inputs]
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(100):
            if loaded(*inputs[number])["logits"].tobytes() != expected[number]:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def no_array(a: Any, k: Any) -> Any:
    return (a[0].tolist(), a[1]), k


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, k: (a[:1], k), "1 of 2 positional"),
        (lambda a, k: ((*a, a[0]), k), "3 of 2 positional"),
        (lambda a, k: (a, {"other": a[0]}), "by name: other"),
        (lambda a, k: (a, {"ids": a[0]}), "by name: ids"),
        (no_array, "ids is a list, not an array"),
        (lambda a, k: ((None, a[1]), k), "ids is a NoneType"),
        (lambda a, k: ((object(), a[1]), k), "ids is a object whose memory"),
        (lambda a, k: ((a[0].astype(np.int32), a[1]), k), "ids has dtype int32, expected int64"),
        (lambda a, k: ((a[0].astype(">i8"), a[1]), k), "ids has dtype >i8"),
        (lambda a, k: ((a[0], a[1].astype(np.uint8)), k), "mask has dtype uint8, expected bool"),
        (lambda a, k: ((a[0][:, :7], a[1]), k), r"ids has shape \[3, 7\]"),
        (lambda a, k: ((a[0][:2], a[1]), k), r"mask has shape|ids has shape"),
        (lambda a, k: ((a[0].repeat(20, 0), a[1].repeat(20, 0)), k), "is 60, outside its range 0 … 40"),
        (lambda a, k: ((a[0][0], a[1]), k), r"ids has shape \[8\]"),
        (lambda a, k: ((a[0] + 50, a[1]), k), r"index \d+ is out of range for a dimension of size 50"),
        (lambda a, k: ((torch.ones(3, 8), a[1]), k), "ids has dtype torch.float32, expected int64"),
        (lambda a, k: ((torch.ones(3, 8, dtype=torch.int64, device="meta"), a[1]), k), "on meta"),
        (lambda a, k: ((torch.eye(8, dtype=torch.int64)[:3].to_sparse(), a[1]), k), "sparse"),
    ],
)  # fmt: skip
def test_calls_that_do_not_fit(loaded: LoadedProgram, change: Any, message: str) -> None:
    good = as_numpy(wide_inputs(3))
    args, kwargs = change(good, {})
    with pytest.raises(lower86.InputError, match=message) as caught:
        loaded(*args, **kwargs)
    assert "what to do:" in str(caught.value)
    loaded(*good)


def test_names_that_do_not_fit(loaded: LoadedProgram) -> None:
    with pytest.raises(lower86.InputError, match="there is no input 'idz'; ids is missing; mask is missing"):
        loaded.run({"idz": 1})


MODELS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "linears": (lambda: quantize(MLP(), (torch.randn(9, 16),)), (torch.randn(9, 16),)),
    "embedding": (
        lambda: quantize(Embedding(), (torch.randint(0, 50, (5, 8)),)), (torch.randint(0, 50, (5, 8)),)
    ),
    "a loop": (lambda: nn.GRU(8, 19), (torch.randn(7, 5, 8),)),
    "a convolution": (
        lambda: quantize(nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, groups=16)),
                         (torch.randn(2, 3, 9, 9),)),
        (torch.randn(2, 3, 9, 9),),
    ),
    "bf16": (
        lambda: quantize(MLP().to(torch.bfloat16), (torch.randn(9, 16).to(torch.bfloat16),)),
        (torch.randn(9, 16).to(torch.bfloat16),),
    ),
    "bf16 weights": (lambda: nn.Linear(16, 24).to(torch.bfloat16), (torch.randn(3, 16).to(torch.bfloat16),)),
    "f16 weights": (lambda: nn.Linear(16, 24).half(), (torch.randn(3, 16).half(),)),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_models(name: str, tmp_path: Path) -> None:
    make, inputs = MODELS[name]
    lowered = lower_anyhow(make(), *inputs)
    agrees(lowered, again(lowered, tmp_path), *inputs)


DTYPES = (
    torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool,
)  # fmt: skip


class Constants(nn.Module):
    """A constant of each dtype, given back beside an input of each."""

    def __init__(self) -> None:
        super().__init__()
        for number, dtype in enumerate(DTYPES):
            self.register_buffer(f"c{number}", (torch.arange(7) * 3 % 5 - 2).to(dtype))

    def forward(self, *inputs: Tensor) -> Any:
        constants = [getattr(self, f"c{number}") for number in range(len(DTYPES))]
        return [torch.cat([c, x]) for c, x in zip(constants, inputs, strict=True)]


def test_every_dtype(tmp_path: Path) -> None:
    inputs = tuple((torch.arange(4) % 2).to(dtype) for dtype in DTYPES)
    lowered = lower_anyhow(Constants(), *inputs)
    program = again(lowered, tmp_path)
    results = agrees(lowered, program, *inputs)
    assert [result.dtype for result in results] == list(DTYPES)


def test_nested_inputs_and_fixed_values(tmp_path: Path) -> None:
    model, given, named = Inputs(), sample(), {"bias": grid(8), "flip": True}
    lowered = lower(model, *given, None, 0.5, example_kwargs=named)
    program = again(lowered, tmp_path)
    agrees(lowered, program, *given, None, 0.5, **named)
    agrees(lowered, program, *given, mask=None, factor=0.5, **named)
    flat = {spec.name: spec for spec in program.inputs}
    assert [name for name, spec in flat.items() if not spec.dtype] == ["mask", "factor", "flip"]
    assert str(flat["factor"]) == "factor: 0.5"
    arrays = [as_numpy(leaf) for leaf in (given[0], *given[1].values(), *given[2], named["bias"])]
    names = [name for name, spec in flat.items() if spec.dtype]
    result = program.run(dict(zip(names, arrays, strict=True)))
    same_bits(list(result.values()), lowered(*given, None, 0.5, **named))
    for change, message in (
        ({"flip": False}, "flip is False, the model was lowered with True"),
        ({"flip": np.ones(1)}, "flip is ndarray"),
        ({"factor": 0.75}, "factor is 0.75"),
        ({"more": {"a": given[1]["a"]}}, r"more is keys \['a'\], not a dict of \['a', 'b'\]"),
        ({"more": [1, 2]}, "more is a list, not a dict"),
        ({"rest": tuple(given[2])}, "rest is a tuple of 2, not a list of 2"),
    ):
        call: dict[str, Any] = {"more": given[1], "rest": given[2], "mask": None, "factor": 0.5, **named, **change}
        with pytest.raises(lower86.InputError, match=message):
            program(given[0], **call)


def test_results_of_every_nesting(tmp_path: Path) -> None:
    model, x = Wrapped(lambda y, x, c: {name: wrap(y, x, c) for name, wrap in TOGETHER.items()}), grid(3, 8)
    lowered = lower_anyhow(model, x)
    program = again(lowered, tmp_path)
    agrees(lowered, program, x)
    result = program(x)
    assert type(result["named tuple"]) is tuple
    assert list(result["dataclass with None"]) == ["logits", "name"]
    assert type(result["ordered dict"]) is dict
    assert result["int, float, str, bool"][2:] == (0.5, "text", True)


def test_a_size_among_the_results(tmp_path: Path) -> None:
    model, dims = Wrapped(lambda y, x, c: (y, x.shape[0], x.shape[0] * 2 + 1)), {"x": {0: torch.export.Dim("n")}}
    lowered = lower_anyhow(model, grid(3, 8), dynamic_shapes=dims)
    program = again(lowered, tmp_path)
    assert program(grid(5, 8))[1:] == (5, 11)
    assert program.outputs[2].dtype == ""


@pytest.mark.parametrize("wrap", [lambda y, x, c: None, lambda y, x, c: (), lambda y, x, c: Pair(y, c)])
def test_small_results(wrap: Any, tmp_path: Path) -> None:
    lowered = lower_anyhow(Wrapped(wrap), grid(3, 8))
    agrees(lowered, again(lowered, tmp_path), grid(3, 8))


def test_no_inputs(tmp_path: Path) -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = Linear(8, 8)
            self.register_buffer("x", grid(2, 8))

        def forward(self) -> Tensor:
            return self.linear(self.x)

    lowered = lower_anyhow(Constant())
    program = again(lowered, tmp_path)
    same_bits(program(), lowered())
    assert isinstance(program(), np.ndarray)


STATE = ("a counter that is read", "a row, then all are read", "two buffers, one row", "an index from a buffer")


@pytest.mark.parametrize("name", STATE)
def test_state(name: str, tmp_path: Path) -> None:
    """It begins where the module stands; from then on each has its own."""
    lowered = lower_anyhow(Stateful(CASES[name]), grid(3, 8), torch.tensor([2]))
    lowered(grid(3, 8), torch.tensor([1]))
    program = again(lowered, tmp_path)
    first = program.named_state()
    same_bits(list(first.values()), [tensor for _, tensor in lowered.named_state()])
    for call in range(4):
        x, p = grid(3, 8), torch.tensor([call])
        expected = lowered(x, p)
        same_bits(program(x.numpy(), p.numpy()), expected)
        same_bits(list(program.named_state().values()), [tensor for _, tensor in lowered.named_state()])
    program.profile(x, p, seconds=0.01)
    same_bits(list(program.named_state().values()), [tensor for _, tensor in lowered.named_state()])
    program.reset_state()
    assert list(program.named_state()) == list(first)
    same_bits(list(program.named_state().values()), list(first.values()))


def test_zeros_beyond_the_limit_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Stateful(CASES["a row, then all are read"])
    model.rows = torch.zeros(5, 8)
    lowered = lower_anyhow(model, grid(3, 8), torch.tensor([2]))
    monkeypatch.setattr(saved, "_room_for_zeros", lambda constants: 159)
    program = again(lowered, tmp_path)
    assert read(tmp_path / "model.safetensors").tensors["state.0"].array.shape == (5, 8)
    agree = grid(3, 8), torch.tensor([4])
    same_bits(program(*agree), lowered(*agree))


def test_calls_on_one_state_wait_for_each_other(tmp_path: Path) -> None:
    lowered = lower_anyhow(Stateful(CASES["a counter that is read"]), grid(3, 8), torch.tensor([2]))
    program = again(lowered, tmp_path)
    x, p = as_numpy((grid(3, 8), torch.tensor([1])))
    threads = [threading.Thread(target=lambda: [program(x, p) for _ in range(100)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert program.named_state()["count"] == 400


def test_a_program_stays_in_its_process(loaded: LoadedProgram) -> None:
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(lower86.UnsupportedError, match="cannot be pickled or copied"):
            copied(loaded)


def test_any_number_of_arguments(tmp_path: Path) -> None:
    layer, inputs = layer_and_inputs(nn.LSTM, state=True)
    lowered = lower_anyhow(layer, *inputs)
    agrees(lowered, again(lowered, tmp_path), *inputs)


def test_state_of_zeros_takes_no_room(tmp_path: Path) -> None:
    model = Stateful(CASES["a row, then all are read"])
    model.rows = torch.zeros(5000, 8)
    lowered = lower_anyhow(model, grid(3, 8), torch.tensor([2]))
    program = again(lowered, tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < model.rows.nbytes // 2
    assert set(read(tmp_path / "model.safetensors").tensors) & {"state.0", "state.1"} == set()
    for place in (4999, 0):
        x, p = grid(3, 8), torch.tensor([place])
        same_bits(program(x, p), lowered(x, p))
