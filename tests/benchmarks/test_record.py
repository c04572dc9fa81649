"""A record is kept part by part, whole or not at all, and is of one machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "benchmarks")]  # where its programs find each other

import json_output  # noqa: E402
import plan  # noqa: E402
import record  # noqa: E402
import record_file  # noqa: E402

MACHINE = plan.Part("machine", "all", "machine", ("--seconds", "0"))


def new() -> dict[str, Any]:
    return {"format": 1, "identity": {}, "sections": {}}


def test_a_part_is_run_and_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, kept = tmp_path / "results.json", new()
    failing = plan.Part("kernels", "all", "machine", ("--no-such-option",))
    assert record.run(kept, path, [MACHINE, failing], True, 1.0) == ["kernels/all: its program failed"]
    assert json.loads(path.read_text()) == kept
    entry = kept["sections"]["machine"]["all"]
    assert entry["quick"]
    assert min(entry["figures"][f"{kind}_macs_per_second"] for kind in ("int8", "f32")) > 1e7
    assert entry["command"] == ["benchmarks/machine.py", "--seconds", "0"]
    assert list(kept["sections"]) == ["machine"]
    assert [one.name for one in tmp_path.iterdir()] == ["results.json"]
    assert "[2/2] kernels/all" in capfd.readouterr().out


def test_no_part_begins_after_its_time(tmp_path: Path) -> None:
    kept = new()
    assert record.run(kept, tmp_path / "results.json", [MACHINE], False, 0.0) == ["machine/all: no time left"]
    assert kept == new()


def test_what_is_missing() -> None:
    kept = new()
    assert record_file.is_missing(kept, MACHINE, quick=True)
    for others, quick, missing, missing_quickly in (
        (0.0, False, False, False), (0.2, False, True, False), (0.0, True, True, False),
    ):  # fmt: skip
        kept["sections"] = {"machine": {"all": {"others": others, "quick": quick}}}
        assert record_file.is_missing(kept, MACHINE, quick=False) == missing
        assert record_file.is_missing(kept, MACHINE, quick=True) == missing_quickly


def test_a_record_is_of_one_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.json"
    here = {"cpu": "A", "versions": {"torch": "2", "lower86": "1"}}
    monkeypatch.setattr(record_file, "identity", lambda: here)
    assert record_file.begun(path, False, True) == {"format": 1, "identity": here, "sections": {}}
    before = {"cpu": "A", "versions": {"torch": "2", "lower86": "0"}}
    path.write_text(json.dumps({"format": 1, "identity": before, "sections": {"machine": {}}}))
    assert record_file.begun(path, False, True) == {"format": 1, "identity": here, "sections": {"machine": {}}}
    here["cpu"] = "B"
    with pytest.raises(SystemExit, match=r"another machine(.|\n)*cpu: A there, B here(.|\n)*--fresh"):
        record_file.begun(path, False, True)
    assert record_file.begun(path, False, False)["sections"] == {}
    assert "takes its place" in capsys.readouterr().out
    assert record_file.begun(path, True, True)["sections"] == {}


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"format": 9, "identity": {}, "sections": {}}'])
def test_what_is_no_record(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(SystemExit, match="is no record"):
        record_file.begun(path, False, False)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "figures.json"
    json_output.write_json(path, {"a": 1})

    def full(*_: object) -> None:
        raise OSError("no space left")

    with pytest.raises(TypeError, match="not JSON serializable"):
        json_output.write_json(path, {"a": path})
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space"):
        json_output.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [one.name for one in tmp_path.iterdir()] == ["figures.json"]
    json_output.write_json(None, {"a": 3})


def test_what_is_no_number_is_null(tmp_path: Path) -> None:
    json_output.write_json(tmp_path / "figures.json", [{"cosine": float("nan"), "min": (1.5, float("inf"))}])
    assert json.loads((tmp_path / "figures.json").read_text()) == [{"cosine": None, "min": [1.5, None]}]


def test_every_part_has_a_program() -> None:
    every = list(plan.parts())
    assert len({str(part) for part in every}) == len(every)
    assert {part.section for part in every if part.quick is not None} == {
        "machine", "kernels", "models", "scaling", "roofline",
    }  # fmt: skip
    for part in every:
        text = (ROOT / "benchmarks" / f"{part.program}.py").read_text()
        assert "add_json(parser)" in text
        assert all(word in text for word in (*part.full, *(part.quick or ())) if word.startswith("--")), part
