"""Figure 1 as data, and the sentences it puts under a table of results."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from estimators import Estimate, InputError, Interval
from redundancy import synthetic, theory
from redundancy.theory import consequences, implications

NOTIONS = {"geometric", "proximal", "functional", "informational", "skip"}


def test_every_arrow_names_functions_that_exist():
    for arrow in implications():
        assert {arrow.source, arrow.target} <= NOTIONS
        if arrow.statement is not None:
            assert callable(getattr(theory, arrow.statement))
        if arrow.example is not None:
            assert callable(getattr(synthetic, arrow.example))
        assert arrow.counterexample
        assert arrow.bound in str(arrow)
        if arrow.verdict == "never":
            assert arrow.statement is None
            assert arrow.example is not None
    pairs = [(a.source, a.target) for a in implications()]
    assert len(set(pairs)) == len(pairs)


def reading(law, notion, t=0.05):
    """How far a law is from redundant by each notion, and the limit for `very redundant`."""
    return {
        "geometric": law.geometric,
        "proximal": 1 - law.p_lt(t),
        "functional": law.functional,
        "informational": law.h_cond,
        "skip": law.sq_dist,
    }[notion]


@pytest.mark.parametrize("arrow", [a for a in implications() if a.verdict == "never"], ids=str)
def test_an_arrow_that_never_holds_is_refuted_by_its_example(arrow):
    law = getattr(synthetic, arrow.example)()
    assert reading(law, arrow.source) == pytest.approx(0.0, abs=1e-12)
    assert reading(law, arrow.target) > 0.9


def test_arrows_with_assumptions_fail_without_them():
    tip = synthetic.sphere_tip(0.001)  # geometric, not functional
    assert tip.geometric < 1e-5 < 0.99 < tip.functional
    forgotten = synthetic.forgotten_target()  # informational, not functional
    assert forgotten.h_cond == 0.0 < 0.99 < forgotten.functional
    circle = synthetic.circle_code(points=2000, neighbours=101)  # proximal, not informational
    assert 1 - circle.p_lt(0.05) == pytest.approx(0.0, abs=1e-12)
    assert circle.h_cond > 4
    flip = synthetic.sign_flip(0.3)  # the paper's M = 1
    assert flip.geometric > theory.proposition1(p_gt=0.3, t=0.0).forms["paper"]


def test_consequences_hold_on_random_chains():
    """Every number that is announced bounds what it claims to bound."""
    checked = dict.fromkeys(("proximal", "geometric", "functional"), 0)
    for seed in range(300):
        rng = np.random.default_rng(seed)
        law = synthetic.random_chain(
            states=(2, 4, 4), concentration=float(rng.choice([0.05, 0.5])), seed=seed
        )
        t = float(rng.uniform(0.05, 1.5))
        found = consequences(
            {
                "geometric": law.geometric,
                "proximal": law.p_lt(t),
                "informational": law.h_cond,
                "cmi": law.cmi,
                "functional": law.functional,
            },
            t=t,
            n_classes=2,
            markov=True,
        )
        for c in found:
            assert c.sentence
            if c.value is None:
                continue
            truth = {
                "proximal": 1 - law.p_lt(t),
                "geometric": law.geometric,
                "functional": law.functional,
            }[c.target]
            assert c.statement != "check_pair", c.sentence
            assert truth <= c.value + 1e-10, c.sentence
            checked[c.target] += 1
    assert min(checked.values()) >= 300


def test_consequences_use_the_weaker_end_of_an_interval():
    ci = Interval(low=0.01, high=0.02, level=0.95, method="cluster t")
    e = Estimate(value=0.015, ci=ci, unit="cosine distance", kind="estimate", n=9, method="mean")
    for value in (e, ci, (0.01, 0.02)):
        first = consequences({"geometric": value}, t=0.05)[0]
        assert first.value == pytest.approx(0.4)
        assert first.kind == "estimate"
        assert "interval end 0.02" in first.sentence
    p = consequences({"proximal": (0.9, 0.99)}, t=0.05)[0]
    assert p.value == pytest.approx(0.05 + 1.95 * 0.1)
    exact = consequences({"geometric": 0.01}, t=0.05)[0]
    assert exact.kind == "exact"
    nothing = Estimate(value=None, unit="nats", kind="estimate", n=3, method="plug-in")
    assert consequences({"informational": nothing}) == ()
    assert consequences({"cka": 0.99}) == ()


def test_consequences_say_when_they_are_empty():
    (five,) = (
        c for c in consequences({"informational": 2.0}, n_classes=4) if c.target == "functional"
    )
    assert five.vacuous
    assert "vacuous" in five.sentence
    assert "Markov" in five.sentence
    small = consequences({"informational": 0.1}, n_classes=4)[0]
    assert not small.vacuous
    assert small.value == pytest.approx(0.1)
    lipschitz = consequences({"geometric": 0.01}, alpha=2.0, beta=1.0, n_classes=4)[1]
    assert lipschitz.value == pytest.approx(9 * 0.01 * 1.99)
    assert lipschitz.kind == "bound_under_assumption"
    assert any("nothing follows" in c.sentence for c in consequences({"functional": 0.0}))
    assert "2.33 C" in consequences({"var": 2.33})[0].sentence
    unique = consequences({"pid": 0.1}, n_classes=4, markov=True)[0]
    assert unique.value == pytest.approx(0.1)
    assert "supposing" in unique.sentence
    effect = consequences({"vision_effect": (0.01, 0.02)})[0]
    assert effect.statement == "theorem6_early_exit"
    assert "0.02 of its output's norm" in effect.sentence
    far = consequences({"geometric": 0.5}, t=0.05)[0]
    assert far.vacuous
    assert "says nothing" in far.sentence


def test_consequences_find_readings_that_contradict_each_other():
    found = consequences({"geometric": 0.506, "proximal": 0.6515}, t=0.05, bound=1.0)
    assert any(c.statement == "check_pair" for c in found)
    labelled = consequences({"geometric": 0.01}, label="3→4: ")
    assert all(c.sentence.startswith("3→4: ") for c in labelled)
    with pytest.raises(InputError, match="reading of geometric"):
        consequences({"geometric": "near"})
    with pytest.raises(InputError, match="low <= high"):
        consequences({"geometric": (0.2, 0.1)})


def test_public_functions_are_keyword_only_and_documented():
    positional = {"log_spherical_cap", "check_pair", "certified_mi_lower_bound", "consequences"}
    positional |= {"spectral_norm", "power_iteration", "jacobian_norm", "segment_norm"}
    positional |= {"check_uniform_sphere", "distance_law_from_samples", "markov_audit_from_states"}
    for name in theory.__all__:
        thing = getattr(theory, name)
        assert thing.__doc__
        if inspect.isfunction(thing):
            assert thing.__name__ == name  # the function, not the module of its name
            if name not in positional:
                kinds = {p.kind for p in inspect.signature(thing).parameters.values()}
                assert kinds <= {inspect.Parameter.KEYWORD_ONLY}, name
            assert "Returns" in thing.__doc__
            assert ">>>" in thing.__doc__


def test_the_theory_is_light():
    import subprocess
    import sys

    code = (
        "import sys, redundancy.theory as t; t.proposition1(p_gt=0.1, t=0.05); t.implications(); "
        "print(sorted({'torch', 'sklearn', 'faiss', 'numba'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
