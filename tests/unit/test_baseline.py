"""A baseline file is read as it was written, or refused with a message that names it and what to do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import ask, stored

from sglperf.core.baseline import (
    Baseline,
    BaselineCase,
    BaselineContext,
    BaselineMetric,
    BaselineRecord,
    context_key,
    dump_baseline,
    parse_baseline,
)
from sglperf.errors import BaselineError

ORIGIN = "baselines/here/decode.json"
POINT = ask().point
RECORD = "cases.point.records.20260101-000000-1"
SAMPLES = "cases.point.metrics.inter_token_latency.samples.20260101-000000-1"


def read(text: str) -> Baseline:
    return parse_baseline(text, ORIGIN, stored().fingerprint_id)


def again(baseline: Baseline) -> Baseline:
    return parse_baseline(dump_baseline(baseline), ORIGIN, baseline.fingerprint_id)


def altered(path: str, value: Any) -> str:
    """A good file's text with one entry replaced; ``path`` is dotted, from the file's top."""
    document = json.loads(dump_baseline(stored(point="point")))
    *parents, last = path.split(".")
    inner = document
    for key in parents:
        inner = inner[key]
    inner[last] = value
    return json.dumps(document)


def only_case(baseline: Baseline) -> BaselineCase:
    (case,) = baseline.cases.values()
    return case


# There and back

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="["), max_size=12)
counts = st.integers(0, 10**6)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
launch = st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=4).map(tuple)
launches = st.lists(launch, min_size=1, max_size=3).map(tuple)


@st.composite
def baselines(draw: st.DrawFn) -> Baseline:
    contexts = {
        context_key(context): context
        for context in draw(
            st.lists(
                st.builds(
                    BaselineContext,
                    versions=st.dictionaries(texts, texts, max_size=3),
                    resolved=st.dictionaries(texts, plain, max_size=3),
                ),
                min_size=1,
                max_size=2,
            )
        )
    }
    record = st.builds(
        BaselineRecord,
        recorded=texts,
        client=texts,
        workload_hash=texts,
        finish_reasons=st.dictionaries(texts, counts, max_size=2),
        cached_tokens=st.none() | counts,
        context=st.sampled_from(sorted(contexts)),
    )

    def case(records: dict[str, BaselineRecord]) -> st.SearchStrategy[BaselineCase]:
        metric = st.builds(
            BaselineMetric,
            unit=texts,
            samples=st.dictionaries(st.sampled_from(sorted(records)), launches, min_size=1),
        )
        return st.builds(
            BaselineCase, records=st.just(records), metrics=st.dictionaries(texts, metric, max_size=3)
        )

    cases = st.dictionaries(texts, record, min_size=1, max_size=2).flatmap(case)
    return Baseline(
        fingerprint_id=draw(texts),
        fingerprint=draw(st.dictionaries(texts, texts, max_size=2)),
        area=draw(texts),
        contexts=contexts,
        cases=draw(st.dictionaries(texts, cases, max_size=3)),
    )


@settings(max_examples=20)
@given(baselines())
def test_what_was_written_is_read_back(baseline):
    """All names, counts and settings exactly, samples to seven digits; what was read writes the same text."""
    read_back = again(baseline)

    assert dump_baseline(read_back) == dump_baseline(baseline)
    for name, case in baseline.cases.items():
        assert read_back.cases[name].records == case.records
        for metric, kept in case.metrics.items():
            assert read_back.work(name, metric) == baseline.work(name, metric)
            for before, after in zip(
                kept.launches, read_back.cases[name].metrics[metric].launches, strict=True
            ):
                assert after == pytest.approx(before, rel=1e-6)


def test_a_reviewer_reads_one_launch_a_line():
    """Samples of a launch stand on one line, and the keys are sorted."""
    text = dump_baseline(stored({"inter_token_latency": ((0.005, 0.0051), (0.0049,))}))
    keys = list(json.loads(text))

    assert "\n              [0.005, 0.0051],\n              [0.0049]\n" in text
    assert keys == sorted(keys)
    assert text.endswith("}\n")


def test_samples_keep_seven_digits():
    """A nanosecond in a second is not what a diff should be about."""
    assert '": [\n              [0.1234568]\n' in dump_baseline(stored({"m": ((0.12345678901,),)}))


def test_counts_are_kept_exactly():
    """An exact metric of ten million is read back to the token, else the next run finds it changed."""
    baseline = stored({"kv_capacity_tokens": ((12_345_678.0,),)}, unit="tok")

    assert only_case(again(baseline)).metrics["kv_capacity_tokens"].launches == ((12_345_678.0,),)


def test_a_setting_that_looks_like_a_list_is_kept():
    """A server argument whose text holds brackets and blanks is the same text afterwards."""
    baseline = stored(resolved={"json_model_override_args": '{"x": [ 1,  2 ]}'})

    assert again(baseline).contexts == baseline.contexts


def test_a_context_is_kept_exactly():
    """A resolved argument does not differ from itself once it was stored."""
    baseline = stored(resolved={"mem_fraction_static": 0.83400000001})

    assert again(baseline).contexts == baseline.contexts


# What is refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        (dump_baseline(stored())[:-40], "not valid JSON"),
        (dump_baseline(stored())[: len(dump_baseline(stored())) // 2], "not valid JSON"),
        ("<<<<<<< HEAD\n" + dump_baseline(stored()), "not valid JSON"),
        ("\x00" * 100, "not valid JSON"),
        ("[]", "not a baseline file"),
        ("null", "not a baseline file"),
        ("{}", "fingerprint_id: Field required"),
        (altered("extra", 1), "extra: Extra inputs are not permitted"),
        (altered("schema_version", 0), "schema_version: Input should be 1"),
        (altered("schema_version", "2"), "schema_version: Input should be 1"),
        (altered("schema_version", None), "schema_version: Input should be 1"),
        (altered("cases", []), "cases: Input should be"),
        (altered(f"{RECORD}.workload_hash", None), f"{RECORD}.workload_hash: Input should be a valid string"),
        (altered(f"{RECORD}.cached_tokens", 0.5), f"{RECORD}.cached_tokens: Input should be a valid integer"),
        (altered(f"{RECORD}.context", "nowhere"), "contexts.nowhere is missing"),
        (altered("cases.point.records", {}), f"{RECORD} is missing"),
        (altered("contexts", {}), "contexts.[0-9a-f]{12} is missing"),
    ],
)
def test_a_damaged_file_is_refused(text, message):
    """Cut off, in conflict, of another shape, or with a loose end: file, place and remedy are named."""
    with pytest.raises(
        BaselineError, match=rf"^{ORIGIN}: {message}.*: restore it from git, or delete it to record anew$"
    ):
        read(text)


@pytest.mark.parametrize(
    "samples",
    [[], [[]], [[1.0], []], [1.0], "1.0", [[None]], [["fast"]], [[float("nan")]], [[float("inf")]], [[-float("inf")]],
     [[10**400]], [[[1.0]]], {"0": [1.0]}],
)  # fmt: skip
def test_samples_that_are_none_are_refused(samples):
    """No launch, an empty one, NaN, infinity or no number at all: the metric is named in the message."""
    text = altered(SAMPLES, samples)

    with pytest.raises(
        BaselineError, match=rf"^{ORIGIN}: cases.point.metrics.inter_token_latency.samples.*restore it"
    ):
        read(text)


@pytest.mark.parametrize("sample", ["0.005", True])
def test_a_text_is_no_sample(sample):
    """What only looks like a number was not written by sglperf."""
    with pytest.raises(BaselineError):
        read(altered(SAMPLES, [[sample]]))


def test_endless_nesting_is_refused():
    """A file of nothing but brackets is damaged like any other."""
    with pytest.raises(BaselineError):
        read("[" * 100_000)


@pytest.mark.parametrize("version", [2, 3, 1000])
def test_a_file_from_the_future_is_not_guessed_at(version):
    """A newer schema asks for a newer sglperf, even where the rest would parse or would not."""
    message = rf"^{ORIGIN}: schema {version}, this sglperf reads up to 1: upgrade sglperf, or give another --baseline-dir$"

    with pytest.raises(BaselineError, match=message):
        read(altered("schema_version", version))
    with pytest.raises(BaselineError, match=message):
        read(json.dumps({"schema_version": version, "all": "new"}))


def test_a_file_of_another_machine_is_refused():
    """Both machines are named: timings of two are not comparable."""
    text = dump_baseline(stored())

    with pytest.raises(
        BaselineError, match=rf"^{ORIGIN}: recorded on {stored().fingerprint_id}, this machine is there-1:"
    ):
        parse_baseline(text, ORIGIN, "there-1")


@given(st.integers(0, len(dump_baseline(stored())) - 3))
def test_no_cut_goes_unnoticed(length):
    """A file that ends anywhere before its end is refused, and never a traceback."""
    with pytest.raises(BaselineError, match=ORIGIN):
        read(dump_baseline(stored())[:length])


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    """Nothing but a BaselineError comes out of a file that is none."""
    with pytest.raises(BaselineError, match=ORIGIN):
        read(text)


# Merging

ITL, TTFT = {"inter_token_latency": ((0.005,),)}, {"time_to_first_token": ((0.1,),)}


def test_cases_of_both_are_kept():
    """Another run's points stay, with the context that they refer to."""
    mine = stored(ITL, point="a", versions={"sglang": "0.5.22"})
    theirs = stored(TTFT, point="b", versions={"sglang": "0.5.23"})
    merged = mine.merged(theirs)

    assert set(merged.cases) == {"a", "b"}
    assert merged.work("a", "inter_token_latency") == mine.work("a", "inter_token_latency")
    assert set(merged.contexts) == {*mine.contexts, *theirs.contexts}


