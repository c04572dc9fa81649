"""What the forms of the graph promise is checked."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.export import Dim

from lower86.errors import GraphError
from lower86.graph.arguments import shape_of
from lower86.graph.forms import INT8, NORMAL, Form, check
from lower86.normalize import normalize
from tests.normalize.graphs import graph_of


@pytest.mark.parametrize("form", [NORMAL, INT8])
def test_a_symbol_among_the_arguments_is_found(form: Form) -> None:
    def function(x: Tensor) -> Tensor:
        return x.exp()

    module = graph_of(function, torch.randn(4, 6), dynamic_shapes=(({0: Dim("n", max=9)},),))
    normalize(module)
    check(module, form)
    (node,) = (node for node in module.graph.nodes if node.target == torch.ops.aten.exp.default)
    node.args = (node.args[0], [*shape_of(node)])
    with pytest.raises(GraphError, match="no_symbols"):
        check(module, form)
