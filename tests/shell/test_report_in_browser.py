"""The report as a reader meets it: in Chromium, without a network, with a mouse or without one, in light and dark."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from made_runs import case, document, full_run, large_run
from playwright.sync_api import Browser, Page, sync_playwright

from sglperf.report.html.page import run_page
from sglperf.report.html.run import read

HOSTILE = "<script>alert('x')</script> \"&' $a$ <img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, or another; CI installs it."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("SGLPERF_BROWSER") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no Chromium here: apt-get install chromium, or name one in SGLPERF_BROWSER")
    with sync_playwright() as playwright:
        # It may run as root in a container, where its sandbox cannot be made; it opens nothing but these files.
        yield playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages that are opened more than once."""
    folder = tmp_path_factory.mktemp("pages")
    made, lines = full_run()
    hostile = document(
        case(status="regressed", ratio=1.3, model=HOSTILE, workload=HOSTILE, sentence=HOSTILE),
        case("decode_throughput", status="new", ratio=None, model="other"),
    )
    texts = {
        "full": run_page(read(made, lines)),
        "hostile": run_page(read(hostile, None)),
        "large": run_page(read(large_run(1000), None)),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in texts}


class Opened:
    """A page, and what it said or asked for that it should not have."""

    def __init__(self, browser: Browser, file: Path, **context: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | context)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda said: self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())
        self.own = file.as_uri()

    def column(self, number: int) -> list[str]:
        """Texts of a column of the table."""
        return self.page.locator(f"#cases tbody tr > :nth-child({number})").all_inner_texts()


@pytest.fixture
def open_page(browser: Browser, files: dict[str, Path]) -> Iterator[Any]:
    opened: list[Opened] = []

    def opener(name: str, **context: Any) -> Opened:
        opened.append(Opened(browser, files[name], **context))
        return opened[-1]

    yield opener
    for one in opened:
        assert one.complaints == []
        assert [place for place in one.asked if place not in (one.own, "data:,")] == []
        one.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["full", "hostile", "large"])
def test_it_opens_without_a_complaint_or_a_request(open_page, name, scheme):
    """Nothing on the console, nothing from elsewhere, no name that became a program."""
    page = open_page(name, color_scheme=scheme).page

    assert page.locator("#cases tbody tr").first.is_visible()
    assert page.locator("img, iframe, object, embed, link[rel=stylesheet]").count() == 0


def test_a_hostile_name_is_shown_as_it_is(open_page):
    """In the table, among the reasons and in the details."""
    page = open_page("hostile").page
    page.locator("#cases button.open").first.click()

    for place in (".said", "#cases tbody tr >> nth=0", "#cases td.detail"):
        assert "<script>alert('x')</script>" in page.locator(place).first.inner_text()


def test_a_metric_opens_by_keyboard_and_leads_to_its_rounds(open_page):
    """Enter shows the rounds with their lines of the journal, and again hides them."""
    page = open_page("full").page
    button = page.locator("#cases button.open").first
    button.focus()
    page.keyboard.press("Enter")

    assert button.get_attribute("aria-expanded") == "true"
    shown = page.locator("#cases .rounds").inner_text()
    assert "0: 0.005" in shown
    assert "failed host-busy (9)" in shown  # the ninth line of the journal
    page.keyboard.press("Enter")
    assert page.locator("#cases .rounds").count() == 0


def test_all_that_can_be_used_is_reached_by_tab(open_page):
    """Each control, in the order of the page; the first leads past the contents."""
    page = open_page("full").page
    wanted = page.evaluate(
        "[...document.querySelectorAll('a, button, input, select, summary, [tabindex=\"0\"]')]"
        ".filter(e => e.checkVisibility() && !e.hidden).length"
    )
    seen = set()
    for _ in range(wanted + 1):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)"))
        if len(seen) == 1:
            assert page.evaluate("document.activeElement.className") == "skip"
    assert len(seen - {-1}) >= wanted


def test_rows_are_found_sorted_and_chosen(open_page):
    """Words, verdicts and columns; what has no value comes last either way."""
    opened = open_page("full")
    page = opened.page
    assert opened.column(1) == ["regressed", "inconclusive", "new", "unchanged"]

    page.get_by_role("button", name="head").click()
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("head")
    page.get_by_role("button", name="ratio").click()
    rising = opened.column(6)
    page.get_by_role("button", name="ratio").click()
    falling = opened.column(6)
    assert [one for one in rising if one] == ["×0.970", "×1.300"]
    assert [one for one in falling if one] == ["×1.300", "×0.970"]

    page.fill("#find", "THROUGHPUT decode-p64")
    assert opened.column(2) == ["decode_throughput"]
    assert page.locator("#shown").inner_text() == "1 of 4"
    page.fill("#find", "")
    page.get_by_role("checkbox", name="regressed").uncheck()
    assert "regressed" not in opened.column(1)


def test_of_many_rows_some_are_made(open_page):
    """A page of them, more on demand, and the next one has the focus."""
    opened = open_page("large")
    page = opened.page
    assert len(opened.column(1)) == 100
    assert page.evaluate("document.getElementsByTagName('*').length") < 10_000

    page.locator("#more").focus()
    page.keyboard.press("Enter")
    assert len(opened.column(1)) == 200
    place = "[...document.querySelectorAll('#cases tbody tr')].indexOf(document.activeElement.closest('tr'))"
    assert page.evaluate(place) == 100
    page.fill("#find", "s99")
    assert 0 < len(opened.column(1)) < 200


@pytest.mark.parametrize("name", ["full", "hostile"])
@pytest.mark.parametrize("width", [360, 768])
def test_a_narrow_page_is_not_pushed_aside(open_page, name, width):
    """What is wide scrolls by itself."""
    page = open_page(name, viewport={"width": width, "height": 800}).page

    assert page.evaluate("document.documentElement.scrollWidth") <= width


_CONTRAST = """() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (text) => {
    const [r, g, b] = channels(text).map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (channels(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const worst = {};
  for (const e of document.querySelectorAll("h1, p, a, th, td, li, dt, .badge, button, figcaption, svg text, summary, pre")) {
    if (!e.checkVisibility() || e.className === "skip") continue;
    const style = getComputedStyle(e), text = e.tagName === "text" ? style.fill : style.color;
    const [a, b] = [light(text), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const name = e.tagName + "." + (e.getAttribute("class") || "");
    worst[name] = Math.min(worst[name] ?? 99, ratio);
  }
  return worst;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_told_from_what_is_behind_it(open_page, scheme):
    """A contrast of 4.5 to 1 at least (WCAG 2.2, 1.4.3), in drawings too."""
    worst = open_page("full", color_scheme=scheme).page.evaluate(_CONTRAST)

    assert len(worst) > 10
    assert {name: round(ratio, 2) for name, ratio in worst.items() if ratio < 4.5} == {}


def test_print_is_light_and_without_controls(open_page):
    """Even from a dark page; and it is paper that comes out."""
    page = open_page("full", color_scheme="dark").page
    page.emulate_media(media="print", color_scheme="dark")

    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    assert not page.locator("#controls").is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_verdicts_are_there_without_javascript(open_page):
    """And where the rest is to be found."""
    page = open_page("full", java_script_enabled=False).page

    assert page.locator(".said.regressed").is_visible()
    assert "needs JavaScript" in page.locator("noscript").inner_text()
