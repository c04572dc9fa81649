"""What `graph/pytrees.py` reads of torch's internals is there and means what it should. Tells when torch moves."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule
from torch.fx.graph import _PyTreeInfo
from torch.utils import _pytree as pytree

import lower86
from lower86.graph.pytrees import Signature, signature_of, specs_copied_quietly


class Nested(nn.Module):
    """Positional, nested and keyword arguments; a dict as result."""

    def forward(self, x: Tensor, more: dict[str, Tensor], *, scale: Tensor) -> dict[str, Any]:
        return {"sum": x + more["a"] * scale, "rest": [more["b"] * 2, None]}


@pytest.fixture(scope="module")
def program() -> torch.export.ExportedProgram:
    x = torch.ones(2)
    return torch.export.export(Nested(), (x, {"a": x, "b": x}), {"scale": x}, strict=True)


@pytest.fixture(scope="module")
def signature(program: torch.export.ExportedProgram) -> Signature:
    return signature_of(program.module().graph)


def test_the_fields_that_are_read_exist() -> None:
    assert _PyTreeInfo._fields == ("orig_args", "in_spec", "out_spec")


def test_an_exported_module_has_its_signature(program: torch.export.ExportedProgram, signature: Signature) -> None:
    graph = program.module().graph
    assert hasattr(graph._codegen, "pytree_info")
    assert signature.names[:2] == ("x", "more")
    assert signature.inputs == program.call_spec.in_spec
    assert signature.outputs == program.call_spec.out_spec


def test_the_specs_have_the_methods_that_are_used(signature: Signature) -> None:
    assert signature.inputs.num_children == 2
    assert signature.inputs.child(0).num_children == 2
    assert signature.inputs.child(1).context == ["scale"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert signature.inputs.child(0).flatten_up_to((1, {"b": 3, "a": 2})) == [1, 2, 3]


def test_flatten_orders_names_and_keys(signature: Signature) -> None:
    expected = [1, 2, 3, 4]
    assert signature.flatten((1, {"a": 2, "b": 3}), {"scale": 4}) == expected
    assert signature.flatten((1, {"b": 3, "a": 2}), {"scale": 4}) == expected
    assert signature.flatten((), {"scale": 4, "more": {"a": 2, "b": 3}, "x": 1}) == expected


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((1,), {"scale": 4}), ((1, {"a": 2}), {"scale": 4}), ((1, {"a": 2, "b": 3}), {}),
     ((1, {"a": 2, "b": 3}, 4), {}), ((1, {"a": 2, "b": 3}), {"scale": 4, "x": 1}), ((1, [2, 3]), {"scale": 4})],
)  # fmt: skip
def test_flatten_refuses_other_nestings(signature: Signature, args: Any, kwargs: Any) -> None:
    with pytest.raises(lower86.InputError, match=r"does not fit(.|\n)*\(x, more, scale=\)"):
        signature.flatten(args, kwargs)


def test_unflatten(signature: Signature) -> None:
    assert signature.unflatten([1, 2, None]) == {"sum": 1, "rest": [2, None]}


def test_a_graph_without_a_signature() -> None:
    graph = Graph()
    x, y = graph.placeholder("x"), graph.placeholder("y")
    graph.output((x, [y, x]))
    signature = signature_of(graph)
    assert signature.names == ("x", "y")
    assert signature.flatten((1,), {"y": 2}) == [1, 2]
    first, second = signature.unflatten([1, 2, 3])
    assert (first, list(second)) == (1, [2, 3])


def test_copying_a_spec_is_quiet() -> None:
    spec = pytree.tree_structure(((1, [2]), {}))
    with warnings.catch_warnings(), specs_copied_quietly():
        assert copy.deepcopy(spec) == spec
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with specs_copied_quietly():
            copy.deepcopy(spec)


def test_every_graph_module_has_a_class_of_its_own() -> None:
    """LoweredModule gives its class a `forward`; that must not reach another module."""
    graph = Graph()
    graph.output(graph.placeholder("x"))
    first, second = GraphModule(nn.Module(), graph), GraphModule(nn.Module(), graph)
    assert type(first) is not type(second)
    assert "forward" in vars(type(first))
