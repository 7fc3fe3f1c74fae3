"""Flags are read from sources of either layout, and an unknown one is told from an abbreviation."""

from __future__ import annotations

from pathlib import Path

import pytest

from sglperf.target.flags import flags_of, unknown_flags

FIELDS = """
class ServerArgs:
    model_path: A[str, Arg(help="where it is", aliases=["--model"])]
    port: A[int, "listens there"] = 30000
    chunked_prefill_size: A[Optional[int], "help", NS("schedule")] = None
    secret: A[int, Arg(help="no flag", no_cli=True)] = 1
    renamed: Annotated[str, Arg(help="x", cli_name="--other-name")] = ""
    both_ways: A[bool, Arg(help="x", action=argparse.BooleanOptionalAction)] = True
    plain: int = 3
    derived: A[int, NS("schedule")] = 3

    def add_cli_args(parser):
        parser.add_argument("--sampling-backend", "-s", type=str)
        parser.add_argument(name)
"""
KNOWN = {
    "--model-path", "--model", "--port", "--chunked-prefill-size", "--other-name", "--both-ways",
    "--no-both-ways", "--sampling-backend", "-s",
}  # fmt: skip


def package(root: Path, *, fields: bool) -> Path:
    place = root / "srt" / "arg_groups" / "fields"
    place.mkdir(parents=True)
    (root / "srt" / "server_args.py").write_text("" if fields else FIELDS)
    if fields:
        (place / "all.py").write_text(FIELDS)
    return root


@pytest.mark.parametrize("fields", [False, True], ids=["until 0.5.19", "since 0.5.20"])
def test_flags_of_either_layout(tmp_path: Path, fields: bool):
    """Names, aliases, other names and negations; not what is kept off the command line."""
    assert flags_of(package(tmp_path, fields=fields)) == KNOWN


def test_sources_that_do_not_tell(tmp_path: Path):
    """No such file, no Python, or none of the flags that every version has: nobody knows."""
    assert flags_of(tmp_path) is None
    found = package(tmp_path / "a", fields=False)
    (found / "srt" / "server_args.py").write_text("class ServerArgs: (")
    assert flags_of(found) is None
    (found / "srt" / "server_args.py").write_text("class ServerArgs:\n    port: int = 1\n")
    assert flags_of(found) is None


def test_unknown_flags():
    """A beginning that is unambiguous is taken; one that is not, and what nobody knows, are not."""
    flags = frozenset({"--tp-size", "--cuda-graph-max-bs-decode", "--cuda-graph-max-bs-prefill"})
    words = ["--tp", "2", "--cuda-graph-max-bs=8", "--tp-size=2", "--nothing", "-x", "value"]
    assert list(unknown_flags(words, flags)) == [
        "--cuda-graph-max-bs (it could be --cuda-graph-max-bs-decode or --cuda-graph-max-bs-prefill)",
        "--nothing",
    ]
