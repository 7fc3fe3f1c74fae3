"""How long the report of a large run takes to open: the table of docs/report.md.

    python benchmarks/report/opening.py [--times 5]

Needs Chromium and the test extra. A page is opened anew each time, in a new context, from a file.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from playwright.sync_api import Browser, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from made_runs import large_run

from sglperf.report.html.page import run_page
from sglperf.report.html.run import read

SIZES = (100, 1000, 5000)
# Until the frame is painted in which the table has its rows.
PAINTED = "() => new Promise(done => requestAnimationFrame(() => setTimeout(() => done(performance.now()))))"


def opened(browser: Browser, file: Path) -> tuple[float, float, int]:
    """Seconds until the page is painted, seconds until a search over all metrics is, and elements."""
    page = browser.new_context().new_page()
    page.goto(file.as_uri())
    painted = page.evaluate(PAINTED) / 1000
    page.evaluate("document.getElementById('find').value = 's9'")
    searched = page.evaluate(
        "() => { const began = performance.now(); document.getElementById('find').dispatchEvent(new Event('input'));"
        " document.body.offsetHeight; return performance.now() - began; }"
    )
    elements = page.evaluate("document.getElementsByTagName('*').length")
    page.context.close()
    return painted, searched / 1000, elements


def main() -> None:
    """Print a row for each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    print("| metrics | drawn in | file | elements | painted after | a search takes |")
    print("|--:|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for size in SIZES:
            made, begin = large_run(size), time.perf_counter()
            text = run_page(read(made, None))
            drawn = time.perf_counter() - begin
            file = Path(folder) / f"{size}.html"
            file.write_text(text, encoding="utf-8")
            seen = [opened(browser, file) for _ in range(times)]
            painted, searched = (median(one[at] for one in seen) for at in range(2))
            print(
                f"| {size} | {drawn:.1f} s | {len(text) / 1e6:.2f} MB | {seen[0][2]} | {painted:.2f} s | {searched * 1000:.0f} ms |"
            )


if __name__ == "__main__":
    main()
