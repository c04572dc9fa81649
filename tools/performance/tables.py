"""The tables of the performance page, as Markdown; what is not there is said to be not measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .names import CONTENDERS, OWN, TITLES, ordered
from .results import Decode, Kernels, ModelRow, Profiled, ScalingRow, StartRow

MISSING = "Not measured."
NONE = "–"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table whose first columns are texts, and the others numbers."""
    lines = [heads, ["---" if column < left else "--:" for column in range(len(heads))], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def ms(value: float) -> str:
    """Milliseconds in two or three digits that mean something."""
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def title(case: str) -> str:
    """What the case is called."""
    return TITLES.get(case, case)


def by_name(rows: Sequence[ModelRow]) -> dict[str, ModelRow]:
    """Rows of one case by contender."""
    return {row.name: row for row in rows}


def contenders(cases: Mapping[str, Sequence[ModelRow]]) -> list[str]:
    """All that took part somewhere."""
    return ordered({row.name: None for rows in cases.values() for row in rows}, dict.fromkeys(CONTENDERS, ""))


def models(cases: Mapping[str, Sequence[ModelRow]], what: str) -> str:
    """One row a case, one column a contender: `median`, `ratio` or `cosine`."""
    if not cases:
        return MISSING
    names, rows = contenders(cases), []
    for case in ordered(cases, TITLES):
        known = by_name(cases[case])
        best = min((row.median for row in known.values()), default=0.0)
        cells = []
        for name in names:
            row = known.get(name)
            value = None if row is None else getattr(row, what)
            if row is None or value is None:
                cells.append(NONE)
            elif what == "median":
                cells.append(f"**{ms(value)}**" if row.median == best else ms(value))
            else:
                cells.append(f"{value:.2f}" if what == "ratio" else f"{value:.4f}")
        rows.append([title(case), *cells])
    return table(["", *names], rows)


def busy(cases: Mapping[str, Sequence[ModelRow]], quiet: Mapping[str, Sequence[ModelRow]]) -> str:
    """Median and 99th percentile beside a busy process, and the quiet median."""
    if not cases:
        return MISSING
    rows = []
    for case in ordered(cases, TITLES):
        alone = by_name(quiet.get(case, ()))
        for row in cases[case]:
            before = ms(alone[row.name].median) if row.name in alone else NONE
            rows.append([title(case), row.name, before, ms(row.median), ms(row.p99)])
    return table(["", "", "quiet median", "busy median", "busy p99"], rows, left=2)


def decode(found: Decode | None) -> str:
    """One sentence."""
    if found is None:
        return MISSING
    rate = found.weight_bytes / found.seconds
    return (
        f"GPT-2 small with a static cache of {found.cache} tokens takes **{found.seconds * 1e3:.2f} ms** for one more "
        f"token: {found.weight_bytes / 1e6:.0f} MB of int8 weights at {rate / 1e9:.1f} GB/s, "
        f"{found.share:.0%} of the {found.read_bytes_per_second / 1e9:.1f} GB/s at which the same run, in turns, sums "
        "up memory."
    )


def scaling(networks: Mapping[str, Sequence[ScalingRow]]) -> str:
    """Milliseconds an image by batch and threads."""
    if not networks:
        return MISSING
    rows = [
        [title(name), str(row.batch), str(row.threads), f"{row.ms_an_image:.2f}"]
        for name in ordered(networks, TITLES)
        for row in networks[name]
    ]
    return table(["", "batch", "threads", "ms an image"], rows)


def kernels(found: Kernels | None) -> str:
    """GMAC/s and share of the peak, a row a shape of weights and a column a number of rows."""
    if found is None or not found.rows:
        return MISSING
    heights = sorted({row.m for row in found.rows}, reverse=True)
    cells = {(row.m, row.n, row.k): f"{row.macs_per_second / 1e9:.0f} ({row.share:.0%})" for row in found.rows}
    rows = [
        [f"{n} x {k}", *(cells.get((m, n, k), NONE) for m in heights)]
        for n, k in dict.fromkeys((row.n, row.k) for row in found.rows)
    ]
    return table(["weights", *(f"{m} row{'s' if m > 1 else ''}" for m in heights)], rows)


def rooflines(found: Mapping[str, Profiled]) -> str:
    """A row a model, numbered as in the figure."""
    if not found:
        return MISSING
    rows = [
        [
            str(number), title(case), f"{found[case].macs / 1e9:.2f}", f"{found[case].intensity:.0f}",
            f"{found[case].macs_per_second / 1e9:.0f}", f"{found[case].macs_per_second / found[case].peak:.0%}",
            f"{found[case].in_products:.0%}",
        ]
        for number, case in enumerate(ordered(found, TITLES), 1)
    ]  # fmt: skip
    return table(["#", "", "GMAC", "MAC a byte", "GMAC/s", "of the peak", "time in products"], rows, left=2)


def startup(cases: Mapping[str, Sequence[StartRow]]) -> str:
    """Seconds from a file to the first result, by contender."""
    if not cases:
        return MISSING
    rows = []
    for case in ordered(cases, TITLES):
        for row in cases[case]:
            parts = [f"{seconds * 1e3:.0f}" for seconds in (row.import_, row.load, row.first, row.total, row.cold)]
            times = NONE if row.total_ratio is None else f"{row.total_ratio:.1f}"
            rows.append([title(case), row.name, *parts, f"{row.peak:.0f}", times])
    heads = ["", "", "import", "load", "first call", "total, ms", "first start ever", "MB", f"x {OWN}"]
    return table(heads, rows, left=2)
