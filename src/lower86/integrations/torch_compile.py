"""`torch.compile(model, backend="lower86")`: graphs that dynamo captures, quantized or float, run in generated code.

dynamo hands over a graph whose parameters, buffers, sizes and floats are inputs. Parameters and buffers are *fixed*
here: weights become packed constants, and every call makes sure that they are the same tensors, unchanged; a size
follows from the shape of a tensor; any other number is fixed to its value. Where something fixed has changed, the graph
is lowered again, a few times. What cannot be lowered runs as it is in PyTorch, with a warning that says why.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from ..codegen.target import resolve_target
from ..errors import Lower86Error, Lower86Warning
from ..frontend.export import export_module
from ..lowered import LoweredModule, report_fallbacks
from ..lowering import lower_exported

_OPTIONS = ("on_fallback", "target")
_MOST_LOWERINGS = 8
"""How often one graph is lowered before it is left to PyTorch: each time takes as long as the first."""


def backend(
    graph_module: GraphModule, example_inputs: Sequence[Any], *, options: Mapping[str, Any] | None = None
) -> Callable[..., Any]:
    """A backend for `torch.compile`; `options` are `on_fallback` and `target` of `lower_pt2e_quantized_to_x86`.

    With gradients wanted, for state that the model writes to, and where lowering fails, the graph runs in PyTorch and
    `Lower86Warning` says so; with `on_fallback="raise"`, the error is raised. Raises Lower86Error for other options.
    """
    unknown = set(options or {}) - set(_OPTIONS)
    if unknown:
        raise Lower86Error(f"unknown options {sorted(unknown)}", where="torch.compile", fix=f"there are {_OPTIONS}")
    return CompiledFrame(graph_module, dict(options or {}))


class CompiledFrame:
    """A captured graph that is lowered when it is first called."""

    def __init__(self, graph_module: GraphModule, options: dict[str, Any]) -> None:
        self._graph_module, self._options = graph_module, options
        self._inputs = _Inputs(graph_module)
        self._fixed: list[tuple[int, object]] | None = None
        self._held: list[Any] = []
        self.lowered: LoweredModule | None = None
        self._lowerings = 0

    def __call__(self, *args: Any) -> Any:
        """What the graph gives for dynamo's arguments."""
        if torch.is_grad_enabled() and any(isinstance(arg, Tensor) and arg.requires_grad for arg in args):
            return self._in_pytorch("gradients are wanted", "call it within torch.no_grad()", args)
        fixed = [_identity(args[i]) for i in self._inputs.fixed]
        if fixed != self._fixed:
            if self._lowerings == _MOST_LOWERINGS and self.lowered is None:
                return self._graph_module(*args)
            if self._lowerings == _MOST_LOWERINGS:
                return self._in_pytorch("its weights or numbers keep changing", "pass what changes as tensors", args)
            self._fixed, self._held = fixed, [args[i] for i in self._inputs.fixed]  # no other tensor gets their address
            self._lowerings += 1
            self.lowered = self._lower(args)
        if self.lowered is None:
            return self._graph_module(*args)
        return self.lowered(*(args[i] for i in self._inputs.free))

    def _lower(self, args: Sequence[Any]) -> LoweredModule | None:
        inputs, strict = self._inputs, self._options.get("on_fallback") == "raise"
        try:
            examples = tuple(args[i] for i in inputs.free)
            model, shapes = _Rejoined(self._graph_module, inputs, args), inputs.dynamic_shapes()
            exported = export_module(model, examples, dynamic_shapes=shapes, strict=False)
            lowered = lower_exported(exported, resolve_target(self._options.get("target")))
            report_fallbacks(lowered, self._options.get("on_fallback", "warn"), float_is_meant=True)
            written = [name for name, _ in lowered.named_state()]
            if written:
                raise Lower86Error(
                    f"the model writes to its own {written[0]}, which compiled code would not",
                    fix="lower the exported model with lower_pt2e_quantized_to_x86, which keeps state",
                )
        except Lower86Error as problem:
            if strict:
                raise
            self._lowerings = _MOST_LOWERINGS  # it would fail again
            warnings.warn(Lower86Warning(f"torch.compile: a graph runs in PyTorch: {problem}"), stacklevel=3)
            return None
        return lowered

    def _in_pytorch(self, why: str, fix: str, args: Sequence[Any]) -> Any:
        if self._options.get("on_fallback") == "raise":
            raise Lower86Error(f"a graph cannot run in compiled code: {why}", where="torch.compile", fix=fix)
        warnings.warn(Lower86Warning(f"torch.compile: a graph runs in PyTorch: {why}; {fix}"), stacklevel=3)
        return self._graph_module(*args)


