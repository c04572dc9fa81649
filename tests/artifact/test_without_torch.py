"""A saved model runs where there is no torch: in a process that does not import it, and in one that could not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lower86
from tests.bare import environment
from tests.models.checks import lower
from tests.models.quantized import quantize
from tests.models.small import Attention

PACKAGE = Path(lower86.__file__).parent
CODE = """
import sys, numpy, lower86
path, ids, mask, out = sys.argv[1:]
program = lower86.load(path)
result = program(numpy.load(ids), mask=numpy.load(mask))
numpy.save(out, result)
print(program.explain().int8_fraction, len(str(program.profile(numpy.load(ids), numpy.load(mask), seconds=0.01))) > 0)
print([name for name in sys.modules if name.split(".")[0] in ("torch", "torchao", "safetensors", "typer")])
"""


class Encoder(nn.Module):
    """A sentence encoder in small: i64 [1, 12] and bool [1, 12] to f32 [1, 16]."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.first, self.second = nn.Embedding(50, 16), Attention(), Attention()

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.second(self.first(self.table(ids), mask), mask)
        kept = mask[..., None].float()
        return nn.functional.normalize((x * kept).sum(1) / kept.sum(1).clamp(min=1e-9), dim=-1)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The model, its inputs, what it gives."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("encoder")
    inputs = torch.randint(0, 50, (1, 12)), torch.arange(12)[None] < 9
    lowered = lower(quantize(Encoder(), inputs), *inputs)
    lower86.save(lowered, folder / "model.safetensors")
    for name, tensor in zip(("ids", "mask", "expected"), (*inputs, lowered(*inputs)), strict=True):
        np.save(folder / f"{name}.npy", tensor.numpy())
    names = ("model.safetensors", "ids.npy", "mask.npy", "expected.npy")
    return {name.split(".")[0]: folder / name for name in names}


def run(
    python: str, files: dict[str, Path], out: Path, code: str = CODE, same: bool = True, **environment: str
) -> list[str]:
    given = [str(files[name]) for name in ("model", "ids", "mask")]
    done = subprocess.run(
        [python, "-W", "error", "-c", code, *given, str(out)],
        capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    if same:
        assert np.load(out).tobytes() == np.load(files["expected"]).tobytes()
    return done.stdout.splitlines()


def test_a_process_that_loads_a_program_imports_no_torch(files: dict[str, Path], tmp_path: Path) -> None:
    assert run(sys.executable, files, tmp_path / "out.npy") == ["1.0 True", "[]"]


WARM = """
import sys, numpy, lower86
path, ids, mask, out = sys.argv[1:]
program = lower86.load(path)
numpy.save(out, program(numpy.load(ids), mask=numpy.load(mask)))
print([name for name in ("llvmlite", "platformdirs", "lower86.codegen.builder") if name in sys.modules])
print(program.target)
"""


def test_a_process_that_finds_all_code_in_the_cache_imports_no_llvm(files: dict[str, Path], tmp_path: Path) -> None:
    cache = {"LOWER86_CACHE_DIR": str(tmp_path / "cache")}
    cold, target = run(sys.executable, files, tmp_path / "cold.npy", WARM, **cache)
    assert cold == "['llvmlite', 'lower86.codegen.builder']"
    assert run(sys.executable, files, tmp_path / "warm.npy", WARM, **cache) == ["[]", target]
    assert (tmp_path / "cold.npy").read_bytes() == (tmp_path / "warm.npy").read_bytes()
    assert target == str(lower86.Target.host())
    narrow = cache | {"LOWER86_TARGET": "avx2"}
    for imported in (cold, "[]"):
        said, target = run(sys.executable, files, tmp_path / "narrow.npy", WARM, same=False, **narrow)
        assert said == imported
        assert target == str(lower86.Target.host(level="avx2"))


def test_an_environment_without_torch(files: dict[str, Path], tmp_path: Path) -> None:
    """What `pip install lower86` brings is enough: nothing else is there."""
    bare = environment(tmp_path / "bare")
    (bare.site / "lower86").symlink_to(PACKAGE)
    python = str(bare.python)
    variables: dict[str, Any] = {"PYTHONPATH": "", "LOWER86_CACHE_DIR": str(tmp_path / "cache")}
    assert run(python, files, tmp_path / "out.npy", **variables) == ["1.0 True", "[]"]
    assert any((tmp_path / "cache").iterdir())
    code = "import importlib.util as u; print([n for n in ('torch', 'torchao', 'safetensors') if u.find_spec(n)])"
    own = {**os.environ, **variables}
    assert subprocess.check_output([python, "-c", code], text=True, env=own).strip() == "[]"
    arguments = ["run", str(files["model"]), "-i", f"ids={files['ids']}", "-i", f"mask={files['mask']}", "--json"]
    done = subprocess.run([python, "-m", "lower86", *arguments], capture_output=True, text=True, check=False, env=own)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outputs"] == {"output": {"dtype": "float32", "shape": [1, 16]}}
    assert "needs torch: pip install 'lower86[torch]'" in subprocess.run(
        [python, "-c", "import lower86; lower86.lower_pt2e_quantized_to_x86"],
        capture_output=True, text=True, check=False, env=own,
    ).stderr  # fmt: skip
