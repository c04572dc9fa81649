"""`module:function` in the current folder: what it may give, and how it may fail."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

from lower86.errors import Lower86Error
from lower86.sources.function import called, from_function

CODE = """
import torch

x = torch.zeros(2, 3)
instance = torch.nn.Linear(3, 4)
items = [1, 2]

def alone(): return torch.nn.Linear(3, 4)
def pair(): return torch.nn.Linear(3, 4), (x,)
def single(): return torch.nn.Linear(3, 4), x
def dims(): return torch.nn.Linear(3, 4), (x,), ({0: torch.export.Dim("rows")},)
def program(): return torch.export.export(torch.nn.Linear(3, 4), (x,))
def number(): return 3
def four(): return 1, 2, 3, 4
def wrong(): return torch.nn.Linear(3, 4), 3
def many(): return torch.nn.Linear(3, 4), (x, x)
def fails(): raise KeyError("weights")
def leaves(): raise SystemExit("no weights")
class Made:
    @staticmethod
    def make(): return torch.nn.Linear(3, 4)
"""


@pytest.fixture
def name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    module = f"made_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(CODE)
    (tmp_path / f"{module}_broken.py").write_text("1 / 0")
    (tmp_path / f"{module}_script.py").write_text("import sys\nsys.exit(3)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nothing", *sys.path])
    return module


def test_what_it_may_give(name: str) -> None:
    for function, example, varies in (
        ("alone", False, False), ("instance", False, False), ("Made.make", False, False), ("pair", True, False),
        ("single", True, False), ("dims", True, True), ("program", True, False),
    ):  # fmt: skip
        source = from_function(f"{name}:{function}")
        assert [one.name for one in source.inputs] == ["input"]
        assert (source.example is not None) == (source.inputs[0].example is not None) == example
        assert source.inputs[0].rows_vary == varies
        assert isinstance(source.model(torch.zeros(2, 3)), torch.Tensor)
    assert not from_function(f"{name}:alone").model.training
    assert called(f"{name}:items", "data") == [1, 2]


def test_what_it_may_not(name: str) -> None:
    for function, message in (
        (f"{name}:number", "gives a int"),
        (f"{name}:four", "gives 4 things"),
        (f"{name}:wrong", "are a int, not a tuple"),
        (f"{name}:many", "does not take its example inputs"),
        (f"{name}:fails", "failed: KeyError: 'weights'"),
        (f"{name}:leaves", "failed: SystemExit: no weights"),
        (f"{name}_script:make", "importing .* failed: SystemExit: 3"),
        (f"{name}.py:alone", f"not its file: {name}:alone"),
        (f"./{name}.py:alone", f"not module:function.*give {name}:alone"),
        (f"{name}:alon", "has no alon"),
        (f"{name}_broken:make", "importing .* failed: ZeroDivisionError"),
        (f"{name}_missing:make", "there is no module"),
        (f"{name}:", "is not module:function"),
    ):
        with pytest.raises(Lower86Error, match=re.compile(message, re.DOTALL)):
            from_function(function)
