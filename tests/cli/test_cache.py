"""`lower86 cache`, as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from lower86.runtime import cache_folder

KEYS = [f"{number:064x}" for number in range(3)]


def lower86(folder: Path | str, *arguments: str) -> tuple[int, str]:
    """Exit code and output of the command."""
    script = "from lower86.cli.main import main; raise SystemExit(main())"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        env={**os.environ, "LOWER86_CACHE_DIR": str(folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not done.stderr
    return done.returncode, done.stdout


def info(folder: Path | str) -> Any:
    code, output = lower86(folder, "cache", "info", "--json")
    assert code == 0
    return json.loads(output)


def test_info_and_clear(tmp_path: Path) -> None:
    folder = tmp_path / "objects"
    empty = {"folder": str(folder), "entries": 0, "bytes": 0, "limit": cache_folder.MOST_BYTES, "problem": None}
    assert info(folder) == empty
    assert not folder.exists()
    for key in KEYS:
        cache_folder.write(folder, key, bytes(1000))
    (folder / "notes").write_text("not ours")
    size = sum((folder / key).stat().st_size for key in KEYS)
    assert info(folder) == empty | {"entries": 3, "bytes": size}
    assert lower86(folder, "cache", "info") == (0, f"{folder}: 3 kernels, 0.00 of 268 MB\n")
    code, output = lower86(folder, "cache", "clear", "--json")
    assert (code, json.loads(output)) == (0, {"deleted": 3, "bytes": size, "left": 0})
    assert lower86(folder, "cache", "clear") == (0, "deleted 0 kernels, 0.00 MB\n")
    assert info(folder) == empty
    assert os.listdir(folder) == ["notes"]


def test_a_folder_that_is_not_used_says_why(tmp_path: Path) -> None:
    folder = tmp_path / "objects"
    cache_folder.write(folder, KEYS[0], b"")
    folder.chmod(0o777)
    assert info(folder)["problem"] == "other users can write to it"
    assert "it is not used: other users can write to it" in lower86(folder, "cache", "info")[1]
    assert lower86(folder, "cache", "clear")[1].startswith("deleted 0 kernels")


def test_no_folder() -> None:
    assert info("")["folder"] is None
    assert lower86("", "cache", "info") == (0, "no folder: the cache is off\n")
    assert lower86("", "cache", "clear") == (0, "deleted 0 kernels, 0.00 MB\n")
