"""A matplotlib figure as an SVG element for a page: with its colours and fonts, without styles, addresses, scripts."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any
from xml.etree import ElementTree

from ...needed import needed
from .flow import PRECISIONS

INK, MUTED, LINE, ACCENT, SECOND = "#010101", "#010102", "#010103", "#010104", "#010105"
"""Colours that stand for the page's, which differ between light and dark."""
COLORS = {name: f"#0101{0xA0 + number:02x}" for number, name in enumerate(PRECISIONS)}
"""The same, of each precision."""

_VARIABLES = {
    INK: "ink", MUTED: "muted", LINE: "line", ACCENT: "accent", SECOND: "second",
    **{color: name for name, color in COLORS.items()},
}  # fmt: skip
_KEPT = ("fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "opacity", "fill-opacity",
         "stroke-opacity", "text-anchor", "font-size")  # fmt: skip


def figure(identity: str, size: tuple[float, float], font: float, draw: Callable[[Any], None], title: str) -> str:
    """What `draw` draws on a figure of that size in inches, as `<svg>`; `identity` is its own within the page.

    What has a gid "step-N" carries that number in `data-step`. Raises Lower86Error without matplotlib.
    """
    matplotlib = imported("matplotlib")
    settings = {
        "svg.fonttype": "none", "svg.hashsalt": identity, "text.parse_math": False, "font.size": font,
        "axes.edgecolor": LINE, "axes.labelcolor": MUTED, "text.color": INK, "xtick.color": LINE, "ytick.color": LINE,
        "xtick.labelcolor": MUTED, "ytick.labelcolor": MUTED, "axes.spines.top": False, "axes.spines.right": False,
        "figure.facecolor": "none", "axes.facecolor": "none", "legend.frameon": False, "grid.color": LINE,
        "grid.linewidth": 0.4,
    }  # fmt: skip
    context: AbstractContextManager[Any] = matplotlib.rc_context(settings)
    with context, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the browser has fonts that this machine lacks
        drawn = imported("matplotlib.figure").Figure(figsize=size, layout="constrained")
        draw(drawn)
        written = io.BytesIO()
        drawn.savefig(written, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Type")))
    return _cleaned(written.getvalue(), title)


def imported(name: str) -> Any:
    """A module that only reports need. Raises Lower86Error where it is not installed."""
    return needed(name, "a report", "report", where="lower86.write_report")


def _cleaned(written: bytes, title: str) -> str:
    root = ElementTree.fromstring(written)
    for element in root.iter():
        element.tag = _local(element.tag)
        attributes = {_local(name): value for name, value in element.attrib.items()}
        element.attrib.clear()
        element.attrib.update(_attributes(attributes))
        element.text, element.tail = (text if text and text.strip() else None for text in (element.text, element.tail))
        for child in [one for one in element if _local(one.tag) in ("metadata", "style")]:
            element.remove(child)
    size = root.attrib["viewBox"].split()[2:]
    root.attrib.clear()
    root.attrib.update({"viewBox": f"0 0 {size[0]} {size[1]}", "class": "chart", "role": "img"})
    name = ElementTree.Element("title")
    name.text = title
    root.insert(0, name)
    return ElementTree.tostring(root, encoding="unicode", method="html")


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _attributes(given: Mapping[str, str]) -> dict[str, str]:
    """Without fonts; a style's properties as attributes of their own, which the page's policy lets be."""
    found = {name: value for name, value in given.items() if name not in ("style", "version")}
    for part in given.get("style", "").split(";"):
        name, _, value = part.partition(":")
        if name.strip() == "font" or name.strip() == "font-size":
            found["font-size"] = next((word for word in value.split() if word.endswith("px")), "8px")
        elif name.strip() in _KEPT:
            found[name.strip()] = value.strip()
    if "d" in found:
        found["d"] = " ".join(found["d"].split())
    for name in ("fill", "stroke"):
        if found.get(name) in _VARIABLES:
            found[name] = f"var(--{_VARIABLES[found[name]]})"
    identity = found.get("id", "")
    if identity.startswith("step-"):
        del found["id"]
        found |= {"data-step": identity.removeprefix("step-"), "class": "pick"}
    elif identity.partition("_")[0] in _UNUSED:
        del found["id"]
    return found


_UNUSED = ("figure", "axes", "patch", "matplotlib.axis", "xtick", "ytick", "line2d", "text", "legend", "PathCollection",
           "PolyCollection", "LineCollection")  # fmt: skip
"""Ids that matplotlib gives what nothing refers to; several figures on a page would have the same."""