class _Inputs:
    """Which of a captured graph's inputs are what: `fixed`, `free`, or sizes of the free ones."""

    def __init__(self, graph_module: GraphModule) -> None:
        self._values = [n.meta.get("example_value") for n in graph_module.graph.nodes if n.op == "placeholder"]
        nodes = [n for n in graph_module.graph.nodes if n.op == "placeholder"]
        self.free = [i for i, node in enumerate(nodes) if isinstance(self._values[i], Tensor) and not _is_fixed(node)]
        places: dict[str, tuple[int, int]] = {}
        for position, i in enumerate(self.free):
            for dim, size in enumerate(self._values[i].shape):
                places.setdefault(str(size), (position, dim))
        self.sizes = {
            i: places[str(value)]
            for i, value in enumerate(self._values)
            if isinstance(value, torch.SymInt) and str(value) in places
        }
        """For inputs that are sizes: of which free input, and of which dim of it."""
        self.fixed = [i for i in range(len(nodes)) if i not in self.free and i not in self.sizes]

    def dynamic_shapes(self) -> Any:
        """Which dims of the free inputs vary, as `torch.export` takes it for a function of `*inputs`."""
        dims = [
            {d: torch.export.Dim.AUTO for d, size in enumerate(self._values[i].shape) if isinstance(size, torch.SymInt)}
            for i in self.free
        ]
        return {"inputs": tuple(dims)} if any(dims) else None


class _Rejoined(torch.nn.Module):
    """The captured graph as a function of its free inputs alone."""

    def __init__(self, graph_module: GraphModule, inputs: _Inputs, args: Sequence[Any]) -> None:
        super().__init__()
        self._graph_module, self._free, self._sizes = graph_module, inputs.free, inputs.sizes
        self._count, self._numbers = len(args), {}
        for i in inputs.fixed:
            number = _number_of(args[i])
            if number is None:
                self.register_buffer(f"fixed_{i}", args[i].detach())
            else:
                self._numbers[i] = args[i] if not isinstance(args[i], Tensor) else args[i].clone()

    def forward(self, *inputs: Tensor) -> Any:
        """What the graph gives."""
        args: list[Any] = [self._numbers.get(i) for i in range(self._count)]
        for name, buffer in self.named_buffers():
            if name.startswith("fixed_"):
                args[int(name.removeprefix("fixed_"))] = buffer
        for i, value in zip(self._free, inputs, strict=True):
            args[i] = value
        for i, (position, dim) in self._sizes.items():
            args[i] = inputs[position].shape[dim]
        return self._graph_module(*args)


def _is_fixed(node: Node) -> bool:
    """Whether a tensor is the module's own (dynamo marks those), or a number that dynamo passes as a tensor."""
    details = node.meta.get("tensor_dict")
    return details is None or "_dynamo_static_input_type" in details


def _number_of(arg: Any) -> float | None:
    """The number that an input is, also where dynamo passes it as a tensor; None for other tensors."""
    if not isinstance(arg, Tensor):
        return float(arg)
    is_number = arg.ndim == 0 and arg.dtype == torch.float64 and not isinstance(arg, torch.nn.Parameter)
    return float(arg) if is_number else None


def _identity(arg: Any) -> tuple[int, object]:
    """Equal as long as the argument is what it was: a tensor's place and version, a number's value."""
    number = _number_of(arg)
    return (id(arg), arg._version) if number is None else (0, number)
