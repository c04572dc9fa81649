"""A fixed sample of what `make fuzz` runs, and that the fuzzer would notice."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from lower86.program.kernels import Rows
from lower86.runtime.bounds import Bounds
from lower86.runtime.executable import Executable
from tests.fuzz import child as running
from tests.fuzz.child import Child
from tests.fuzz.mutations import Case, Edit, Mutator, cases
from tests.fuzz.programs import programs
from tests.harness import examples


@pytest.fixture(scope="module")
def mutator() -> Mutator:
    return Mutator(programs())


@pytest.fixture
def child(mutator: Mutator) -> Iterator[Child]:
    made = Child(mutator)
    yield made
    made.stop()


def test_whatever_is_loaded_runs_within_its_bounds(mutator: Mutator) -> None:
    child, became = Child(mutator), Counter[str]()

    @examples(600)
    @given(cases(list(mutator.programs)))
    def run(case: Case) -> None:
        outcome = child.run(case)
        assert outcome.what != "broken", f"{case}: {outcome.why}"
        became[outcome.what] += 1

    run()
    child.stop()
    assert became["ran"] > 60
    assert became["refused"] > 250
    assert became["failed"] > 12


def test_programs_as_they_are_run(mutator: Mutator, child: Child) -> None:
    for name in mutator.programs:
        for call in (1, 2):
            outcome = child.run(Case(name, (), call))
            assert outcome.what == "ran", f"{name}: {outcome}"


def test_accesses_beyond_are_noticed(mutator: Mutator, child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the proof, a program that reads further than its input is long dies."""
    case = Case("softmax", (Edit("near", _place_of(mutator, "softmax", 17), 3),), 2)
    assert child.run(case).what == "failed"
    child.stop()
    monkeypatch.setattr(Bounds, "check", lambda self, dims: None)
    outcome = child.run(case)
    assert outcome.what == "broken"
    assert "dies with exit code -11" in outcome.why


def _place_of(mutator: Mutator, name: str, number: int) -> int:
    """The place of the row's length in the kernel, among the numbers of a program."""
    kernel = mutator.programs[name].kernels[0]
    assert isinstance(kernel, Rows)
    assert kernel.reduced == (number,)
    for place in range(1000):
        data, _ = mutator.apply(Case(name, (Edit("near", place, 3),), 0))
        ((_, fields),) = data["kernels"][0].items()
        if fields[1] == [2 * number]:
            return place
    raise AssertionError


def test_hangs_deaths_and_gluttony_are_noticed(mutator: Mutator, child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []

    def act(self: Any, *args: Any) -> None:
        call = os.environ["LOWER86_TEST_ACT"]
        if call == "die":
            os.abort()
        if call == "hang":
            time.sleep(60)
        if call == "eat":
            kept.append(np.ones(300 << 20, np.uint8))
        if call == "busy":
            start = time.process_time()
            while time.process_time() < start + 1.2:
                pass
        if call == "stumble":
            raise KeyError("d0")

    monkeypatch.setattr(Executable, "run", act)
    monkeypatch.setattr(running, "PATIENCE", 3.0)
    for call, why in (
        ("die", "dies with exit code -6"), ("eat", "MiB: ran"), ("busy", "s, "), ("stumble", "KeyError: 'd0'"),
        ("hang", "hangs for 3.0 s"),
    ):  # fmt: skip
        monkeypatch.setenv("LOWER86_TEST_ACT", call)
        child.stop()
        outcome = child.run(Case("softmax", (), 1))
        assert outcome.what == "broken"
        assert why in outcome.why
