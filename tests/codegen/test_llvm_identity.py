"""Which LLVM is installed, without importing it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from lower86.codegen.llvm import VERSION
from lower86.codegen.llvm_identity import llvm_identity


def test_it_is_found_without_an_import() -> None:
    code = (
        "import sys; from lower86.codegen.llvm_identity import llvm_identity\n"
        "print('llvmlite' in sys.modules, llvm_identity())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"False {llvm_identity()}"


def test_it_changes_with_the_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version and library count; what is laid out in another way is asked for its version."""
    package = tmp_path / "llvmlite"
    (package / "binding").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    (package / "_version.py").write_text("1")
    spec = importlib.util.spec_from_file_location("llvmlite", package / "__init__.py")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    found = []
    for version, size in (("1", 10), ("2", 10), ("2", 11)):
        (package / "_version.py").write_text(version)
        (package / "binding" / "libllvmlite.so").write_bytes(bytes(size))
        llvm_identity.cache_clear()
        found.append(llvm_identity())
    assert len(set(found)) == 3
    for nothing in (importlib.util.spec_from_loader("llvmlite", None), None):
        monkeypatch.setattr("importlib.util.find_spec", lambda name, nothing=nothing: nothing)
        llvm_identity.cache_clear()
        assert llvm_identity() == VERSION
    monkeypatch.undo()
    llvm_identity.cache_clear()
