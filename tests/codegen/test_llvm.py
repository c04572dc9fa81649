"""LLVM across a fork: the child compiles, whatever the parent's threads were doing."""

from __future__ import annotations

import os
import signal
import threading
import warnings

from lower86.codegen.builder import I64, VOID, Module
from lower86.codegen.llvm import LoadedCode, object_code


def _text(stores: int) -> str:
    module = Module("test_llvm")
    code = module.function("work", VOID, I64)
    for _ in range(stores):
        code.store(code.i64(1), code.pointer(code.arguments[0]), align=8)
    code.ret()
    return module.text()


def test_a_child_forked_while_a_thread_compiles() -> None:
    text, stop = _text(300), threading.Event()

    def compile_on_and_on() -> None:
        while not stop.is_set():
            object_code(text, "x86-64", "")

    other = threading.Thread(target=compile_on_and_on)
    other.start()
    codes = []
    for _ in range(5):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python's, about forking with threads
            child = os.fork()
        if child == 0:
            signal.alarm(20)
            code = LoadedCode([object_code(_text(1), "x86-64", "")])
            os._exit(7 if code.address("work") else 1)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    stop.set()
    other.join()
    assert codes == [7] * 5
