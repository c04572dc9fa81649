"""Running a program needs no torch: what a saved program is loaded with stays small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import lower86

PACKAGE = Path(lower86.__file__).parent
WITHOUT = ("program", "codegen", "runtime", "report", "artifact", "cli")
MODULES = sorted(
    ".".join(("lower86", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for folder in WITHOUT
    for path in (PACKAGE / folder).rglob("*.py")
)


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_runs_programs_imports_no_torch() -> None:
    names = ", ".join(MODULES)
    assert {"lower86.runtime.executable", "lower86.artifact.load", "lower86.cli.main"} <= set(MODULES)
    assert (
        run(f"import sys, {names}\nprint([n for n in sys.modules if n.split('.')[0] in ('torch', 'torchao')])") == "[]"
    )


def test_what_runs_compiled_programs_imports_no_code_generator() -> None:
    """It takes as long to import as NumPy, and a process whose kernels are all in the cache needs none of it."""
    generator = "('lower86.codegen.builder', 'lower86.codegen.compile', 'lower86.codegen.pool')"
    assert run(f"import sys, lower86.artifact.load\nprint([n for n in sys.modules if n in {generator}])") == "[]"


def test_the_package_alone_imports_nothing_heavy() -> None:
    heavy = "('torch', 'torchao', 'llvmlite', 'numpy', 'typer')"
    assert run(f"import sys, lower86\nprint([n for n in sys.modules if n in {heavy}])") == "[]"
    assert run("import lower86\nprint(lower86.Lower86Error.__name__, lower86.Target.__name__)") == "Lower86Error Target"


def test_every_public_name_is_there() -> None:
    names = run("import lower86\nprint(all(getattr(lower86, n) is not None for n in lower86.__all__), dir(lower86))")
    assert names.startswith("True")
    for name in lower86.__all__:
        assert f"'{name}'" in names
    assert "explain" in run("from lower86 import *\nprint(explain.__name__)")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'lower86' has no attribute 'lower'"):
        lower86.lower  # noqa: B018
    assert not hasattr(lower86, "lower")
