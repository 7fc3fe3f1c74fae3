"""A run in four shards comes to what the unsplit one comes to, to the last digit; and what does not belong together is refused.

The launches are made up (`made_shards`): the same ones in the whole run and in its shards.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "unit")]

from machines import CPU_ONLY
from made_shards import ALONE, COMPARED, CONFIGS, Bench, World, baselines, comparable, document, whole_plan

from sglperf.baseline_care import read_offer
from sglperf.core.explanation import Explanation
from sglperf.core.sharding import Shard
from sglperf.core.verdict import Status
from sglperf.errors import MeasurementError, UsageError
from sglperf.gathering import read_folder
from sglperf.sharding import Piece

YESTERDAY = World(seed=7)
SLOW = {ALONE[0].label: 1.2, COMPARED[1].label: 1.3}
LABELS = [config.label for config in CONFIGS]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def split_and_merged(bench: Bench, world: World, plan: Any, of: int = 4, **changes: Any) -> Any:
    """The outcome of the shards, all of them made and merged."""
    for index in range(1, of + 1):
        bench.shard(world, plan, index, of, **changes)
    return bench.merged(plan, **changes)


def both(bench: Bench, world: World, launches: Any, **changes: Any) -> tuple[Any, Any]:
    """The unsplit run, and the merged one, each with the baselines as they were before."""
    plan, before = whole_plan(launches), bench.folder / "baselines"
    if "base" not in bench._settings:
        bench.whole(YESTERDAY, whole_plan(4), baseline="record")
    (before).mkdir(exist_ok=True)
    for name in ("whole", "merged"):
        shutil.copytree(before, bench.folder / name)
    unsplit = bench.whole(world, plan, baseline_dir=bench.folder / "whole", **changes)
    merged = split_and_merged(bench, world, plan, baseline_dir=bench.folder / "merged", **changes)
    return unsplit, merged


# The same, whatever happens


def test_a_run_in_four_comes_to_the_same(bench: Bench) -> None:
    """Verdicts, p-values, intervals, contrasts, figures and results are equal, and so is what is kept as baseline."""
    unsplit, merged = both(bench, World(SLOW), 4, baseline="extend")

    statuses = Counter(verdict.status for verdict in unsplit.verdicts.values())
    assert statuses[Status.REGRESSED] == 6
    assert statuses[Status.UNCHANGED] + statuses[Status.INCONCLUSIVE] == len(unsplit.verdicts) - 6
    assert comparable(merged) == comparable(unsplit)
    kept = baselines(bench.folder / "merged", merged)
    assert kept == baselines(bench.folder / "whole", unsplit)
    assert "RUN" in "".join(kept.values())
    assert merged.contrasts


def test_launches_stop_where_they_would_have(bench: Bench) -> None:
    """Shards make all launches; the merge looks at those that the unsplit run made, at each look with no more than it had."""
    unsplit, merged = both(bench, World(SLOW, noise=0.04), (3, 9))

    made = Counter(launch.config for launch in unsplit.measured.measurements.launches)
    assert len(set(made.values())) > 1  # else nothing was stopped early, or everything
    assert comparable(merged) == comparable(unsplit)
    shard = document_of_shard(bench, ALONE[0].label)
    assert Counter(launch["config"] for launch in shard["launches"])[ALONE[0].label] == 9


@pytest.mark.parametrize("launches", [6, (4, 10)])
def test_two_builds_in_four_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launches: Any) -> None:
    """Pairs of launches stay pairs."""
    bench = Bench(tmp_path, monkeypatch, base="a", head="b")
    unsplit, merged = both(bench, World(SLOW, noise=0.02), launches)

    assert Status.REGRESSED in {verdict.status for verdict in unsplit.verdicts.values()}
    assert comparable(merged) == comparable(unsplit)
    assert not merged.recorded


DEAD = ALONE[1].label


@pytest.mark.parametrize("launches", [4, (3, 9)])
def test_a_server_that_died_in_a_shard(bench: Bench, launches: Any) -> None:
    """Its cases are invalid in both, the others are judged."""
    unsplit, merged = both(bench, World(SLOW, deaths={("head", DEAD, 1)}), launches)

    assert {verdict.status for name, verdict in merged.verdicts.items() if DEAD in name} == {Status.INVALID}
    assert comparable(merged) == comparable(unsplit)


def test_a_death_after_the_last_look_never_happened(bench: Bench) -> None:
    """A shard goes on where the unsplit run stopped: what becomes of a server there is not known to that, either."""
    quick = World(dict.fromkeys(LABELS, 2.0), deaths={("head", DEAD, 8)})
    unsplit, merged = both(bench, quick, (3, 9))

    assert not merged.measured.measurements.failures
    assert comparable(merged) == comparable(unsplit)


def test_all_servers_of_a_shard_died(bench: Bench) -> None:
    """The shard is kept all the same, since others measured; where none did, the merge says why."""
    plan = whole_plan(4)
    mine = [config.label for config in Piece(Shard(1, 4), "", plan).plan.configs]
    unsplit, merged = both(bench, World(deaths={("head", label, 0) for label in mine}), 4)

    assert comparable(merged) == comparable(unsplit)
    shutil.rmtree(bench.folder / "parts")
    with pytest.raises(MeasurementError, match="is gone"):
        split_and_merged(bench, World(deaths={("head", label, 0) for label in LABELS}), plan)


@pytest.mark.parametrize("of", [1, 2, 5, 9])
def test_any_number_of_shards(bench: Bench, of: int) -> None:
    """One is enough; those without work change nothing, whether they are there or not."""
    plan = whole_plan(2)
    unsplit = bench.whole(World(), plan, baseline="off")
    merged = split_and_merged(bench, World(), plan, of, baseline="off")

    assert comparable(merged) == comparable(unsplit)
    for index in range(6, of + 1):
        shutil.rmtree(bench.folder / "parts" / str(index))
    assert comparable(bench.merged(plan, baseline="off")) == comparable(unsplit)


@pytest.mark.parametrize("launches", [6, (3, 9)])
def test_the_time_ended_after_some_launches(bench: Bench, launches: Any) -> None:
    """What was measured by then is judged, and each shard that it ended is named."""
    unsplit, merged = both(bench, World(SLOW, noise=0.04, limit=5), launches)

    assert comparable(merged) == comparable(unsplit)
    assert "ended after 5 launches" in unsplit.notes
    assert {f"shard {index}: ended after 5 launches" for index in (1, 2, 3, 4)} <= set(merged.notes)


def test_the_time_of_one_shard_ended(bench: Bench) -> None:
    """Its servers have fewer launches than the others', and are judged by those."""
    plan = whole_plan((3, 9))
    bench.whole(replace(YESTERDAY, noise=0.2), whole_plan(4), baseline="record")
    for index in (1, 2, 3, 4):
        world = World(noise=0.2, limit=4 if index == 2 else None)
        bench.shard(world, plan, index, 4)
    merged = bench.merged(plan)

    made = Counter(launch.config for launch in merged.measured.measurements.launches)
    short = {config.label for config in Piece(Shard(2, 4), "", plan).plan.configs}
    assert {label for label, count in made.items() if count == 4} == short
    assert max(made.values()) == 9
    assert "shard 2: ended after 4 launches" in merged.notes


