"""Which configuration holds for which operator: for everything, for module names and types, for operators."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..errors import Lower86Error
from .attention import is_attention
from .configuration import QuantizationConfig
from .recurrent import recurrent_operator

_A = torch.ops.aten
_WRITTEN_OTHERWISE = {"truediv": "div", "iadd": "add", "_scaled_dot_product_attention": "scaled_dot_product_attention"}

Config = QuantizationConfig | None


class Settings:
    """Configurations and where they hold; None leaves float.

    Of several that fit an operator, one for its module's name decides before one for the operator itself, that before
    one for its module's type, and that before the global one. Of two of a kind the innermost module's decides, then the
    later setting.
    """

    def __init__(self) -> None:
        self.everywhere: Config = QuantizationConfig()
        self.names: dict[str, Config] = {}
        self.types: dict[str, Config] = {}
        self.operators: dict[Any, Config] = {}
        self._found: set[str] = set()

    def configs(self) -> list[QuantizationConfig]:
        """All configurations that may hold somewhere."""
        given = (self.everywhere, *self.names.values(), *self.types.values(), *self.operators.values())
        return [config for config in given if config is not None]

    def config_of(self, node: Node) -> Config:
        """What holds for `node`."""
        for name in _names_of(node):
            for pattern in reversed(self.names):
                if fnmatchcase(name, pattern):
                    return self.names[pattern]
        for packet in _packets_of(node):
            if packet in self.operators:
                return self.operators[packet]
        for _, kind in reversed(modules_of(node)):
            if kind in self.types:
                return self.types[kind]
        return self.everywhere

    def check_names(self, module: GraphModule) -> None:
        """Raises Lower86Error for a module name that fits no operator of the model, with names that are near."""
        known = sorted({name for node in _all_nodes(module) for name in _names_of(node) if name})
        for pattern in self.names:
            if any(fnmatchcase(name, pattern) for name in ("", *known)):
                self._found.add(pattern)
            # Found once is enough: torchao comes back with the bodies of loops, which hold a part of the names.
            if pattern not in self._found:
                raise Lower86Error(
                    f'no operator of the model comes from a module named "{pattern}"',
                    where="X86Quantizer.set_module_name",
                    fix=_advice(pattern, known),
                )


def _advice(pattern: str, known: list[str]) -> str:
    within = [name for name in known if f".{name}".endswith(f".{pattern}")]
    near = within or difflib.get_close_matches(pattern, known, n=3, cutoff=0.5)
    if not near:
        near = [name for name in known if pattern.strip("*.") in name]
    if not near:
        return f"its modules are {', '.join(known[:8])}{', …' if len(known) > 8 else ''}" if known else "use set_global"
    hint = f'; "*.{pattern}" fits all of that name' if len(within) > 1 else ""
    return f"did you mean {', '.join(near[:3])}?{hint}"


def _all_nodes(module: GraphModule) -> Iterable[Node]:
    for part in module.modules():
        if isinstance(part, GraphModule):
            yield from part.graph.nodes


def _names_of(node: Node) -> list[str]:
    """The names of the modules that a node comes from and of the containers they are in, innermost first."""
    names: dict[str, None] = {}
    for name, _ in reversed(modules_of(node)):
        parts = name.split(".")
        names.update(dict.fromkeys(".".join(parts[:length]) for length in range(len(parts), 0, -1)))
    return list(names)


def _packets_of(node: Node) -> tuple[Any, ...]:
    """The operators that a setting may name to mean `node`; a part of what is spelled out is both."""
    if is_attention(node):
        return (_A.scaled_dot_product_attention, _A.matmul)
    layer = recurrent_operator(node)
    if layer is not None:
        return (layer.overloadpacket, getattr(node.target, "overloadpacket", None))
    return (getattr(node.target, "overloadpacket", None),)


def modules_of(node: Node) -> list[tuple[str, str]]:
    """Name and qualified type of the modules that a node comes from, outermost first; one called twice has one name."""
    found = []
    for name, kind in (node.meta.get("nn_module_stack") or {}).values():
        name = re.sub(r"@\d+", "", name.removeprefix("L['self'].").removeprefix("L['self']"))
        found.append((name, kind if isinstance(kind, str) else type_name(kind)))
    return found


def type_name(kind: type) -> str:
    """A module type as export writes it."""
    return f"{kind.__module__}.{kind.__qualname__}"


def operator_packet(operator: Callable[..., Any], known: Iterable[Any]) -> Any:
    """The ATen operator that a function is known as, in all its overloads.

    Takes an overload, an operator or a Python function (`torch.matmul`, `torch.nn.functional.linear`, `operator.add`).
    Raises Lower86Error if it is not among the `known` overloads.
    """
    packets = {overload.overloadpacket for overload in known}
    if isinstance(operator, torch._ops.OpOverload):
        packet: Any = operator.overloadpacket
    elif isinstance(operator, torch._ops.OpOverloadPacket):
        packet = operator
    else:
        name = getattr(operator, "__name__", str(operator))
        packet = getattr(_A, _WRITTEN_OTHERWISE.get(name, name), None)
    if packet in packets:
        return packet
    names = sorted(name for one in packets if not (name := one.__name__).startswith("_"))
    asked = getattr(operator, "__name__", str(operator))
    near = difflib.get_close_matches(asked, names, n=3)
    raise Lower86Error(
        f"{asked} is no operator that X86Quantizer quantizes",
        where="X86Quantizer.set_function_type",
        fix=f"did you mean {', '.join(near)}?" if near else f"it quantizes {', '.join(names)}",
    )
