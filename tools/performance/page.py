"""docs/performance.md: the machine, how to read the figures and how to take them again, and all tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lower86.report.quiet import NOISE

from . import tables
from .names import CONVOLUTIONAL, OTHERS, TRANSFORMERS
from .results import Entry, ModelRow, Results
from .tables import MISSING, table

_MEASURE = """
```text
make bench            # measures everything with the peers that are installed, and makes this page of it
make bench PEERS=1    # installs the peers first
```

Piece by piece, in the virtual environment of `make bench`; each command continues where the last one stopped:

```text
python benchmarks/record.py --missing --within 8
python benchmarks/record.py models --only minilm-128 resnet-50
python benchmarks/models.py minilm-128 --only lower86 "OpenVINO int8"    # prints, and records nothing
python tools/performance_page.py
```

| file | what it measures |
|---|---|
| [`record.py`](source/benchmarks/record.py.md) | all of this page, part by part, into one file |
| [`models.py`](source/benchmarks/models.py.md) | models beside their peers, quiet or busy |
| [`roofline.py`](source/benchmarks/roofline.py.md) | what steps of models do, against the peak |
| [`linear_kernels.py`](source/benchmarks/linear_kernels.py.md) | linear kernels against the peak |
| [`scaling.py`](source/benchmarks/scaling.py.md) | batch sizes and threads |
| [`decode.py`](source/benchmarks/decode.py.md) | one more token of a generated text |
| [`startup.py`](source/benchmarks/startup.py.md) | from a file to the first result |
| [`machine.py`](source/benchmarks/machine.py.md) | what the machine can do at most |
| [`dynamic.py`](source/benchmarks/dynamic.py.md) | dynamic shapes against static ones; not on this page |
| [`survey.py`](source/benchmarks/survey.py.md) | many small architectures; not on this page |
| [`encode.py`](source/benchmarks/encode.py.md) | `encode` of sentence-transformers, float and int8; not on this page |
| [`report_page.py`](source/benchmarks/report_page.py.md) | a report in a browser; not on this page |

On a model of your own, `lower86.benchmark` has percentiles and throughput, and `lower86.profile(lowered, *inputs)` says
of each kernel how long it takes and how far from the peak it is, which the same call measures.
`--json FILE` of each program gives its figures as data.
""".strip()

_READ = """
- Contenders run in turns within one process, in random order, each warmed up by time before it is measured, on
  several inputs; results are compared after the timing. A claim is a ratio within one run, never a time on its own:
  on a virtual machine the same program can take twice as long a minute later.
- All start from the same float model and the same calibration data, and are int8 each in its own best way. Attention
  is in int8 where a peer can do that. "lower86 (torchao)" is lower86 with the graph that torchao's quantizer makes,
  where that is another one; Inductor and torchao's lowering start from that graph, too.
