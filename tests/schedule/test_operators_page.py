"""docs/operators.md says what is: it is current, and everything that it calls native has an example that runs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.schedule.examples import EXAMPLES, UNDEFINED

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    specification = importlib.util.spec_from_file_location("operators_page", ROOT / "tools" / "operators_page.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # where its data classes look for their types
    specification.loader.exec_module(module)
    return module


def test_the_page_is_current(tool: ModuleType) -> None:
    assert tool.PAGE.read_text() == tool.page(), "run python tools/operators_page.py"


def test_what_is_called_native_has_an_example(tool: ModuleType) -> None:
    claimed = {op for op in tool.listed() if tool.status(op)[0] not in ("Foreign", "Refused", "Constant")}
    assert {str(op) for op in claimed - set(EXAMPLES) - set(UNDEFINED)} == set()


def test_everything_is_listed_once(tool: ModuleType) -> None:
    operators = [str(op) for op in tool.listed()]
    rows = [f"aten.{row.name}.{overload}" for row in tool.rows() for overload in row.overloads]
    assert sorted(rows) == sorted(operators)
    assert "aten.topk.default" in rows
    assert tool.status(torch.ops.aten.topk.default)[0] == "Foreign"
    assert tool.status(torch.ops.aten.nonzero.default)[0] == "Refused"
