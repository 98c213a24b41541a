"""The types every number travels in."""

from __future__ import annotations

import math
import pickle

import pytest

from estimators import Diagnostic, Estimate, InputError, Interval


def make(**changes):
    given = {"value": 1.0, "unit": "nats", "kind": "estimate", "n": 10, "method": "plug-in"}
    return Estimate(**(given | changes))


def test_nats_and_bits_convert_value_and_interval_there_and_back():
    e = make(ci=Interval(low=0.5, high=1.5, level=0.95, method="t"))
    bits = e.to("bits")
    assert bits.value == pytest.approx(1 / math.log(2))
    assert (bits.ci.low, bits.ci.high) == pytest.approx((0.5 / math.log(2), 1.5 / math.log(2)))
    assert bits.to("nats").value == pytest.approx(1.0)
    assert e.value == 1.0


@pytest.mark.parametrize(("unit", "target"), [("cosine distance", "bits"), ("nats", "hartleys")])
def test_other_units_do_not_convert(unit, target):
    with pytest.raises(InputError, match="only nats and bits"):
        make(unit=unit).to(target)


def test_an_estimate_with_an_error_diagnostic_is_not_trustworthy():
    bad = Diagnostic(code="saturated", severity="error", message="too few samples")
    mild = Diagnostic(code="bias", severity="warning", message="rising with n")
    assert make().trustworthy
    assert make(diagnostics=(mild,)).trustworthy
    assert not make(diagnostics=(bad,)).trustworthy
    assert not make(value=None).trustworthy
    assert make().with_diagnostics(bad).diagnostics == (bad,)


def test_a_missing_value_says_why_when_asked_for_a_float():
    why = Diagnostic(code="n", severity="error", message="only 3 samples")
    with pytest.raises(InputError, match="only 3 samples"):
        float(make(value=None, diagnostics=(why,)))


def test_nan_is_refused_because_no_record_could_hold_it():
    with pytest.raises(InputError, match="None, not NaN"):
        make(value=math.nan)


@pytest.mark.parametrize(("low", "high"), [(1.0, 0.0), (math.nan, 1.0)])
def test_an_interval_runs_upwards(low, high):
    with pytest.raises(InputError, match="low <= high"):
        Interval(low=low, high=high, level=0.9, method="t")


@pytest.mark.parametrize("level", [0.0, 1.0, 95, -0.1])
def test_a_level_is_a_share(level):
    with pytest.raises(InputError, match="confidence level"):
        Interval(low=0, high=1, level=level, method="t")


def test_estimates_are_immutable_and_travel_between_processes():
    e = make(params={"k": 3})
    with pytest.raises(AttributeError):
        e.value = 2.0
    with pytest.raises(TypeError):
        e.params["k"] = 4
    assert pickle.loads(pickle.dumps(e)) == e


def test_an_interval_contains_its_ends():
    i = Interval(low=0, high=1, level=0.95, method="t")
    assert 0 in i
    assert 1.0 in i
    assert 1.01 not in i
