"""What is to stay in float: modules by name, glob or type, operators by function."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch.fx import GraphModule

from ..errors import Lower86Error
from ..frontend.annotate import OPERATORS
from ..frontend.quantizer import X86Quantizer
from ..frontend.settings import modules_of, operator_packet, type_name


def leave_out(quantizer: Any, ignored: Any, model: GraphModule) -> Any:
    """The quantizer, told to leave what is `ignored` in float; the caller's own is not changed.

    Raises Lower86Error for what matches nothing in the model, with what is near, and for a quantizer of another kind.
    """
    entries = list(ignored) if isinstance(ignored, Iterable) and not isinstance(ignored, (str, type)) else [ignored]
    if not entries:
        return quantizer
    if not isinstance(quantizer, X86Quantizer):
        raise Lower86Error(
            f"a {type(quantizer).__name__} cannot be told what to ignore",
            where="ignored",
            fix="tell it by its own methods, or use lower86.X86Quantizer",
        )
    chosen = copy.deepcopy(quantizer)
    names, kinds, packets = _known(model)
    for entry in entries:
        if isinstance(entry, str):
            if not any(fnmatchcase(name, entry) for name in names):
                _refuse(f'the name "{entry}"', entry, names)
            chosen.set_module_name(entry, None)
        elif isinstance(entry, type) and issubclass(entry, torch.nn.Module):
            if type_name(entry) not in kinds:
                _refuse(f"the type {entry.__name__}", entry.__name__, {kind.rpartition(".")[2] for kind in kinds})
            chosen.set_module_type(entry, None)
        elif callable(entry):
            packet = operator_packet(entry, OPERATORS)
            if packet not in packets:
                found = {
                    operator.overloadpacket.__name__ for operator in OPERATORS if operator.overloadpacket in packets
                }
                _refuse(f"the function {packet.__name__}", packet.__name__, found)
            chosen.set_function_type(entry, None)
        else:
            raise Lower86Error(
                f"{entry!r} names nothing to ignore",
                where="ignored",
                fix="give names or globs of modules, types of modules, or functions such as torch.matmul",
            )
    return chosen


def _known(model: GraphModule) -> tuple[set[str], set[str], set[Any]]:
    """Names of modules and of the containers they are in, types of modules, and operators of a graph."""
    names: set[str] = set()
    kinds: set[str] = set()
    packets: set[Any] = set()
    for part in model.modules():
        for node in part.graph.nodes if isinstance(part, GraphModule) else ():
            packets.add(getattr(node.target, "overloadpacket", None))
            for name, kind in modules_of(node):
                kinds.add(kind)
                parts = name.split(".")
                names.update(".".join(parts[:length]) for length in range(1, len(parts) + 1) if name)
    return names, kinds, packets


def _refuse(what: str, asked: str, known: Iterable[str]) -> None:
    choices = sorted(known)
    near = difflib.get_close_matches(asked, choices, n=3, cutoff=0.5)
    near = near or [name for name in choices if name.rpartition(".")[2] == asked.strip("*.")][:3]
    listed = f"the model has {', '.join(choices[:8])}{', …' if len(choices) > 8 else ''}" if choices else "leave it out"
    fix = f"did you mean {', '.join(near)}?" if near else listed
    raise Lower86Error(f"{what} matches nothing in the model", where="ignored", fix=fix)
