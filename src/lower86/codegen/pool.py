"""The thread pool as LLVM IR: how the steps of a program are shared between the caller and helper threads.

Work sharing, not fork-join. A parallel step (a *region*) is a counter of units. Whoever is there takes units, the
caller too, and the caller waits only for units that somebody has begun, never for a thread that has not shown up: a
helper that lost its core to another process costs the units it would have taken, and nothing else.

**Slices.** A region's units are cut into as many slices as threads may come, neighbours together. Each thread begins
with a slice of its own, the same in every region, and helps with the others' when that is done. So a kernel finds what
the one before it wrote in the core's own cache: when two threads took units in turn, half of all lines came from the
other core, and a 1 x 1 convolution of 512 channels took as long on two threads as on one.

**The ticket.** A call that has a region to run owns one of `RECORDS` records for as long as the region lasts. Each
slice of it has a ticket, one word: generation (32 bits) | where the slice ends (16) | the next to be taken (16). A
helper decides by one atomic load of it, and acts by a compare-and-swap of the whole word: if that succeeds, the word
has not changed since, so the ticket belongs to the region that the record holds *now*, however late the helper is. That
region cannot end before the helper reports the ticket, so nobody writes what describes it (kernel, arguments, units,
units a ticket) while the helper reads it: after the swap, never before. (A prototype with the count in a word of its
own lost or repeated a unit in 581 of 3,000,000 regions.) A region of more than 65,535 units puts several in a ticket.

After a success the next guess is the same word plus one, without looking: if it is wrong, the failing swap tells the
right word and has brought the cache line in the state that the next try needs, where a load first would transfer it
twice. A helper reports its tickets in one sum when it finds no more in any slice: the region cannot end meanwhile, so
all words with tickets left are its generation's, and what it read with its first ticket stays valid. The caller counts
its own on the stack and waits for the sum of the others. How many slices and threads there are a helper reads without
such care: if the numbers are another region's, it may look at fewer slices than there are, or at some that are used up;
or, where the next call may have fewer threads, help it once. The caller knows.

**Finding work.** Publishing is: write the record, swap the tickets in, add one to the pool's epoch. A helper reads the
epoch, then looks at every record, then waits for another epoch; so it cannot miss a ticket that was there, or sleep
over a new one.

**Sleeping.** A helper spins on the epoch for some tens of microseconds, then it sleeps, so that an idle process costs
nothing. It says RESTING in the word `rest`, looks at the epoch again, and waits (futex) while the word is RESTING. A
publisher changes the epoch, then looks at `rest`: both orders being sequentially consistent, one of them sees the other
(Dekker). Whoever turns RESTING into AWAKE wakes all, and that is the only way out of RESTING, so a sleeper is woken by
the first region published after it fell asleep, and regions pay for a system call only then. (A count of sleepers would
have every region call the kernel until the woken threads got a core to count themselves down; a flag beside a wait on
the epoch can lose a wakeup for good.) STOPPED in the same word is final, because the others only swap AWAKE and
RESTING.

**Two threads on one CPU.** While other threads keep the other CPUs busy, the kernel wakes a helper on the caller's own,
and leaves it there when they have stopped: the two take turns of milliseconds while a CPU idles. (After the calls of a
runtime whose threads spin, 110 of 150 rounds of 0.15 ms programs ran like that, at the speed of one thread.) So every
region says on which CPU its caller runs, and a helper that finds itself there takes that CPU out of its own affinity,
which moves it at once, and puts it back as it was (CPUs that the process is given later are not in it). Beside a busy
process it then competes with that, and not with its caller.

**A thread without a core.** That other process takes the helper's core away for milliseconds in the middle of a unit,
and the caller, who waits for the unit, has a core that does nothing. So a caller that has waited for some tens of
microseconds looks at the helpers that are inside a region: whose CPU time stands still has no core, and is moved to the
caller's, where it finishes what it has begun and leaves. Likewise, a helper that finds nothing to do while a region is
in flight looks at the caller, and takes it to its own core (`pool_system.py` says how that is done safely). Beside a
busy process this took ViT-S/16 from 10.2 to 7.2 ms in the median, the 99th percentile of MiniLM at 128 tokens from 7 to
5.5, on two CPUs. With 16 threads on 16 it made that percentile worse (2.3 to 6 ms), so it is for a few threads alone.

**The limit.** Helpers numbered `helpers` and up take nothing and wait for that word to change, in a sleep of their own:
so a region's wakeup reaches only threads that may answer it. Numbers and limit are the pool's, not a call's: the last
wins. But a record says how many threads its call may have, and helpers of higher numbers leave it alone, so that of two
programs at once neither gets more than it was given.

**Cache lines.** Lines are 128 bytes, because CPUs fetch pairs of 64. `rest` and `helpers` change only around sleep:
they share a line, which every core can keep. The epoch changes with each region and is what spinning helpers read: its
own line. In a record what describes the region has a line; the sum of finished tickets, on which the caller spins
while others still take tickets, has the second, with the two words that only callers touch; then each slice has one.
"""

