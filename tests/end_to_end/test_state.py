"""Models that write to their buffers: what one call leaves there, the next one finds."""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import lower86
from lower86.lowered import LoweredModule
from tests.models.checks import lower, lower_anyhow, near, same
from tests.models.qdq import Linear, grid


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(5, 8))


class Stateful(nn.Module):
    """`function(linear(x), p, module)`; x: f32 [3, 8], p: an i64 index [1]."""

    def __init__(self, function: Callable[[Tensor, Tensor, Any], Any]) -> None:
        super().__init__()
        self.linear, self.function, self.inner = Linear(8, 8), function, Inner()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("rows", grid(5, 8))
        self.register_buffer("others", grid(5, 8))

    def forward(self, x: Tensor, p: Tensor) -> Any:
        return self.function(self.linear(x), p, self)


Function = Callable[[Tensor, Tensor, Any], Any]


def steps(*does: Callable[[Tensor, Tensor, Any], Any]) -> Function:
    """Does one after another; what comes back is a tuple of all that is a tensor and no buffer."""

    def function(y: Tensor, p: Tensor, m: Any) -> Any:
        return (y, *(r.clone() for do in does if isinstance(r := do(y, p, m), Tensor)))

    return function


def assign(name: str, place: Any, value: Callable[[Tensor, Any], Any]) -> Callable[[Tensor, Tensor, Any], None]:
    def do(y: Tensor, p: Tensor, m: Any) -> None:
        getattr(m, name)[p if place is None else place] = value(y, m)

    return do


def row(y: Tensor, p: Tensor, m: Any) -> None:
    m.rows.index_copy_(0, p, y[:1])


def total(y: Tensor, p: Tensor, m: Any) -> Tensor:
    return m.rows.sum(0)


def whole(y: Tensor, p: Tensor, m: Any) -> Tensor:
    return m.rows


def after_old(y: Tensor, p: Tensor, m: Any) -> Tensor:
    """Needs the old rows together with the new ones."""
    old = m.rows.clone()
    row(y, p, m)
    return m.rows.sum(0) * old


def swap(y: Tensor, p: Tensor, m: Any) -> None:
    kept = m.rows.clone()
    m.rows.copy_(m.others)
    m.others.copy_(kept)


