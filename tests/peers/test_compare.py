"""`lower86.benchmark_peers`: who takes part, who does not and why, and whether results are compared at all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lower86
from lower86.peers import compare
from lower86.peers.contest import cosines, field_of
from lower86.peers.known import PEERS, chosen_peers
from lower86.peers.peer import Peer, Unsuited, Work, run_of


class Nested(nn.Module):
    """Named arguments, one of them no tensor; two results by name."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 32)

    def forward(self, x: Tensor, *, factor: float = 1.0, mask: Tensor | None = None) -> dict[str, Tensor]:
        y = self.layer(x) * factor
        return {"y": y, "sum": y.sum(-1) if mask is None else (y * mask).sum(-1)}


def fails(work: Work, threads: int) -> Any:
    raise ValueError("no compiler\nand more")


def unsuited(work: Work, threads: int) -> Any:
    raise Unsuited("it is too small")


def wrong(work: Work, threads: int) -> Any:
    return run_of(lambda *inputs: tuple(-result for result in work.model(*inputs)))


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the real ones: one that is right, one that is wrong, and three that cannot be measured."""
    made = {
        "eager": PEERS["PyTorch fp32"],
        "wrong": Peer("wrong", wrong),
        "missing": Peer("missing", fails, ("torch", "no_such_package")),
        "fails": Peer("fails", fails),
        "unsuited": Peer("unsuited", unsuited),
    }
    monkeypatch.setattr(compare, "chosen_peers", lambda names: made)


@pytest.mark.usefixtures("peers")
def test_everyone_is_in_the_table_or_has_a_reason() -> None:
    torch.manual_seed(0)
    data = [{"x": torch.randn(4, 16), "factor": 0.5, "mask": torch.rand(4, 32)} for _ in range(6)]
    odd = {"x": torch.randn(5, 16), "factor": 0.5, "mask": torch.rand(5, 32)}
    threads = torch.get_num_threads()
    found = lower86.benchmark_peers(Nested().eval(), [*data, odd], rounds=3, warm_up=0.0, threads=1, name="nested")
    assert torch.get_num_threads() == threads
    rows = {row.name: row for row in found.rows}
    assert list(rows) == ["lower86", "eager", "wrong"]
    assert rows["lower86"].cosine > 0.99
    assert rows["wrong"].cosine == pytest.approx(-1, abs=1e-6)
    assert found.left_out == {
        "missing": "no_such_package not installed (pip install 'lower86[peers]')",
        "fails": "it failed: ValueError: no compiler",
        "unsuited": "it is too small",
    }
    text = str(found)
    assert "missing: not measured, no_such_package" in text
    assert "1 of 7 inputs has another shape" in text
    assert found.to_dict()["rows"][0]["ratio"] == 1


def test_what_is_required_may_not_fail() -> None:
    x = torch.randn(2, 4)
    work = Work("work", nn.Linear(4, 4), [(x,)], [(x,)])
    with pytest.raises(ValueError, match="no compiler"):
        field_of(work, {"own": Peer("own", fails, required=True)}, 1, "")


def test_the_least_likeness_of_all_results_counts() -> None:
    work = Work("work", nn.Identity(), [], [(torch.ones(3),), (torch.tensor([1.0, 0.0, 0.0]),)])
    field = field_of(work, {"peer": Peer("peer", lambda *_: lambda inputs: torch.tensor([1.0, 0.0, 0.0]))}, 1, "")
    assert cosines(work, field.contenders)["peer"] == pytest.approx(3**-0.5)
    field.contenders["peer"]()
    del field.contenders["peer"].results[0]
    assert cosines(work, field.contenders)["peer"] == pytest.approx(1)


def test_a_model_that_torchao_leaves_in_float_is_said_to_be() -> None:
    x = torch.randn(1, 3, 8)
    work = Work("work", nn.Sequential(nn.Softmax(-1)), [(x,)], [(x,)])
    field = field_of(work, chosen_peers("torchao"), 1, "")
    assert field.left_out == {"torchao lowering": "torchao's quantizer leaves all of it in float"}


def test_names_of_peers() -> None:
    assert dict(chosen_peers("all")) == dict(PEERS)
    assert list(chosen_peers(" OpenVINO , pytorch")) == ["OpenVINO int8", "PyTorch fp32"]
    for wrong_name in ("", "openvino,", [], ["nothing"]):
        with pytest.raises(lower86.InputError, match="peer"):
            chosen_peers(wrong_name)


def test_mistakes() -> None:
    model, x = nn.Linear(4, 4).eval(), torch.randn(2, 4)
    for options, message in (
        ({"rounds": 0}, "rounds"),
        ({"warm_up": -1.0}, "warm_up"),
        ({"peers": "nobody"}, "there is no peer"),
        ({"threads": 0}, "threads"),
        ({"inputs": [torch.randn(3, 4)]}, "no input has the shapes"),
    ):
        with pytest.raises(lower86.InputError, match=message):
            lower86.benchmark_peers(model, [x], **options)  # type: ignore[arg-type]  # of several types
    with pytest.raises(lower86.InputError, match="empty"):
        lower86.benchmark_peers(model, [])
    with pytest.raises(lower86.InputError, match="model is a"):
        lower86.benchmark_peers("model", [x])  # type: ignore[arg-type]  # as users may
