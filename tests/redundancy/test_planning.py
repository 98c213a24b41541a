"""Plans from readings: the order, the thresholds, and what is said of missing evidence."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators import Diagnostic, Estimate, InputError, Interval
from redundancy.planning import KINDS, gather, propose
from redundancy.results import PairResult

# A small model trained with stochastic skipping: measured readings and measured accuracies.
EFFECT = [0.13, 0.10, 0.28, 0.35, 0.24, 0.15, 0.07, 0.05]
STEP = [0.003, 0.010, 0.078, 0.011, 0.007, 0.011, 0.004, 0.005]
FROM_FIRST = [0.003, 0.016, 0.119, 0.155, 0.165, 0.188, 0.195, 0.209]
TEXT = [0.1, 0.2, 0.3, 0.25, 0.2, 0.01, 0.02, 0.3]
LATE = [0.99, 0.99, 0.98, 0.75, 0.36, 0.25, 0.21, 0.21, 0.21]
EXIT = [0.21, 0.26, 0.50, 0.62, 0.85, 0.99, 0.99, 0.99, 0.99]


def result(measure, pair, value, *, modality="vision", verdict=None, high=None, error=False):
    interval = None
    if high is not None:
        interval = Interval(low=0.0, high=high, level=0.95, method="m")
    found = (Diagnostic(code="x", severity="error", message="m"),) if error else ()
    estimate = Estimate(
        value=value,
        unit="u",
        kind="estimate",
        n=10,
        method="m",
        ci=interval,
        diagnostics=found,
    )
    return PairResult(
        pair=pair, measure=measure, modality=modality, estimate=estimate, verdict=verdict
    )


def blocks(measure, values, **more):
    return [result(measure, (b, b + 1), v, **more) for b, v in enumerate(values)]


def first(values):
    return [result("geometric", (0, b + 1), v) for b, v in enumerate(values)]


@pytest.fixture
def readings():
    return [
        *blocks("vision_effect", EFFECT),
        *blocks("geometric", STEP),
        *first(FROM_FIRST),
        *blocks("geometric", TEXT, modality="text"),
    ]


def test_the_rank_is_theorem_6_with_unit_constants(readings):
    plans = propose(readings, kinds=("late",), within=False, pareto=False)
    by_entry = {plan.vision_entry: plan.evidence["predicted_harm"] for plan in plans}
    assert by_entry[2] == pytest.approx(math.hypot(math.sqrt(2 * 0.016), 0.13 + 0.10))
    exits = propose(readings, kinds=("exit",), within=False, pareto=False)
    by_exit = {plan.vision_exit: plan.evidence["predicted_harm"] for plan in exits}
    assert by_exit[6] == pytest.approx(0.07 + 0.05)


def test_default_thresholds_keep_the_plans_that_cost_little(readings):
    late = propose(readings, kinds=("late",))
    assert [plan.vision_entry for plan in late] == [1, 2]
    assert all(LATE[plan.vision_entry] >= 0.98 for plan in late)
    exits = propose(readings, kinds=("exit",))
    assert [plan.vision_exit for plan in exits] == [7, 6, 5]
    assert all(EXIT[plan.vision_exit] >= 0.99 for plan in exits)


def test_plans_come_safest_first_and_each_saves_more(readings):
    plans = propose(readings, within=False)
    harm = [plan.evidence["predicted_harm"] for plan in plans]
    saved = [plan.evidence["saved"] for plan in plans]
    assert harm == sorted(harm)
    assert all(a < b for a, b in itertools.pairwise(saved))
    assert not any(plan.is_noop for plan in plans)
    assert len(propose(readings, within=False, max_plans=3)) == 3


def test_each_kind_is_what_it_says(readings):
    for kind in KINDS:
        plans = propose(readings, kinds=(kind,), within=False, pareto=False)
        assert plans, kind
        for plan in plans:
            assert plan.evidence["kind"] == kind
            assert (kind in ("drop", "stretch")) == bool(plan.drop_layers)
            if kind == "late":
                assert plan.vision_entry
                assert plan.vision_exit is None
            if kind == "exit":
                assert plan.vision_exit is not None
                assert not plan.vision_entry
            assert any(plan.active_vision(block) for block in range(8)) or plan.drop_layers


def test_arbitrary_sets_start_with_the_least_harmful_blocks(readings):
    plans = propose(readings, kinds=("off",), within=False, pareto=False)
    assert [sum(not plan.active_vision(b) for b in range(8)) for plan in plans] == list(range(1, 8))
    assert plans[0].vision_exit == 7  # the last block's effect is smallest and no state is bypassed
    hidden = [b for b in range(8) if not plans[3].active_vision(b)]
    assert hidden == [0, 1, 6, 7]


def test_dropping_looks_at_text_and_vision(readings):
    plans = propose(readings, kinds=("drop",))
    assert [plan.drop_layers for plan in plans] == [(5,), (5, 6)]


def test_the_upper_end_of_an_interval_counts():
    sure = blocks("vision_effect", [0.3, 0.1, 0.1], high=0.15)
    vague = blocks("vision_effect", [0.3, 0.1, 0.1], high=0.25)
    assert [plan.vision_exit for plan in propose(sure)] == [2, 1]
    assert propose(vague) == []
    marked = propose(vague, within=False)
    assert not marked[0].evidence["within_thresholds"]
    assert marked[0].evidence["against"] == ["vision_effect of layer 2 reaches 0.25"]


def test_a_needed_block_is_not_bypassed_but_may_come_after_the_exit(readings):
    needed = [result("informational", (0, 1), 2.0, verdict="needed")]
    last = [result("informational", (7, 8), 2.0, verdict="needed")]
    assert propose([*readings, *needed], kinds=("late",)) == []
    assert [p.vision_exit for p in propose([*readings, *last], kinds=("exit",))] == [7, 6, 5]
    (plan, *_) = propose([*readings, *needed], kinds=("late",), within=False)
    assert "layer 0 is needed by informational" in plan.evidence["against"]


def test_without_any_effect_no_exit_and_a_word_of_warning():
    plans = propose([*blocks("geometric", STEP), *first(FROM_FIRST)])
    assert plans
    assert all(plan.vision_exit is None for plan in plans)
    assert "ranked by distance alone" in plans[0].evidence["missing"][0]


def test_attention_stands_in_for_the_effect_and_says_so():
    plans = propose(
        [*blocks("var", EFFECT), *blocks("geometric", STEP)],
        thresholds={"var": 0.2},
        kinds=("exit",),
    )
    assert [plan.vision_exit for plan in plans] == [7, 6, 5]
    assert plans[0].evidence["effect_source"] == "var"
    assert "VAR stands in" in plans[0].evidence["missing"][0]


def test_sums_of_steps_stand_in_for_the_distance_from_the_first_layer():
    plans = propose(
        [*blocks("vision_effect", EFFECT), *blocks("geometric", STEP)],
        kinds=("late",),
        within=False,
        pareto=False,
    )
    two = next(plan for plan in plans if plan.vision_entry == 2)
    way = math.sqrt(2 * 0.003) + math.sqrt(2 * 0.010)
    assert two.evidence["predicted_harm"] == pytest.approx(math.hypot(way, 0.23))
    assert "D[0, L] was not measured" in two.evidence["missing"][0]


def test_untrustworthy_readings_propose_nothing():
    effect = blocks("vision_effect", [0.1, 0.1, 0.1])
    effect[2] = result("vision_effect", (2, 3), 0.01, error=True)
    assert propose(effect, kinds=("exit",)) == []


def test_plans_survive_their_file(readings, tmp_path):
    from vlm.plan import SkipPlan

    plan = propose(readings, model_type="llava")[0]
    again = SkipPlan.load(plan.save(tmp_path / "plan.json"))
    assert again == plan
    assert again.evidence == plan.evidence
    assert again.model_type == "llava"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: propose([]), "no results"),
        (lambda: propose(blocks("var", [0.1]), thresholds={"cka": 0.9}), "'cka'"),
        (lambda: propose(blocks("var", [0.1]), thresholds={"var": 0.0}), "above 0"),
        (lambda: propose(blocks("var", [0.1]), kinds=("early",)), "'early'; use late"),
        (lambda: propose(blocks("var", [0.1]), vision_share=0.0), "vision_share"),
        (lambda: propose(blocks("var", [0.1]), max_plans=0), "at least one plan"),
        (lambda: gather(blocks("var", [0.1] * 5), n_layers=3), "layer 5, and the model has 3"),
    ],
)
def test_bad_input_is_said_in_one_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call()


@given(
    effect=st.lists(st.floats(0, 1), min_size=2, max_size=12),
    data=st.data(),
)
@settings(deadline=None, max_examples=60)
def test_order_and_front_hold_for_any_readings(effect, data):
    n = len(effect)
    step = data.draw(st.lists(st.floats(0, 2), min_size=n, max_size=n))
    found = [*blocks("vision_effect", effect), *blocks("geometric", step)]
    every = propose(found, within=False, pareto=False)
    front = propose(found, within=False)
    harm = [plan.evidence["predicted_harm"] for plan in every]
    assert harm == sorted(harm)
    assert len(set(every)) == len(every)  # no plan twice
    for plan in every:
        assert any(
            kept.evidence["saved"] >= plan.evidence["saved"] - 1e-9
            and kept.evidence["predicted_harm"] <= plan.evidence["predicted_harm"]
            for kept in front
        )
