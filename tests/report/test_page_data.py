"""What is gathered for a report, of real programs: who reads what, precisions, inputs made up, reasons, sources."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lower86
from lower86 import InputError, Lower86Error, X86Quantizer
from lower86.lowered import LoweredModule
from lower86.report.inputs import made_up
from lower86.report.page.data import gather
from lower86.report.page.facts import Facts
from lower86.report.page.flow import PRECISIONS
from lower86.report.page.render import page
from lower86.report.profile import LEAST_SEEN
from tests.models import transformer
from tests.models.checks import lower, lower_anyhow
from tests.models.quantized import quantize
from tests.report.pages import Page
from tests.report.test_explain import Mixed

QUICK = 0.01
"""Seconds."""


def convolutions() -> LoweredModule:
    """With padding, two branches and a concatenation: fills, kernels that write parts of a buffer."""

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.a = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1, groups=16)
            self.b, self.last = nn.Conv2d(16, 16, 1), nn.Conv2d(32, 8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.stem(x))
            return self.last(torch.cat([torch.relu(self.a(x)), torch.relu(self.b(x))], 1)).mean((2, 3))

    x = torch.randn(1, 3, 12, 12)
    return lower_anyhow(quantize(Branches(), (x,), quantizer=X86Quantizer()), x)


def bert() -> LoweredModule:
    inputs = transformer.inputs("bert-base", 1, small=True)[0]
    model = transformer.load("bert-base", small=True)
    return lower_anyhow(quantize(model, inputs, quantizer=X86Quantizer()), *inputs)


def products() -> LoweredModule:
    """Two activations multiplied in int8: one of them is packed in every call."""

    class Product(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return torch.relu(a) @ torch.relu(b)

    inputs = torch.randn(2, 16, 32), torch.randn(2, 32, 24)
    return lower_anyhow(quantize(Product(), inputs, quantizer=X86Quantizer()), *inputs)


def recurrent() -> LoweredModule:
    return lower_anyhow(nn.GRU(8, 19), torch.randn(7, 5, 8))


def counter() -> LoweredModule:
    """With state."""

    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            self.seen.add_(x)
            return self.seen * 2

    return lower_anyhow(Counter(), torch.randn(4))


def is_connected(facts: Facts) -> None:
    """Every step reads an input or another's result, and everything leads to a result, or to state."""
    read = {edge.source for edge in facts.edges}
    written = {edge.target for edge in facts.edges}
    assert {-1 - i for i in range(sum(bool(one.dtype) for one in facts.outputs))} <= written
    for step in facts.steps:
        from_nothing = step.kind == "fill" or step.nodes == ("gru, initial state",)
        assert (step.number in written) != from_nothing, step
        assert step.number in read or facts.state, step
    assert all(edge.source < edge.target for edge in facts.edges if edge.target >= 0)


@pytest.mark.parametrize(
    ("make", "kinds", "precisions"),
    [
        (convolutions, {"contraction u8s8", "depthwise u8s8", "fill"}, {"int8", "mixed"}),
        (bert, {"attention", "contraction u8s8", "rows"}, {"int8", "mixed", "float"}),
        (products, {"pack", "contraction u8s8"}, {"int8", "mixed"}),
        (recurrent, {"loop of contraction f32 + pointwise"}, {"float"}),
        (counter, {"pointwise"}, {"float"}),
    ],
)
def test_steps_of_real_programs(
    make: Callable[[], LoweredModule], kinds: set[str], precisions: set[str], tmp_path: Path
) -> None:
    lowered = make()
    before = [tensor.clone() for _, tensor in lowered.named_state()]
    facts = gather(lowered, seconds=QUICK)
    assert all(torch.equal(a, b) for a, (_, b) in zip(before, lowered.named_state(), strict=True))
    assert kinds <= {step.kind for step in facts.steps}
    assert precisions <= {step.precision for step in facts.steps} <= set(PRECISIONS)
    is_connected(facts)
    assert sum(step.share for step in facts.steps) == pytest.approx(1)
    for step in facts.steps:
        if step.macs:
            seen = step.seconds >= LEAST_SEEN
            rate = step.macs / step.seconds
            assert step.macs_per_second == (pytest.approx(rate) if seen else None)
            assert step.of_peak == (pytest.approx(rate / facts.machine.peak) if seen else None)
            assert step.intensity == pytest.approx(step.macs / step.bytes)
    assert facts.weight_bytes == sum(np.asarray(c).nbytes for c in lowered.program.constants)
    json.dumps(facts.to_json(), allow_nan=False)
    lower86.save(lowered, tmp_path / "model.safetensors")
    loaded = gather(lower86.load(tmp_path / "model.safetensors"), seconds=QUICK)
    assert loaded.edges == facts.edges
    for field in ("kind", "shape", "kernel", "precision", "nodes", "module", "line", "params", "macs", "bytes"):
        assert [getattr(a, field) for a in loaded.steps] == [getattr(b, field) for b in facts.steps], field
    assert (loaded.inputs, loaded.outputs, loaded.state) == (facts.inputs, facts.outputs, facts.state)
    assert loaded.weight_bytes == facts.weight_bytes


def test_where_steps_come_from(encoder: LoweredModule) -> None:
    facts = gather(encoder, seconds=QUICK)
    by_module = {step.module: step for step in facts.steps}
    assert by_module["layer.out"].line.startswith("small.py:")
    assert by_module["layer.out"].line.endswith("self.norm(x + self.out(y.transpose(1, 2).reshape(x.shape)))")
    (lookup,) = [step for step in facts.steps if step.module == "table"]
    assert re.fullmatch(r"conftest.py:\d+: x = self.layer\(self.table\(ids\), mask\)", lookup.line)
    names = {name for step in facts.steps for name, _ in step.params}
    assert {"1 / scale (quantize)", "zero point (quantize)"} <= names