CASES: dict[str, Function] = {
    "a counter": steps(lambda y, p, m: m.count.add_(1)),
    "a counter that is read": steps(lambda y, p, m: y * m.count.add_(1)),
    "all of it": steps(lambda y, p, m: m.rows.copy_(m.rows * 0.5 + 1)),
    "a row": steps(row),
    "a row, then all are read": steps(row, total),
    "read, then a row": steps(total, row),
    "read before and after": steps(total, row, total),
    "the old rows with the new": after_old,
    "the old rows are a result": steps(whole, row),
    "the new rows are a result": steps(row, whole),
    "a view of the old rows is a result": steps(lambda y, p, m: m.rows[1:3].T, row),
    "two rows in turn": steps(row, total, lambda y, p, m: m.rows.index_copy_(0, (p + 1) % 5, y[1:2]), total),
    "a row, then all": steps(row, lambda y, p, m: m.rows.mul_(0.5), total),
    "all, then a row": steps(lambda y, p, m: m.rows.mul_(0.5), row, total),
    "index_put": steps(assign("rows", None, lambda y, m: y[0]), total),
    "index_put of several": steps(lambda y, p, m: m.rows.index_put_((torch.cat([p, p - 1]),), y[:2]), total),
    "a slice": steps(assign("rows", slice(1, 4), lambda y, m: y), total),
    "a slice of columns": steps(assign("rows", (slice(None), slice(2, 5)), lambda y, m: y[:1, :3]), total),
    "one row": steps(assign("rows", -1, lambda y, m: y[0]), total),
    "one element": steps(assign("rows", (2, 3), lambda y, m: y[0, 0]), total),
    "a number": steps(assign("rows", 3, lambda y, m: 0.0), total),
    "rows that move up": steps(assign("rows", slice(0, 4), lambda y, m: m.rows[1:].clone()), row, total),
    "rows that move up, by cat": steps(lambda y, p, m: m.rows.copy_(torch.cat([m.rows[1:], y[:1]])), total),
    "a row from the buffer itself": steps(lambda y, p, m: m.rows.index_copy_(0, p, m.rows[1:2].clone()), total),
    "two buffers swapped": steps(swap),
    "two buffers, one row": steps(row, lambda y, p, m: m.others.index_copy_(0, p, y[:1]), total),
    "one buffer into another": steps(lambda y, p, m: m.others.copy_(m.rows), row),
    "one buffer's new rows into another": steps(row, lambda y, p, m: m.others[1:].copy_(m.rows[:-1])),
    "a buffer of a submodule": steps(lambda y, p, m: m.inner.rows.index_copy_(0, p, y[:1]) * 2),
    "rows multiplied by": steps(row, lambda y, p, m: y @ m.rows.T, lambda y, p, m: nn.functional.linear(y, m.rows)),
    "rows of a product": steps(lambda y, p, m: m.rows.index_copy_(0, p, y[:1] @ m.others.T @ m.others / 64), total),
    "an index from a buffer": steps(
        lambda y, p, m: m.rows.index_copy_(0, m.count[None] % 5, y[:1]), lambda y, p, m: m.count.add_(1), total
    ),
    "rows looked up": steps(lambda y, p, m: m.rows[p], row, lambda y, p, m: m.rows[p], lambda y, p, m: m.others[p]),
    "what PyTorch computes": steps(row, lambda y, p, m: m.rows.cumprod(0), lambda y, p, m: m.rows.sort(0).values),
}  # fmt: skip


def held(module: nn.Module) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in module.named_buffers() if name in {"count", "rows", "others", "inner.rows"}}


@pytest.mark.parametrize("name", CASES)
def test_state(name: str) -> None:
    """Call by call, results and buffers are the model's, and the reference leaves all as it is."""
    model = Stateful(CASES[name])
    lowered = lower_anyhow(model, grid(3, 8), torch.tensor([2]))
    first = held(lowered)
    for call in range(4):
        x, p = grid(3, 8), torch.tensor([call])
        before = held(lowered)
        reference = lowered.run_reference(x, p)
        same(held(lowered), before)
        want, got = model(x, p), lowered(x, p)
        near(got, want)
        near(reference, want)
        mine, expected = held(lowered), held(model)
        near(mine, {name: expected[name] for name in mine})
    lowered.reset_state()
    same(held(lowered), first)


ROW = CASES["a row, then all are read"]


@pytest.fixture
def lowered() -> LoweredModule:
    return lower(Stateful(ROW), grid(3, 8), torch.tensor([2]))


def test_a_row_is_written_where_it_lies(lowered: LoweredModule) -> None:
    """Nothing but the state has as many elements."""
    assert [value.place for value in lowered.program.values if value.shape == (5, 8)] == ["state"]
    assert [state.name for state in lowered.program.states] == ["rows"]


def test_lowering_leaves_the_model_alone() -> None:
    model = Stateful(ROW)
    before = held(model)
    lowered = lower(model, grid(3, 8), torch.tensor([2]))
    lowered(grid(3, 8), torch.tensor([1]))
    same(held(model), before)


def test_state_is_buffers(lowered: LoweredModule) -> None:
    x, p = grid(3, 8), torch.tensor([1])
    _, before = lowered(x, p)
    ((name, rows),) = lowered.named_state()
    assert name == "rows"
    assert rows is lowered.rows
    same(lowered.state_dict()["rows"], rows)
    same(before, rows.sum(0))
    lowered.rows.zero_()
    y, after = lowered(x, p)
    same(after, y[0])
    lowered.rows = torch.ones(5, 8)
    same(lowered(x, p)[1], y[0] + 4)
    assert torch.equal(lowered.rows[0], torch.ones(8))