- "Busy" means that another process keeps one core busy meanwhile: what a call takes beside a neighbour.
- A – stands for what was not measured: the package is not installed, or the peer cannot take the model.
""".strip()

_ROOFLINE = """
The roof is what this machine can do: reading memory limits what is left of the bend, the int8 dot product what is
right of it. A model's point is all its multiply-accumulates over its whole call, softmax, norms and everything else
included, and the bytes that its steps with products touch, each value once a step. Weights and activations that a
cache still holds cost no memory traffic, so a point may lie above the slope. Numbers are those of the table.
""".strip()


def page(results: Results, figures: Mapping[str, str]) -> str:
    """The whole page; `figures` are those that there are, by file name."""
    models = {name: {c: rows for c, rows in results.models.items() if c in known} for name, known in _GROUPS.items()}
    rest = {c: rows for c, rows in results.models.items() if not any(c in known for known in _GROUPS.values())}
    models["Other models"] |= rest
    parts = [
        "# Performance",
        "Made by `python tools/performance_page.py` from `benchmarks/results.json`; do not edit.",
        *_warnings(results),
        "## The machine", _machine(results),
        "## How to read it", _READ,
        "## Models beside their peers", _image("models", "How many times as long as lower86 each peer takes", figures),
        *(part for name, cases in models.items() for part in (f"### {name}", _group(cases))),
        "## Beside a busy process", "Milliseconds.", tables.busy(results.busy, results.models),
        "## One more token", tables.decode(results.decode),
        "## Batches and threads", tables.scaling(results.scaling),
        "## From a file to the first result", "Medians of fresh processes, in milliseconds, from the start of the "
        "program's own code on; caches are filled but for the first start ever.", tables.startup(results.startup),
        "## Roofline", _image("roofline", "Multiply-accumulates a second over those a byte", figures), _ROOFLINE,
        tables.rooflines(results.roofline),
        "### Linear kernels", "GMAC/s with bias, scale and requantization, and the share of the int8 peak that the "
        "same run measures beside each. Weights are columns x k.", tables.kernels(results.kernels),
        "## Measure it again", _MEASURE,
        "## When what was measured", _entries(results.entries),
        "The whole account, with what was tried and did not help, is in [the design](design.md).",
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


_GROUPS = {"Transformers": TRANSFORMERS, "Convolutional networks": CONVOLUTIONAL, "Other models": OTHERS}


def _group(cases: Mapping[str, Sequence[ModelRow]]) -> str:
    if not cases:
        return MISSING
    return "\n\n".join(
        [
            "Median milliseconds:", tables.models(cases, "median"),
            "Times as long as lower86, the median of the ratios within rounds:", tables.models(cases, "ratio"),
            "The least cosine of a result to the float model's, over the inputs:", tables.models(cases, "cosine"),
        ]
    )  # fmt: skip


def _image(name: str, label: str, figures: Mapping[str, str]) -> str:
    if f"{name}-light.svg" not in figures:
        return ""
    return f"![{label}](assets/{name}-light.svg#only-light)\n![{label}](assets/{name}-dark.svg#only-dark)"


def _machine(results: Results) -> str:
    one, peaks = results.identity, results.peaks
    rows = [
        ["CPU", f"{one.cpu} (`{one.llvm_cpu}`), {one.cores} cores, {one.threads} threads used"],
        ["kernels of level", f"`{one.level}`"],
        ["memory", f"{one.memory_bytes / 2**30:.0f} GiB"],
        ["int8 peak", MISSING if peaks is None else f"{peaks.int8_macs_per_second / 1e9:.0f} GMAC/s"],
        ["float32 peak", MISSING if peaks is None else f"{peaks.f32_macs_per_second / 1e9:.0f} GMAC/s"],
        ["reading memory", MISSING if peaks is None else f"{peaks.bytes_per_second / 1e9:.1f} GB/s"],
        ["system", f"{one.system}, Python {one.python}"],
        ["packages", ", ".join(f"{name} {version}" for name, version in one.versions.items())],
    ]
    return table(["", ""], rows, left=2)


def _warnings(results: Results) -> list[str]:
    quick = [name for name, entry in results.entries.items() if entry.quick]
    noisy = [name for name, entry in results.entries.items() if entry.others >= NOISE]
    found = []
    if quick:
        found.append(f'!!! warning "A quick run"\n    Few rounds, not to be relied on: {", ".join(quick)}.')
    if noisy:
        found.append(
            f'!!! warning "Not a quiet machine"\n    Other processes took {NOISE:.0%} of the CPUs\' time or more, so '
            f"the times are doubtful: {', '.join(noisy)}."
        )
    return found


def _entries(entries: Mapping[str, Entry]) -> str:
    """How each part was measured."""
    rows = [
        [
            f"`{name}`", entry.date, entry.commit or "unknown", f"`{' '.join(map(_quoted, entry.command))}`",
            f"{entry.took:.0f}", f"{entry.others:.1%}",
        ]
        for name, entry in entries.items()
    ]  # fmt: skip
    heads = ["part", "date, UTC", "commit", "command", "seconds", "CPU time of others"]
    return table(heads, rows, left=4) if rows else MISSING


def _quoted(word: str) -> str:
    return f'"{word}"' if " " in word else word
