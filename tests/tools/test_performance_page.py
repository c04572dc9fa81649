"""docs/performance.md, its figures and README.md's tables say what the record says, and nothing that it does not."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from lower86.errors import Lower86Error

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "benchmarks")]

import performance_page  # noqa: E402
import plan  # noqa: E402
from performance import figures, names, readme  # noqa: E402
from performance.page import page  # noqa: E402
from performance.results import load, read  # noqa: E402

IDENTITY = {
    "cpu": "A CPU", "llvm_cpu": "znver5", "level": "avx512_vnni", "cores": 2, "threads": 2, "memory_bytes": 2**33,
    "system": "Linux 6.1", "python": "3.11.7", "versions": {"torch": "2.13.0", "openvino": "2026.4"},
}  # fmt: skip


def entry(given: Any, **changed: Any) -> dict[str, Any]:
    how = {"date": "2026-01-02 03:04", "commit": "abc", "quick": False, "others": 0.01, "took": 3.0}
    return {**how, "command": ["benchmarks/models.py", "--only", "OpenVINO int8"], "figures": given, **changed}


def row(name: str, median: float, ratio: float | None, p99: float = 9.0) -> dict[str, Any]:
    known = {"case": "", "busy": False, "name": name, "min": median / 2, "median": median, "p99": p99}
    return {**known, "ratio": ratio, "cosine": 0.98765}


def record() -> dict[str, Any]:
    """Of every section something."""
    minilm = [row("lower86", 1.84, 1.0), row("OpenVINO int8", 2.41, 1.31), row("ONNX Runtime static", 7.0, 3.8),
              row("ONNX Runtime dynamic", 5.04, 2.7), row("PyTorch fp32", 120.4, 65.0)]  # fmt: skip
    resnet = [row("lower86", 4.7, 1.0), row("torchao lowering", 9.4, 2.04), row("OpenVINO int8", 4.6, 0.98)]
    kinds = [
        {"kind": "contraction u8s8", "steps": 50, "macs": 4_000_000_000, "bytes": 40_000_000, "seconds": 0.0045},
        {"kind": "fill", "steps": 9, "macs": 0, "bytes": 9_000_000, "seconds": 0.0005},
    ]
    start = {"name": "lower86", "cold": 0.4, "import": 0.1, "load": 0.06, "first": 0.002, "total": 0.2, "peak": 60.0,
             "total ratio": 1.0}  # fmt: skip
    kernels = [{"m": m, "n": 384, "k": 384, "us": 20.0 * m, "peak": 1e12, "share": 0.9} for m in (128, 1)]
    decode = {"cache": 256, "seconds": 0.0035, "weight_bytes": 124_000_000, "read_bytes_per_second": 46.6e9,
              "share": 0.76}  # fmt: skip
    peaks = {"int8_macs_per_second": 1e12, "f32_macs_per_second": 2.5e11, "bytes_per_second": 5e10}
    sections = {
        "machine": {"all": entry(peaks)},
        "kernels": {"all": entry({"threads": 2, "rows": kernels})},
        "models": {"minilm-128": entry(minilm), "resnet-50": entry(resnet), "new-case": entry([row("lower86", 3, 1)])},
        "busy": {"minilm-128": entry([row("lower86", 4, 1, 6.9), row("OpenVINO int8", 5, 1.2, 13.4)])},
        "decode": {"gpt2": entry(decode)},
        "scaling": {"resnet-50": entry([{"name": "resnet-50", "batch": 8, "threads": 2, "ms_an_image": 4.31}])},
        "startup": {
            "minilm-128": entry([start, {**start, "name": "OpenVINO int8", "total": 0.5, "total ratio": 2.46}])
        },
        "roofline": {"resnet-50": entry([{"seconds": 0.005, "peak": 1e12, "kinds": kinds}])},
    }
    return {"format": 1, "identity": IDENTITY, "sections": sections}


def test_everything_is_current() -> None:
    old = performance_page.outdated(load(performance_page.RESULTS))
    assert old == [], "run python tools/performance_page.py"


def test_a_change_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, path in (("PAGE", tmp_path / "performance.md"), ("README", tmp_path / "README.md"), ("ASSETS", tmp_path)):
        monkeypatch.setattr(performance_page, name, path)
    (tmp_path / "README.md").write_text(f"before\n{readme.BEGIN}\n{readme.END}\nafter\n")
    given = record()
    performance_page.write(read(given))
    assert performance_page.outdated(read(given)) == []
    assert (tmp_path / "README.md").read_text().startswith("before\n")
    assert (tmp_path / "README.md").read_text().endswith("\nafter\n")
    given["sections"]["models"]["minilm-128"]["figures"][1] = row("OpenVINO int8", 2.61, 1.41)
    assert performance_page.outdated(read(given)) == [
        "models-light.svg", "models-dark.svg", "performance.md", "README.md",
    ]  # fmt: skip
    del given["sections"]["models"]
    performance_page.write(read(given))
    assert sorted(one.name for one in tmp_path.glob("*.svg")) == ["roofline-dark.svg", "roofline-light.svg"]


def test_the_page() -> None:
    results = read(record())
    text = page(results, figures.digests(results))
    for line in (
        "| all-MiniLM-L6-v2, 128 tokens | **1.8** | 2.4 | 7.0 | 5.0 | 120 |",
        "| all-MiniLM-L6-v2, 128 tokens | 1.00 | 1.31 | 3.80 | 2.70 | 65.00 |",
        "|  | lower86 | OpenVINO int8 | torchao lowering |",
        "| ResNet-50 | 4.7 | **4.6** | 9.4 |",
        "| new-case | **3.0** |",
        "| all-MiniLM-L6-v2, 128 tokens | OpenVINO int8 | 2.4 | 5.0 | 13.4 |",
        "| ResNet-50 | 8 | 2 | 4.31 |",
        "| 1 | ResNet-50 | 4.00 | 100 | 800 | 80% | 90% |",
        "| all-MiniLM-L6-v2, 128 tokens | OpenVINO int8 | 100 | 60 | 2 | 500 | 400 | 60 | 2.5 |",
        "| 384 x 384 | 7 (90%) | 7 (90%) |",
        "| int8 peak | 1000 GMAC/s |",
        "**3.50 ms** for one more token: 124 MB of int8 weights at 35.4 GB/s, 76%",
        '`benchmarks/models.py --only "OpenVINO int8"`',
        "![How many times as long as lower86 each peer takes](assets/models-light.svg#only-light)",
    ):
        assert line in text
    assert "Not measured" not in text
    assert "warning" not in text


def test_the_readme() -> None:
    text = readme.figures(read(record()))
    for line in (
        "Transformers, on 2 Zen 5 cores,",
        "| all-MiniLM-L6-v2, 128 tokens | **1.8** | 2.4 | – | 5.0 |",
        "| ResNet-50 | 4.7 | **4.6** | – | – |",
        "GPT-2 takes 3.5 ms for one more token: its int8 weights at 76% of the speed",
        "6.9 ms, in OpenVINO 13.4.",
        "ResNet-50 runs at 80% of the peak of the CPU's int8 dot product; torchao's lowering takes 2.0 times as long.",
    ):
        assert line in text.replace("\n", " ") or line in text
    with pytest.raises(Lower86Error, match="README"):
        readme.page("no markers", read(record()))


@pytest.mark.parametrize("section", [None, *record()["sections"]])
def test_what_is_missing_is_said(section: str | None) -> None:
    """Without any section, and without each one."""
    given = record()
    given["sections"] = {} if section is None else {k: v for k, v in given["sections"].items() if k != section}
    results = read(given)
    text, short = page(results, figures.digests(results)), readme.figures(results)
    wanted = {"machine": 3, "models": 3, None: 13}.get(section, 1)
    assert text.count("Not measured.") == wanted
    assert short.count("Not measured.") == (2 if section in ("models", None) else 0)
    assert ("assets/models" in text) == (section not in ("models", None))
    assert ("assets/roofline" in text) == (section not in ("machine", None))
    figures.figures(results)


def test_a_missing_contender_has_no_number() -> None:
    given = record()
    given["sections"]["models"]["minilm-128"]["figures"] = [{**row("PyTorch fp32", 20.0, None), "cosine": None}]
    results = read(given)
    assert "| all-MiniLM-L6-v2, 128 tokens | – | – | – | – |" in readme.figures(results)
    assert "| all-MiniLM-L6-v2, 128 tokens | – |" in page(results, {})


def test_doubts_are_said() -> None:
    given = record()
    given["sections"]["models"]["minilm-128"] |= {"quick": True, "others": 0.3}
    text = page(read(given), {})
    assert "Few rounds, not to be relied on: models/minilm-128." in text
    assert "the times are doubtful: models/minilm-128." in text
    assert "quick run" in readme.figures(read(given))


def test_figures_are_files_of_their_own() -> None:
    results = read(record())
    drawn = figures.figures(results)
    assert drawn == figures.figures(results)
    assert set(drawn) == set(figures.NAMES)
    for name, text in drawn.items():
        root = ElementTree.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(" not in text
        assert "metadata" not in text
        assert figures.digest_of(text) == figures.digests(results)[name]
        assert len(text) < 100_000
    assert drawn["models-light.svg"] != drawn["models-dark.svg"]
    assert "ResNet-50" in drawn["models-dark.svg"]
    assert "1000 GMAC/s int8" in drawn["roofline-light.svg"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ('{"format": 1, "identity": NaN}', "NaN is no number of JSON"),
        ("[]", "the file has to be an object whose format is 1"),
        ('{"format": 2}', "not 2"),
        ('{"format": 1}', "sections has to be an object, not nothing"),
        ('{"format": 1, "sections": {}}', "identity has to be an object, not nothing"),
        ('{"format": 1, "sections": {"models": 3}}', "sections.models has to be an object, not 3"),
    ],
)
def test_what_is_no_record(tmp_path: Path, text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    monkeypatch.setattr(sys, "argv", ["performance_page.py", "--check", "--results", str(path)])
    with pytest.raises(SystemExit, match=r"results\.json") as caught:
        performance_page.main()
    assert message in str(caught.value)


def test_a_record_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Lower86Error, match="cannot be read: No such file"):
        load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("models.minilm-128.figures.0.median", None, r"models.minilm-128.figures\[0\].median has to be a number"),
        ("models.minilm-128.figures.0.median", 0, "median has to be more than 0, not 0"),
        ("models.minilm-128.figures.0.name", 3, "name has to be a string, not 3"),
        ("models.minilm-128.figures", {}, "figures has to be a list"),
        ("models.minilm-128.quick", 1, "quick has to be true or false, not 1"),
        ("roofline.resnet-50.figures.0.kinds.0.macs", 1.5, "macs has to be an integer, not 1.5"),
        ("roofline.resnet-50.figures.0.seconds", True, "seconds has to be a number, not True"),
        ("decode.gpt2.figures.seconds", float("inf"), "seconds has to be a number, not inf"),
    ],
)
def test_a_wrong_field_is_named(place: str, value: Any, message: str) -> None:
    given = copy.deepcopy(record())
    holder: Any = given["sections"]
    *path, last = place.split(".")
    for key in path:
        holder = holder[int(key) if isinstance(holder, list) else key]
    holder[last] = value
    with pytest.raises(Lower86Error, match=message):
        read(given)


def test_every_case_has_a_title() -> None:
    assert {part.name for part in plan.parts() if part.section in ("models", "roofline")} == set(names.TITLES)


def test_the_record_is_what_is_read() -> None:
    assert json.loads(performance_page.RESULTS.read_text())["format"] == 1