def test_a_metric_is_added_to_its_point_and_replaced_in_it():
    """Of one build: the other metrics of a point stay, the same metric takes the newer samples."""
    known = stored(ITL | TTFT, point="a")
    merged = known.merged(stored({"inter_token_latency": ((9.0,),)}, point="a"))

    assert {name: metric.launches for name, metric in merged.cases["a"].metrics.items()} == {
        "inter_token_latency": ((9.0,),),
        "time_to_first_token": ((0.1,),),
    }


def test_samples_keep_their_own_workload_hash():
    """A metric recorded anew with another workload leaves the others with the one that they were measured with."""
    merged = stored(ITL | TTFT, point="a").merged(
        stored(TTFT, point="a", run="later", workload_hash="f" * 16)
    )

    assert merged.work("a", "time_to_first_token").workload_hash == "f" * 16
    assert merged.work("a", "inter_token_latency").workload_hash != "f" * 16


def test_contexts_that_nothing_refers_to_are_dropped():
    """A file does not collect the versions of everything it ever held."""
    merged = stored(point="a", versions={"sglang": "0.5.22"}).merged(
        stored(point="a", run="later", versions={"sglang": "0.5.23"})
    )

    assert [context.versions for context in merged.contexts.values()] == [{"sglang": "0.5.23"}]


