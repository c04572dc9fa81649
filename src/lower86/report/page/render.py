"""From facts to a page: one text of HTML that runs no script but its own, and fetches nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .charts import accuracy, roofline, waterfall
from .drawing import imported
from .facts import Facts, Tensor
from .flow import PRECISIONS
from .graph import HEATS, picture_of

_TEMPLATES = Path(__file__).parent / "templates"
_STEP_COLUMNS = (
    ("#", "n"), ("kernel", ""), ("µs", "n"), ("% of all", "n"), ("GMAC/s", "n"), ("% of peak", "n"), ("kB", "n"),
    ("GB/s", "n"), ("precision", ""), ("sizes", ""), ("module", ""), ("source", ""),
)  # fmt: skip
_VALUE_COLUMNS = (
    ("#", "n"), ("operator", ""), ("module", ""), ("fp32:QDQ", "n"), ("here", "n"), ("% clipped", "n"),
    ("QDQ:int8", "n"), ("here", "n"), ("most", "n"), ("off by 1", "n"), ("more", "n"), ("in memory as", ""),
    ("source", ""),
)  # fmt: skip
_REST_COLUMNS = (("operator", ""), ("why", ""), ("MMAC", "n"), ("module", ""), ("source", ""), ("node", ""))
"""Names of columns, and "n" for those of numbers."""


def page(facts: Facts) -> str:
    """The page. Raises Lower86Error where jinja2 or matplotlib is not installed."""
    jinja2 = imported("jinja2")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(bytes=_bytes, tensor=_tensor, decibels=_decibels, micros=_micros, numeral=_numeral)
    safe = imported("markupsafe").Markup
    style, script = ((_TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    picture = picture_of(facts)
    tabs = {"summary": "Summary", "graph": "Graph", "kernels": "Steps", "time": "Time"}
    tabs |= {"accuracy": "Accuracy"} if facts.accuracy is not None else {}
    data = {"steps": facts.to_json()["steps"], "precisions": PRECISIONS}
    text: str = environment.get_template("page.html.j2").render(
        facts=facts, data=data, picture=picture, tabs={**tabs, "rest": "Not int8"},
        roofline=roofline(facts), waterfall=waterfall(facts), accuracy=accuracy(facts),
        precisions=PRECISIONS, present={step.precision for step in facts.steps}, heats=HEATS,
        hottest=max((step.seconds for step in facts.steps), default=0.0),
        kernel_count=sum(facts.kernels.values()), step_columns=_STEP_COLUMNS, value_columns=_VALUE_COLUMNS,
        rest_columns=_REST_COLUMNS, style=safe(style), script=safe(script), policy=policy(style, script),
    )  # fmt: skip
    return text


def policy(style: str, script: str) -> str:
    """What the page may do: nothing but to use this very style and run this very script."""
    return (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _bytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB" if size >= 1e3 else f"{size} bytes"


def _tensor(one: Tensor) -> str:
    if not one.dtype:
        return f"{one.name} = {', '.join(one.shape)}"
    ranges = f", {', '.join(one.ranges)}" if one.ranges else ""
    return f"{one.name}: {one.dtype} [{', '.join(one.shape)}]{ranges}"


def _decibels(distance: Mapping[str, Any] | None) -> str:
    if distance is None:
        return ""
    sqnr = float(distance["sqnr"])
    return "equal" if sqnr == float("inf") else f"{sqnr:.1f}"


def _numeral(value: float) -> str:
    """As JavaScript reads it."""
    return str(value).replace("inf", "Infinity")


def _micros(value: float) -> str:
    return f"{value:.0f} µs" if value >= 10 else f"{value:.1f} µs"
