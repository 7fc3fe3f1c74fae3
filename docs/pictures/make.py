"""The pictures of docs/tutorial.md, made by typing the commands that stand beside them.

    tox -e pictures                          # types every command on a real SGLang (ten minutes), then draws
    tox -e pictures -- --only caught         # one of them, where those before it were typed
    tox -e pictures -- --draw                # draws again what was printed, as kept beside this file

What a command printed is kept in ``NAME.ansi`` and drawn as ``NAME.svg``; a report is photographed in Chromium as
``NAME.png``. All is typed in ``build/tutorial``, a copy of the suite, so nobody's baselines are touched.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PLACE = ROOT / "build" / "tutorial" / "sglperf"
WIDTH = 100
CHOICE = "-m decode -k streams8 --profile=quick --launches=3"
SLOWER = (
    "mkdir -p build/slower/python",
    """cp -r "$(python -c 'import sglang; print(sglang.__path__[0])')" build/slower/python/""",
    'sed -i \'s/"""Run a batch."""/&\\n        time.sleep(0.01)/\' build/slower/python/sglang/srt/managers/scheduler.py',
)


@dataclass(frozen=True)
class Picture:
    """A command, and what of its output is shown.

    Attributes:
        exits: the exit code without which there is nothing to show.
        begin, end: patterns of the first and the last line shown; what is left out is marked by ``…``.
        but: patterns of the first and the last line of a part that is left out.
        after: what is typed next, and prints nothing.
    """

    name: str
    command: str
    exits: int = 0
    begin: str = ""
    end: str = ""
    but: tuple[str, str] | None = None
    after: str = ""


COMMIT = (
    "git add baselines && git -c user.name=me -c user.email=me@localhost commit -qm 'Baseline of this laptop'"
)
CLAIMS = (r"^latency-slope", r"^  source")
PICTURES = (
    Picture("first", f"pytest {CHOICE}", begin="= sglperf =", end="/baselines/", but=CLAIMS, after=COMMIT),
    Picture("again", f"pytest {CHOICE}", begin="= sglperf =", end="server starts", but=CLAIMS),
    Picture(
        "caught",
        f"pytest {CHOICE} --target=build/slower",
        exits=1,
        begin="= sglperf =",
        end="server starts",
        but=CLAIMS,
    ),
    Picture(
        "why",
        f"sglperf compare sglang==0.5.23 build/slower {CHOICE}",
        exits=1,
        begin="^why",
        end="server starts",
        but=CLAIMS,
    ),
    Picture("accept", "sglperf baseline accept {caught} --status=regressed"),
    Picture("diff", "sglperf baseline diff"),
)
REPORTS = {"report": ("why", 1280, 1000), "report-rounds": ("why", 1280, 900)}
"""Picture → of which command's run, and the size of the window in pixels."""


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=[one.name for one in PICTURES], help="type these")
    parser.add_argument("--draw", action="store_true", help="type nothing")
    given = parser.parse_args(arguments)
    if not given.draw:
        make_place(fresh=given.only is None)
        for one in PICTURES:
            if given.only is None or one.name in given.only:
                type_command(one)
    for one in PICTURES:
        draw_terminal(one)
    if not given.draw:
        photograph()


def make_place(*, fresh: bool) -> None:
    """The suite as a newcomer has it after ``git clone``, and a build of SGLang that waits in each pass."""
    if fresh:
        shutil.rmtree(PLACE, ignore_errors=True)
    if PLACE.is_dir():
        return
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in names.splitlines():
        if name.startswith(("config/", "perf_tests/")) or name in (
            "conftest.py",
            "pyproject.toml",
            ".gitignore",
        ):
            (PLACE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, PLACE / name)
    for command in (
        "git init -q",
        "git add .",
        "git -c user.name=me -c user.email=me@localhost commit -qm suite",
    ):
        subprocess.run(command, shell=True, cwd=PLACE, check=True)
    for command in SLOWER:
        subprocess.run(command, shell=True, cwd=PLACE, env=surroundings(), check=True)


def surroundings() -> dict[str, str]:
    """The shell that the tutorial speaks of: this environment's commands, a terminal with colours."""
    left_out = ("CI", "BUILD_NUMBER", "PYTEST_ADDOPTS")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return {**kept, "PATH": path, "COLUMNS": str(WIDTH), "PYTEST_ADDOPTS": "--color=yes"}


