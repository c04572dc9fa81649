"""What tests of the report share: a parser that says what a page consists of, and facts that nobody has measured."""

from __future__ import annotations

import dataclasses
import functools
from html.parser import HTMLParser
from typing import Any

from lower86 import Comparison
from lower86.report.page.facts import Facts, Machine, NotInt8, StepFacts, Tensor
from lower86.report.page.flow import PRECISIONS, Edge
from lower86.report.page.render import page
from tests.report.test_comparison import COMPARISON

HOSTILE = (
    "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">'`${1}$x_1$&amp;"
)
"""As a name in a file may be."""

_VOID = {"meta", "link", "img", "br", "input", "hr", "path", "rect", "use"}


class Page(HTMLParser):
    """All elements of a page, with their attributes and what text they hold; raises where tags do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), (tag, attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        """The attributes of each such element; `data_step` stands for data-step."""
        named = {name.replace("_", "-").strip("-"): value for name, value in wanted.items()}
        return [a for name, a in self.elements if name == tag and all(a.get(k) == v for k, v in named.items())]

    def of(self, tag: str) -> list[str]:
        """The texts of such elements."""
        return [text for name, text in self.texts if name == tag]


def step(number: int, **changed: Any) -> StepFacts:
    macs = 0 if number % 3 else 10_000_000
    seconds = 1e-6 * (1 + number % 17)
    made = StepFacts(
        number, "contraction u8s8" if macs else "rows", "128 rows, 384 columns, k 384", number % 7,
        list(PRECISIONS)[number % 3], (f"linear_{number}", f"add_{number}"), f"encoder.layer.{number}.dense",
        f"model.py:{number}: y = self.dense(x)", (("scale", "0.5"),), seconds, 0.01, macs, 250_000,
        macs / seconds if macs else None, 0.5 if macs else None, 250_000 / seconds, macs / 250_000 if macs else None,
    )  # fmt: skip
    return dataclasses.replace(made, **changed)


def facts(count: int, **changed: Any) -> Facts:
    """Of a chain of steps, each fourth one of which is also read by the fourth after it."""
    edges = [Edge(i - 1 if i else -2, i) for i in range(count)] + [Edge(i, i + 4) for i in range(0, count - 4, 4)]
    taken = Tensor("flag", "", ("True",)), Tensor("x", "f32", ("n", "384"), ("n 1 … 64",))
    refused = NotInt8("linear", "linear_9", "head", "model.py:9: head(x)", 5000, "the weight is quantized along axis 1")
    given = Facts(
        "model", "2026-01-01 00:00 UTC", taken, (Tensor("output", "f32", ("n", "384")),), (), 20, 19, 0.95,
        {"rows": 3, "contraction u8s8": 4}, 1_234_567, 1_000_000, "4096", 1, 0.002, "random inputs",
        Machine("CPU (znver5)", "avx512_vnni", 2, 1e12, 4e10), {"torch": "2.13"}, {"lower86": "0.1.0"},
        tuple(step(i) for i in range(count)), (*edges, *([Edge(count - 1, -1)] if count else [])), (refused,), None,
    )  # fmt: skip
    return dataclasses.replace(given, **changed)


def rows(comparison: Comparison) -> tuple[dict[str, Any], ...]:
    """As the report has them."""
    return tuple(dataclasses.asdict(row) for row in comparison.rows)


FULL = facts(61, accuracy=rows(COMPARISON))
"""All parts of a report, of a program as large as MiniLM's."""


@functools.cache
def full_page() -> str:
    """The page of `FULL`."""
    return page(FULL)
