"""What the demo leaves behind, with an encoder in small; the demo itself takes minutes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lower86
from minilm import keep as keeping
from tests.models.small import Attention


def test_the_lowered_model_and_its_report_are_files(tmp_path: Path) -> None:
    inputs = (torch.randn(1, 6, 16), torch.ones(1, 6, dtype=torch.bool))
    quantized = lower86.quantize(Attention().eval(), [inputs], recipe="fast", progress=False)
    lowered = lower86.lower_pt2e_quantized_to_x86(quantized, inputs)
    for _ in range(2):  # the second run replaces what the first one left
        kept = keeping.keep(lowered, inputs, tmp_path / "new" / "build", seconds=0.05)
    assert kept.program.is_absolute()
    loaded = lower86.load(kept.program)
    assert np.array_equal(loaded(*inputs).numpy(), lowered(*inputs).numpy())
    page = kept.report.read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>")
    assert "all-MiniLM-L6-v2" in page
    assert sorted(path.name for path in kept.report.parent.iterdir()) == ["minilm.html", "minilm.safetensors"]


def test_without_a_display_nothing_is_opened() -> None:
    assert not keeping.has_display({})
    assert not keeping.has_display({"DISPLAY": ""})
    assert keeping.has_display({"DISPLAY": ":0"})
    assert keeping.has_display({"WAYLAND_DISPLAY": "wayland-0"})


def test_a_browser_is_started_and_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[str], dict[str, Any]]] = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: seen.append((command, options)))
    keeping.show(tmp_path / "a page.html")
    ((command, options),) = seen
    assert command == [sys.executable, "-m", "webbrowser", f"file://{tmp_path}/a%20page.html"]
    assert options["start_new_session"]
    assert options["stdin"] == subprocess.DEVNULL

    def fails(*_: Any, **__: Any) -> None:
        raise OSError

    monkeypatch.setattr(subprocess, "Popen", fails)
    keeping.show(tmp_path / "page.html")


def test_the_demo_says_what_it_takes() -> None:
    script = str(Path(keeping.__file__).parents[1] / "minilm_demo.py")
    said = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=True).stdout
    assert "--no-open" in said
    assert "build/minilm.html" in said
