"""Whatever is wrong with a model or a call is said by a Lower86Error: what, where, and what to do."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lower86
from lower86.codegen import target
from lower86.lowered import LoweredModule
from tests.models.checks import agree, lower, lower_anyhow, near, warned
from tests.models.qdq import U8, Linear, grid
from tests.models.quantized import quantize
from tests.models.small import MLP, Embedding


def test_a_model_that_was_never_quantized_runs_in_float_and_says_so() -> None:
    model, x = MLP().eval(), torch.randn(3, 16)
    lowered, (message,) = warned(model, x)
    assert "no quantized contraction" in message
    assert "convert_pt2e" in message
    agree(model, lowered, x, compare=near)
    assert lower86.explain(lowered).int8_fraction == 0
    assert lower86.explain(lowered).operators == ()
    with pytest.raises(lower86.FallbackError, match="no quantized contraction"):
        lower(model, x)


def test_the_warning_points_at_the_caller() -> None:
    with pytest.warns(lower86.Lower86Warning) as caught:
        lower86.lower_pt2e_quantized_to_x86(MLP().eval(), (torch.randn(3, 16),))
    assert [warning.filename for warning in caught] == [__file__]


def test_nothing_is_said_when_all_is_well() -> None:
    x = torch.randn(3, 16)
    model = quantize(MLP(), (x,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lower86.lower_pt2e_quantized_to_x86(model, (x,))


class Branches(nn.Module):
    """Control flow on a value."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


def test_data_dependent_control_flow() -> None:
    with pytest.raises(lower86.ExportError, match=r"torch\.where or torch\.cond") as caught:
        lower(Branches(), grid(3))
    assert "where: Branches" in str(caught.value)
    assert caught.value.__cause__ is not None


