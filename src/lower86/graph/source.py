"""Where in the user's code a node comes from."""

from __future__ import annotations

import os
from traceback import FrameSummary
from typing import Any

import torch
from torch.fx import Node


def module_of(node: Node) -> str:
    """The dotted name of the innermost module that made the node, or ""."""
    stack = node.meta.get("nn_module_stack") or {}
    names = [str(entry[0] if isinstance(entry, tuple) else entry) for entry in stack.values()]
    name = names[-1] if names else ""
    return name.removeprefix("L['self'].").removeprefix("L['self']")


def line_of(node: Node) -> str:
    """`file:line: code` of the user's innermost frame, or ""."""
    trace = node.meta.get("stack_trace") or ""
    lines = [line.strip() for line in trace.strip().splitlines()]
    for i in range(len(lines) - 1, -1, -1):
        if lines[i].startswith('File "'):
            parts = lines[i].split('"')
            number = lines[i].split("line ")[1].split(",")[0] if "line " in lines[i] else "?"
            code = lines[i + 1] if i + 1 < len(lines) else ""
            return f"{parts[1].rsplit('/', 1)[-1]}:{number}: {code}"
    return ""


def line_of_guard(guard: Any) -> str:
    """The user's line that made a guard of torch's shape environment, as `line_of` gives a node's, or ""."""
    known = guard.sloc.maybe_user_loc  # "code  # folder/file:line in function"
    if known is not None:
        code, _, place = known.rpartition("  # ")
        return f"{os.path.basename(place.partition(' in ')[0])}: {code}"
    frame = guard.sloc.framework_loc
    if not isinstance(frame, FrameSummary) or frame.filename.startswith((os.path.dirname(torch.__file__), "<")):
        return ""
    return f"{os.path.basename(frame.filename)}:{frame.lineno}: {frame.line}"


def describe(node: Node) -> str:
    """The node's name, module and source line, for messages."""
    parts = [f"node {node.name}"]
    if module_of(node):
        parts.append(f"module {module_of(node)}")
    if line_of(node):
        parts.append(line_of(node))
    return ", ".join(parts)