def test_an_accepted_metric_outlives_an_upgrade():
    """Recording a new metric with a newer SGLang does not forget what was accepted with the older one."""
    accepted = stored(ITL, point="a", versions={"sglang": "0.5.22"})
    merged = accepted.merged(stored(TTFT, point="a", run="later", versions={"sglang": "0.5.23"}))

    assert set(merged.cases["a"].metrics) == {"inter_token_latency", "time_to_first_token"}


@pytest.mark.parametrize("change", [{"client": "2"}, {"cached_tokens": 16}, {"finish_reasons": {"stop": 1}}])
def test_samples_keep_the_work_that_they_were_measured_with(change):
    """An older metric is not passed off as measured by the newer client, or on other work."""
    accepted = stored(ITL, point="a")
    merged = accepted.merged(stored(TTFT, point="a", run="later", **change))

    assert merged.work("a", "inter_token_latency") == accepted.work("a", "inter_token_latency")


@settings(max_examples=20)
@given(baselines(), baselines())
def test_merging_loses_no_point_and_leaves_no_loose_end(one, other):
    """All points of both are there and complete: every context that a case names is in the file."""
    merged = one.merged(other)

    assert set(merged.cases) == set(one.cases) | set(other.cases)
    assert merged.loose_ends() == []
    assert again(merged).cases.keys() == merged.cases.keys()
    for name, case in other.cases.items():
        assert case.metrics.items() <= merged.cases[name].metrics.items()


# Keys


@settings(max_examples=20)
@given(baselines())
def test_equal_contexts_have_equal_keys(baseline):
    """A key names content, so the same build recorded twice is one context."""
    for context in baseline.contexts.values():
        twin = BaselineContext(
            versions=dict(reversed(context.versions.items())),
            resolved=dict(reversed(context.resolved.items())),
        )
        assert context_key(twin) == context_key(context)
        changed = BaselineContext(versions={**context.versions, "more": "1"}, resolved=context.resolved)
        assert (context_key(changed) == context_key(context)) == (changed == context)


def test_extending_keeps_the_samples_of_every_run():
    """Each run's launches stay apart, so that it can be seen how far runs differ; the latest says what the work was."""
    first = stored({"inter_token_latency": ((0.005,), (0.006,))}, point="a", run="1", recorded="2026-01-01")
    second = stored({"inter_token_latency": ((0.007,),)}, point="a", run="2", recorded="2026-01-02")
    metric = only_case(first.merged(second, extend=True)).metrics["inter_token_latency"]

    assert metric.samples == {"1": ((0.005,), (0.006,)), "2": ((0.007,),)}
    assert (metric.launches, metric.runs) == (((0.005,), (0.006,), (0.007,)), (2, 1))
    assert only_case(first.merged(second, extend=True)).record("inter_token_latency").recorded == "2026-01-02"
    assert only_case(first.merged(second)).metrics["inter_token_latency"].samples == {"2": ((0.007,),)}
    assert again(first.merged(second, extend=True)).loose_ends() == []
