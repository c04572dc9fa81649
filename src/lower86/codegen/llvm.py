"""LLVM at run time: object code from LLVM assembly, object code into memory. The JIT half of the llvmlite facade."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import llvmlite
import llvmlite.binding as llvm

VERSION = f"llvmlite {llvmlite.__version__}, LLVM {'.'.join(str(part) for part in llvm.llvm_version_info)}"


_lock: Any = getattr(llvm.ffi.lib, "_lock", None)


def _let_go() -> None:
    _lock.__exit__(None, None, None)


if _lock is not None:
    # llvmlite's own: one thread at a time is in LLVM. A child forked meanwhile would wait for that thread for ever.
    os.register_at_fork(before=_lock.__enter__, after_in_parent=_let_go, after_in_child=_let_go)


@cache
def _start() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def host_features() -> Mapping[str, bool]:
    """LLVM's feature names and whether this CPU (and operating system) has them."""
    _start()
    return dict(llvm.get_host_cpu_features())


def host_cpu_name() -> str:
    """LLVM's name of this CPU, such as `znver4`."""
    return str(llvm.get_host_cpu_name())


@cache
def _machine(cpu: str, features: str) -> Any:
    _start()
    # MCJIT may place code and constants anywhere: 64-bit absolute addresses reach. (Position-independent code would go
    # through an offset table, which MCJIT gets wrong once several object files are loaded together.)
    return llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=cpu, features=features, opt=3, reloc="static", codemodel="large"
    )


def _optimised(text: str, cpu: str, features: str) -> Any:
    machine = _machine(cpu, features)
    module = llvm.parse_assembly(text)
    module.triple = llvm.get_process_triple()
    module.data_layout = str(machine.target_data)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    # The vector width and unrolling are chosen by the generator; LLVM's own choices cost compile time and registers.
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module


def object_code(text: str, cpu: str, features: str) -> bytes:
    """Relocatable object code of an LLVM assembly module. Deterministic: same text and target, same bytes."""
    return bytes(_machine(cpu, features).emit_object(_optimised(text, cpu, features)))


def assembly(text: str, cpu: str, features: str) -> str:
    """The same code as readable assembly, for tests and profiling."""
    return str(_machine(cpu, features).emit_assembly(_optimised(text, cpu, features)))


class LoadedCode:
    """Object files in executable memory; the functions live as long as this object."""

    def __init__(self, objects: Iterable[bytes]) -> None:
        _start()
        module = llvm.parse_assembly("")
        module.triple = llvm.get_process_triple()
        machine = llvm.Target.from_triple(module.triple).create_target_machine(codemodel="jitdefault", jit=True)
        self._engine: Any = llvm.create_mcjit_compiler(module, machine)
        for data in objects:
            self._engine.add_object_file(llvm.ObjectFileRef.from_data(data))
        self._engine.finalize_object()

    def address(self, name: str) -> int:
        """The address of the function `name`; 0 if there is none."""
        return int(self._engine.get_function_address(name))
