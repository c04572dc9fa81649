"""The arena: values that live at the same time never share memory, and memory is used again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lower86.program.body import Body
from lower86.program.kernels import Pointwise
from lower86.program.sizes import Size, dim_atom, evaluate
from lower86.schedule.buffers import place_values
from lower86.schedule.plan import Plan

_KERNEL = Pointwise((1,), Body(), 1, 16)


def plan_of(sizes: list[Size], uses: list[list[int]]) -> Plan:
    plan = Plan()
    for size in sizes:
        plan.value("f32", (size,))
    for used in uses:
        plan.step(_KERNEL, [(value, 0) for value in used], [], "step")
    return plan


@given(st.data())
def test_values_alive_together_do_not_overlap(data: st.DataObject) -> None:
    batch = dim_atom("b")
    sizes = data.draw(st.lists(st.sampled_from([0, 1, 15, 16, 17, 100, batch, batch * 8]), min_size=1, max_size=8))
    numbers = st.integers(0, len(sizes) - 1)
    uses = data.draw(st.lists(st.lists(numbers, min_size=1, max_size=3, unique=True), min_size=1, max_size=8))
    plan = plan_of(sizes, uses)
    total = place_values(plan)
    for b in (0, 1, 7, 1000):
        dims = {"b": b}
        spans = {}
        for value in {v for used in uses for v in used}:
            alive = [i for i, used in enumerate(uses) if value in used]
            start = evaluate(plan.values[value].offset, dims)
            spans[value] = (alive[0], alive[-1], start, start + 4 * evaluate(sizes[value], dims))
            assert start % 64 == 0
            assert spans[value][3] <= evaluate(total, dims)
        for one, (first, last, start, end) in spans.items():
            for other, (first2, last2, start2, end2) in spans.items():
                if one != other and first <= last2 and first2 <= last:
                    assert end <= start2 or end2 <= start


def test_a_chain_needs_two_places() -> None:
    plan = plan_of([1000] * 10, [[i, i + 1] for i in range(9)])
    assert place_values(plan) == 2 * 4032
