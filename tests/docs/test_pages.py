"""The Python of the documentation runs: each page is one program, from its first block to its last."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
README = DOCS.parent / "README.md"
WRITTEN = (README, *sorted(DOCS.rglob("*.md")))
SKETCHES = {"design.md"}
"""Pages whose code shows signatures, with dots in them."""
BEFORE = {
    "README.md": "import numpy",
    "quantization.md": """
import lower86, torch
model = torch.nn.Linear(8, 4).eval()
calibration, example_inputs = [torch.randn(2, 8) for _ in range(10)], (torch.randn(2, 8),)
validation = [(x, model(x).argmax(1)) for x in calibration]
x = calibration[0]
""",
    "debugging.md": """
import lower86, torch
model, images = torch.nn.Linear(8, 4).eval(), torch.randn(2, 8)
quantized = lower86.quantize(model, [images], progress=False)
lowered = lower86.lower_pt2e_quantized_to_x86(quantized, (images,))
""",
    "report.md": """
import lower86, torch
class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.layer = torch.nn.Embedding(50, 8), torch.nn.Linear(8, 4)
    def forward(self, ids, mask):
        return self.layer(self.table(ids)) * mask[..., None]
model, ids, mask = Encoder().eval(), torch.arange(6)[None], torch.ones(1, 6)
inputs = ids, mask
quantized = lower86.quantize(model, [inputs], progress=False)
lowered = lower86.lower_pt2e_quantized_to_x86(quantized, inputs)
lower86.save(lowered, "model.safetensors")
program = lower86.load("model.safetensors")
""",
}
"""What pages take for granted."""
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path) -> str:
    """The page's Python with everything else blank, so that an error names the page's line."""
    text = page.read_text(encoding="utf-8")
    lines = [""] * text.count("\n")
    for found in _BLOCK.finditer(text):
        first = text.count("\n", 0, found.start(1))
        code = found.group(1).splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines)


PROGRAMS = {
    name: (page, code)
    for page in WRITTEN
    if (code := blocks(page)).strip()
    and (name := page.relative_to(DOCS.parent).as_posix().removeprefix("docs/")) not in SKETCHES
}


def test_pages_with_code() -> None:
    assert {"index.md", "tutorial.md", "how-to/deployment.md", "how-to/transformers.md"} <= set(PROGRAMS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_page(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    page, code = PROGRAMS[name]
    module = types.ModuleType(f"page_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # export imports a model's module by its name
    exec(BEFORE.get(name, ""), vars(module))
    exec(compile(code, str(page), "exec"), vars(module))
    assert "Error" not in capsys.readouterr().err