from __future__ import annotations

from .builder import I32, I64, PTR, VOID, Code, Module, Value, Variable
from .pool_memory import (
    ARGUMENTS,
    AWAKE,
    BUSY,
    CALLER_CPU,
    CHUNK,
    CUT,
    EPOCH,
    FINISHED,
    FIRST_RECORD,
    GENERATION,
    HELPERS,
    INSIDE,
    KERNEL,
    LINE,
    RECORD_BYTES,
    RECORDS,
    REST,
    RESTING,
    SLICES,
    STEP_ARGUMENTS,
    STEP_BYTES,
    STEP_KERNEL,
    STEP_UNITS,
    STOPPED,
    TICKETS,
    UNITS,
    WATCHED,
)
from .pool_system import (
    EVERY_HELPER,
    WAIT,
    WAKE,
    build_fetch,
    build_leave,
    build_move,
    build_return,
    futex,
    own_thread,
    stay_until_moved,
    yield_core,
)

SPINS = 1000
"""Pauses before a helper sleeps or a caller yields its core: 25 µs on Zen 4, 45 µs on recent Intel cores.

Where helper and caller got the same core, the helper's spinning is the caller's loss: beside a busy process, 45 regions
of 100 µs took 5.47 ms with 2000 pauses, 5.05 with 1000, 4.81 with 500; but a helper that sleeps costs a wakeup.
"""

_MOST_TICKETS = 0xFFFF
_CYCLES_AFTER_A_MOVE, _CYCLES_AFTER_NO_MOVE = 2**20, 2**26  # some 0.3 ms, and 20
_YIELDS_BETWEEN_LOOKS = 64
_MOST_MOVED = WATCHED - 1
"""With more helpers than these nobody is moved: of so many some sleep, and the kernel moves threads to their CPUs."""
_FLOAT_CONTROL = 0x1F80  # round to nearest, keep denormals, no traps: what a process starts with


def build_pool() -> Module:
    """`lower86_run`, `lower86_worker`, `lower86_limit` and `lower86_stop`, as their builders below describe them."""
    module = Module("lower86_pool")
    share, acquire = _share(module), _acquire(module)
    move = build_move(module)
    fetch = build_fetch(module, move)
    _run(module, _region(module, share, acquire, fetch))
    _worker(module, share, build_leave(module), build_return(module, move), fetch)
    _limit(module)
    _stop(module)
    return module


def _equal(code: Code, a: Value, b: Value | int) -> Value:
    return code.b.icmp_signed("==", a, code.constant(a.type, b) if isinstance(b, int) else b)


def _set_float_control(code: Code) -> Value:
    """Makes floats behave alike on all threads, whatever the thread's own settings; where the old settings are kept."""
    control, kept = code.stack(I32), code.stack(I32)
    code.store(code.i32(_FLOAT_CONTROL), control, align=4)
    code.call(code.module.declare("llvm.x86.sse.stmxcsr", VOID, PTR), [kept])
    code.call(code.module.declare("llvm.x86.sse.ldmxcsr", VOID, PTR), [control])
    return kept


def _units(code: Code, kernel: Value, arguments: Value, first: Value | int, end: Value) -> None:
    with code.loop(first, end) as unit:
        code.call_address(kernel, VOID, [code.pointer(arguments), unit])