class SameInTwoBuffers(nn.Module):
    """Exported, but torch's own verifier refuses the graph: one input goes to two buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("a", torch.zeros(3))
        self.register_buffer("b", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.a.copy_(x)
        self.b.copy_(x)
        return x * 2


class Square(nn.Module):
    """Its sizes are one."""

    def forward(self, x: Tensor) -> Tensor:
        return x @ x


@pytest.mark.parametrize(
    ("model", "inputs", "dynamic", "message"),
    [
        (SameInTwoBuffers(), grid(3), None, r"SpecViolationError: User output x(.|\n)*run_decompositions"),
        (MLP(), torch.randn(3, 17), None, r"RuntimeError: a and b must have(.|\n)*torch\.export\.export"),
        (Square(), grid(6, 6), {"x": {0: torch.export.Dim("a", max=9)}}, r"violated \(a\)(.|\n)*dynamic_shapes"),
        (Square(), grid(6, 6), {"x": {0: torch.export.Dim("a", max=3)}}, r"6 not in range(.|\n)*dynamic_shapes"),
    ],
)
def test_what_torch_cannot_export_comes_with_advice_that_fits(
    model: nn.Module, inputs: Tensor, dynamic: Any, message: str
) -> None:
    with pytest.raises(lower86.ExportError, match=message) as caught:
        lower_anyhow(model, inputs, dynamic_shapes=dynamic)
    assert "torch.where" not in str(caught.value)
    assert ("run_decompositions" in message) == ("run_decompositions" in str(caught.value))


@pytest.mark.parametrize(
    ("model", "inputs", "options", "message"),
    [
        (lambda x: x, (grid(3),), {}, "expected a torch.nn.Module, got function"),
        (MLP(), torch.randn(3, 16), {}, r"Tensor, not a tuple(.|\n)*\(x,\)"),
        (MLP(), {"x": torch.randn(3, 16)}, {}, "dict, not a tuple"),
        (MLP(), (torch.randn(3, 16),), {"example_kwargs": [1]}, "list, not a dict"),
        (MLP(), (), {}, "cannot be exported"),
        (MLP(), (torch.randn(3, 17),), {}, "cannot be exported"),
        (MLP(), (torch.randn(3, 16),), {"on_fallback": "loud"}, "'loud'(.|\n)*warn, raise, ignore"),
        (MLP(), (torch.randn(3, 16),), {"target": "sse2"}, "unknown target 'sse2'"),
    ],
)
def test_bad_arguments(model: Any, inputs: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(lower86.Lower86Error, match=message) as caught:
        lower86.lower_pt2e_quantized_to_x86(model, inputs, **options)
    assert "what to do:" in str(caught.value)


def test_an_exported_program_is_not_a_module() -> None:
    program = torch.export.export(MLP().eval(), (torch.randn(3, 16),))
    with pytest.raises(lower86.ExportError, match=r"got ExportedProgram(.|\n)*\.module\(\)"):
        lower86.lower_pt2e_quantized_to_x86(program, (torch.randn(3, 16),))


def test_a_cpu_without_the_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "host_features", lambda: {"sse4.2": True})
    with pytest.raises(lower86.TargetError, match=r"lacks (.|\n)*what to do: run on"):
        lower(MLP().eval(), torch.randn(3, 16))


@pytest.fixture(scope="module")
def lowered() -> LoweredModule:
    torch.manual_seed(0)
    return lower(Linear(8, 4), grid(3, 8))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "got 0 positional"),
        ((grid(3, 8), grid(3, 8)), "got 2 positional"),
        ((grid(3, 9),), r"shape \[3, 9\], the program takes \[3, 8\]"),
        ((grid(4, 8),), r"shape \[4, 8\]"),
        ((grid(8),), r"shape \[8\]"),
        ((grid(0, 8),), r"shape \[0, 8\]"),
        ((grid(3, 8).double(),), r"torch.float64, expected torch.float32(.|\n)*x\.to\(torch\.float32\)"),
        ((grid(3, 8).int(),), "torch.int32, expected torch.float32"),
        ((grid(3, 8).to(torch.complex64),), "complex64"),
        ((torch.empty(3, 8, device="meta"),), "on meta"),
        ((grid(3, 8).to_sparse(),), r"sparse_coo tensor(.|\n)*to_dense"),
        ((np.zeros((3, 8), np.float32),), r"numpy\.ndarray, not a torch\.Tensor(.|\n)*torch\.from_numpy"),
        (([[0.0] * 8] * 3,), "list"),
        ((None,), "NoneType"),
        ((1.0,), "float"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_bad_calls(lowered: LoweredModule, given: tuple[Any, ...], message: str) -> None:
    with pytest.raises(lower86.InputError, match=message) as caught:
        lowered(*given)
    assert "where:" in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_indices_out_of_range() -> None:
    ids = torch.randint(0, 50, (2, 5))
    model = quantize(Embedding(), (ids,))
    lowered = lower(model, ids)
    expected = lowered(ids)
    for bad in (50, -1, 2**40, -(2**63)):
        wrong = ids.clone()
        wrong[1, 3] = bad
        with pytest.raises(
            lower86.InputError, match=rf"index {bad} is out of range for a dimension of size 50"
        ) as caught:
            lowered(wrong)
        assert re.fullmatch(
            r"node embedding, module tokens, small\.py:\d+: x = self\.tokens\(ids\) .*", caught.value.where
        )
    near(lowered(ids), expected)


class Around(nn.Module):
    """Two int8 linears around something that no kernel computes."""

    def __init__(self, middle: Any) -> None:
        super().__init__()
        self.first, self.second, self.middle = Linear(8, 8), Linear(8, 8), middle

    def forward(self, x: Tensor) -> Any:
        return self.second(self.middle(self.first(x)) + x)


FOREIGN = {
    "topk": (lambda y: torch.topk(y, 8).values, "topk"),
    "sort, both results": (lambda y: torch.sort(y).values + torch.sort(y).indices, "sort"),
    "linalg": (lambda y: torch.linalg.inv(y[:, :3] + 1e3 * torch.eye(3)) @ y, "linalg_inv_ex"),
    "bucketize": (lambda y: torch.bucketize(y, torch.tensor([-1.0, 0.0, 1.0])) * 2, "bucketize"),
    "median": (lambda y: y - y.median(1, keepdim=True).values, "median"),
    "distances": (lambda y: torch.cdist(y, y) @ y, "_cdist_forward"),
    "a view inside": (lambda y: torch.sort(y.t()[2:7].t()).values.sum(1, keepdim=True), "sort"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_step_is_right_and_reported(name: str) -> None:
    middle, operator = FOREIGN[name]
    model, x = Around(middle), grid(3, 8)
    lowered, (message,) = warned(model, x)
    assert operator in message
    assert "test_bad_input.py" in message
    agree(model, lowered, x, compare=near)
    explanation = lower86.explain(lowered)
    assert explanation.int8_fraction == 1
    assert any(operator in step.operator for step in explanation.foreign)
    assert operator in str(explanation)


def test_values_that_programs_do_not_hold_are_foreign() -> None:
    model, x = Around(lambda y: torch.fft.ifft(torch.fft.fft(y)).real.clone()), grid(3, 8)
    agree(model, lower_anyhow(model, x), x, compare=near)


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16])
def test_foreign_steps_on_narrow_floats(dtype: torch.dtype) -> None:
    model, x = Around(lambda y: torch.sort(y.to(dtype), -1).values.float()), grid(3, 8)
    lowered = lower_anyhow(model, x)
    assert len(lower86.explain(lowered).foreign) == 1
    agree(model, lowered, x, compare=near)


@pytest.mark.parametrize(
    "result",
    [lambda y: (y > 0).nonzero(), lambda y: y[y > 0], lambda y: y * y.sum().item()],
    ids=["nonzero", "boolean index", "item"],
)
def test_sizes_that_depend_on_data(result: Any) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = Linear(8, 8)

        def forward(self, x: Tensor) -> Any:
            return result(self.linear(x))

    with pytest.raises(lower86.GraphError, match=r"depends? on data"):
        lower_anyhow(Model(), grid(3, 8))


class Product(nn.Module):
    """A product of a quantized activation with one that is not, after a quantized linear."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return U8(self.linear(x)) @ x.reshape(8, 3)


def test_a_product_with_a_float_stays_float_with_a_reason() -> None:
    model, x = Product(), grid(3, 8)
    lowered, (message,) = warned(model, x)
    assert "only one operand of the product is quantized" in message
    agree(model, lowered, x, compare=near)
    linear, product = lower86.explain(lowered).operators
    assert (linear.is_int8, product.is_int8) == (True, False)
    assert (linear.macs, product.macs) == (3 * 8 * 8, 3 * 3 * 8)
    with pytest.raises(lower86.FallbackError, match="only one operand of the product"):
        lower(model, x)


def test_errors_survive_pickling() -> None:
    import pickle

    error = lower86.InputError("what", where="where", fix="fix")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is lower86.InputError
    assert str(again) == str(error) == "what\n  where: where\n  what to do: fix"