def test_inputs_that_are_made_up_are_taken(encoder: LoweredModule) -> None:
    (ids, mask), kwargs = made_up(encoder.program, encoder.interface)
    assert not kwargs
    assert (ids.shape, mask.shape, mask.dtype) == ((1, 40), (1, 40), np.bool_)
    assert mask.all()
    assert (ids.min() >= 0, ids.max() < 50, len(np.unique(ids)) > 10) == (True, True, True)
    facts = gather(encoder, seconds=QUICK)
    assert facts.timed_on.startswith("random inputs, ")
    assert facts.timed_on.endswith(" = 40")
    assert int(facts.arena_bytes) > 0, "at the sizes that were timed"
    assert [(one.name, one.dtype) for one in facts.inputs] == [("ids", "i64"), ("mask", "bool")]
    assert facts.inputs[0].ranges[0].endswith(" 0 … 40")


def test_floats_of_16_bits_are_made_up() -> None:
    model = nn.Linear(8, 8).bfloat16()
    lowered = lower_anyhow(model, torch.randn(3, 8).bfloat16())
    facts = gather(lowered, seconds=QUICK)
    assert [(one.dtype, one.shape) for one in facts.inputs] == [("bf16", ("3", "8"))]
    assert {step.precision for step in facts.steps if step.macs} == {"half"}


def test_inputs_that_are_given(encoder: LoweredModule, saved: Path) -> None:
    ids, mask = torch.randint(0, 50, (1, 7)), torch.ones(1, 7, dtype=torch.bool)
    for model in (encoder, lower86.load(saved)):
        for inputs in ((ids, mask), {"ids": ids.numpy(), "mask": mask.numpy()}):
            assert gather(model, inputs, seconds=QUICK).timed_on.endswith(" = 7")
        with pytest.raises(InputError, match=r"there is no input 'id'; ids is missing"):
            gather(model, {"id": ids, "mask": mask})
        with pytest.raises(InputError, match="outside its range 0 … 40"):
            gather(model, (torch.zeros(1, 41, dtype=torch.int64), torch.ones(1, 41, dtype=torch.bool)))


def test_reasons() -> None:
    lowered = lower_anyhow(Mixed(), torch.randn(5, 8).clamp(0, 1))
    facts = gather(lowered, seconds=QUICK)
    assert (facts.quantized, facts.int8) == (3, 2)
    (refused,) = facts.not_int8
    assert "axis 1" in refused.reason
    assert refused.macs == 5 * 8 * 48

    half = X86Quantizer().set_module_name("1", None)
    model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 4))
    lowered = lower_anyhow(quantize(model, (torch.randn(3, 8),), quantizer=half), torch.randn(3, 8))
    (left,) = gather(lowered, seconds=QUICK).not_int8
    assert (left.operator, left.macs, left.reason) == ("contraction f32", 3 * 16 * 4, "the model does not quantize it")


def test_steps_in_pytorch() -> None:
    class Sorted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sort(x * 2)[0] + 1

    facts = gather(lower_anyhow(Sorted(), torch.randn(3, 7)), seconds=QUICK)
    is_connected(facts)
    assert facts.foreign == 1
    (away,) = facts.not_int8
    assert away.operator == "aten::sort"
    assert away.line.startswith("test_page_data.py:")
    (step,) = [step for step in facts.steps if step.precision == "foreign"]
    assert step.line == away.line
    assert "torch.sort" in step.line
    assert "Every multiplication" not in page(facts)


def test_a_comparison_is_shown() -> None:
    model, x = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8)).eval(), torch.randn(5, 16)
    quantized = quantize(model, (x,))
    lowered = lower(quantized, x)
    comparison = lower86.compare(model, quantized, lowered, (x,))
    facts = gather(lowered, (x,), comparison, seconds=QUICK)
    assert facts.accuracy is not None
    assert [row["node"] for row in facts.accuracy] == [row.node for row in comparison.rows]
    parsed = Page(page(facts))
    assert len(parsed.all("table", id="values")) == 1
    shown = [row.quantization_here.sqnr for row in comparison.rows if row.quantization_here is not None]
    assert f"{min(one for one in shown if math.isfinite(one)):.1f}" in parsed.of("td")


def test_what_no_report_can_be_made_of(encoder: LoweredModule, tmp_path: Path) -> None:
    with pytest.raises(Lower86Error, match="a Linear has no program"):
        lower86.write_report(nn.Linear(2, 2), tmp_path / "a.html")
    with pytest.raises(Lower86Error, match="cannot be written: No such file"):
        lower86.write_report(encoder, tmp_path / "no" / "a.html", seconds=QUICK)
    assert not list(tmp_path.iterdir())


def test_a_report_is_a_file(encoder: LoweredModule, tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    size = lower86.write_report(encoder, path, name="My <encoder>", seconds=QUICK)
    assert path.stat().st_size == size < 500_000
    assert "My <encoder>" in Page(path.read_text(encoding="utf-8")).of("h1")
    assert [one.name for one in tmp_path.iterdir()] == ["a.html"]


def test_no_rate_follows_from_a_time_that_was_not_seen(encoder: LoweredModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lower86.report.page.data.LEAST_SEEN", 1e9)
    steps = gather(encoder, seconds=QUICK).steps
    assert {(step.macs_per_second, step.of_peak) for step in steps} == {(None, None)}
    assert any(step.macs for step in steps)
