"""Editing a lowered graph: `recompile()` discards the program, and the next call compiles the edited graph."""

from __future__ import annotations

import operator

import pytest
import torch
from torch.fx import Node

import lower86
from lower86.lowered import LoweredModule
from tests.models.checks import lower, near, same
from tests.models.qdq import Linear, grid

A = torch.ops.aten


@pytest.fixture
def lowered() -> LoweredModule:
    return lower(torch.nn.Sequential(Linear(16, 16), torch.nn.ReLU()), grid(3, 16))


def find(module: LoweredModule, target: object) -> Node:
    (node,) = [n for n in module.graph.nodes if n.target is target]
    return node


def output(module: LoweredModule) -> Node:
    (node,) = [n for n in module.graph.nodes if n.op == "output"]
    return node


@pytest.mark.parametrize(
    ("target", "meaning"),
    [(A.neg.default, torch.neg), (torch.abs, torch.abs), (operator.neg, torch.neg), (A.t.default, torch.t)],
    ids=["aten", "torch function", "operator", "another shape"],
)
def test_a_new_node_without_metadata(lowered: LoweredModule, target: object, meaning: object) -> None:
    x = grid(3, 16)
    before, program = lowered(x), lowered.program
    relu = find(lowered, A.relu.default)
    with lowered.graph.inserting_after(relu):
        added = lowered.graph.call_function(target, (relu,))
    relu.replace_all_uses_with(added, lambda user: user is not added)
    same(lowered(x), before)  # nothing happens before recompile
    lowered.recompile()
    same(lowered(x), meaning(before))
    assert lowered.program is not program
    near(lowered.run_reference(x), meaning(before))


def test_a_new_constant(lowered: LoweredModule) -> None:
    x = grid(3, 16)
    before = lowered(x)
    lowered.register_buffer("offset", torch.full((16,), 2.0))
    relu = find(lowered, A.relu.default)
    with lowered.graph.inserting_after(relu):
        constant = lowered.graph.get_attr("offset")
    with lowered.graph.inserting_after(constant):
        added = lowered.graph.call_function(A.add.Tensor, (relu, constant))
    relu.replace_all_uses_with(added, lambda user: user is not added)
    lowered.recompile()
    same(lowered(x), before + 2)


def test_a_removed_node(lowered: LoweredModule) -> None:
    x = grid(3, 16)
    relu = find(lowered, A.relu.default)
    relu.replace_all_uses_with(relu.args[0])
    lowered.graph.erase_node(relu)
    lowered.recompile()
    assert lowered(x).min() < 0
    assert len(lower86.explain(lowered).operators) == 1


def test_explain_forgets_a_removed_contraction(lowered: LoweredModule) -> None:
    (x,) = [n for n in lowered.graph.nodes if n.op == "placeholder"]
    find(lowered, A.relu.default).args = (x,)
    lowered.graph.eliminate_dead_code()
    lowered.recompile()
    inputs = grid(3, 16)
    same(lowered(inputs), inputs.relu())
    assert lower86.explain(lowered).operators == ()
    assert "lower86.int8_linear" not in lowered.code


def test_changed_weights_are_compiled_in(lowered: LoweredModule) -> None:
    x = grid(3, 16)
    before = lowered(x)
    for tensor in lowered.buffers():
        if tensor.dtype == torch.int8:
            tensor.zero_()
    same(lowered(x), before)
    lowered.recompile()
    assert not torch.equal(lowered(x), before)
    near(lowered(x), lowered.run_reference(x))


def test_two_outputs(lowered: LoweredModule) -> None:
    x = grid(3, 16)
    before = lowered(x)
    lowered.graph._codegen = torch.fx.graph.CodeGen()
    relu = find(lowered, A.relu.default)
    output(lowered).args = ((relu, [relu]),)
    lowered.recompile()
    first, (second,) = lowered(x)
    same((first, second), (before, before))
    assert first.data_ptr() != second.data_ptr()


@pytest.mark.parametrize("kind", ["call_method", "call_module"])
def test_nodes_that_no_program_holds_are_named(lowered: LoweredModule, kind: str) -> None:
    relu = find(lowered, A.relu.default)
    lowered.add_module("extra", torch.nn.Sigmoid())
    with lowered.graph.inserting_after(relu):
        add = getattr(lowered.graph, kind)
        added = add("neg" if kind == "call_method" else "extra", (relu,))
    relu.replace_all_uses_with(added, lambda user: user is not added)
    lowered.recompile()
    with pytest.raises(lower86.GraphError, match=added.name):
        lowered(grid(3, 16))


def test_an_operator_that_fails_on_examples_is_named(lowered: LoweredModule) -> None:
    relu = find(lowered, A.relu.default)
    with lowered.graph.inserting_after(relu):
        added = lowered.graph.call_function(A.mm.default, (relu, relu))
    relu.replace_all_uses_with(added, lambda user: user is not added)
    lowered.recompile()
    with pytest.raises(lower86.GraphError, match="mm"):
        lowered(grid(3, 16))
