"""What is named as a model is found by its kind; what is none is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from lower86.errors import Lower86Error
from lower86.sources.model import load_model


def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"x")
    (tmp_path / "other").write_bytes(b"no program")
    for name, message in (
        ("nothing", "there is no model nothing"),
        ("", "there is no model "),
        ("nothing.pt2", "nothing.pt2 cannot be read: No such file"),
        ("model.safetensors", "lowered already"),
        ("model.onnx", "an ONNX file"),
        (str(tmp_path / "weights.pth"), "a pickle"),
        (str(tmp_path / "other"), "is no exported program"),
        (str(tmp_path), "holds no config.json"),
        ("a b:c", "is not module:function"),
    ):
        with pytest.raises(Lower86Error, match=message):
            load_model(name)
