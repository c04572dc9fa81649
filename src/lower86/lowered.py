"""The lowered module: a `torch.fx.GraphModule` whose graph is the INT8 graph and whose call runs its program."""

from __future__ import annotations

import copy
import inspect
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.fx import Graph, GraphModule
from torch.utils._pytree import tree_map_only

from .call import CompiledGraph, without_autocast
from .codegen.target import Target
from .counted import counted
from .errors import FallbackError, Lower86Warning, UnsupportedError
from .graph.edit import add_examples
from .graph.forms import INT8, check
from .graph.interpret import WITHOUT_WRITES, interpret, is_interpreted
from .graph.pytrees import specs_copied_quietly
from .graph.qparams import overloads
from .ops.quantize import static_reference
from .program.interface import Interface
from .program.program import Program
from .report.explanation import Explanation, ForeignInfo, Record, kernel_infos
from .report.profile import Rehearsal
from .runtime.fork_lock import ForkLock
from .schedule.plan import bits_of
from .schedule.schedule import schedule
from .state import ModuleState, tensors_of

_FROZEN = "lower the quantized model again: its weights are packed constants of the compiled program"


class LoweredModule(GraphModule):
    """What `lower_pt2e_quantized_to_x86` returns.

    Calling it runs native code. With fake tensors, and inside torch.compile and torch.export, the graph is interpreted.
    After an edit of the graph, `recompile()` discards the program; the next call compiles the edited graph. Copies have
    graphs of their own; a deep copy has tensors of its own, too.

    Buffers that the model writes to are its *state*, under the names they had there: every call leaves in them what the
    next one finds, and what is written into them between calls counts. Calls on the same state wait for each other.
    A call that raises for its arguments, or for an index that does not follow from what it has written, leaves the
    state as it was.
    """

    _interpreted: Callable[..., Any]
    _target: Target
    _records: tuple[Record, ...]
    timings: dict[str, float]

    def __init__(
        self, root: torch.nn.Module | dict[str, Any], graph: Graph, target: Target, records: tuple[Record, ...] = ()
    ) -> None:
        # Plain attributes: nn.Module's own bookkeeping is for parameters and submodules.
        self.__dict__.update(_compiled=None, _lock=ForkLock(), _target=target, _records=records, timings={})
        self.__dict__["_state"] = ModuleState()
        super().__init__(root, graph, class_name="LoweredModule")
        self.__dict__["_edited"] = False
        self.eval()

    def recompile(self) -> Any:
        """Regenerates the Python code of the graph, and discards the compiled program."""
        code = super().recompile()
        kind = type(self)  # torch.fx gives every graph module a class of its own
        kind._interpreted = kind.forward
        kind.forward = _native_forward(kind.forward)
        self.__dict__.update(_compiled=None, _edited=True)
        return code

    def compiled(self) -> CompiledGraph:
        """The graph's program and machine code, made now if there is none. May raise GraphError."""
        found: CompiledGraph | None = self.__dict__["_compiled"]
        if found is not None:
            return found
        with self.__dict__["_lock"]:
            found = self.__dict__["_compiled"]
            if found is None:
                found = self.__dict__["_compiled"] = self._compile()
        return found

    def _compile(self) -> CompiledGraph:
        if self.__dict__["_edited"]:
            add_examples(self)
        check(self, INT8)
        start = time.perf_counter()
        scheduled = schedule(self)
        middle = time.perf_counter()
        made = CompiledGraph(self, scheduled, self._target)
        self.timings.update(schedule=middle - start, compile=time.perf_counter() - middle)
        self.__dict__["_state"].remember(self, scheduled.program.states)
        return made

    def _run(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        compiled = self.compiled()
        program = compiled.scheduled.program
        if not program.states:
            return compiled(args, kwargs)
        with self.__dict__["_state"].lock:
            return compiled(args, kwargs, tensors_of(self, program.states, program.values))

    def named_state(self) -> Iterator[tuple[str, Tensor]]:
        """The buffers that calls change, with their names, as `named_buffers` gives them with all others."""
        program = self.program
        names = [state.name for state in program.states]
        yield from zip(names, tensors_of(self, program.states, program.values), strict=True)

    def reset_state(self) -> None:
        """Gives the state the values that the quantized model's buffers had when it was lowered.

        Those may be what calibration left there: zero the quantized model's buffers before, or write into this one's.
        """
        self.compiled()
        self.__dict__["_state"].reset(self)

    @property
    def program(self) -> Program:
        """The compiled Program, as plain data."""
        return self.compiled().scheduled.program

    @property
    def interface(self) -> Interface:
        """How callers nest its flat inputs and results. Raises UnsupportedError where only PyTorch's types say it."""
        return self.compiled().interface()

    def portable(self) -> tuple[Program, Interface, Explanation, tuple[npt.NDArray[Any], ...]]:
        """What `lower86.save` writes: the program, how it is called, its table, and what its state holds now.

        Raises UnsupportedError for what only works in this process.
        """
        compiled = self.compiled()
        foreign = compiled.scheduled.foreign
        if foreign:
            names = "; ".join(f"{call.operator} ({call.where})" for call in foreign[:5])
            more = f"; and {len(foreign) - 5} more" if len(foreign) > 5 else ""
            raise UnsupportedError(
                f"{counted(len(foreign), 'step of the model runs', 'steps of the model run')} in PyTorch, which a file "
                f"cannot: {names}{more}",
                where="lower86.save",
                fix="spell these operators otherwise, or take them out of the model: lower86.explain lists them",
            )
        program = compiled.scheduled.program
        with self.__dict__["_state"].lock:
            state = [
                bits_of(tensor, program.values[state.value].dtype).copy()
                for tensor, state in zip(tensors_of(self, program.states, program.values), program.states, strict=True)
            ]
        return program, compiled.interface(), self.explanation, tuple(state)

    def rehearse(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Rehearsal:
        """Calls on these inputs for `lower86.profile`, with a state of their own that begins as the module's.

        Arrays of NumPy stand for tensors, those of uint16 for bf16.
        """
        compiled = self.compiled()
        args, kwargs = tree_map_only(np.ndarray, _tensor_of, (tuple(args), dict(kwargs)))
        first = [tensor.clone() for _, tensor in self.named_state()]
        state = [tensor.clone() for tensor in first]

        def begin() -> None:
            for tensor, value in zip(state, first, strict=True):
                tensor.copy_(value)

        def call() -> Any:
            return compiled(args, kwargs, state)

        return Rehearsal(compiled.executable, begin, call, lambda: compiled.timed(args, kwargs, state))

    @property
    def explanation(self) -> Explanation:
        """What `lower86.explain` shows."""
        compiled = self.compiled()
        present = {node.name for node in self.graph.nodes}
        records = [record for record in self._records if record.node in present]
        scheduled = compiled.scheduled
        foreign = tuple(ForeignInfo(call.name, call.operator, call.where) for call in scheduled.foreign)
        kernels = kernel_infos(scheduled.program)
        return Explanation(tuple(records), foreign, kernels, dict(scheduled.kernel_of), compiled.executable.regions)

    def run_reference(self, *args: Any, **kwargs: Any) -> Any:
        """The same result from the graph's reference operators, in plain PyTorch, and from the same state.

        It leaves the state as it is, so that the call that it is compared with may come before it or after it.
        """
        quantize = dict.fromkeys(overloads("quantize_per_tensor.default"), static_reference)
        with torch.no_grad(), without_autocast(), self.__dict__["_state"].lock:
            return interpret(self, args, kwargs, {**quantize, **WITHOUT_WRITES})

    def __copy__(self) -> LoweredModule:
        return self._twin(self, self.__dict__["_state"])

    def __deepcopy__(self, memo: dict[int, Any]) -> LoweredModule:
        held = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        copies: dict[int, Tensor] = {}  # tensors that are one stay one
        state: ModuleState = self.__dict__["_state"]
        with state.lock:
            for tensor in held.values():
                copies.setdefault(id(tensor), tensor.detach().clone())
        branches = {name: copy.deepcopy(branch, memo) for name, branch in self.named_children()}
        tensors = {name: copies[id(tensor)] for name, tensor in held.items()}
        twin = self._twin({**branches, **tensors}, state.apart())
        memo[id(self)] = twin
        return twin

    def _twin(self, root: torch.nn.Module | dict[str, Any], state: ModuleState) -> LoweredModule:
        with specs_copied_quietly():
            twin = LoweredModule(root, copy.deepcopy(self.graph), self._target, self._records)
        # A program never changes, so both may run the same one.
        twin.__dict__.update(_compiled=self.__dict__["_compiled"], _edited=self.__dict__["_edited"], _state=state)
        twin.timings.update(self.timings)
        return twin

    def __reduce__(self) -> Any:
        raise UnsupportedError(
            "a lowered module cannot be pickled: it holds machine code for this CPU",
            where="pickle, torch.save",
            fix="use lower86.save(lowered, path) and lower86.load(path)",
        )

    def _apply(self, fn: Any, recurse: bool = True) -> LoweredModule:
        for tensor in [*self.buffers(), *self.parameters()]:
            moved = fn(tensor)
            if moved.device != tensor.device or moved.dtype != tensor.dtype:
                raise UnsupportedError(
                    f"a lowered module runs on the CPU in the precision it was lowered with, not {moved.dtype} on "
                    f"{moved.device}",
                    where="moving or converting the module (.to(), .half(), …)",
                    fix=_FROZEN,
                )
        return self

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Refuses: the weights are part of the program."""
        raise UnsupportedError("a lowered module is frozen", where="load_state_dict", fix=_FROZEN)


def _tensor_of(array: npt.NDArray[Any]) -> Tensor:
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if array.dtype == np.uint16 else tensor


def _native_forward(interpreted: Callable[..., Any]) -> Callable[..., Any]:
    """A `forward` that runs the program, or `interpreted` where there are no real tensors to run on."""

    def forward(self: LoweredModule, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return self._interpreted(*args, **kwargs)
        if is_interpreted(args, kwargs):
            with self.__dict__["_state"].lock:
                return interpret(self, args, kwargs)
        return self._run(args, kwargs)

    # The arguments' names, which torch.export reads.
    vars(forward)["__signature__"] = inspect.signature(interpreted)
    return forward


def report_fallbacks(module: LoweredModule, on_fallback: str, *, float_is_meant: bool = False) -> None:
    """One warning, or an error, if anything quantized stays float or is foreign; nothing if all is int8 and native.

    With `float_is_meant`, a model that is not quantized at all is fine.
    """
    if on_fallback == "ignore":
        return
    message = module.explanation.fallback_message(float_is_meant=float_is_meant)
    if not message:
        return
    if on_fallback == "raise":
        raise FallbackError(message, fix='see lower86.explain with on_fallback="warn" for the whole table')
    warnings.warn(Lower86Warning(message), stacklevel=3)
