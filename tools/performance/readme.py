"""The short figures of README.md, between its markers."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from lower86.errors import Lower86Error

from .names import CONVOLUTIONAL, CORES, OWN, TRANSFORMERS
from .results import ModelRow, Results
from .tables import MISSING, NONE, by_name, ms, table

BEGIN, END = "<!-- --8<-- [start:figures] -->", "<!-- --8<-- [end:figures] -->"
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    OWN: (OWN,),
    "OpenVINO int8": ("OpenVINO int8",),
    "Inductor int8": ("Inductor int8",),
    "ONNX Runtime int8": ("ONNX Runtime static", "ONNX Runtime dynamic"),
}
"""The contenders of a column, of which the faster one counts."""


def machine(results: Results) -> str:
    """Such as "2 Zen 5 cores"."""
    name = CORES.get(results.identity.llvm_cpu, results.identity.cpu)
    return f"{results.identity.cores} {name} core{'s' if results.identity.cores > 1 else ''}"


def figures(results: Results) -> str:
    """What stands between the markers."""
    text = [f"Transformers, on {machine(results)}, attention in int8, ONNX Runtime in its faster way:", ""]
    text += [_table(results, TRANSFORMERS), "", *_sentences(_decode(results), _busy(results))]
    text += ["Convolutional networks, one image of 224 x 224:", "", _table(results, CONVOLUTIONAL), ""]
    text += _sentences(_peak(results))
    hasty = any(entry.quick for entry in results.entries.values())
    warning = " In part from a quick run, of few rounds: not to be relied on." if hasty else ""
    last = (
        f"Each row's contenders took turns in one run; {NONE}: not measured. [All figures, how they were taken, and "
        f"how to take them again](docs/performance.md): `make bench PEERS=1`.{warning}"
    )
    return "\n".join([*text, _filled(last)])


def page(before: str, results: Results) -> str:
    """README.md with the figures in their place. Raises Lower86Error where it lacks the markers."""
    head, begin, rest = before.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise Lower86Error(f"it lacks {BEGIN} or {END}", where="README.md", fix="put them around its figures")
    return f"{head}{BEGIN}\n{figures(results)}\n{END}{tail}"


def _table(results: Results, titles: Mapping[str, str]) -> str:
    rows = []
    for case, title in titles.items():
        known = by_name(results.models.get(case, ()))
        cells = [_fastest(known, names) for names in _COLUMNS.values()]
        if known:
            best = min((cell for cell in cells if cell is not None), default=None)
            rows.append([title, *(NONE if c is None else f"**{ms(c)}**" if c == best else ms(c) for c in cells)])
    return table(["median, ms", *_COLUMNS], rows) if rows else MISSING


def _fastest(known: Mapping[str, ModelRow], names: Sequence[str]) -> float | None:
    return min((known[name].median for name in names if name in known), default=None)


def _sentences(*found: str) -> list[str]:
    lines = [_filled(sentence) for sentence in found if sentence]
    return [*lines, ""] if lines else []


def _filled(sentence: str) -> str:
    return textwrap.fill(sentence, 120, break_long_words=False, break_on_hyphens=False)


def _decode(results: Results) -> str:
    one = results.decode
    if one is None:
        return ""
    return (
        f"GPT-2 takes {ms(one.seconds * 1e3)} ms for one more token: its int8 weights at {one.share:.0%} of the speed "
        "at which memory can be read."
    )


def _busy(results: Results) -> str:
    known = by_name(results.busy.get("minilm-128", ()))
    if OWN not in known or "OpenVINO int8" not in known:
        return ""
    own, other = known[OWN], known["OpenVINO int8"]
    return (
        "Beside a process that keeps one of the cores busy, the slowest call in a hundred takes MiniLM at 128 tokens "
        f"{ms(own.p99)} ms, in OpenVINO {ms(other.p99)}."
    )


def _peak(results: Results) -> str:
    profiled, known = results.roofline.get("resnet-50"), by_name(results.models.get("resnet-50", ()))
    if profiled is None:
        return ""
    said = [
        f"{called} {known[name].ratio:.1f} times as long"
        for name, called in (("torchao lowering", "torchao's lowering takes"), ("Inductor int8", "Inductor"))
        if name in known and known[name].ratio is not None
    ]
    rest = f"; {', '.join(said)}" if said else ""
    share = profiled.macs_per_second / profiled.peak
    return f"ResNet-50 runs at {share:.0%} of the peak of the CPU's int8 dot product{rest}."
