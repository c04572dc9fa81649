"""The page in headless Chromium: no errors, no requests; keyboard, phone, dark, print; hostile names."""

from __future__ import annotations

import dataclasses
import io
import shutil
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lower86.report.page.facts import Facts
from lower86.report.page.render import page
from tests.report.pages import FULL, HOSTILE, facts, full_page

EXECUTABLE = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=["--no-sandbox"])
        yield browser
        browser.close()


class Opened:
    """A page in a window, and what it has said and asked for."""

    def __init__(self, browser: Any, folder: Path, given: Facts, width: int = 1280, scheme: str = "light") -> None:
        path = folder / "report.html"
        path.write_text(full_page() if given is FULL else page(given), encoding="utf-8")
        self.said: list[str] = []
        self.asked: list[str] = []
        window = {"width": width, "height": 844}
        self.context = browser.new_context(viewport=window, color_scheme=scheme, reduced_motion="reduce")
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        start = time.perf_counter()
        self.page.goto(path.as_uri())
        self.seconds = time.perf_counter() - start
        self.address = path.as_uri()

    def close(self) -> None:
        """Raises if anything went wrong."""
        self.context.close()
        assert self.said == []
        assert self.asked == [self.address]

    def picture(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """What the window shows: u8 [height, width, 3]."""
        return np.asarray(Image.open(io.BytesIO(self.page.screenshot())).convert("RGB"))

    def focused(self) -> dict[str, str]:
        found: dict[str, str] = self.page.evaluate(
            "({id: document.activeElement.id, step: document.activeElement.dataset.step,"
            " outline: getComputedStyle(document.activeElement).outlineStyle})"
        )
        return found


TABS = ("summary", "graph", "kernels", "time", "accuracy", "rest")


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_how_it_looks(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    opened = Opened(browser, tmp_path, FULL, width, scheme)
    seen = []
    for tab in TABS:
        opened.page.click(f"#tab-{tab}")
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
        assert opened.page.locator("[role=tabpanel]:visible").count() == 1
        picture = opened.picture()
        seen.append(picture)
        corner = picture[0, 0].mean()
        assert corner > 230 if scheme == "light" else corner < 40
        assert len(np.unique(picture.reshape(-1, 3).astype(np.int32) @ [1, 256, 65536])) > 40, "text and colours"
        contrast = np.abs(picture.astype(int).mean(2) - corner)
        assert contrast.max() > 150, "text that can be read"
    for a, b in pairwise(seen):
        assert (a != b).any()
    opened.page.click("#tab-graph")
    before = opened.picture()
    opened.page.click("[data-colour=time]")
    assert (opened.picture() != before).any()
    charts = ".narrow" if width == 390 else ".wide"
    opened.page.click("#tab-time")
    assert (
        opened.page.locator("#panel-time .chart:visible").count()
        == opened.page.locator(f"#panel-time {charts}").count()
    )
    opened.close()


def test_text_of_charts_and_boxes_fits(browser: Any, tmp_path: Path) -> None:
    for width in (390, 1280):
        opened = Opened(browser, tmp_path, FULL, width)
        opened.page.click("#tab-graph")
        outside = """[...document.querySelectorAll('.box')].filter((box) => {
            const frame = box.querySelector('rect').getBoundingClientRect();
            return [...box.querySelectorAll('text')].some((text) => text.getBoundingClientRect().right > frame.right);
        }).length"""
        assert opened.page.evaluate(outside) == 0
        for tab in ("time", "accuracy"):
            opened.page.click(f"#tab-{tab}")
            sizes = opened.page.evaluate(
                "[...document.querySelectorAll('.chart text')].map(t => t.getBoundingClientRect())"
                ".filter(r => r.width).map(r => [r.left, r.right, r.height])"
            )
            assert sizes
            assert all(left >= -1 and right <= width + 1 for left, right, _ in sizes)
        opened.close()


def test_by_keyboard_alone(browser: Any, tmp_path: Path) -> None:
    opened = Opened(browser, tmp_path, FULL)
    press = opened.page.keyboard.press
    press("Tab")
    assert opened.focused()["id"] == "tab-summary"
    assert opened.focused()["outline"] == "solid", "the focus is seen"
    press("ArrowLeft")
    assert opened.focused()["id"] == "tab-rest"
    for _ in range(3):
        press("ArrowRight")
    assert opened.focused()["id"] == "tab-kernels"
    assert opened.page.locator("#panel-kernels").is_visible()
    for name in ("kernel", "µs"):
        opened.page.locator("#steps th button", has_text=name).focus()
        press("Enter")
        head = opened.page.locator("#steps th", has_text=name)
        cells = opened.page.locator("#steps tbody tr").evaluate_all(
            "(rows, i) => rows.map(row => row.cells[i].dataset.v ?? row.cells[i].textContent)",
            1 if name == "kernel" else 2,
        )
        values = [float(cell) for cell in cells] if name == "µs" else cells
        assert values == sorted(values, reverse=name == "µs")
        assert head.get_attribute("aria-sort") == ("descending" if name == "µs" else "ascending")
        press("Enter")
        assert head.get_attribute("aria-sort") == ("ascending" if name == "µs" else "descending")
    opened.page.locator("#tab-graph").focus()
    press("Enter")
    opened.page.locator(".box").first.focus()
    press("ArrowDown")
    press("ArrowDown")
    assert opened.focused()["step"] == "1"
    press("Enter")
    details = opened.page.locator("#details")
    assert "Step 1: rows" in details.inner_text()
    assert "encoder.layer.1.dense" in details.inner_text()
    assert opened.page.locator(".edge.on").count() == 2
    wide = opened.page.locator("#view svg").bounding_box()["width"]
    press("+")
    assert opened.page.locator("#view svg").bounding_box()["width"] > wide
    press("0")
    assert opened.page.locator("#view svg").bounding_box()["height"] <= 844
    opened.close()


def test_a_bar_leads_to_its_step(browser: Any, tmp_path: Path) -> None:
    opened = Opened(browser, tmp_path, FULL)
    opened.page.click("#tab-time")
    opened.page.locator(".wide .pick[data-step='16']").last.click()
    assert opened.focused()["step"] == "16"
    assert "Step 16" in opened.page.locator("#details").inner_text()
    box = opened.page.locator(".box.on").bounding_box()
    view = opened.page.locator("#view").bounding_box()
    assert view["y"] <= box["y"] <= view["y"] + view["height"]
    opened.close()


def test_dragging_moves_and_does_not_choose(browser: Any, tmp_path: Path) -> None:
    opened = Opened(browser, tmp_path, FULL)
    opened.page.click("#tab-graph")
    box = opened.page.locator(".box[data-step='5']").bounding_box()
    mouse = opened.page.mouse
    mouse.move(box["x"] + 20, box["y"] + 10)
    mouse.down()
    mouse.move(box["x"] + 20, box["y"] - 90, steps=4)
    mouse.up()
    assert opened.page.evaluate("document.getElementById('view').scrollTop") == pytest.approx(100, abs=2)
    assert opened.page.locator(".box.on").count() == 0
    opened.close()


def test_hostile_names_run_nothing(browser: Any, tmp_path: Path) -> None:
    given = facts(12)
    steps = [
        dataclasses.replace(s, module=HOSTILE, nodes=(HOSTILE,), params=((HOSTILE, HOSTILE),)) for s in given.steps
    ]
    opened = Opened(browser, tmp_path, dataclasses.replace(given, name=HOSTILE, steps=tuple(steps)))
    opened.page.click("#tab-graph")
    opened.page.click(".box[data-step='2']")
    assert HOSTILE in opened.page.locator("#details").inner_text()
    assert HOSTILE in opened.page.title()
    assert opened.page.locator("img").count() == 0
    opened.close()


def test_the_policy_holds_by_itself(browser: Any, tmp_path: Path) -> None:
    """Even a script and an image that got into the page do nothing."""
    opened = Opened(browser, tmp_path, facts(3))
    opened.page.evaluate("""() => {
        const script = document.createElement('script');
        script.textContent = "document.title = 'taken'";
        document.body.append(script);
        const image = document.createElement('img');
        image.src = 'data:image/gif;base64,R0lGODlhAQABAAAAACw=';
        image.setAttribute('onerror', "document.title = 'taken'");
        document.body.append(image);
    }""")
    opened.page.wait_for_timeout(100)
    assert opened.page.title() == "model – lower86"
    assert any("Content Security Policy" in said for said in opened.said)


def test_print_shows_everything(browser: Any, tmp_path: Path) -> None:
    opened = Opened(browser, tmp_path, FULL, scheme="dark")
    opened.page.emulate_media(media="print", color_scheme="dark")
    assert opened.page.locator("[role=tabpanel]:visible").count() == len(TABS)
    assert not opened.page.locator("[role=tablist]").is_visible()
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    opened.close()


def test_without_scripts_all_parts_are_shown(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(full_page(), encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    shown = context.new_page()
    shown.goto((tmp_path / "a.html").as_uri())
    assert shown.locator("[role=tabpanel]:visible").count() == len(TABS)
    context.close()


def test_a_thousand_steps_open_quickly(browser: Any, tmp_path: Path) -> None:
    opened = Opened(browser, tmp_path, facts(1000))
    opened.page.click("#tab-graph")
    opened.page.click(".box[data-step='3']")
    assert "Step 3" in opened.page.locator("#details").inner_text()
    opened.close()
    assert opened.seconds < 20, "a second where nobody else is at work"
