"""The lowered module: a `torch.fx.GraphModule` whose graph is the INT8 graph and whose call runs the compiled program."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule

from .codegen.target import Target
from .errors import FallbackError, InputError, Lower86Warning, UnsupportedError
from .graph.edit import example
from .graph.forms import INT8, check
from .graph.pytrees import Signature, signature_of
from .int8.record import Record
from .program.sizes import evaluate
from .report.explain import Explanation
from .runtime.executable import Executable, bind_dims
from .schedule.schedule import Scheduled, schedule
from .schedule.symbols import TORCH_DTYPES

_FROZEN = "lower the quantized model again: its weights are packed constants of the compiled program"


@dataclass
class _Compiled:
    """The program of a graph and its machine code."""

    scheduled: Scheduled
    executable: Executable
    signature: Signature


class LoweredModule(GraphModule):
    """What `lower_pt2e_quantized_to_x86` returns.

    Calling it runs native code. With fake tensors, and inside torch.compile and torch.export, the graph is interpreted.
    After an edit of the graph, `recompile()` discards the program; the next call compiles the edited graph.
    """

    _interpreted: Callable[..., Any]

    def __init__(self, root: torch.nn.Module, graph: Graph, target: Target, records: tuple[Record, ...] = ()) -> None:
        # Plain attributes: nn.Module's own bookkeeping is for parameters and submodules.
        self.__dict__["_compiled"] = None
        super().__init__(root, graph, class_name="LoweredModule")
        self.__dict__.update(_target=target, _records=records, timings={})
        self.eval()

    def recompile(self) -> Any:
        """Regenerates the Python code of the graph, and discards the compiled program."""
        code = super().recompile()
        kind = type(self)
        kind._interpreted = kind.forward
        kind.forward = _forward  # type: ignore[method-assign]
        self.__dict__["_compiled"] = None
        return code

    def _ensure_compiled(self) -> _Compiled:
        compiled: _Compiled | None = self.__dict__["_compiled"]
        if compiled is None:
            for node in self.graph.nodes:
                if node.op == "call_function" and "val" not in node.meta:
                    node.meta["val"] = example(node)
            check(self, INT8)
            start = time.perf_counter()
            scheduled = schedule(self)
            middle = time.perf_counter()
            executable = Executable(scheduled.program, self._target, scheduled.foreign)
            self.timings.update(schedule=middle - start, compile=time.perf_counter() - middle)
            compiled = _Compiled(scheduled, executable, signature_of(self.graph))
            self.__dict__["_compiled"] = compiled
        return compiled

    @property
    def program(self) -> Any:
        """The compiled Program, as plain data."""
        return self._ensure_compiled().scheduled.program

    @property
    def explanation(self) -> Explanation:
        """What `lower86.explain` shows."""
        compiled = self._ensure_compiled()
        return Explanation.of(self._records, compiled.scheduled, compiled.executable.regions)

    def run_reference(self, *args: Any, **kwargs: Any) -> Any:
        """The same result from the graph's reference operators, in plain PyTorch."""
        compiled = self._ensure_compiled()
        leaves = compiled.signature.flatten(args, kwargs)
        with torch.no_grad():
            flat = torch.fx.Interpreter(self).run(*leaves, enable_io_processing=False)
        return compiled.signature.unflatten(torch.utils._pytree.tree_leaves(flat, is_leaf=lambda leaf: leaf is None))

    def __copy__(self) -> LoweredModule:
        return LoweredModule(self, copy.copy(self.graph), self._target, self._records)

    def __deepcopy__(self, memo: dict[int, Any]) -> LoweredModule:
        root = torch.nn.Module()
        for name, tensor in self.named_buffers():
            _set_tensor(root, name, tensor.detach().clone())
        for name, tensor in self.named_parameters():
            _set_tensor(root, name, tensor.detach().clone())
        twin = LoweredModule(root, copy.deepcopy(self.graph), self._target, self._records)
        memo[id(self)] = twin
        return twin

    def __reduce__(self) -> Any:
        raise UnsupportedError(
            "a lowered module cannot be pickled: it holds machine code for this CPU",
            where="pickle, torch.save",
            fix="save the quantized model (torch.export.save) and lower it again after loading",
        )

    def _apply(self, fn: Any, recurse: bool = True) -> LoweredModule:
        for tensor in [*self.buffers(), *self.parameters()]:
            moved = fn(tensor)
            if moved.device != tensor.device or moved.dtype != tensor.dtype:
                raise UnsupportedError(
                    f"a lowered module runs on the CPU in the precision it was lowered with, not {moved.dtype} on "
                    f"{moved.device}",
                    where=".to()",
                    fix=_FROZEN,
                )
        return self

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Refuses: the weights are part of the program."""
        raise UnsupportedError("a lowered module is frozen", where="load_state_dict", fix=_FROZEN)


def _set_tensor(root: torch.nn.Module, name: str, tensor: Tensor) -> None:
    *path, last = name.split(".")
    for part in path:
        if not hasattr(root, part):
            root.add_module(part, torch.nn.Module())
        root = getattr(root, part)
    root.register_buffer(last, tensor)


def _forward(self: LoweredModule, *args: Any, **kwargs: Any) -> Any:
    """Runs the program; interprets the graph where there are no real tensors to run on."""
    if torch.compiler.is_compiling():
        return self._interpreted(*args, **kwargs)
    leaves = torch.utils._pytree.tree_leaves((args, kwargs))
    if any(isinstance(leaf, Tensor) and type(leaf) not in (Tensor, torch.nn.Parameter) for leaf in leaves):
        return self._interpreted(*args, **kwargs)
    return _run(self, self._ensure_compiled(), args, kwargs)


def _run(module: LoweredModule, compiled: _Compiled, args: Any, kwargs: Any) -> Any:
    leaves = compiled.signature.flatten(args, kwargs)
    program = compiled.scheduled.program
    names = [node.name for node in module.graph.nodes if node.op == "placeholder"]
    tensors, shapes = [], []
    for number, (leaf, value) in enumerate(zip(leaves, program.inputs, strict=True)):
        tensor = _checked(leaf, names[number], module, number, program.values[value].dtype)
        tensors.append(tensor)
        shapes.append(tuple(tensor.shape))
    dims = bind_dims(program, shapes, names)
    outputs = [
        torch.empty(
            [evaluate(size, dims) for size in program.values[value].shape],
            dtype=TORCH_DTYPES[program.values[value].dtype],
        )
        for value in program.outputs
    ]
    addresses = [t.data_ptr() for t in tensors] + [t.data_ptr() for t in outputs]
    compiled.executable.run(addresses, dims)
    made = iter(outputs)
    results = [next(made) if literal is None else literal.value for literal in compiled.scheduled.outputs]
    return compiled.signature.unflatten(results)


def _checked(leaf: Any, name: str, module: LoweredModule, number: int, dtype: str) -> Tensor:
    """The input as a contiguous CPU tensor of the right dtype."""
    if not isinstance(leaf, Tensor):
        node = [n for n in module.graph.nodes if n.op == "placeholder"][number]
        expected = node.meta.get("val")
        if not isinstance(expected, Tensor) and leaf == expected:
            return torch.empty(0, dtype=torch.bool)
        wanted = "a torch.Tensor" if isinstance(expected, Tensor) else repr(expected)
        hint = "torch.from_numpy(array)" if type(leaf).__module__ == "numpy" else "the value of the example inputs"
        raise InputError(f"{name} is a {type(leaf).__name__}, expected {wanted}", where=f"input {number}", fix=f"pass {hint}")
    if leaf.device.type != "cpu":
        raise InputError(f"{name} is on {leaf.device}", where=f"input {number}", fix="pass a CPU tensor: .cpu()")
    if leaf.dtype != TORCH_DTYPES[dtype]:
        raise InputError(
            f"{name} has dtype {leaf.dtype}, expected {TORCH_DTYPES[dtype]}",
            where=f"input {number}",
            fix=f"convert it: .to({TORCH_DTYPES[dtype]})",
        )
    return leaf.detach().contiguous()


def report_fallbacks(module: LoweredModule, on_fallback: str) -> None:
    """One warning, or an error, if anything quantized stays float or is foreign; nothing if all is int8 and native."""
    if on_fallback == "ignore":
        return
    message = module.explanation.fallback_message()
    if not message:
        return
    if on_fallback == "raise":
        raise FallbackError(message, fix='see lower86.explain with on_fallback="warn" for the whole table')
    warnings.warn(Lower86Warning(message), stacklevel=4)