@pytest.mark.parametrize("wrong", [torch.zeros(4, 8), torch.zeros(5, 8).double(), torch.zeros(8, 5).T, None])
def test_a_buffer_that_does_not_fit_is_named(lowered: LoweredModule, wrong: Any) -> None:
    lowered.rows = wrong
    with pytest.raises(lower86.InputError, match=r"buffer 'rows'(.|\n)*module\.rows\.copy_"):
        lowered(grid(3, 8), torch.tensor([1]))


def test_a_nested_buffer_that_does_not_fit_is_named_as_python_names_it() -> None:
    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.layers = Linear(8, 8), nn.ModuleList([Inner()])

        def forward(self, x: Tensor) -> Tensor:
            rows: Any = self.layers[0].rows
            return self.linear(x) + rows.add_(1).sum(0)

    lowered, x = lower(Layers(), grid(3, 8)), grid(3, 8)
    rows = lowered.get_buffer("layers.0.rows")
    lowered(x)
    rows.resize_(4, 8)
    with pytest.raises(lower86.InputError, match=re.escape("module.get_buffer('layers.0.rows').copy_(…)")):
        lowered(x)
    assert lowered.get_buffer("layers.0.rows") is rows


def test_a_call_that_fails_changes_nothing() -> None:
    """An index out of range is found before the first row is written, wherever it comes from."""

    def function(y: Tensor, p: Tensor, m: Any) -> Any:
        m.count.add_(1)
        m.rows.index_copy_(0, p[:1], y[:1])
        m.others.index_copy_(0, p[1:2], y[:1])
        m.inner.rows[p[2:3]] = m.others.sum(0)
        return (
            y
            + nn.functional.embedding(p[3:], m.inner.rows * 2)
            + nn.functional.embedding(p[3:], m.linear.bias[:5, None])
        )

    good = torch.tensor([1, 2, 3, 4])
    lowered = lower(Stateful(function), grid(3, 8), good)
    lowered(grid(3, 8), good)
    before = held(lowered)
    calls = [good[:3], good.int(), *(good.index_fill(0, torch.tensor(i), 5) for i in range(4))]
    for p in calls:
        with pytest.raises(lower86.InputError):
            lowered(grid(3, 8), p)
        same(held(lowered), before)
    with pytest.raises(lower86.InputError):
        lowered(grid(2, 8), good)
    same(held(lowered), before)
    assert lowered.count == 1


