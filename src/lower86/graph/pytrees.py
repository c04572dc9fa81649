"""How a graph's inputs and outputs are nested for its caller. The one place that reads torch.fx's private codegen."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor
from torch.fx import Graph
from torch.utils import _pytree as pytree

from ..errors import InputError, UnsupportedError, first_line
from ..program.interface import Tree


@dataclass(frozen=True)
class Signature:
    """Names of the positional arguments, and the specs of (args, kwargs) and of the result."""

    names: tuple[str, ...]
    inputs: Any
    outputs: Any

    @cached_property
    def _is_plain(self) -> bool:
        """Whether every input is a positional argument of its own."""
        positional, named = self.inputs.child(0), self.inputs.child(1)
        return named.num_children == 0 and _holds_leaves(positional)

    @cached_property
    def _result(self) -> Any:
        """The type of the result where that is simple: `Tensor` for one leaf, tuple or list of leaves; else None."""
        if self.outputs.is_leaf():
            return Tensor
        simple = self.outputs.type in (tuple, list) and _holds_leaves(self.outputs)
        return self.outputs.type if simple else None

    def flatten(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """The flat inputs of a call; positional arguments may come by name, names and dict keys in any order.

        Raises InputError if the call is not nested as the example was.
        """
        if self._is_plain and not kwargs and len(args) == self.inputs.num_leaves:
            # What is nested here where the model takes a leaf is refused as no tensor.
            return list(args)
        positional, named = self.inputs.child(0), self.inputs.child(1)
        given, extra = list(args), dict(kwargs)
        for name in self.names[len(given) : positional.num_children]:
            if name not in extra:
                break
            given.append(extra.pop(name))
        try:
            return [*positional.flatten_up_to(tuple(given)), *named.flatten_up_to(extra)]
        except ValueError as problem:
            wanted = list(named.context or [])
            expected = ", ".join([*self.names[: positional.num_children], *(f"{name}=" for name in wanted)])
            by_name = f" and by name: {', '.join(kwargs)}" if kwargs else ""
            raise InputError(
                f"the call does not fit: got {len(args)} positional arguments{by_name} ({first_line(problem)})",
                where=f"the lowered module takes ({expected})",
                fix="call it as the quantized model was called with example_inputs: same arguments, same nesting",
            ) from problem

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """The result nested as the model's."""
        if self._result is Tensor:
            return leaves[0]
        if self._result is not None:
            return self._result(leaves)
        return pytree.tree_unflatten(list(leaves), self.outputs)


def _holds_leaves(spec: Any) -> bool:
    return all(spec.child(i).is_leaf() for i in range(spec.num_children))


def signature_of(graph: Graph) -> Signature:
    """The graph's signature. A graph without one takes its placeholders and returns its output as it stands."""
    info = getattr(graph._codegen, "pytree_info", None)
    if info is None:
        names = tuple(str(n.target) for n in graph.nodes if n.op == "placeholder")
        return Signature(names, pytree.tree_structure((names, {})), _nesting(graph))
    names = tuple(name for name in info.orig_args if name != "self")
    return Signature(names, info.in_spec, info.out_spec if info.out_spec is not None else _nesting(graph))


def _nesting(graph: Graph) -> Any:
    (output,) = [n for n in graph.nodes if n.op == "output"]
    return pytree.tree_structure(output.args[0])


def plain_tree(spec: Any, what: str) -> Tree:
    """What a spec says without Python's types: a named tuple is a tuple; ordered dicts, dataclasses, outputs of
    `transformers` are dicts of what they hold. Raises UnsupportedError for other containers; `what` names the value.
    """
    if spec.is_leaf():
        return Tree("leaf")
    children = tuple(plain_tree(spec.child(i), what) for i in range(spec.num_children))
    kind, context = spec.type, spec.context
    if kind in (tuple, list):
        return Tree(kind.__name__, children)
    if isinstance(context, type) and issubclass(context, tuple):
        return Tree("tuple", children)  # a named tuple
    if kind is defaultdict:
        context = context[1]
    elif isinstance(context, (list, tuple)) and len(context) == 2 and isinstance(context[0], list):
        context = context[0]  # a dataclass: the names of its fields, and of those that are None
    if isinstance(context, list) and len(context) == len(children):
        refused = [key for key in context if type(key) not in (str, int)]
        if not refused:
            return Tree("dict", children, tuple(context))
        problem = f"a dict with the key {refused[0]!r}"
    else:
        problem = f"a {getattr(kind, '__name__', kind)}"
    raise UnsupportedError(
        f"{what} {problem}, which a file cannot describe",
        where="lower86.save",
        fix="take and return tensors in tuples, lists, dataclasses, or dicts whose keys are strings or integers",
    )


@contextmanager
def specs_copied_quietly() -> Iterator[None]:
    """Without the warning that torch gives of itself whenever it copies a spec."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".isinstance\(treespec, LeafSpec\). is deprecated", FutureWarning)
        yield
