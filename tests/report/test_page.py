"""The page: its parts, its keyboard, its policy; what stands in a file stays text; programs of any size."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import sys
import time
from typing import Any

import pytest

from lower86 import Comparison, Lower86Error
from lower86.report.comparison import Distance, Row
from lower86.report.page import graph
from lower86.report.page.facts import Tensor, clean
from lower86.report.page.flow import Edge
from lower86.report.page.render import page
from tests.report.pages import FULL, HOSTILE, Page, facts, full_page, rows, step
from tests.report.test_comparison import COMPARISON

LIMIT = 1_500_000
"""Bytes."""


def data_of(text: str) -> Any:
    (found,) = re.findall(r'<script type="application/json" id="facts">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)


def test_parts_and_what_they_say() -> None:
    given, text = FULL, full_page()
    parsed = Page(text)
    panels = [one["id"] for one in parsed.all("section", role="tabpanel")]
    tabs = parsed.all("button", role="tab")
    assert [one["aria-controls"] for one in tabs] == panels
    assert panels == [f"panel-{name}" for name in ("summary", "graph", "kernels", "time", "accuracy", "rest")]
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert "x: f32 [n, 384], n 1 … 64" in parsed.of("code")
    assert "flag = True" in parsed.of("code")
    assert "1.23 MB" in parsed.of("dd")
    assert "95.0 %" in parsed.of("dd")
    assert "the weight is quantized along axis 1" in parsed.of("div")
    assert "model.py:9: head(x)" in parsed.of("code")
    assert "21.3" in parsed.of("td")
    assert "equal" in parsed.of("td")
    data = data_of(text)
    assert [one["number"] for one in data["steps"]] == list(range(61))
    assert data["steps"][3]["params"] == [["scale", "0.5"]]
    boxes = parsed.all("g", role="button")
    assert [one["data-step"] for one in boxes] == [str(i) for i in range(61)]
    assert len(parsed.all("path", _class="edge")) == len(given.edges)
    charts = parsed.all("svg", _class="chart")
    assert len(charts) == 6
    assert {one["data-step"] for one in parsed.all("g", _class="pick")} == {str(i) for i in range(61)}


def test_it_is_used_by_keyboard() -> None:
    parsed = Page(full_page())
    assert [one["tabindex"] for one in parsed.all("button", role="tab")] == ["0"] + ["-1"] * 5
    boxes = [attributes for tag, attributes in parsed.elements if tag == "g" and "data-x" in attributes]
    assert [one["tabindex"] for one in boxes] == ["0"] + ["-1"] * (len(boxes) - 1)
    assert all(one["aria-label"] for one in boxes)
    columns = parsed.all("th")
    assert len(columns) == 12 + 13 + 6
    assert all(tag == "button" for i, (tag, _) in enumerate(parsed.elements) if parsed.elements[i - 1][0] == "th")
    assert len(parsed.all("div", _class="scroll", tabindex="0", role="region")) == 3
    assert len(parsed.all("div", id="view", tabindex="0")) == 1


def test_nothing_is_fetched_and_nothing_runs_but_the_page_itself() -> None:
    text = full_page()
    parsed = Page(text)
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in re.sub(r"url\(#\w+\)", "", text)
    (policy,) = [one["content"] for one in parsed.all("meta", http_equiv="Content-Security-Policy")]
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag, source in (("style", "style-src"), ("script", "script-src")):
        own = parsed.of(tag)[-1]
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert f"{source} 'sha256-{digest}'" in policy
    for tag, attributes in parsed.elements:
        assert tag not in ("img", "iframe", "link", "base", "object", "form")
        assert not {"src", "style", "srcset"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
        assert (attributes.get("href") or "#").startswith("#")


def test_names_stay_text() -> None:
    plain = FULL
    distance = Distance(-float("inf"), float("nan"), 3, 4)
    row = dataclasses.asdict(Row(0, *(HOSTILE,) * 5, distance, distance, 0.1, distance, distance, HOSTILE))
    steps = [
        dataclasses.replace(
            one, shape=HOSTILE, module=HOSTILE, line=HOSTILE, nodes=(HOSTILE,), params=((HOSTILE, HOSTILE),)
        )
        for one in plain.steps
    ]
    hostile = dataclasses.replace(
        plain, name=HOSTILE, steps=tuple(steps), timed_on=HOSTILE, made_with={HOSTILE: HOSTILE}, arena_bytes=HOSTILE,
        inputs=(Tensor(HOSTILE, "", (HOSTILE,)), Tensor(HOSTILE, "f32", (HOSTILE,), (HOSTILE,))),
        outputs=(Tensor(HOSTILE, "f32", (HOSTILE,)),), state=(Tensor(HOSTILE, "f32"),), accuracy=(row,) * 3,
        not_int8=tuple(
            dataclasses.replace(one, operator=HOSTILE, node=HOSTILE, module=HOSTILE, line=HOSTILE, reason=HOSTILE)
            for one in plain.not_int8
        ),
    )  # fmt: skip
    text = page(hostile)
    before, after = Page(full_page()), Page(text)
    assert HOSTILE in after.of("h1")
    assert HOSTILE in after.of("title")[0]
    assert data_of(text)["steps"][0]["params"] == [[HOSTILE, HOSTILE]]
    kinds = [sorted({tag for tag, _ in one.elements}) for one in (before, after)]
    assert kinds[0] == kinds[1]
    assert len(after.all("script")) == 2
    names = [{name for _, attributes in one.elements for name in attributes} for one in (before, after)]
    assert names[0] == names[1]


def test_text_that_a_terminal_or_an_encoding_would_trip_over() -> None:
    assert clean("a\x00b\ud800\u202ec\n") == r"a\x00b\ud800\u202ec\n"
    assert clean("x" * 500) == "x" * 399 + "…"
    assert clean("müßig 漢字") == "müßig 漢字"
    assert "漢字" in page(facts(3, steps=tuple(step(i, module="漢字") for i in range(3))))


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_programs_of_any_size(count: int) -> None:
    row = COMPARISON.rows[0]
    accuracy = rows(Comparison(tuple(dataclasses.replace(row, number=i) for i in range(2 * count))))
    given = facts(count, accuracy=accuracy)
    start = time.process_time()
    text = page(given)
    assert time.process_time() - start < 15
    assert len(text.encode()) < LIMIT * (1 if count < 1000 else 2)
    parsed = Page(text)
    assert len(parsed.all("g", role="button")) == count


def test_a_layout_keeps_boxes_apart_and_edges_down() -> None:
    given = facts(40)
    # A step that nobody reads, one that reads nothing, and an input that nobody reads.
    edges = [edge for edge in given.edges if 20 not in (edge.source, edge.target)]
    given = dataclasses.replace(given, edges=(*edges, Edge(18, 19)), inputs=(*given.inputs, Tensor("idle", "f32")))
    picture = graph.picture_of(given)
    assert picture is not None
    places = [(box.x, box.y) for box in picture.boxes]
    assert [(box.kind, box.number) for box in picture.boxes if box.kind != "step"] == [("input", 1), ("output", 0)]
    assert [box.number for box in picture.boxes if box.kind == "step"] == list(range(40))
    for i, (x, y) in enumerate(places):
        assert graph.WIDTH / 2 < x < picture.width - graph.WIDTH / 2
        assert graph.HEIGHT / 2 < y < picture.height - graph.HEIGHT / 2
        for to_x, to_y in places[:i]:
            assert abs(to_x - x) >= graph.WIDTH or abs(to_y - y) >= graph.HEIGHT
    at = {box.number: box for box in picture.boxes if box.kind == "step"}
    ends = {(path.source, path.target): path.d for path in picture.paths}
    assert len(ends) == len(set(given.edges))
    for (source, target), path in ends.items():
        if source is not None and target is not None:
            assert at[source].y < at[target].y
            assert path.startswith(f"M{at[source].x:.0f} {at[source].y + graph.HEIGHT / 2:.0f}")
            assert path.endswith(f"{at[target].y - graph.HEIGHT / 2:.0f}")


def test_steps_that_read_nothing_do_not_pull_the_picture_aside() -> None:
    count = 90
    edges = {Edge(-2, 0), Edge(count - 1, -1)}
    for i in range(0, count - 3, 3):
        edges |= {Edge(i, i + 2), Edge(i + 1, i + 2), Edge(i + 2, i + 3), Edge(i, i + 3)}
    picture = graph.picture_of(facts(count, edges=tuple(edges)))
    assert picture is not None
    assert picture.width < 5 * graph.WIDTH
    assert {(path.source, path.target) for path in picture.paths} == {
        (edge.source if edge.source >= 0 else None, edge.target if edge.target >= 0 else None) for edge in edges
    }


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_package_that_is_missing(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(Lower86Error, match=rf"a report takes {package}[^$]*lower86\[report\]"):
        page(facts(3))


def test_without_the_layout_there_is_a_page_without_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fast_sugiyama", None)
    text = page(facts(3))
    parsed = Page(text)
    assert "fast-sugiyama" in text
    assert not parsed.all("g", role="button")
    assert len(parsed.all("div", id="details")) == 1
