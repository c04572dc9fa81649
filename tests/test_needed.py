"""A package that is missing is an error that says which, for what, and what to install."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from lower86.errors import Lower86Error
from lower86.needed import needed


def test_a_module_that_is_there() -> None:
    assert needed("json.decoder", "this", "cli") is json.decoder


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lacking_its_own.py").write_text("import no_such_package.part\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "halted", None)
    for module, package, name in (
        ("no_such_package", "", "no_such_package"),
        ("no_such_package.part", "", "no_such_package"),
        ("no_such_package.part", "its-other-name", "its-other-name"),
        ("halted.part", "", "halted"),
        ("lacking_its_own", "its-other-name", "no_such_package"),
    ):
        with pytest.raises(Lower86Error) as caught:
            needed(module, "a picture", "plot", where="Row.plot", package=package)
        assert caught.value.what == f"a picture takes {name}, which is not installed"
        assert caught.value.fix == f"pip install {name}, or pip install 'lower86[plot]'"
        assert caught.value.where == "Row.plot"


def test_what_goes_wrong_within_it_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_inside.py").write_text("raise ImportError('of another build')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="of another build"):
        needed("broken_inside", "this", "cli")
