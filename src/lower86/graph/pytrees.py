"""How a graph's flat inputs and outputs are nested for its caller. The one place that reads torch.fx's private codegen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.fx import Graph
from torch.utils import _pytree as pytree

from ..errors import InputError


@dataclass(frozen=True)
class Signature:
    """Names of the positional arguments, and the specs of (args, kwargs) and of the result."""

    names: tuple[str, ...]
    inputs: Any
    outputs: Any

    def flatten(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """The flat inputs of a call. Raises InputError if it is not nested as the example was."""
        positional, named = self.inputs.children()
        count, wanted = positional.num_children, list(named.context or [])
        given = list(args)
        extra = dict(kwargs)
        for name in self.names[len(given) : count]:
            if name in extra:
                given.append(extra.pop(name))
        ordered = {name: extra.pop(name) for name in wanted if name in extra}
        leaves, spec = pytree.tree_flatten((tuple(given), ordered))
        if extra or spec != self.inputs:
            unknown = f"; unknown: {', '.join(extra)}" if extra else ""
            expected = ", ".join([*self.names[:count], *(f"{n}=" for n in wanted)])
            raise InputError(
                f"the call does not fit: got {len(args)} positional arguments and {sorted(kwargs)} by name{unknown}",
                where=f"the lowered module takes ({expected})",
                fix="call it as the quantized model was called with example_inputs: same arguments, same nesting",
            )
        return leaves

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """The result nested as the model's."""
        return pytree.tree_unflatten(list(leaves), self.outputs)


def signature_of(graph: Graph) -> Signature:
    """The graph's signature. A graph without one takes its placeholders and returns its output as it stands."""
    info = getattr(graph._codegen, "pytree_info", None)
    if info is None:
        names = tuple(str(n.target) for n in graph.nodes if n.op == "placeholder")
        (output,) = [n for n in graph.nodes if n.op == "output"]
        spec = pytree.tree_structure((tuple(names), {}))
        return Signature(names, spec, pytree.tree_structure(output.args[0]))
    names = tuple(name for name in info.orig_args if name != "self")
    outputs = info.out_spec
    if outputs is None:
        (output,) = [n for n in graph.nodes if n.op == "output"]
        outputs = pytree.tree_structure(output.args[0])
    return Signature(names, info.in_spec, outputs)
