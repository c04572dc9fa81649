"""What a file is said to do, from the dotted names that it uses."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from .python_file import PythonFile

DEFAULTS: Mapping[str, Sequence[str]] = {
    "Code generation (JIT)": ("llvmlite*", "numba*", "cffi*", "torch.compile", "torch.jit.*", "torch._inductor*"),
    "Benchmark": ("time.perf_counter*", "time.process_time*", "timeit*"),
    "Security: native code and memory": ("ctypes*", "mmap*"),
    "Security: processes": ("subprocess*", "os.system", "os.exec*", "os.fork", "os.spawn*", "os.kill*",
                            "multiprocessing*"),
    "Security: code from data": ("eval", "exec", "compile", "runpy*", "importlib.*", "__import__"),
    "Security: unpickling": ("pickle*", "marshal*", "shelve*", "dill*", "joblib*", "torch.load"),
    "Security: environment variables": ("os.environ*", "os.getenv", "os.putenv"),
    "Security: deleting and replacing files": (
        "os.remove", "os.unlink", "os.rmdir", "os.replace", "os.rename", "shutil.rmtree", "*.unlink", "*.rmdir",
    ),
    "Security: permissions": ("os.chmod", "os.chown", "*.chmod", "os.setuid", "os.umask"),
    "Security: network": ("socket*", "urllib*", "http.*", "requests*", "httpx*"),
}  # fmt: skip
"""By title, globs of names. A method is known by its name alone: `*.unlink`."""


def detected(file: PythonFile, patterns: Mapping[str, Sequence[str]]) -> dict[str, dict[str, list[int]]]:
    """By title, the names that fit it, and by name the lines."""
    found: dict[str, dict[str, list[int]]] = {}
    for title, globs in patterns.items():
        fits = _any_of(tuple(globs))
        for name, line in file.uses:
            if fits(name):
                lines = found.setdefault(title, {}).setdefault(name, [])
                if line not in lines:
                    lines.append(line)
    return found


@cache
def _any_of(globs: tuple[str, ...]) -> Callable[[str], object]:
    return re.compile("|".join(fnmatch.translate(glob) for glob in globs) or "(?!)").match
