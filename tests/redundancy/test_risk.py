"""Learn then Test: published vectors, the guarantee in simulation, and plain refusals."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators import InputError
from redundancy.risk import (
    binomial_p_value,
    certify_plans,
    certify_sequences,
    conformal_risk_control,
    hoeffding_bentkus_p_value,
)

VECTORS = Path(__file__).parent.parent / "vectors" / "risk_control.json"
CASES = json.loads(VECTORS.read_text())["cases"]


def of_kind(kind):
    return [case for case in CASES if case["kind"] == kind]


@pytest.mark.parametrize("case", of_kind("hoeffding_bentkus"), ids=lambda c: f"{c['risk']:g}")
def test_p_values_equal_the_vectors(case):
    risk, n, alpha = case["risk"], case["n"], case["alpha"]
    assert hoeffding_bentkus_p_value(risk, n, alpha) == pytest.approx(case["p"], rel=1e-9)
    assert binomial_p_value(risk * n, n, alpha) == pytest.approx(case["p_exact_binomial"], rel=1e-9)


def test_conformal_risk_control_equals_the_vectors():
    (case,) = of_kind("crc")
    losses = dict(enumerate(case["losses_by_plan_increasing_skip"]))
    result = conformal_risk_control(losses, alpha=case["alpha"], order=[0, 1, 2], upper=case["B"])
    assert result.chosen == case["selected"]
    assert list(result.corrected.values()) == pytest.approx(case["crc_value"], rel=1e-12)
    assert result.kind == "expectation only"


def binary(rate, n):
    errors = round(rate * n)
    return [1] * errors + [0] * (n - errors)


def test_the_fixed_sequence_stops_at_the_first_failure():
    losses = {name: binary(rate, 500) for name, rate in zip("abcd", (0, 0.02, 0.2, 0), strict=True)}
    result = certify_plans(losses, alpha=0.05, delta=0.1, order="abcd")
    assert result.certified == ("a", "b")
    assert result.chosen == "b"
    assert result.method == "binomial"
    assert "2 of 4 plans" in result.message
    each = certify_plans(losses, alpha=0.05, delta=0.1, order="abcd", testing="bonferroni")
    assert each.certified == ("a", "b", "d")
    several = certify_plans(losses, alpha=0.05, delta=0.1, order="abcd", starts=4)
    assert several.certified == ("a", "b", "d")


def test_the_certified_plan_that_saves_most_is_chosen():
    losses = {"late": binary(0, 200), "exit": binary(0, 200)}
    result = certify_plans(
        losses, alpha=0.05, delta=0.1, order=["late", "exit"], savings={"late": 0.4, "exit": 0.2}
    )
    assert result.certified == ("late", "exit")
    assert result.chosen == "late"


def test_nothing_certified_means_no_skip_and_says_what_would_help():
    losses = {"late": binary(0.03, 100)}
    result = certify_plans(losses, alpha=0.05, delta=0.1, order=["late"])
    assert result.certified == ()
    assert result.chosen is None
    assert result.needed_groups is not None
    assert result.needed_groups > 100
    assert f"about {result.needed_groups} independent units" in result.message
    bad = certify_plans({"late": binary(0.3, 100)}, alpha=0.05, delta=0.1, order=["late"])
    assert bad.needed_groups is None
    assert "milder plans" in bad.message


def test_questions_of_one_image_count_once():
    losses = {"late": [0] * 100}
    images = np.repeat(np.arange(50), 2)
    result = certify_plans(losses, alpha=0.05, delta=0.1, order=["late"], groups=images)
    assert result.n == 100
    assert result.n_groups == 50
    assert result.method == "hoeffding-bentkus"
    with pytest.raises(InputError, match="45 are needed"):
        certify_plans(losses, alpha=0.05, delta=0.1, order=["late"], groups=np.arange(100) // 3)


def test_signed_drops_are_bet_on_whatever_their_order():
    rng = np.random.default_rng(0)
    drops = rng.choice([-1.0, 0.0, 1.0], p=[0.03, 0.94, 0.03], size=600)
    found = [
        certify_plans({"late": np.sort(drops)[::way]}, alpha=0.1, delta=0.1, order=["late"])
        for way in (1, -1)
    ]
    assert [r.method for r in found] == ["betting", "betting"]
    assert all(r.certified for r in found)


def test_a_certificate_is_plain_data():
    result = certify_plans({"a": [0] * 100}, alpha=0.05, delta=0.1, order=["a"])
    text = json.dumps(result.to_dict(), allow_nan=False)
    assert json.loads(text)["chosen"] == "a"
    assert result.kind == "certified"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 0.0}, "alpha is 0.0"),
        ({"delta": 1.0}, "delta is 1.0"),
        ({"losses": {"a": [0.0, 2.0]}}, r"1 of 2 losses of 'a' .*first at 1: 2"),
        ({"losses": {"a": [math.nan] * 90}}, "90 of 90 losses of 'a'"),
        ({"losses": {"a": [0] * 20}}, "at least 45 are needed"),
        ({"order": ["b"]}, "no losses for 'b'"),
        ({"order": ["a", "a"]}, "twice"),
        ({"order": []}, "no plans"),
        ({"losses": {"a": [0] * 90, "b": [0] * 90}}, "leaves out 'b'"),
        ({"losses": {"a": [0] * 90, "b": [0] * 80}, "order": ["a", "b"]}, "80 losses"),
        ({"groups": [1, 2]}, "one image per loss"),
        ({"groups": list(range(90)), "used_groups": [5, 200]}, "1 calibration images already"),
        ({"groups": list(range(90)), "used_groups": ["5"]}, "1 calibration images already"),
        ({"used_groups": [5]}, "needs groups"),
        ({"method": "binomial", "losses": {"a": [0.5] * 90}}, "0 or 1, one per image"),
        ({"method": "binomial", "losses": {"a": [-1.0] * 90}}, "0 or 1, one per image"),
        ({"method": "exact"}, "method is 'exact'"),
        ({"testing": "holm"}, "testing is 'holm'"),
        ({"starts": 2}, "starts is 2"),
        ({"savings": {}}, "savings has no entry for 'a'"),
    ],
)
def test_bad_input_is_said_in_one_sentence(change, message):
    arguments = {"losses": {"a": [0] * 90}, "alpha": 0.05, "delta": 0.1, "order": ["a"], **change}
    with pytest.raises(InputError, match=message):
        certify_plans(arguments.pop("losses"), **arguments)


@given(
    errors=st.lists(st.integers(0, 20), min_size=1, max_size=6),
    alpha=st.sampled_from([0.05, 0.1]),
)
@settings(max_examples=50, deadline=None)
def test_one_sequence_is_the_fixed_sequence(errors, alpha):
    losses = {i: [1] * k + [0] * (150 - k) for i, k in enumerate(errors)}
    one = certify_plans(losses, alpha=alpha, delta=0.1, order=list(losses))
    other = certify_sequences(losses, [list(losses)], alpha=alpha, delta=0.1)
    assert other.certified == one.certified
    assert all(other.p_values[plan] == one.p_values[plan] for plan in other.order)
    assert other.testing == "fixed-sequence"


def test_sequences_that_agree_lend_each_other_their_share():
    # Above the third of delta that one sequence holds, below the two thirds that two hold.
    losses = {"a": binary(7 / 250, 250), "b": binary(0, 250), "c": binary(0.3, 250)}
    p = binomial_p_value(7, 250, 0.05)
    assert 0.05 < p < 0.1
    alone = certify_sequences(losses, [["a", "b"], ["c"], ["c"]], alpha=0.05, delta=0.15)
    assert alone.certified == ()
    together = certify_sequences(losses, [["a", "b"], ["a", "c"], ["c"]], alpha=0.05, delta=0.15)
    assert together.certified == ("a", "b")
    assert together.chosen == "b"
    assert together.testing == "3 entangled sequences"


def test_a_plan_is_asked_for_only_when_a_sequence_stands_at_it():
    asked = []

    def losses(plan):
        asked.append(plan)
        return binary({"good": 0.0, "bad": 0.5}.get(plan, 0.0), 100)

    result = certify_sequences(
        losses,
        [["good", "bad", "never"], ["bad", "nor this"], ["good"]],
        alpha=0.1,
        delta=0.1,
        savings=lambda plan: len(plan),
    )
    assert asked == ["good", "bad"]
    assert result.certified == ("good",)
    assert result.order == ("good", "bad")


def test_nothing_certified_by_any_sequence_says_what_would_help():
    result = certify_sequences({"a": binary(0.03, 100)}, [["a"]], alpha=0.05, delta=0.1)
    assert result.chosen is None
    assert f"about {result.needed_groups} independent units" in result.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sequences": []}, "at least one sequence"),
        ({"sequences": [[]]}, "no plans"),
        ({"sequences": [["a", "a"]]}, "twice"),
        ({"sequences": [["b"]]}, "'b', which has no losses"),
        ({"alpha": 1.0}, "alpha is 1.0"),
        ({"delta": 1.5}, "delta is 1.5"),
        ({"losses": {"a": [0] * 20}}, "at least 45 are needed"),
        ({"losses": {"a": [2.0] * 90}}, "90 of 90 losses of 'a'"),
        ({"losses": {"a": [0] * 90, "b": [0] * 80}, "sequences": [["a", "b"]]}, "80 losses"),
        ({"groups": list(range(90)), "used_groups": [5]}, "1 calibration images already"),
        ({"method": "binomial", "losses": {"a": [-1.0] * 90}}, "0 or 1, one per image"),
        ({"method": "hoeffding-bentkus", "losses": {"a": [-1.0] * 90}}, "are negative"),
    ],
)
def test_sequences_refuse_in_one_sentence(change, message):
    arguments = {"losses": {"a": [0] * 90}, "sequences": [["a"]], "alpha": 0.05, "delta": 0.1}
    arguments |= change
    with pytest.raises(InputError, match=message):
        certify_sequences(arguments.pop("losses"), arguments.pop("sequences"), **arguments)


# The guarantee, simulated.

ALPHA, DELTA = 0.1, 0.1
RISKS = (0.02, 0.05, 0.08, 0.1001, 0.11, 0.15)  # the fourth is bad by a hair: the hardest case


def binary_losses(rng, n):
    return [rng.binomial(1, r, size=n).astype(float) for r in RISKS], None


def bounded_losses(rng, n):
    return [rng.beta(r * 2, (1 - r) * 2, size=n) for r in RISKS], None


def signed_losses(rng, n):
    return [rng.choice([-1.0, 0.0, 1.0], p=[0.05, 0.9 - r, 0.05 + r], size=n) for r in RISKS], None


def clustered_losses(rng, n):
    images = np.repeat(np.arange(n), 4)
    rows = [rng.binomial(1, np.repeat(rng.beta(r, 1 - r, size=n), 4)).astype(float) for r in RISKS]
    return rows, images


# Sequences that agree at first, one that starts with a bad plan, and one in the wrong order.
CHAINS = ["abcdef", "abdf", "dabc", "acbe"]
FAMILIES = [binary_losses, bounded_losses, signed_losses, clustered_losses]


def simulate(family, testing, repetitions, n=400, seed=0):
    """Share of calibrations that certify a plan with risk above alpha, and mean plans certified."""
    rng = np.random.default_rng(seed)
    wrong, certified = 0, 0
    bad = {name for name, risk in zip("abcdef", RISKS, strict=True) if risk > ALPHA}
    for _ in range(repetitions):
        rows, images = family(rng, n)
        losses = dict(zip("abcdef", rows, strict=True))
        if testing == "entangled":
            result = certify_sequences(losses, CHAINS, alpha=ALPHA, delta=DELTA, groups=images)
        else:
            result = certify_plans(
                losses, alpha=ALPHA, delta=DELTA, order="abcdef", groups=images, testing=testing
            )
        wrong += bool(bad & set(result.certified))
        certified += len(result.certified)
    return wrong / repetitions, certified / repetitions


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)
def test_a_bad_plan_is_certified_no_more_often_than_promised(family):
    repetitions = 120
    for testing in ("fixed-sequence", "entangled"):
        wrong, certified = simulate(family, testing, repetitions)
        assert wrong <= DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / repetitions)
        assert certified >= 1.0  # the guarantee is not bought by certifying nothing


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)
def test_the_guarantee_holds_in_two_thousand_calibrations(family):
    limit = DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / 2000)
    wrong, certified = simulate(family, "fixed-sequence", 2000, seed=1)
    wrong_each, certified_each = simulate(family, "bonferroni", 2000, seed=1)
    wrong_several, certified_several = simulate(family, "entangled", 2000, seed=1)
    assert wrong <= limit
    assert wrong_each <= limit
    assert wrong_several <= limit
    assert certified_several >= certified_each
    assert certified >= certified_each


@pytest.mark.slow
def test_pooled_questions_would_break_the_guarantee():
    # The negative control: the same clustered losses, images ignored.
    rng = np.random.default_rng(2)
    wrong = 0
    for _ in range(1000):
        share = rng.beta(0.11 * 0.2, 0.89 * 0.2, size=100)
        losses = rng.binomial(1, np.repeat(share, 8)).astype(float)
        wrong += bool(certify_plans({"a": losses}, alpha=0.1, delta=0.1, order="a").certified)
    assert wrong / 1000 > 0.15


def test_conformal_risk_control_refuses_signed_losses():
    with pytest.raises(InputError, match=r"not numbers in \[0, 1\]"):
        conformal_risk_control({"a": [-1.0]}, alpha=0.1, order=["a"])