LATE: dict[str, Callable[[Tensor, Tensor, Any], Tensor]] = {
    "beside the new rows": lambda y, p, m: m.rows.sum(0) + m.others[p[:1]],
    "of the new rows": lambda y, p, m: nn.functional.embedding(p, m.rows * 2),
    "of a row, beside them": lambda y, p, m: (
        m.rows[:2] * 2 + torch.gather(m.others, 0, p[:, None] + torch.ones(1, 8).long() - 1)
    ),
    "of what a sum gives": lambda y, p, m: m.rows.sum(1) + m.others[p[None].expand(5, 2).sum(1) // 2, 0],
    "of a copy with other rows": lambda y, p, m: (m.rows + 1).index_copy(0, p[:1], y[:1]),
    "of what follows from a row": lambda y, p, m: m.others[(m.rows.sum(0) * 0).long()[:2] + p],
}


@pytest.mark.parametrize("name", LATE)
def test_an_index_that_is_read_after_a_write_is_checked_before_it(name: str) -> None:
    def function(y: Tensor, p: Tensor, m: Any) -> Any:
        m.rows.index_copy_(0, p[:1] * 0, y[:1])
        return LATE[name](y, p, m)

    model, good, bad = Stateful(function), torch.tensor([3, 1]), torch.tensor([7, 7])
    x = grid(3, 8)
    lowered = lower(model, x, good)
    near(lowered(x, good), model(x, good))
    before = held(lowered)
    with pytest.raises(lower86.InputError, match="index 7 is out of range for a dimension of size 5"):
        lowered(x + 1, bad)
    assert torch.equal(lowered.rows, before["rows"]) == (name != "of what follows from a row")


def test_copies(lowered: LoweredModule) -> None:
    x, p = grid(3, 8), torch.tensor([1])
    first = held(lowered)
    lowered(x, p)
    kept = held(lowered)
    deep, shallow = copy.deepcopy(lowered), copy.copy(lowered)
    assert deep.compiled() is lowered.compiled()
    lowered(x, p + 1)
    same(held(deep), kept)
    same(held(shallow), held(lowered))
    same(deep(x, p + 1), lowered(x, p + 1))
    deep.reset_state()
    same(held(deep), first)
    assert not torch.equal(lowered.rows, first["rows"])


def test_an_input_that_is_the_state_itself() -> None:
    model = Stateful(lambda y, p, m: (m.rows.index_copy_(0, p, y[:1]) + y.sum(), m.others.mul_(1)))
    x, p = grid(3, 8), torch.tensor([1])
    lowered = lower(model, x, p)
    same(lowered(lowered.rows[1:4], p), model(model.rows[1:4], p))


def test_calls_from_many_threads_wait_for_each_other() -> None:
    model = Stateful(lambda y, p, m: (m.count.add_(1).clone(), y))
    x, p = grid(3, 8), torch.tensor([1])
    lowered, seen = lower(model, x, p), []

    def work() -> None:
        for _ in range(200):
            seen.append(int(lowered(x, p)[0]))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(seen) == list(range(1, 801))
    assert lowered.count == 800


def test_an_edited_graph_keeps_its_state(lowered: LoweredModule) -> None:
    x, p = grid(3, 8), torch.tensor([1])
    lowered(x, p)
    (total,) = [n for n in lowered.graph.nodes if n.target is torch.ops.aten.sum.dim_IntList]
    total.target = torch.ops.aten.amax.default
    kept = held(lowered)
    lowered.recompile()
    same(held(lowered), kept)
    same(lowered(x, p)[1], lowered.rows.amax(0))


def test_a_write_that_is_not_last_is_refused(lowered: LoweredModule) -> None:
    (write,) = [n for n in lowered.graph.nodes if n.target is torch.ops.aten.copy_.default]
    (total,) = [n for n in lowered.graph.nodes if n.target is torch.ops.aten.sum.dim_IntList]
    total.prepend(write)
    lowered.recompile()
    with pytest.raises(lower86.GraphError, match="functional"):
        lowered(grid(3, 8), torch.tensor([1]))


def test_traced_and_exported(lowered: LoweredModule) -> None:
    x, p = grid(3, 8), torch.tensor([1])
    before = held(lowered)
    with FakeTensorMode() as mode:
        assert lowered(mode.from_tensor(x), mode.from_tensor(p))[1].shape == (8,)
    program = torch.export.export(lowered, (x, p))
    same(held(lowered), before)
    exported = program.module()
    again = lower(lowered, x, p)
    torch.compiler.reset()
    compiled = torch.compile(copy.deepcopy(lowered), backend="eager", fullgraph=True)
    for call in range(3):
        x, p = grid(3, 8), torch.tensor([call])
        want = lowered(x, p)
        near(again(x, p), want)
        near(compiled(x, p), want)
        near(exported(x, p), want)
    torch.compiler.reset()


def test_profile_leaves_the_state_alone(lowered: LoweredModule) -> None:
    x, p = grid(3, 8), torch.tensor([1])
    before = held(lowered)
    assert len(lower86.profile(lowered, x, p, seconds=0.01).steps) == len(lowered.program.steps)
    same(held(lowered), before)
