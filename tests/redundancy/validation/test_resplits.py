"""Orderings of plans: which come first, what certificates let them save, and whether they hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from estimators import Estimate, InputError
from redundancy.results import PairResult, Results
from redundancy.validation.data import divide
from redundancy.validation.orderings import hidden_plan, orderings
from redundancy.validation.resplits import compare_orderings, resplit
from tests.redundancy.validation.synthetic import make_study


def reading(measure, pair, value, modality="vision"):
    estimate = Estimate(value=value, unit="u", kind="estimate", n=10, method="m")
    return PairResult(pair=pair, measure=measure, modality=modality, estimate=estimate)


VAR = [0.5, 0.1, 0.4, 0.3, 0.2]


@pytest.fixture
def readings():
    return Results(
        [
            *(reading("geometric", (b, b + 1), 0.01) for b in range(5)),
            *(reading("geometric", (0, b), 0.01 * b) for b in range(2, 6)),
            *(reading("vision_effect", (b, b + 1), 0.1) for b in range(5)),
            *(reading("var", (b, b + 1), v) for b, v in enumerate(VAR)),
        ]
    )


@given(n=st.integers(2, 9), data=st.data())
@settings(max_examples=50, deadline=None)
def test_a_hidden_plan_hides_exactly_its_blocks(n, data):
    hidden = data.draw(st.sets(st.integers(0, n - 1)))
    plan = hidden_plan(n, hidden)
    assert {b for b in range(n) if not plan.active_vision(b)} == hidden


def test_each_ordering_is_what_its_title_says(readings):
    def hidden(plan):
        return {b for b in range(5) if not plan.active_vision(b)}

    found = orderings(readings, 5)
    assert [hidden(p) for p in found["var_sets"][0]] == [{1}, {1, 4}, {1, 3, 4}, {1, 2, 3, 4}]
    assert [hidden(p) for p in found["depth_exit"][0]] == [{4}, {3, 4}, {2, 3, 4}, {1, 2, 3, 4}]
    assert [hidden(p) for p in found["var_window"][0]] == [{4}, {3, 4}, {2, 3, 4}, {1, 2, 3, 4}]
    assert [len(hidden(p)) for p in found["depth_ends"][0]] == [1, 2, 3, 4]
    assert len(found["readings"]) == 3
    assert len(found["readings_late"]) == 4
    assert [hidden(p) for p in found["readings_late"][0]] == [{0}, {0, 1}, {0, 1, 2}, {0, 1, 2, 3}]
    without = Results([r for r in readings if r.measure != "var"])
    assert "var_sets" not in orderings(without, 5)


def test_a_harmless_plan_is_always_certified_and_a_harmful_one_never():
    changed = np.zeros((2, 400))
    changed[1, ::2] = 1.0
    split = resplit(
        changed, [0.25, 0.75], [[0, 1]], alpha=0.05, delta=0.1, calibration=200, resplits=20
    )
    assert (split.saved == 0.25).all()
    assert (split.certified == 1).all()
    assert not split.broken.any()
    wrong_way = resplit(
        changed, [0.25, 0.75], [[1, 0]], alpha=0.05, delta=0.1, calibration=200, resplits=20
    )
    assert (wrong_way.saved == 0).all()


def test_the_better_order_saves_more_and_is_said_to():
    studies = [make_study(seed, n_images=400) for seed in range(3)]
    ours, other = compare_orderings(studies, alpha=0.1, resplits=30)
    assert (ours.ordering, other.ordering) == ("readings", "depth_exit")
    assert ours.ahead == 0.0
    assert ours.saved > other.saved
    assert other.ahead == pytest.approx(ours.saved - other.saved)
    assert other.models_behind == 0
    assert other.none_certified == 1.0
    assert ours.broken_worst <= 1.0
    # Turned round, the loss is said as plainly.
    turned = [
        replace(
            s,
            orderings={
                "readings": s.orderings["depth_exit"],
                "depth_exit": s.orderings["readings"],
            },
        )
        for s in studies
    ]
    behind = compare_orderings(turned, alpha=0.1, resplits=30)[1]
    assert behind.ahead < 0
    assert behind.models_behind == 3


def test_certificates_hold_where_the_risk_is_just_above_alpha():
    # The hardest case: a plan whose risk is alpha and a hair. True risks are known here.
    rng = np.random.default_rng(0)
    certified = 0
    for repetition in range(300):
        changed = (rng.random((1, 400)) < 0.1001).astype(float)
        split = resplit(
            changed,
            [0.5],
            [[0]],
            alpha=0.1,
            delta=0.1,
            calibration=399,
            resplits=1,
            seed=repetition,
        )
        certified += int(split.certified[0])
    assert certified / 300 <= 0.1 + 3 * np.sqrt(0.09 / 300)


def test_studies_with_too_few_images_are_left_out_of_the_comparison():
    few, enough = make_study(0, n_images=60), make_study(1, n_images=200)
    assert compare_orderings([few], resplits=3) == []
    both = compare_orderings([few, enough], resplits=3)
    assert list(both[0].by_model) == ["model 1"]


def test_resplitting_needs_images_on_both_sides():
    with pytest.raises(InputError, match="leave none to test on"):
        resplit(np.zeros((1, 9)), [0.5], [[0]], alpha=0.1, delta=0.1, calibration=9)
    with pytest.raises(InputError, match="at least 22 are needed"):
        resplit(np.zeros((1, 30)), [0.5], [[0]], alpha=0.1, delta=0.1, calibration=15)


def test_rows_are_divided_by_image():
    rows = [{"group": f"{i // 3}", "question": str(i)} for i in range(150)]
    first, second = divide(rows, seed=1)
    assert not {r["group"] for r in first} & {r["group"] for r in second}
    assert sorted(r["question"] for r in first + second) == sorted(r["question"] for r in rows)
    assert divide(rows, seed=1) == (first, second)
    with pytest.raises(InputError, match="30 images are too few"):
        divide(rows[:90])
    with pytest.raises(InputError, match="share is 1.0"):
        divide(rows, share=1.0)