def _share(module: Module) -> Value:
    """`i64 share(record, slices, first)`: takes tickets, from slice `first` on, until none is left; how many it took.

    A helper still has to report them.
    """
    code = module.function("share", I64, PTR, I64, I64, internal=True)
    record, slices, own = code.arguments
    b = code.b
    taken = code.variable(code.i64(0))
    kernel, arguments, units, chunk = (code.variable(code.i64(0)) for _ in range(4))
    with code.loop(0, slices) as i:
        ticket = code.at(record, code.add(code.mul(code.rem(code.add(own, i), slices), LINE), TICKETS))
        guess = code.variable(code.atomic_load(I64, ticket))

        def some_left(guess: Variable = guess) -> Value:
            word, mask = guess.get(), code.i64(_MOST_TICKETS)
            return code.less(b.and_(word, mask), b.and_(b.lshr(word, code.i64(16)), mask))

        def take(guess: Variable = guess, ticket: Value = ticket) -> None:
            next_ticket = b.add(guess.get(), code.i64(1))
            word, mine = code.compare_exchange(ticket, guess.get(), next_ticket)
            guess.set(b.select(mine, next_ticket, word))
            with code.when(mine):
                with code.when(_equal(code, taken.get(), 0)):
                    for variable, offset in ((kernel, KERNEL), (arguments, ARGUMENTS), (units, UNITS), (chunk, CHUNK)):
                        variable.set(code.load(I64, code.at(record, offset), align=8))
                first = b.mul(b.and_(word, code.i64(_MOST_TICKETS)), chunk.get())
                end = code.minimum(b.add(first, chunk.get()), units.get())
                _units(code, kernel.get(), arguments.get(), first, end)
                taken.set(b.add(taken.get(), code.i64(1)))

        code.while_loop(some_left, take)
    code.ret(taken.get())
    return code.function


def _acquire(module: Module) -> Value:
    """`ptr acquire(pool, thread)`: a record for the caller alone, null if all are in use."""
    code = module.function("acquire", PTR, PTR, I64, internal=True)
    pool, thread = code.arguments
    with code.loop(0, RECORDS) as i:
        record = code.at(pool, code.add(code.mul(i, RECORD_BYTES), FIRST_RECORD))
        busy = code.at(record, BUSY)
        # Looking first keeps the line of a record in use with its owner, who is spinning on it.
        with code.when(_equal(code, code.atomic_load(I64, busy), 0)):
            _, mine = code.compare_exchange(busy, code.i64(0), thread)
            with code.when(mine):
                code.ret(record)
    code.ret(code.pointer(code.i64(0)))
    return code.function