def type_command(one: Picture) -> None:
    """Run it and keep what it printed, its exit code checked."""
    runs = {name: run.name for name, run in kept_runs()}
    command = one.command.format(**runs)
    print(f"$ {command}", flush=True)
    before = set(PLACE.glob("results/2*"))
    done = subprocess.run(
        command,
        shell=True,
        cwd=PLACE,
        env=surroundings(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout, flush=True)
    if done.returncode != one.exits:
        raise SystemExit(f"{command}: ended with {done.returncode}, not {one.exits}: nothing to show of it")
    if one.after:
        subprocess.run(one.after, shell=True, cwd=PLACE, check=True)
    for run in set(PLACE.glob("results/2*")) - before:
        (PLACE / "results" / f"of-{one.name}").write_text(run.name)
    (HERE / f"{one.name}.ansi").write_text(f"$ {command}\n{shortened(done.stdout)}", encoding="utf-8")


def kept_runs() -> Iterator[tuple[str, Path]]:
    """Picture → the run that its command made."""
    for note in PLACE.glob("results/of-*"):
        yield note.name.removeprefix("of-"), note.parent / note.read_text()


def shortened(text: str) -> str:
    """Paths as they are in a newcomer's home folder."""
    return text.replace(str(PLACE), "~/sglperf").replace(str(Path.home()), "~")


def draw_terminal(one: Picture) -> None:
    """``NAME.ansi`` as ``NAME.svg``; nothing in it is loaded from elsewhere."""
    file = HERE / f"{one.name}.ansi"
    if not file.is_file():
        return
    lines = cut(file.read_text(encoding="utf-8").splitlines(), one)
    with Path(os.devnull).open("w") as nowhere:
        console = Console(
            record=True, width=WIDTH, file=nowhere, force_terminal=True, color_system="truecolor"
        )
        console.print(Text.from_ansi("\n".join(lines)), soft_wrap=False)
        drawn = console.export_svg(title="", theme=THEME, code_format=SVG, unique_id=one.name)
    (HERE / f"{one.name}.svg").write_text(re.sub(r"[ \t]+$", "", drawn, flags=re.M), encoding="utf-8")


def cut(lines: list[str], one: Picture) -> list[str]:
    """The command, and what it printed from the one pattern to the other."""
    plain = [Text.from_ansi(line).plain for line in lines]

    def place(pattern: str, otherwise: int, after: int) -> int:
        found = (at for at in range(after, len(plain)) if pattern and re.search(pattern, plain[at]))
        return next(found, otherwise)

    first = place(one.begin, 1, 1)
    last = place(one.end, len(lines) - 1, first)
    kept = list(range(first, last + 1))
    if one.but is not None:
        out = place(one.but[0], len(lines), first)
        kept = [at for at in kept if not out <= at <= place(one.but[1], out, out)]
    shown = [lines[0], *(["…"] if first > 1 else [])]
    for at in kept:
        shown += [*(["…"] if at - 1 not in kept and at > first else []), lines[at]]
    return [*shown, *(["…"] if any(text.strip() for text in plain[last + 1 :]) else [])]


def photograph() -> None:
    """The reports, as Chromium shows them."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    browser = os.environ.get("SGLPERF_BROWSER") or next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        raise SystemExit("no Chromium here: apt-get install chromium, or name one in SGLPERF_BROWSER")
    runs = dict(kept_runs())
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for name, (run, width, height) in REPORTS.items():
            if run not in runs:
                continue
            page = chromium.new_page(viewport={"width": width, "height": height}, color_scheme="light")
            page.goto((runs[run] / "report.html").absolute().as_uri())
            if name in PREPARE:
                PREPARE[name](page)
            page.screenshot(path=HERE / f"{name}.png")


def _open_a_metric(page: object) -> None:
    page.locator("#cases button.open").first.click()  # type: ignore[attr-defined]
    page.locator("#cases").scroll_into_view_if_needed()  # type: ignore[attr-defined]


PREPARE: dict[str, Callable[..., None]] = {"report-rounds": _open_a_metric}

THEME = TerminalTheme(
    (27, 30, 38),
    (222, 224, 228),
    [
        (80, 84, 94),
        (240, 113, 120),
        (126, 199, 126),
        (230, 192, 110),
        (120, 170, 240),
        (200, 150, 230),
        (95, 200, 210),
        (222, 224, 228),
    ],
    [
        (130, 135, 145),
        (255, 130, 135),
        (150, 220, 150),
        (245, 210, 130),
        (150, 190, 255),
        (220, 170, 250),
        (120, 220, 230),
        (255, 255, 255),
    ],
)
SVG = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<style>
.{unique_id}-matrix {{ font-family: "DejaVu Sans Mono", Menlo, Consolas, "Liberation Mono", monospace; font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
<rect width="100%" height="100%" rx="8" fill="#1b1e26"/>
<g transform="translate(10, 12)" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""

if __name__ == "__main__":
    main(sys.argv[1:])
