"""What the thread pool asks of the Linux kernel, as LLVM IR: to sleep, to wake, to yield, to move a thread.

A system call that is refused costs what it was for, and nothing else.

**Moving a thread** is to take all CPUs but one, or that one alone, out of its affinity, and to put back what was there.
Between the two nobody else may read that affinity, or it would be put back by that one for good; nor may the thread go
on to start a process, which inherits it. So a thread that can be moved has two words: its number while it is inside a
region, and a lock: FREE, LOOKING while somebody looks whether it has a core, MOVING while its affinity is not its own.
Whoever wants to move a thread takes the lock, a helper itself too, and then makes sure that the thread is still inside;
a caller that leaves a region clears its number, and before it returns to Python waits while the lock says MOVING. Both
being sequentially consistent, either the one who moves sees that the number is gone, or the caller sees the lock.
"""

from __future__ import annotations

from .builder import I8, I64, PTR, VOID, Code, Module, Value
from .pool_memory import LOCK

EVERY_HELPER = 2**31 - 1
WAIT, WAKE = 128, 129  # both of the kind that stays within a process
_SCHED_YIELD, _GETTID, _FUTEX, _SET_AFFINITY, _GET_AFFINITY, _CLOCK_GETTIME = 24, 186, 202, 203, 204, 228
_AFFINITY_BYTES = 512
"""Room for 4096 CPUs; with more of them the kernel says no, and threads stay where they are."""
_FREE, _LOOKING, _MOVING = 0, 1, 2
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
    """`void leave(cpu, words)`: moves this thread to another CPU that it may run on, if there is one."""
    code = module.function("leave", VOID, I64, PTR, internal=True)
    cpu, words = code.arguments
    b, mask, lock = code.b, code.stack(I8, _AFFINITY_BYTES), code.at(words, LOCK)
    _, mine = code.compare_exchange(lock, code.i64(_FREE), code.i64(_MOVING))
    with code.when(b.not_(mine), unlikely=True):
        code.ret()
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
    code.atomic("xchg", lock, code.i64(_FREE))
    code.ret()
    return code.function


def build_return(module: Module, move: Value) -> Value:
    """`void return(cpu, words)`: moves this thread back to the CPU that it was fetched from."""
    code = module.function("return", VOID, I64, PTR, internal=True)
    cpu, words = code.arguments
    lock = code.at(words, LOCK)
    _, mine = code.compare_exchange(lock, code.i64(_FREE), code.i64(_MOVING))
    with code.when(mine):
        code.call(move, [code.i64(0), cpu])
        code.atomic("xchg", lock, code.i64(_FREE))
    code.ret()
    return code.function


def build_fetch(module: Module, move: Value) -> Value:
    """`i64 fetch(words)`: if the thread whose words these are has no core, brings it to this one.

    Returns 1 if the thread is inside a region and has a core of its own, as far as one can see; else 0.
    """
    code = module.function("fetch", I64, PTR, internal=True)
    (words,) = code.arguments
    b, time, lock = code.b, _cpu_time(module), code.at(words, LOCK)
    thread = code.atomic_load(I64, words)
    with code.when(_equal(code, thread, 0)):
        code.ret(thread)
    _, mine = code.compare_exchange(lock, code.i64(_FREE), code.i64(_LOOKING))
    with code.when(b.not_(mine)):
        code.ret(code.i64(1))  # somebody else sees to it
    before = code.call(time, [thread])
    with code.loop(0, _LOOK):
        code.pause()
    stands = b.and_(_equal(code, before, code.call(time, [thread])), code.less(0, before))
    moved = code.variable(code.i64(0))
    with code.when(stands):
        code.atomic("xchg", lock, code.i64(_MOVING))
        with code.when(_equal(code, thread, code.atomic_load(I64, words))):
            code.call(move, [thread, code.cpu()])
            moved.set(code.i64(1))
    code.atomic("xchg", lock, code.i64(_FREE))
    inside = _equal(code, thread, code.atomic_load(I64, words))
    code.ret(b.zext(b.and_(inside, _equal(code, moved.get(), 0)), I64))
    return code.function


def stay_until_moved(code: Code, words: Value) -> None:
    """For a caller that has cleared its number: waits until nobody is moving it, or another caller with these words."""
    lock = code.at(words, LOCK)
    code.while_loop(lambda: _equal(code, code.atomic_load(I64, lock), _MOVING), lambda: yield_core(code))


def _cpu_time(module: Module) -> Value:
    """`i64 cpu_time(thread)`: nanoseconds for which a thread of this process has had a core; -1 if nobody says."""
    code = module.function("cpu_time", I64, I64, internal=True)
    (thread,) = code.arguments
    b, spent = code.b, code.stack(I64, 2)
    clock = b.or_(b.shl(b.not_(thread), code.i64(3)), code.i64(6))  # per thread | what the scheduler counts
    failed = _syscall(code, _CLOCK_GETTIME, clock, b.ptrtoint(spent, I64))
    with code.when(b.not_(_equal(code, failed, 0)), unlikely=True):
        code.ret(code.i64(-1))
    seconds, rest = (code.load(I64, code.at(spent, offset), align=8) for offset in (0, 8))
    code.ret(b.add(b.mul(seconds, code.i64(10**9)), rest))
    return code.function


def build_move(module: Module) -> Value:
    """`void move(thread, cpu)`: moves a thread (0: this one) to a CPU if it may run there; its lock has to be held."""
    code = module.function("move", VOID, I64, I64, internal=True)
    thread, cpu = code.arguments
    b, mask, only = code.b, code.stack(I8, _AFFINITY_BYTES), code.stack(I8, _AFFINITY_BYTES)
    all_address, only_address = b.ptrtoint(mask, I64), b.ptrtoint(only, I64)
    size = _syscall(code, _GET_AFFINITY, thread, _AFFINITY_BYTES, all_address)
    place = b.lshr(cpu, code.i64(3))
    with code.when(code.less(place, size)):
        bit = _bit(code, cpu)
        with code.when(b.not_(_equal(code, b.and_(code.load(I8, code.at(mask, place)), bit), 0))):
            with code.loop(0, size) as i:
                code.store(code.signed(I8, 0), code.at(only, i))
            code.store(bit, code.at(only, place))
            _syscall(code, _SET_AFFINITY, thread, size, only_address)
            _syscall(code, _SET_AFFINITY, thread, size, all_address)
    code.ret()
    return code.function


def _equal(code: Code, a: Value, b: Value | int) -> Value:
    return code.b.icmp_signed("==", a, code.signed(a.type, b) if isinstance(b, int) else b)


def _bit(code: Code, cpu: Value) -> Value:
    """The bit of a CPU in its byte of an affinity mask."""
    return code.b.shl(code.signed(I8, 1), code.b.trunc(code.b.and_(cpu, code.i64(7)), I8))