def _region(module: Module, share: Value, acquire: Value, fetch: Value) -> Value:
    """`void region(pool, step, threads, thread)`: shares the step's units with helpers; returns when all have run."""
    code = module.function("region", VOID, PTR, PTR, I64, I64, internal=True)
    pool, step, threads, thread = code.arguments
    b = code.b
    kernel, arguments, units = (
        code.load(I64, code.at(step, offset), align=8) for offset in (STEP_KERNEL, STEP_ARGUMENTS, STEP_UNITS)
    )
    record = code.call(acquire, [pool, thread])
    with code.when(_equal(code, b.ptrtoint(record, I64), 0), unlikely=True):
        _units(code, kernel, arguments, 0, units)
        code.ret()

    chunk = code.div(code.add(units, _MOST_TICKETS - 1), _MOST_TICKETS)
    tickets = code.div(code.sub(code.add(units, chunk), 1), chunk)
    generation = b.add(code.load(I64, code.at(record, GENERATION), align=8), code.i64(1))
    helpers = b.sext(code.atomic_load(I32, code.at(pool, HELPERS)), I64)
    threads = code.minimum(threads, b.add(helpers, code.i64(1)))
    slices = code.minimum(threads, SLICES)
    for value, offset in (
        (kernel, KERNEL), (arguments, ARGUMENTS), (units, UNITS), (chunk, CHUNK), (generation, GENERATION),
        (code.i64(0), FINISHED),
    ):  # fmt: skip
        code.store(value, code.at(record, offset), align=8)
    code.atomic("xchg", code.at(record, CUT), b.or_(b.shl(threads, code.i64(32)), slices))
    with code.loop(0, slices) as i:
        start, end = (code.div(code.mul(tickets, part), slices) for part in (i, b.add(i, code.i64(1))))
        ticket = b.or_(b.shl(generation, code.i64(32)), b.or_(b.shl(end, code.i64(16)), start))
        code.atomic("xchg", code.at(record, code.add(code.mul(i, LINE), TICKETS)), ticket)
    # Several callers overwrite each other's: it only says where a helper had better not be.
    code.store(code.cpu(), code.at(pool, CALLER_CPU), align=8)
    code.atomic("add", code.at(pool, EPOCH), code.i64(1))
    rest = code.at(pool, REST)
    with code.when(_equal(code, code.atomic_load(I32, rest), RESTING), unlikely=True):
        _, woken = code.compare_exchange(rest, code.i32(RESTING), code.i32(AWAKE))
        with code.when(woken):
            futex(code, rest, WAKE, EVERY_HELPER)

    others = b.sub(tickets, code.call(share, [record, slices, code.i64(0)]))
    spins, few = code.variable(code.i64(0)), code.less(threads, _MOST_MOVED + 2)

    def wait() -> None:
        spins.set(b.add(spins.get(), code.i64(1)))
        code.pause()
        with code.when(code.less(SPINS, spins.get()), unlikely=True):
            looks = _equal(code, b.srem(spins.get(), code.i64(_YIELDS_BETWEEN_LOOKS)), 0)
            with code.when(b.and_(looks, few)), code.loop(0, _MOST_MOVED) as i:
                code.call(fetch, [code.at(pool, code.add(code.mul(i, LINE), INSIDE))])
            yield_core(code)

    code.while_loop(lambda: code.less(code.atomic_load(I64, code.at(record, FINISHED)), others), wait)
    code.atomic("xchg", code.at(record, BUSY), code.i64(0))
    code.ret()
    return code.function


def _run(module: Module, region: Value) -> None:
    """`i64 lower86_run(pool, steps, count, status, threads)`: runs `count` steps in order.

    Returns -1 when all have run, or the index of the step after which the word at `status` was not 0. With `threads`
    at 1 everything runs on the caller; beyond that, no more than the pool's limit help.
    """
    code = module.function("lower86_run", I64, PTR, PTR, I64, PTR, I64)
    pool, steps, count, status, threads = code.arguments
    kept = _set_float_control(code)
    thread = own_thread(code)

    def leave(result: Value) -> None:
        with code.loop(0, RECORDS) as i:
            stay_until_moved(code, code.at(pool, code.add(code.mul(i, RECORD_BYTES), FIRST_RECORD + BUSY)))
        code.call(code.module.declare("llvm.x86.sse.ldmxcsr", VOID, PTR), [kept])
        code.ret(result)

    with code.loop(0, count) as i:
        step = code.at(steps, code.mul(i, STEP_BYTES))
        units = code.load(I64, code.at(step, STEP_UNITS), align=8)
        shared = code.b.and_(code.less(1, units), code.less(1, threads))
        with code.when(shared):
            code.call(region, [pool, step, threads, thread])
        with code.when(code.b.not_(shared)):
            kernel, arguments = (code.load(I64, code.at(step, o), align=8) for o in (STEP_KERNEL, STEP_ARGUMENTS))
            _units(code, kernel, arguments, 0, units)
        with code.when(code.b.not_(_equal(code, code.load(I64, status, align=8), 0)), unlikely=True):
            leave(i)
    leave(code.i64(-1))


