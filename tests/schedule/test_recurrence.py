"""Recurrent operators as loops of kernels: PyTorch's results, for any sizes, quantized or not, on every target."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lower86.ops.recurrent import gru, int8_gru, int8_lstm, lstm
from lower86.program.program import Loop
from tests.models.recurrent import S8, U8, operands
from tests.schedule.operators import check, check_same_on_avx2, exported, lowered

FLOAT, INTEGER = {"lstm": lstm, "gru": gru}, {"lstm": int8_lstm, "gru": int8_gru}
SIZES = [(1, 1, 1), (1, 5, 19), (17, 1, 19), (3, 5, 64), (0, 2, 3), (2, 13, 130)]


def results(cell: str) -> list[int | None]:
    """Which results to check: an LSTM has two."""
    return [0, 1] if cell == "lstm" else [None]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_float(cell: str, sizes: tuple[int, int, int], reverse: bool) -> None:
    for result in results(cell):
        check(FLOAT[cell], *operands(cell, *sizes), reverse=reverse, tolerance=1e-5, result=result)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_weights_that_are_inputs(cell: str) -> None:
    for result in results(cell):
        check(FLOAT[cell], *operands(cell, constant=False), tolerance=1e-5, result=result)
        check(FLOAT[cell], *operands(cell)[:-1], tolerance=1e-5, result=result)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("state", [U8, S8])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_int8(cell: str, sizes: tuple[int, int, int], state: dict[str, Any], reverse: bool) -> None:
    given = operands(cell, *sizes, integer=True)
    scale = nn.Parameter(torch.rand(len(given[-1])) * 2e-5, requires_grad=False)
    # Over many steps, a state may fall on the other side of an edge between two integers.
    tolerance = 2e-6 if sizes[0] == 1 else 5e-4
    for result in results(cell):
        check(INTEGER[cell], *given, reverse=reverse, **state, scale=scale, tolerance=tolerance, result=result)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_quantized_states_of_a_float_weight(cell: str) -> None:
    for result in results(cell):
        check(FLOAT[cell], *operands(cell), **U8, tolerance=5e-4, result=result)


def test_results_are_the_same_on_every_target() -> None:
    given = operands("gru", 17, integer=True)
    options = {**U8, "scale": nn.Parameter(torch.rand(57) * 2e-5, requires_grad=False)}
    module, tensors = lowered(int8_gru, *given, **options)
    check_same_on_avx2(module(*tensors)[0], int8_gru, *given, **options)


class OneInput(nn.Module):
    """The operator with x and a weight that are parts of one input."""

    def forward(self, both: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return gru(both[:72].view(4, 2, 9), h, both[72:].view(9, 3), None, reverse=True)


def test_x_may_share_its_memory_with_the_weight() -> None:
    both, h = torch.randn(99), torch.rand(2, 3)
    torch.testing.assert_close(exported(OneInput(), [both, h])(both, h), OneInput()(both, h), rtol=1e-5, atol=1e-5)


class Sequence(nn.Module):
    """An operator over a sequence of any length, with weights of its own."""

    def __init__(self, cell: str, **options: Any) -> None:
        super().__init__()
        self.operator, self.options = FLOAT[cell], options
        self.weight, self.bias = operands(cell)[-2:]

    def forward(self, x: torch.Tensor, *state: torch.Tensor) -> Any:
        return self.operator(x, *state, self.weight, self.bias, **self.options)


@pytest.mark.parametrize("options", [{}, {"reverse": True, **S8}], ids=str)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_any_number_of_steps_even_none(cell: str, options: dict[str, Any]) -> None:
    model, first = Sequence(cell, **options), operands(cell)[:-2]
    times, batch = (torch.export.Dim(name, max=64) for name in ("times", "batch"))
    dynamic = ({0: times, 1: batch}, tuple({0: batch} for _ in first[1:]))
    module = exported(model, first, dynamic_shapes=dynamic)
    assert module.program.checks == ()
    for sizes in ((0, 3), (0, 0), (1, 1), (4, 0), (33, 2)):
        given = operands(cell, *sizes)[:-2]
        torch.testing.assert_close(module(*given), model(*given), rtol=1e-5, atol=1e-5)


def test_torchao_need_not_be_loaded() -> None:
    """A lowered graph that is lowered again needs none of the operators that its quantizer wrote."""
    code = """
import sys, torch
from lower86.ops.recurrent import int8_gru
from tests.models.recurrent import U8, operands
from tests.schedule.operators import lowered
module, tensors = lowered(int8_gru, *operands("gru", integer=True), **U8, scale=torch.nn.Parameter(torch.ones(57)))
assert not module.explanation.foreign and "torchao" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent.parent)


def test_threads_share_the_gates() -> None:
    module, _ = lowered(lstm, *operands("lstm", 3, 16, 256), result=0)
    (loop,) = [step for step in module.program.steps if isinstance(step, Loop)]
    assert [module.program.kernels[step.kernel].units() for step in loop.steps] == [16, 8]


@pytest.mark.parametrize("times", [3, 300])
def test_a_program_is_as_long_for_long_sequences(times: int) -> None:
    module, tensors = lowered(lstm, *operands("lstm", times), result=0)
    (loop,) = [step for step in module.program.steps if isinstance(step, Loop)]
    assert (loop.count, len(loop.steps)) == (times, 2)
    assert len(module.program.steps) == 4  # the initial state, that of the cells, the loop, and a copy to the output
    first = module(*tensors)[0].clone()
    module(*[tensor * 2 for tensor in tensors])
    assert torch.equal(module(*tensors)[0], first)
