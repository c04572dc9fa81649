"""What goes in and comes out, nested in every way: the lowered module's calls are the quantized model's."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import lower86
from lower86.lowered import LoweredModule
from tests.models.checks import agree, lower, lower_anyhow, same
from tests.models.qdq import Linear, grid


@dataclass
class Result:
    """A dataclass that pytrees know."""

    logits: Tensor
    hidden: Tensor | None = None
    name: str = "result"


torch.export.register_dataclass(Result, serialized_type_name="tests.Result")


class Pair(NamedTuple):
    """A named tuple needs no registration."""

    first: Tensor
    second: Tensor


class Wrapped(nn.Module):
    """`linear(x)` in whatever nesting `wrap(linear's result, x, constant)` gives."""

    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.linear, self.wrap = Linear(8, 8), wrap
        self.register_buffer("constant", grid(8))

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.linear(x), x, self.constant)


ALONE = {
    "tensor": lambda y, x, c: y,
    "tuple of one": lambda y, x, c: (y,),
    "dataclass": lambda y, x, c: Result(y, x * 2),
    "only None": lambda y, x, c: None,
    "an input": lambda y, x, c: x,
    "nothing": lambda y, x, c: (),
}
TOGETHER = {
    "list": lambda y, x, c: [y, x * 2],
    "dict": lambda y, x, c: {"y": y, "b": {"c": x * 2}},
    "ordered dict": lambda y, x, c: OrderedDict(z=y, a=x + 1),
    "named tuple": lambda y, x, c: Pair(y, y * 2),
    "dataclass with None": lambda y, x, c: Result(y),
    "None inside": lambda y, x, c: (None, y, None),
    "int, float, str, bool": lambda y, x, c: (3, y, 0.5, "text", True),
    "size": lambda y, x, c: (y, x.shape[0], x.dim()),
    "an input, twice, and the result": lambda y, x, c: (x, x, y),
    "a constant": lambda y, x, c: (c, y),
    "a constant, twice": lambda y, x, c: [c, c],
    "the same twice": lambda y, x, c: (y, y),
    "a view of the result": lambda y, x, c: (y, y.t(), y[1:], y.reshape(-1)),
    "a view of an input": lambda y, x, c: (x.t(), y),
    "a view of a constant": lambda y, x, c: (c.reshape(2, 4), c.expand(3, 8), y),
    "integers and booleans": lambda y, x, c: (y > 0, (y * 100).to(torch.int64), y.to(torch.uint8).int()),
    "a scalar": lambda y, x, c: (y.sum(), y),
    "half precision": lambda y, x, c: (y.half(), y),
}


@pytest.mark.parametrize("name", ALONE)
def test_outputs(name: str) -> None:
    model, x = Wrapped(ALONE[name]), grid(3, 8)
    result = agree(model, lower_anyhow(model, x), x)
    assert type(result) is type(model(x))


def test_outputs_within_outputs() -> None:
    model, x = Wrapped(lambda y, x, c: {name: wrap(y, x, c) for name, wrap in TOGETHER.items()}), grid(3, 8)
    result = agree(model, lower_anyhow(model, x), x)
    for name, part in model(x).items():
        assert type(result[name]) is type(part), name


class Inputs(nn.Module):
    """A positional tensor, a dict, a list, an optional tensor, numbers, and keyword-only arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = Linear(8, 8)

    def forward(
        self, x: Tensor, more: dict[str, Tensor], rest: list[Tensor], mask: Tensor | None = None, factor: float = 1.0,
        *, bias: Tensor | None = None, flip: bool = False,
    ) -> Tensor:  # fmt: skip
        y = self.linear(x) + more["a"] * more["b"] + rest[0] - rest[1]
        y = y if mask is None else torch.where(mask, y, 0.0)
        y = y if bias is None else y + bias
        return (-y if flip else y) * factor


def sample() -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
    return grid(3, 8), {"a": grid(3, 8), "b": grid(8)}, [grid(3, 8), grid(3, 1)]


def test_nested_inputs() -> None:
    model, given = Inputs(), sample()
    lowered = lower(model, *given)
    agree(model, lowered, *given)
    x, more, rest = given
    expected = lowered(*given)
    same(lowered(x, OrderedDict(b=more["b"], a=more["a"]), rest), expected)
    same(lowered(x=x, more=more, rest=rest), expected)
    same(lowered(x, rest=rest, more=more), expected)


def test_keyword_arguments() -> None:
    model, given = Inputs(), sample()
    named = {"bias": grid(8), "flip": True, "mask": torch.rand(3, 8) < 0.5, "factor": 2.0}
    lowered = lower(model, *given, example_kwargs=named)
    agree(model, lowered, *given, **named)
    agree(model, lowered, *given, **dict(reversed(named.items())))


def test_an_optional_argument_given_as_none() -> None:
    model, given = Inputs(), sample()
    lowered = lower(model, *given, None, 0.5)
    same(lowered(*given, None, 0.5), lowered(*given, mask=None, factor=0.5))
    agree(model, lowered, *given, None, 0.5)


@pytest.fixture(scope="module")
def nested() -> LoweredModule:
    torch.manual_seed(0)
    return lower(Inputs(), *sample(), None, 0.5, example_kwargs={"bias": grid(8)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, k: (a[:2], k), "got 2 positional"),
        (lambda a, k: ((*a, 1), k), "got 6 positional"),
        (lambda a, k: (a, {}), "keyword|arity|keys"),
        (lambda a, k: (a, {**k, "other": 1}), "other|arity"),
        (lambda a, k: ((a[0], {"a": a[1]["a"]}, *a[2:]), k), "arity|keys"),
        (lambda a, k: ((a[0], {"a": a[1]["a"], "c": a[1]["b"]}, *a[2:]), k), "c"),
        (lambda a, k: ((a[0], a[1], tuple(a[2]), *a[3:]), k), "list"),
        (lambda a, k: ((*a[:3], torch.ones(3, 8) > 0, a[4]), k), "mask is Tensor, the model was lowered with None"),
        (lambda a, k: ((*a[:4], 0.75), k), "factor is 0.75, the model was lowered with 0.5"),
        (lambda a, k: ((*a[:4], True), k), "factor is True"),
        (lambda a, k: ((*a[:4], torch.tensor(0.5)), k), "factor is Tensor"),
        (lambda a, k: (([a[0]], *a[1:]), k), "x is a list, not a torch.Tensor"),
        (lambda a, k: ((None, *a[1:]), k), "x is a NoneType, not a torch.Tensor"),
    ],
)
def test_calls_that_do_not_fit(nested: LoweredModule, change: Any, message: str) -> None:
    args, kwargs = change((*sample(), None, 0.5), {"bias": grid(8)})
    with pytest.raises(lower86.InputError, match=message) as caught:
        nested(*args, **kwargs)
    assert "what to do:" in str(caught.value)
    assert "where:" in str(caught.value)


def test_no_inputs_at_all() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = Linear(8, 8)
            self.register_buffer("x", grid(2, 8))

        def forward(self) -> Tensor:
            return self.linear(self.x)

    model = Constant()
    agree(model, lower_anyhow(model))


def test_an_input_that_nothing_reads() -> None:
    class Ignores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = Linear(8, 8)

        def forward(self, x: Tensor, unused: Tensor, text: str) -> Tensor:
            return self.linear(x)

    model, given = Ignores(), (grid(2, 8), grid(3), "anything")
    agree(model, lower(model, *given), *given)