def _worker(module: Module, share: Value, leave: Value, go_back: Value, fetch: Value) -> None:
    """`void lower86_worker(pool, number)`: a helper's life; returns after `lower86_stop`."""
    code = module.function("lower86_worker", VOID, PTR, I64)
    pool, number = code.arguments
    b = code.b
    _set_float_control(code)  # a new thread has those of the thread that started it
    rest, limit, epoch = (code.at(pool, offset) for offset in (REST, HELPERS, EPOCH))
    next_move = code.variable(code.i64(0))
    thread = own_thread(code)
    inside = code.at(pool, b.add(b.mul(code.minimum(number, WATCHED - 1), code.i64(LINE)), code.i64(INSIDE)))

    def help_all() -> None:
        with code.loop(0, RECORDS) as i:
            # Each helper starts with another record, so that calls at the same time all get help.
            place = b.and_(b.add(i, number), code.i64(RECORDS - 1))
            record = code.at(pool, code.add(code.mul(place, RECORD_BYTES), FIRST_RECORD))
            cut = code.atomic_load(I64, code.at(record, CUT))
            mine = code.add(number, 1)
            with code.when(code.less(mine, b.lshr(cut, code.i64(32)))):
                code.atomic("xchg", inside, thread)
                taken = code.call(share, [record, b.and_(cut, code.i64(2**32 - 1)), mine])
                with code.when(code.less(0, taken)):
                    code.atomic("add", code.at(record, FINISHED), taken)
                code.atomic("xchg", inside, code.i64(0))

    def idle(seen: Value, watches: Value) -> None:
        spins = code.variable(code.i64(0))

        def nothing_new() -> Value:
            return _equal(code, code.atomic_load(I64, epoch), seen)

        def wait() -> None:
            spins.set(b.add(spins.get(), code.i64(1)))
            code.pause()
            looks = b.and_(_equal(code, spins.get(), SPINS), watches)
            with code.when(looks, unlikely=True), code.loop(0, RECORDS) as i:
                caller = code.at(pool, code.add(code.mul(i, RECORD_BYTES), FIRST_RECORD + BUSY))
                with code.when(_equal(code, code.call(fetch, [caller]), 1)):
                    spins.set(code.i64(0))

        code.while_loop(lambda: b.and_(code.less(spins.get(), SPINS), nothing_new()), wait)
        with code.when(nothing_new()):
            code.compare_exchange(rest, code.i32(AWAKE), code.i32(RESTING))
            with code.when(nothing_new()):
                futex(code, rest, WAIT, RESTING)

    def turn() -> None:
        helpers = b.sext(code.atomic_load(I32, limit), I64)
        welcome = code.less(number, helpers)
        with code.when(welcome):
            seen = code.atomic_load(I64, epoch)
            caller = code.atomic_load(I64, code.at(pool, CALLER_CPU))
            due = code.less(next_move.get(), code.cycles())
            with code.when(b.and_(_equal(code, caller, code.cpu()), due), unlikely=True):
                code.call(leave, [caller, inside])
                vain = _equal(code, caller, code.cpu())  # there is nowhere to go, or it has been brought back
                wait = b.select(vain, code.i64(_CYCLES_AFTER_NO_MOVE), code.i64(_CYCLES_AFTER_A_MOVE))
                next_move.set(b.add(code.cycles(), wait))
            before = code.cpu()
            help_all()
            moved = b.not_(_equal(code, code.cpu(), before))
            with code.when(b.and_(moved, _equal(code, code.cpu(), caller)), unlikely=True):
                # It was fetched, and the core is the caller's. Any other could be another helper's by now.
                code.call(go_back, [before, inside])
            idle(seen, b.and_(_equal(code, number, 0), code.less(helpers, _MOST_MOVED + 1)))
        with code.when(b.not_(welcome), unlikely=True):
            futex(code, limit, WAIT, helpers)

    code.while_loop(lambda: b.not_(_equal(code, code.atomic_load(I32, rest), STOPPED)), turn)
    code.ret()


def _limit(module: Module) -> None:
    """`void lower86_limit(pool, helpers)`: only helpers numbered below `helpers` take units from now on."""
    code = module.function("lower86_limit", VOID, PTR, I64)
    pool, helpers = code.arguments
    word = code.at(pool, HELPERS)
    code.atomic("xchg", word, code.b.trunc(helpers, I32))
    futex(code, word, WAKE, EVERY_HELPER)
    code.ret()


def _stop(module: Module) -> None:
    """`void lower86_stop(pool)`: helpers finish what they have begun and return; must not overlap `lower86_limit`."""
    code = module.function("lower86_stop", VOID, PTR)
    (pool,) = code.arguments
    code.atomic("xchg", code.at(pool, REST), code.i32(STOPPED))
    code.atomic("add", code.at(pool, EPOCH), code.i64(1))
    code.atomic("xchg", code.at(pool, HELPERS), code.i32(EVERY_HELPER))
    for word in (REST, HELPERS):
        futex(code, code.at(pool, word), WAKE, EVERY_HELPER)
    code.ret()
