"""Which guards are about layouts, by where they were made and what they say."""

from __future__ import annotations

from traceback import FrameSummary
from types import SimpleNamespace

import pytest

from lower86.graph.layout_guards import is_about_layout
from lower86.program.program import Check
from lower86.program.sizes import Size, dim_atom

A, B = dim_atom("a"), dim_atom("b")
SWAP = ("torch/_prims_common/__init__.py", "should_swap")
CALL = ("torch/_ops.py", "__call__")
RETRACED = ("torch/_subclasses/functional_tensor.py", "__torch_dispatch__")
USER = ("model.py", "forward")
VIEW = "view = torch.ops.aten.view.default(x, [a, -1])  # graph:3 in forward"
ADD = "add = torch.ops.aten.add.Tensor(x, y)  # graph:3 in forward"


@pytest.mark.parametrize(
    ("place", "line", "check", "expected"),
    [
        (SWAP, ADD, (A * 8, "!=", B * 2), True),
        (SWAP, ADD, (A * 8, "<", B * 2), True),
        (SWAP, ADD, (A * 8, "==", B * 2), False),
        (CALL, ADD, (A * B, "!=", B), True),
        (CALL, ADD, (32, "<", A * 32), True),
        (CALL, ADD, (A, "!=", B), False),
        (CALL, ADD, (A, "<=", B), False),
        (CALL, VIEW, (32, "<", A * B), True),
        (CALL, VIEW, (A * 2, "==", B), False),
        (RETRACED, None, (32, "<", A * B), True),
        (RETRACED, ADD, (32, "<", A * B), False),
        (USER, None, (A, "!=", 1), False),
        (USER, None, (A, "<", B), False),
    ],
)
def test_place_and_relation(
    place: tuple[str, str], line: str | None, check: tuple[Size, str, Size], expected: bool
) -> None:
    frame = FrameSummary(f"/somewhere/{place[0]}", 1, place[1], lookup_line=False)
    found = is_about_layout(SimpleNamespace(framework_loc=frame, maybe_user_loc=line), Check(*check))
    assert found is expected


def test_a_place_that_is_told_in_words_is_none() -> None:
    place = SimpleNamespace(framework_loc="user code shown is first use of this value", maybe_user_loc=None)
    assert not is_about_layout(place, Check(A, "!=", 1))
