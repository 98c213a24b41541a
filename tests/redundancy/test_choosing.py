"""Certifying refuses what no run of the model could mend before it asks the model anything."""

from __future__ import annotations

import math

import numpy as np
import pytest

from estimators import InputError
from redundancy.choosing import Choice, certify, sequences
from redundancy.risk import certify_plans, least_groups
from vlm.plan import SkipPlan


def plan(kind, **how):
    return SkipPlan(8, evidence={"kind": kind}, **how)


PLANS = [plan("late", vision_entry=1), plan("exit", vision_exit=7), plan("exit", vision_exit=6)]


def questions(n, each=1):
    return [
        {"id": str(i), "group": f"image {i // each}", "question": "?", "images": []}
        for i in range(n)
    ]


class Unasked:
    """A model that must not be asked."""

    def __getattr__(self, name):
        raise AssertionError(f"the model was asked for {name}")


def refused(message, rows, **options):
    with pytest.raises(InputError, match=message):
        certify(Unasked(), Unasked(), rows, options.pop("plans", PLANS), **options)


@pytest.mark.parametrize("delta", [0.0, 1.0, 1.5, -0.1, math.nan])
def test_delta_is_checked_before_kinds_of_plan_share_it(delta):
    # 1.5 shared by two kinds would look like 0.75, and print "-50% confidence".
    refused("delta is", questions(200), delta=delta)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0, math.nan])
def test_alpha_is_checked_first(alpha):
    refused("alpha is", questions(200), alpha=alpha)


def test_too_few_images_are_refused_with_the_number_needed():
    needed = least_groups(0.05, 0.1 / 2)
    refused(f"20 images .* 2 kinds of plan share, .* at least {needed} are", questions(20))
    with pytest.raises(AssertionError, match="the model was asked"):
        certify(Unasked(), Unasked(), questions(needed), PLANS)
    # Questions of one image are one unit.
    refused(f"at least {needed} are", questions(5 * (needed - 1), each=5))
    refused(r"delta 0.1, not even .* at least 45 are", questions(44), plans=PLANS[:1])


@pytest.mark.parametrize(("alpha", "delta"), [(0.05, 0.1), (0.02, 0.025), (0.3, 0.01)])
def test_the_number_needed_is_enough_and_one_less_is_not(alpha, delta):
    n = least_groups(alpha, delta)
    for each in (1, 2):

        def tried(images, each=each):
            groups = np.repeat(np.arange(images), each)
            return certify_plans(
                {"a": np.zeros(images * each)}, alpha=alpha, delta=delta, order="a", groups=groups
            )

        assert tried(n).certified == ("a",)
        with pytest.raises(InputError, match=f"at least {n} are needed"):
            tried(n - 1)


def test_images_that_ordered_the_plans_are_refused():
    refused("2 calibration images already", questions(200), used_groups={"image 3", "image 7"})


def test_no_plans_are_refused():
    refused("no plan to certify", questions(200), plans=[])


def test_kinds_that_agree_need_no_more_images_than_one():
    window = plan("window", vision_exit=7)
    agreeing = [PLANS[1], window]
    refused("at least 45 are", questions(44), plans=agreeing)
    refused("at least 59 are", questions(44), plans=PLANS[:2])


def test_plans_of_a_kind_are_one_sequence():
    assert sequences(PLANS) == [PLANS[:1], PLANS[1:]]


def test_levels_are_said_as_they_are():
    certificate = certify_plans({"a": np.zeros(400)}, alpha=0.025, delta=0.075, order="a")
    said = Choice(
        plan=PLANS[0], alpha=0.025, delta=0.075, certificate=certificate, tried=()
    ).sentence
    assert "at most 2.5% of the answers, with 92.5% confidence" in said
