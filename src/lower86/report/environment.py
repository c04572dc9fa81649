"""What figures depend on beside the model: the CPU, what of it may be used, versions, other runtimes' settings."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from typing import Any

from ..codegen.target import Target
from ..runtime.container import container_cpus

LIBRARIES = (
    "lower86", "numpy", "llvmlite", "torch", "torchao", "openvino", "nncf", "onnxruntime", "onnx", "onnxscript",
    "transformers",
)  # fmt: skip
_CPUINFO = "/proc/cpuinfo"
_SETTINGS = ("OMP_", "GOMP_", "KMP_", "MKL_", "ONEDNN_", "DNNL_", "TORCHINDUCTOR_", "OV_")


def environment(threads: int, target: Target, libraries: Sequence[str] = LIBRARIES) -> dict[str, Any]:
    """As plain data: `level` is that of lower86's kernels, `cpus` those that the process may run on.

    `container_cpus` is how many its container allows, None for all; `settings` are variables that other runtimes read.
    """
    return {
        "cpu": cpu_name(),
        "level": target.level,
        "cpus": sorted(os.sched_getaffinity(0)),
        "machine_cpus": os.cpu_count(),
        "container_cpus": container_cpus(),
        "threads": threads,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": versions(libraries),
        "settings": {name: value for name, value in sorted(os.environ.items()) if name.startswith(_SETTINGS)},
    }


def cpu_name() -> str:
    """What the CPU calls itself, with its family and model: the name alone may be that of several generations.

    As much of that as the system says; the architecture where it says nothing.
    """
    fields: dict[str, str] = {}
    with contextlib.suppress(OSError), open(_CPUINFO, encoding="utf-8", errors="replace") as file:
        for line in file:
            if not line.strip():
                break  # of the first CPU
            name, _, value = line.partition(":")
            fields[name.strip()] = value.strip()
    parts = [fields.get("model name") or platform.processor() or platform.machine()]
    parts += [f"{word} {fields[key]}" for word, key in (("family", "cpu family"), ("model", "model")) if key in fields]
    return ", ".join(parts)


def versions(libraries: Sequence[str] = LIBRARIES) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for name in libraries:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