# What is kept of shards


def document_of_shard(bench: Bench, label: str) -> dict[str, Any]:
    """Of the one that measured this server."""
    (found,) = [
        document
        for file in sorted((bench.folder / "parts").rglob("run.json"))
        if label in (document := json.loads(file.read_text()))["fingerprints"]
    ]
    return dict(found)


def test_a_shard_alone_is_provisional(bench: Bench) -> None:
    """It is judged in the whole family, says so, keeps no baseline, and nothing takes it for a run."""
    plan = whole_plan(4)
    shard = bench.shard(World(), plan, 1, 4, baseline="record")
    place = Path(shard.folder)

    assert document(shard)["family_size"] == plan.family_size
    assert not (bench.folder / "baselines").exists()
    assert (place / "summary.md").read_text().startswith("## Shard 1 of 4, provisionally: ")
    with pytest.raises(UsageError, match=r"shard 1 of 4, whose verdicts are provisional: merge"):
        read_offer(place)


def test_the_merged_run_names_its_shards(bench: Bench) -> None:
    """Where each was, what it took, and its journal's lines on what was looked at."""
    plan = whole_plan(2)
    merged = split_and_merged(bench, World(), plan, baseline="off")
    shards = document(merged)["shards"]
    lines = [json.loads(line) for line in (Path(merged.folder) / "journal.jsonl").read_text().splitlines()]

    assert [one["index"] for one in shards] == [1, 2, 3, 4]
    assert sorted(label for one in shards for label in one["servers"]) == sorted(LABELS)
    assert merged.seconds["start"] == 30.0 * 2 * len(LABELS)
    assert merged.seconds.keys() == {"start", "total"}
    kinds = Counter(line["kind"] for line in lines)
    rounds, launches = merged.measured.measurements.rounds, merged.measured.measurements.launches
    assert (kinds["round"], kinds["launch"], kinds["end"]) == (len(rounds), len(launches), 1)
    assert lines[-1]["kind"] == "end"
    assert any("merged from 4 shards" in note for note in merged.notes)


