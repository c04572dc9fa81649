"""What the thread pool asks of the Linux kernel, as LLVM IR: to sleep, to wake, to yield, to move a thread.

A system call that is refused costs what it was for, and nothing else.
"""

from __future__ import annotations

from .builder import I8, I64, PTR, VOID, Code, Module, Value

EVERY_HELPER = 2**31 - 1
WAIT, WAKE = 128, 129  # both of the kind that stays within a process
_SCHED_YIELD, _GETTID, _FUTEX, _SET_AFFINITY, _GET_AFFINITY, _CLOCK_GETTIME = 24, 186, 202, 203, 204, 228
_AFFINITY_BYTES = 512
"""Room for 4096 CPUs; with more of them the kernel says no, and threads stay where they are."""
_LOOK = 400
"""Pauses in which a thread that has a core gets ahead: 10 µs on Zen 4, 18 µs on recent Intel cores."""


def _syscall(code: Code, number: int, *arguments: Value | int) -> Value:
    function = code.module.declare("syscall", I64, *[I64] * 7)
    return code.call(function, [code.i64(a) for a in (number, *arguments, *[0] * (6 - len(arguments)))])


def futex(code: Code, word: Value, operation: int, value: Value | int) -> None:
    """Waits while the 32-bit `word` is `value`, or wakes `value` threads that do."""
    _syscall(code, _FUTEX, code.b.ptrtoint(word, I64), operation, value)


def yield_core(code: Code) -> None:
    """Lets others that want this core run first."""
    _syscall(code, _SCHED_YIELD)


def own_thread(code: Code) -> Value:
    """The kernel's number of this thread, never 0."""
    return _syscall(code, _GETTID)


def build_leave(module: Module) -> Value:
    """`void leave(cpu)`: moves the thread to another CPU that it may run on, if there is one."""
    code = module.function("leave", VOID, I64, internal=True)
    (cpu,) = code.arguments
    b, mask = code.b, code.stack(I8, _AFFINITY_BYTES)
    address = b.ptrtoint(mask, I64)
    size = _syscall(code, _GET_AFFINITY, 0, _AFFINITY_BYTES, address)
    place = b.lshr(cpu, code.i64(3))
    with code.when(code.less(place, size)):
        byte = code.at(mask, place)
        before = code.load(I8, byte)
        code.store(b.and_(before, b.not_(_bit(code, cpu))), byte)
        _syscall(code, _SET_AFFINITY, 0, size, address)  # refused if nothing else is left
        code.store(before, byte)
        _syscall(code, _SET_AFFINITY, 0, size, address)
    code.ret()
    return code.function


def build_fetch(module: Module) -> Value:
    """`i64 fetch(word)`: if the thread whose number is in `word` has no core, brings it to this one.

    Returns 1 if the thread has a core of its own, 0 if there is none, or it had not.
    """
    code = module.function("fetch", I64, PTR, internal=True)
    (word,) = code.arguments
    b, time, move = code.b, _cpu_time(module), _move(module)
    thread = code.atomic_load(I64, word)
    with code.when(b.icmp_signed("==", thread, code.i64(0))):
        code.ret(thread)
    before = code.call(time, [thread])
    with code.loop(0, _LOOK):
        code.pause()
    stands = b.icmp_signed("==", before, code.call(time, [thread]))
    still = b.icmp_signed("==", thread, code.atomic_load(I64, word))
    with code.when(b.and_(b.and_(stands, still), code.less(0, before))):
        code.call(move, [thread, code.cpu()])
        code.ret(code.i64(0))
    code.ret(b.zext(still, I64))
    return code.function


def _cpu_time(module: Module) -> Value:
    """`i64 cpu_time(thread)`: nanoseconds for which a thread of this process has had a core; -1 if nobody says."""
    code = module.function("cpu_time", I64, I64, internal=True)
    (thread,) = code.arguments
    b, spent = code.b, code.stack(I64, 2)
    clock = b.or_(b.shl(b.not_(thread), code.i64(3)), code.i64(6))  # per thread | what the scheduler counts
    failed = _syscall(code, _CLOCK_GETTIME, clock, b.ptrtoint(spent, I64))
    with code.when(b.icmp_signed("!=", failed, code.i64(0)), unlikely=True):
        code.ret(code.i64(-1))
    seconds, rest = (code.load(I64, code.at(spent, offset), align=8) for offset in (0, 8))
    code.ret(b.add(b.mul(seconds, code.i64(10**9)), rest))
    return code.function


def _move(module: Module) -> Value:
    """`void move(thread, cpu)`: moves a thread to a CPU if it may run there."""
    code = module.function("move", VOID, I64, I64, internal=True)
    thread, cpu = code.arguments
    b, mask, only = code.b, code.stack(I8, _AFFINITY_BYTES), code.stack(I8, _AFFINITY_BYTES)
    all_address, only_address = b.ptrtoint(mask, I64), b.ptrtoint(only, I64)
    size = _syscall(code, _GET_AFFINITY, thread, _AFFINITY_BYTES, all_address)
    place = b.lshr(cpu, code.i64(3))
    with code.when(code.less(place, size)):
        bit = _bit(code, cpu)
        with code.when(b.icmp_signed("!=", b.and_(code.load(I8, code.at(mask, place)), bit), code.signed(I8, 0))):
            with code.loop(0, size) as i:
                code.store(code.signed(I8, 0), code.at(only, i))
            code.store(bit, code.at(only, place))
            _syscall(code, _SET_AFFINITY, thread, size, only_address)
            _syscall(code, _SET_AFFINITY, thread, size, all_address)
    code.ret()
    return code.function


def _bit(code: Code, cpu: Value) -> Value:
    """The bit of a CPU in its byte of an affinity mask."""
    return code.b.shl(code.signed(I8, 1), code.b.trunc(code.b.and_(cpu, code.i64(7)), I8))
