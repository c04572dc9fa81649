"""What is said of the machine is what the system says."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

import numpy as np
import pytest

from lower86.codegen.target import Target
from lower86.report.environment import environment


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    found = environment(3, Target("avx2", "haswell", ""))
    assert found["level"] == "avx2"
    assert found["threads"] == 3
    assert found["cpus"] == sorted(os.sched_getaffinity(0))
    assert found["python"] == platform.python_version()
    assert found["versions"]["numpy"] == np.__version__
    assert found["versions"]["torch"] == version("torch")
    assert found["settings"]["OMP_WAIT_POLICY"] == "passive"
    assert "HOME" not in found["settings"]
    assert set(environment(1, Target("avx2", "haswell", ""), ("numpy", "no-such-thing"))["versions"]) == {"numpy"}
