"""Results and their record: what is saved is what is loaded, byte flips are found."""

from __future__ import annotations

import json
import math

import jsonschema
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimators import Diagnostic, Estimate, InputError, Interval
from redundancy.provenance import new_record
from redundancy.record import estimate_from_record, estimate_to_record, json_schema, plain
from redundancy.results import PairResult, Results

finite = st.floats(allow_nan=False, allow_infinity=False, width=64)
words = st.text(max_size=20)


@st.composite
def estimates(draw):
    low, high = sorted((draw(finite), draw(finite)))
    ends = draw(st.sampled_from([(low, high), (-math.inf, high), (low, math.inf)]))
    ci = Interval(low=ends[0], high=ends[1], level=0.95, method=draw(words))
    found = Diagnostic(code="c", severity=draw(st.sampled_from(["info", "error"])), message="m")
    return Estimate(
        value=draw(st.none() | finite),
        unit=draw(words),
        kind=draw(st.sampled_from(["exact", "certified", "bound_under_assumption", "estimate"])),
        n=draw(st.integers(0, 10**9)),
        method=draw(words),
        ci=draw(st.none() | st.just(ci)),
        n_groups=draw(st.none() | st.integers(0, 1000)),
        params=draw(st.dictionaries(words, finite | words | st.integers(-(2**53), 2**53))),
        seed=draw(st.none() | st.integers(0, 2**31)),
        diagnostics=draw(st.sampled_from([(), (found,)])),
    )


@given(estimates())
def test_an_estimate_survives_json(e):
    record = estimate_to_record(e)
    again = msgspec.json.decode(msgspec.json.encode(record), type=type(record))
    assert estimate_from_record(again) == e


def some_results() -> Results:
    worry = Diagnostic(code="few", severity="warning", message="only 3 groups")
    first = Estimate(
        value=math.log(2),
        unit="nats",
        kind="estimate",
        n=100,
        method="plug-in",
        ci=Interval(low=0.5, high=0.9, level=0.95, method="jackknife"),
        params={"sizes": np.arange(3), "scale": np.float32(2.0)},
        diagnostics=(worry,),
    )
    none = Estimate(value=None, unit="nats", kind="estimate", n=0, method="plug-in")
    ratio = Estimate(value=0.5, unit="ratio", kind="estimate", n=100, method="plug-in")
    return Results(
        [
            PairResult(
                pair=(0, 1),
                measure="informational",
                estimate=first,
                threshold=math.log(2),
                verdict="undecided",
                p_adjusted=0.4,
                extras={"ratio": ratio},
            ),
            PairResult(pair=(1, 2), measure="informational", estimate=none, verdict="no estimate"),
        ]
    )


def test_results_survive_a_file(tmp_path):
    results = some_results()
    results.save(tmp_path / "record.json")
    loaded = Results.load(tmp_path)
    assert len(loaded) == 2
    assert loaded[0].estimate.value == results[0].estimate.value
    assert loaded[0].estimate.params["sizes"] == [0, 1, 2]
    assert loaded[1].estimate.value is None
    assert loaded[0].extras["ratio"].value == 0.5
    assert loaded.record.schema_version == 1


def test_the_record_matches_its_published_schema(tmp_path):
    some_results().save(tmp_path / "record.json")
    document = json.loads((tmp_path / "record.json").read_text())
    jsonschema.validate(document, json_schema())
    assert document["results"][0]["pair"] == [0, 1]
    assert document["results"][1]["estimate"] == {
        "value": None,
        "unit": "nats",
        "kind": "estimate",
        "n": 0,
        "method": "plug-in",
        "status": "none",
        "ci": None,
        "n_groups": None,
        "params": {},
        "seed": None,
        "diagnostics": [],
    }
    assert document["warnings"] == [{"code": "few", "pairs": [[0, 1]], "text": "only 3 groups"}]


def test_a_changed_byte_is_found(tmp_path):
    path = tmp_path / "record.json"
    some_results().save(path)
    path.write_text(path.read_text().replace('"n": 100', '"n": 900', 1))
    with pytest.raises(InputError, match="damaged"):
        Results.load(path)


@pytest.mark.parametrize("content", ["", "[]", "{}", "{" * 10_000, "\x00", '{"schema_version": 1}'])
def test_what_is_no_record_is_said_to_be_none(tmp_path, content):
    path = tmp_path / "record.json"
    path.write_text(content)
    with pytest.raises(InputError):
        Results.load(path)


def test_a_missing_record_says_what_to_name(tmp_path):
    with pytest.raises(InputError, match="there is no run record"):
        Results.load(tmp_path)


def test_a_newer_schema_is_refused_by_number(tmp_path):
    from redundancy._files import write_sealed

    write_sealed(tmp_path / "record.json", {"schema_version": 99})
    with pytest.raises(InputError, match="schema version 99; this release reads 1"):
        Results.load(tmp_path)


def test_bits_convert_values_intervals_and_threshold_but_not_ratios():
    bits = some_results().to("bits")
    assert bits[0].estimate.value == pytest.approx(1.0)
    assert bits[0].threshold == pytest.approx(1.0)
    assert bits[0].estimate.ci.low == pytest.approx(0.5 / math.log(2))
    assert bits[0].extras["ratio"].unit == "ratio"


def test_frames_name_their_columns():
    frame = some_results().to_frame()
    assert frame.loc[0, "value"] == pytest.approx(math.log(2))
    assert {"lower", "upper", "ci_low", "ci_high", "verdict", "ratio"} <= set(frame.columns)
    assert frame.loc[1, "verdict"] == "no estimate"


def test_selection_and_order():
    results = some_results()
    assert results.measures == ("informational",)
    assert len(results.select("informational", "vision")) == 0
    assert [r.label for r in results[:1]] == ["0→1"]
    assert not results.trustworthy


def test_plain_leaves_only_json():
    value = {"a": np.array([1.0, np.nan]), 2: (math.inf, {"x"}), "p": np.bool_(True)}
    assert json.loads(json.dumps(plain(value))) == {
        "a": [1.0, None],
        "2": [None, ["x"]],
        "p": True,
    }


def test_a_new_record_says_where_it_was_made():
    record = new_record(command="estimate", seed=3, store={"path": "acts", "n": 4})
    assert record.provenance["packages"]["numpy"] == np.__version__
    assert record.provenance["store"] == {"path": "acts", "n": 4}
    assert record.run.seed == 3
    assert len(record.run.id) == 8
