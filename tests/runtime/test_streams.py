"""Helpers of a thread's own: shared with nobody while the block lasts, and gone after it."""

from __future__ import annotations

import os
import threading

import numpy as np

from lower86.runtime.streams import helpers_here, own_helpers
from lower86.runtime.threads import Pool, pool
from tests.runtime.test_threads import counting, run


def test_callers_at_once_share_no_helper() -> None:
    shared, gate, found = pool(), threading.Barrier(2), list[tuple[Pool, list[threading.Thread]]]()

    def call(seed: int) -> None:
        table, counters = counting(np.random.default_rng(seed), 200, 24)
        with own_helpers():
            mine = helpers_here(shared)
            run(table, 3, on=mine)
            found.append((mine, list(mine._helpers)))
            gate.wait()
            with own_helpers():  # a block in a block is the same one
                assert helpers_here(shared) is mine
            assert helpers_here(shared) is mine
        assert helpers_here(shared) is shared
        assert (counters == 1).all()

    streams = [threading.Thread(target=call, args=(seed,)) for seed in range(2)]
    for stream in streams:
        stream.start()
    for stream in streams:
        stream.join()
    (first, one), (second, other) = found
    assert len({id(first), id(second), id(shared)}) == 3
    assert len(one) == len(other) == 2
    for helper in (*one, *other):
        helper.join(5)
        assert not helper.is_alive()
    with own_helpers():
        assert helpers_here(shared) in (first, second)


def test_a_forked_child_has_its_own() -> None:
    table, counters = counting(np.random.default_rng(2), 200, 24)
    with own_helpers():
        mine = helpers_here(pool())
        run(table, 3, on=mine)
        child = os.fork()
        if child == 0:
            run(table, 3, on=mine)
            os._exit(0 if len(mine._helpers) == 2 and (counters == 2).all() else 1)
        assert os.waitpid(child, 0)[1] == 0
