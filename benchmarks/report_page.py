"""ResNet-50's report in headless Chromium: bytes of the page, seconds until it is loaded and painted, its complaints.

    python benchmarks/report_page.py [CASE] [-o build/report.html]

Wants Playwright and a Chromium on the path. A line for each width of the window, 1280 and 390 px.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

from cases import CASES

import lower86
from lower86.peers.peer import quantized

_PAINTED = "Math.max(...performance.getEntriesByType('paint').map(entry => entry.startTime)) / 1e3"


def _look(page: Path) -> None:
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for width in (1280, 390):
            window, said = browser.new_page(viewport={"width": width, "height": 844}), []
            window.on("console", lambda message, said=said: said.append(message.text))
            window.on("pageerror", lambda error, said=said: said.append(str(error)))
            start = time.perf_counter()
            window.goto(page.resolve().as_uri())
            seconds = time.perf_counter() - start
            window.wait_for_timeout(500)
            painted = window.evaluate(_PAINTED)
            print(
                f"{width} px: {page.stat().st_size / 1e6:.2f} MB, loaded in {seconds:.2f} s, painted {painted:.2f} s",
                end="",
            )
            print(f", the console says {said}" if said else ", nothing on the console")
        browser.close()


def main() -> None:
    """Lowers the case, writes its report and opens it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", nargs="?", default="resnet-50", choices=CASES)
    parser.add_argument("-o", "--output", type=Path, default=Path("build/report.html"))
    given = parser.parse_args()
    case = CASES[given.case]()
    lowered = lower86.lower_pt2e_quantized_to_x86(quantized(case), case.inputs[0])
    given.output.parent.mkdir(exist_ok=True)
    lower86.write_report(lowered, given.output, inputs=case.inputs[0])
    _look(given.output)


if __name__ == "__main__":
    main()
