"""One model's study on the bundled model: held against `vlm.evaluate`, and end to end."""

from __future__ import annotations

import itertools
from contextlib import contextmanager

import numpy as np
import pytest

from estimators import InputError
from redundancy.demo.model import N_LAYERS, load
from redundancy.demo.several import describe, questions
from redundancy.validation.analysis import analyse
from redundancy.validation.interventions import try_plans
from redundancy.validation.study import losses, study
from vlm._errors import VLMError
from vlm.evaluate import evaluate, plans_of
from vlm.plan import SkipPlan


@pytest.fixture(scope="module")
def bundled():
    return load()


@pytest.fixture(scope="module")
def data():
    return questions(describe(None), images=40)


@contextmanager
def quietly(title):
    yield lambda done, total: None


def test_one_question_of_each_image_and_no_image_twice(data):
    measured, tested = data
    assert len({row["group"] for row in tested}) == len(tested) == 40
    assert {row["task"] for row in tested} == {row["task"] for row in measured}
    assert not {row["group"] for row in measured} & {row["group"] for row in tested}


def test_trying_plans_agrees_with_evaluating_them(bundled, data):
    rows = data[1]
    plans = [SkipPlan(N_LAYERS, vision_exit=3), SkipPlan(N_LAYERS, drop_layers=(2,))]
    trial = try_plans(*bundled, rows, plans, batch_size=20)
    full = evaluate(*bundled, rows, batch_size=20)
    assert trial.full.predictions == full.predictions
    # Every answer is one word: its first token is all of it.
    np.testing.assert_allclose(trial.full.nll, full.nll, atol=1e-4)
    np.testing.assert_array_equal(trial.full.correct, full.correct)
    assert not trial.full.changed.any()
    assert not trial.full.kl.any()
    for plan in plans:
        one, other = trial.plans[plan], evaluate(*bundled, rows, plan, baseline=full, batch_size=20)
        assert one.predictions == other.predictions
        np.testing.assert_array_equal(1 - one.changed, other.agrees)
        np.testing.assert_allclose(one.nll, other.nll, atol=1e-4)
        np.testing.assert_allclose(one.flops, other.prefill_flops)
        assert one.kl.min() >= 0
        assert one.kl.mean() > 0.01


def test_marginal_losses_add_up_to_the_curve(bundled, data):
    rows = data[1][:20]
    by_kind = {kind: plans_of(kind, N_LAYERS) for kind in ("late", "exit", "drop", "single")}
    tried = [by_kind["late"][-1], by_kind["exit"][0]]
    every = [p for plans in by_kind.values() for p in plans if not p.is_noop]
    trial = try_plans(*bundled, rows, every, batch_size=20)
    codes = np.arange(20)
    found = losses(trial, by_kind, codes)
    for target, plan in zip(("late", "exit"), tried, strict=True):
        np.testing.assert_allclose(found[target]["kl"].sum(axis=1), trial.plans[plan].kl, atol=1e-9)
        assert found[target]["changed"].shape == (20, N_LAYERS)
    np.testing.assert_array_equal(
        found["hide"]["changed"][:, 2], trial.plans[by_kind["single"][2]].changed
    )
    # Hiding vision from the first layer alone is late entry at 1, and from the last, exit there.
    np.testing.assert_array_equal(found["hide"]["kl"][:, 0], found["late"]["kl"][:, 0])
    np.testing.assert_array_equal(found["hide"]["kl"][:, -1], found["exit"]["kl"][:, -1])


def test_a_study_from_capture_to_analysis(bundled, data, tmp_path):
    found = study(
        *bundled,
        *data,
        name="bundled",
        store_path=tmp_path / "acts",
        describe=describe(None),
        measures=("geometric", "var", "vision_effect"),
        batch_size=40,
        progress=quietly,
    )
    assert found.n_layers == N_LAYERS
    assert found.model["cluster"] == "seed 0"
    expected = {"geometric", "var", "vision_effect", "vision_effect_text", "from_first"}
    assert expected | {"from_first_step", "direct", "depth"} <= set(found.readings)
    assert all(len(c.values) == N_LAYERS for c in found.readings.values())
    assert set(found.orderings) >= {"readings", "var_sets", "depth_exit", "depth_ends"}
    used = {i for o in found.orderings.values() for s in o.sequences for i in s}
    assert used == set(range(len(found.plans)))
    # Layer 2 is where the bundled model reads the image.
    hidden = np.array(found.losses["hide"]["changed"]).mean(axis=0)
    assert hidden.argmax() == 2
    rows = {(r.target, r.measure): r for r in analyse([found], draws=100).associations
            if r.kind == "kl"}  # fmt: skip
    assert rows["hide", "direct"].mean > 0.7
    assert all(a <= b for a, b in itertools.pairwise(found.readings["depth"].values))


def test_reading_and_testing_on_the_same_images_is_refused(bundled, data, tmp_path):
    with pytest.raises(InputError, match="both measured and tested"):
        study(
            *bundled,
            data[1],
            data[1],
            name="x",
            store_path=tmp_path / "acts",
            progress=quietly,
        )
    assert not (tmp_path / "acts").exists()


def test_no_rows_and_foreign_models_are_refused(bundled, tmp_path):
    with pytest.raises(VLMError, match="no rows"):
        try_plans(*bundled, [], [])
    with pytest.raises(InputError, match="give its questions with --data"):
        questions(describe(tmp_path))
    with pytest.raises(InputError, match="5 images are too few"):
        questions(describe(None), images=5)
