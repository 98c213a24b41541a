"""Verdicts: adjusted p-values against the published vectors, then what a table promises."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from estimators import Diagnostic, Estimate, InputError
from redundancy.certify import adjust, verdicts
from redundancy.measures._spec import Reading

VECTORS = Path(__file__).parent.parent / "vectors" / "risk_control.json"
ADJUST = next(c for c in json.loads(VECTORS.read_text())["cases"] if c["kind"] == "adjust")


def reading(p_redundant, p_needed, *, value=0.1, severity=None):
    found = () if severity is None else (Diagnostic(code="x", severity=severity, message="m"),)
    estimate = Estimate(
        value=value, unit="nats", kind="estimate", n=10, method="m", diagnostics=found
    )
    return Reading(estimate=estimate, p_redundant=p_redundant, p_needed=p_needed)


@pytest.mark.parametrize("correction", ["holm", "bh", "by", "bonferroni"])
def test_adjusted_p_values_equal_the_vectors(correction):
    assert adjust(ADJUST["p"], correction) == pytest.approx(ADJUST[correction], rel=1e-12)


def test_adjusting_keeps_order_and_length():
    assert adjust([]).size == 0
    p = np.random.default_rng(0).uniform(size=50)
    for correction in ("holm", "bh", "by", "bonferroni"):
        adjusted = adjust(p, correction)
        assert np.all(adjusted >= p)
        assert np.all(np.diff(adjusted[np.argsort(p)]) >= 0)


def test_the_four_verdicts():
    table = [
        reading(1e-6, 1.0),
        reading(1.0, 1e-6),
        reading(0.3, 0.7),
        reading(1e-9, 1.0, severity="error"),
        reading(None, None),
    ]
    found = verdicts(table)
    assert [j.verdict for j in found] == ["redundant", "needed", "undecided", "no estimate", None]
    assert found[0].p_adjusted == pytest.approx(3 * 2e-6)  # three pairs were tested, not five
    assert found[3].p_adjusted is None


def test_a_single_pair_agrees_with_its_two_sided_interval():
    assert verdicts([reading(0.0249, 0.9751)])[0].verdict == "redundant"
    assert verdicts([reading(0.0251, 0.9749)])[0].verdict == "undecided"
    assert verdicts([reading(0.0251, 0.9749)], level=0.9)[0].verdict == "redundant"


def test_more_pairs_need_more_evidence():
    pair = reading(0.01, 0.99)
    assert verdicts([pair])[0].verdict == "redundant"
    assert {j.verdict for j in verdicts([pair] * 10)} == {"undecided"}
    assert {j.verdict for j in verdicts([pair] * 10, correction="bh")} == {"redundant"}


def test_no_level_no_verdict():
    assert verdicts([reading(0.0, 1.0)], level=None)[0].verdict is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: adjust([0.5, 1.5]), "in \\[0, 1\\]"),
        (lambda: adjust([0.5], "sidak"), "'sidak'; use"),
        (lambda: verdicts([], level=1.0), "strictly between"),
    ],
)
def test_bad_input_is_said_in_one_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_the_chance_of_any_wrong_verdict_is_held():
    rng = np.random.default_rng(0)
    repetitions, pairs = 2000, 24
    wrong = 0
    for _ in range(repetitions):
        p = rng.uniform(size=pairs)  # every pair exactly at the threshold: any verdict is wrong
        table = [reading(float(u), float(1 - u)) for u in p]
        wrong += any(j.verdict != "undecided" for j in verdicts(table))
    assert wrong / repetitions <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / repetitions)
    assert wrong / repetitions >= 0.03  # and is not wasted
