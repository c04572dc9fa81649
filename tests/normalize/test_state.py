"""Writes to buffers: before, as a function; after, as text. The lowered module's tensors are its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import lower86
from lower86.graph.edit import constant_of
from lower86.graph.state import is_state, writes
from lower86.graph.text import text_of
from lower86.normalize import normalize
from tests.normalize.graphs import graph_of, text

X = torch.randn(2, 3)


def normal(function: object, *constants: Tensor) -> str:
    module = graph_of(function, X, constants=constants)
    normalize(module)
    return text_of(module).strip()


def test_a_write_stands_at_the_end() -> None:
    def function(x: Tensor, c: Tensor) -> Tensor:
        c.add_(x)
        return c * 2

    assert normal(function, torch.zeros(2, 3)) == text("""
        inputs_0: f32[2, 3]
        %0: f32[2, 3] = add(c0, inputs_0)
        copy_(c0, %0)
        %1: f32[2, 3] = mul(%0, 2)
        return [%1]""")


def test_old_values_that_are_still_wanted_are_copied() -> None:
    def function(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        old = a.clone()
        a.copy_(b)
        b.copy_(old)
        return old.t()

    assert normal(function, torch.zeros(2, 3), torch.ones(2, 3)) == text("""
        inputs_0: f32[2, 3]
        %0: f32[2, 3] = clone(c1)
        copy_(c0, %0)
        %1: f32[2, 3] = clone(c0)
        copy_(c1, %1)
        %2: f32[3, 2] = permute(c0, [1, 0])
        %3: f32[3, 2] = clone(%2)
        return [%3]""")


def test_equal_state_is_not_shared_nor_folded() -> None:
    """Two caches of zeros are two caches, and a product with one is no constant."""

    def function(x: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        result = a * 2 + b * 3 + c * 4
        a.add_(x)
        b.sub_(x)
        return result

    module = graph_of(function, X, constants=(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 3)))
    normalize(module)
    states = [state for state, _ in writes(module.graph)]
    assert sorted(str(state.target) for state in states) == ["c0", "c1"]
    assert all(is_state(state) and constant_of(module, state) is None for state in states)
    constants = [n for n in module.graph.nodes if n.op == "get_attr" and not is_state(n)]
    assert [str(n.target) for n in constants] == ["_folded_0"]


def test_the_models_tensors_are_not_written() -> None:
    def function(x: Tensor, c: Tensor) -> Tensor:
        return c.add_(x) + 1

    buffer = torch.zeros(2, 3)
    module = graph_of(function, X, constants=(buffer,))
    assert module.c0 is buffer
    normalize(module)
    module.recompile()
    module(X)
    assert not buffer.any()
    assert torch.equal(module.c0, X)


def test_a_write_to_an_input_is_refused() -> None:
    def function(x: Tensor) -> Tensor:
        return x.add_(1) * 2

    with pytest.raises(lower86.GraphError, match="its input 'inputs_0'"):
        normalize(graph_of(function, X))