def test_why_is_carried_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a shard saw of a server goes with it, where the merged verdict changed; where it saw nothing, that is said."""
    bench = Bench(tmp_path, monkeypatch, base="a", head="b", why="auto")

    def profiled(known: Explanation, worst: Any, *_: Any) -> Explanation:
        return replace(known, notes=(f"seen on {worst.config.label}",))

    monkeypatch.setattr("sglperf.explaining._profiled", profiled)
    unsplit, merged = both(bench, World(SLOW, noise=0.02), 6)

    assert set(merged.explanations) == set(SLOW)
    assert comparable(merged) == comparable(unsplit)
    file = next(
        file
        for file in (bench.folder / "parts").rglob("run.json")
        if ALONE[0].label in json.loads(file.read_text())["explanations"]
    )
    edited = json.loads(file.read_text())
    edited["explanations"] = {}
    file.write_text(json.dumps(edited))
    again = bench.merged(whole_plan(6))
    assert again.explanations[ALONE[0].label].notes == (
        "no profile: the shard that measured it called nothing changed",
    )


def test_hosts_that_differ_are_named_and_judged_by_their_own_baselines(bench: Bench) -> None:
    """Another CPU is another fingerprint; another kernel is a context."""
    plan = whole_plan(4)
    bench.whole(YESTERDAY, plan, baseline="record")
    other = replace(CPU_ONLY, host=replace(CPU_ONLY.host, available_cores=8, kernel="6.8"))
    for index in (1, 2, 3, 4):
        bench.shard(World(), plan, index, 4, machine=other if index == 2 else CPU_ONLY)
    merged = bench.merged(plan)

    there = {config.label for config in Piece(Shard(2, 4), "", plan).plan.configs}
    new = {name.split("/")[1] for name, verdict in merged.verdicts.items() if verdict.status is Status.NEW}
    assert new == there
    (note,) = [note for note in merged.notes if "another machine" in note]
    assert "shard 2 ran on another machine than shard 1" in note
    assert "CPU cores: 112 here, 8 there" in note
    assert "kernel: 5.15.0-105-generic here, 6.8 there" in note


def test_a_round_without_a_number_stays_one(bench: Bench) -> None:
    """JSON has no NaN; the case is as invalid as it was, and no error of the file."""
    plan = whole_plan(2)
    for index in (1, 2, 3, 4):
        bench.shard(World(), plan, index, 4, baseline="off")
    file = next((bench.folder / "parts").rglob("run.json"))
    edited = json.loads(file.read_text())
    edited["rounds"][0]["values"] = dict.fromkeys(edited["rounds"][0]["values"])
    file.write_text(json.dumps(edited))

    assert "head-not-finite" in {
        verdict.code for verdict in bench.merged(plan, baseline="off").verdicts.values()
    }


# What is refused


def parts(bench: Bench, plan: Any = None) -> list[Path]:
    """The files of four shards."""
    plan = plan or whole_plan(2)
    return [Path(bench.shard(World(), plan, index, 4).folder) / "run.json" for index in (1, 2, 3, 4)]


def edit(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def refused(bench: Bench) -> str:
    with pytest.raises(UsageError) as raised:
        read_folder(bench.folder / "parts")
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_missing_shard_is_named_with_its_servers(bench: Bench) -> None:
    files = parts(bench)
    servers = [config.label for config in Piece(Shard(3, 4), "", whole_plan(2)).plan.configs]
    shutil.rmtree(files[2].parent)

    assert refused(bench).startswith(
        f"shard 3 of 4 is missing, which measures {', '.join(servers)}: measure it"
    )


def test_a_shard_given_twice_is_named_with_both_places(bench: Bench) -> None:
    files = parts(bench)
    shutil.copytree(files[1].parent, bench.folder / "parts" / "again")

    said = refused(bench)
    assert "shard 2 is there 2 times" in said
    assert str(files[1].parent) in said
    assert str(bench.folder / "parts" / "again") in said


def test_what_is_no_shard_is_refused(bench: Bench) -> None:
    """A whole run among them, a folder without runs, a file that is none."""
    files = parts(bench)
    edit(files[0], lambda document: document.pop("shard"))
    assert "is no shard: name a folder that holds nothing but the shards" in refused(bench)
    files[0].write_text("{")
    assert "not a run" in refused(bench)
    shutil.rmtree(bench.folder / "parts")
    assert "no run.json is below it" in refused(bench)


def test_a_damaged_shard_is_refused(bench: Bench) -> None:
    files = parts(bench)
    edit(files[1], lambda document: document["launches"][0].pop("version"))

    said = refused(bench)
    assert str(files[1].parent) in said
    assert "not a shard that this sglperf can read (launches.0.version" in said
    edit(files[1], lambda document: document["launches"].pop(0))
    edit(files[1], lambda document: document["shard"].update(index=9))
    assert "there is no shard 9 among 4" in refused(bench)
    edit(files[1], lambda document: document["shard"].update(index=2))
    edit(files[1], lambda document: document.update(failures=[{"side": "head"}]))
    assert "(failures.0.config" in refused(bench)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"version": "0.5.22"},
            "their builds differ (head): sglang 0.5.23 and sglang 0.5.23, version 0.5.23 and 0.5.22",
        ),
        ({"commit": "abc"}, "commit None and abc"),
        ({"content": "abc"}, "content None and abc"),
        ({"packages": {"sglang": "0.5.23", "torch": "2.9"}}, "torch absent and 2.9"),
    ],
)
def test_another_build_is_refused(bench: Bench, change: dict[str, Any], said: str) -> None:
    """By what differs, and in which folders."""
    files = parts(bench)
    edit(files[2], lambda document: document["targets"]["head"].update(change))

    found = refused(bench)
    assert said in found
    assert str(files[0].parent) in found
    assert str(files[2].parent) in found


def test_where_a_build_lies_may_differ(bench: Bench) -> None:
    """Each host has its own paths."""
    files = parts(bench)
    edit(
        files[2],
        lambda document: document["targets"]["head"].update(interpreter="/other/python", label="mine"),
    )

    assert read_folder(bench.folder / "parts")


def test_another_sglperf_is_refused(bench: Bench) -> None:
    files = parts(bench)
    edit(files[3], lambda document: document.update(sglperf="0.0.9"))

    assert "was measured by sglperf 0.0.9, this is 0.1.0" in refused(bench)


def test_shards_of_other_splits_are_refused(bench: Bench) -> None:
    """Another number of parts, another name, another plan: settings by name, or cases."""
    files = parts(bench)
    edit(files[3], lambda document: document["shard"].update(of=5))
    assert "one is 1 of 4, the other 4 of 5" in refused(bench)
    edit(files[3], lambda document: document["shard"].update(of=4, split="b"))
    assert "one is of the split 'without a name', the other of 'b'" in refused(bench)
    edit(files[3], lambda document: document["shard"].update(split="", plan="another"))
    edit(files[3], lambda document: document["settings"].update(rounds=7))
    assert "their plans differ: rounds is 3 here, 7 there" in refused(bench)
    edit(files[3], lambda document: document["settings"].update(rounds=3))
    edit(files[3], lambda document: document["shard"]["work"].update(more="x"))
    assert "their plans differ: only there: more" in refused(bench)


def test_a_merge_with_other_options_is_refused(bench: Bench) -> None:
    """Settings that decide what is measured, by name and both values; else the cases that were or were not selected."""
    parts(bench)
    with pytest.raises(
        UsageError, match=r"is a shard of another plan: launches is 3 here, 2 there. Merge with"
    ):
        bench.merged(whole_plan(3), launches=3)
    with pytest.raises(UsageError, match=r"another plan: alpha is 0.01 here, 0.05 there"):
        bench.merged(replace(whole_plan(2), seed=3), alpha=0.01)
    with pytest.raises(
        UsageError, match=r"another plan: only there: tiny/.*and \d+ more\. Merge with the options"
    ):
        bench.merged(whole_plan(2, CONFIGS[:3]))
    with pytest.raises(UsageError, match="the same cases, in another number of launches or rounds"):
        bench.merged(whole_plan(3))


def test_two_builds_are_merged_as_two_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one as one: what a run is judged against is no matter of what happens to be there."""
    for name, known in (("two", {"base": "a", "head": "b"}), ("one", {})):
        bench = Bench(tmp_path / name, monkeypatch, **known)
        parts(bench)
        other = {"base": None, "head": None} if known else {"base": "a", "head": "b"}
        said = (
            "compares two builds: merge with --base" if known else "measures one build: merge without --base"
        )
        with pytest.raises(UsageError, match=said):
            bench.merged(whole_plan(2), **other)


def test_what_is_decided_when_all_is_judged_may_differ(bench: Bench) -> None:
    """Baselines, results, tag and strictness are the merge's own."""
    parts(bench)

    assert bench.merged(whole_plan(2), baseline="off", tag="nightly", strict=True).verdicts
