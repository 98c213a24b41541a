"""The exam: 38 hard distributions, judged by a function that shares no code with the solver."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import xlogy

from estimators.broja import broja_pid
from tests.estimators.pid_exam import exam, judge
from tests.estimators.pid_problems import random_pmf

EXAM = exam()
MICROBIT = 1e-6 * np.log(2.0)


def information(p: np.ndarray) -> float:
    p = p.reshape(len(p), -1)
    return float(
        xlogy(p, p).sum() - xlogy(p.sum(0), p.sum(0)).sum() - xlogy(p.sum(1), p.sum(1)).sum()
    )


def assert_right(p: np.ndarray) -> None:
    a, b = p.sum(axis=2), p.sum(axis=1)
    pid = broja_pid(p)
    low, high = judge(a, b, *pid.dual, pid.coupling)
    assert pid.certified
    assert -1e-13 <= high - low <= MICROBIT
    # Both intervals hold f*, so they meet; the atoms are those of an f* inside.
    assert max(low, pid.bounds[0]) <= min(high, pid.bounds[1]) + 1e-12
    i_x, i_y, h_z = information(a), information(b), -float(xlogy(a.sum(1), a.sum(1)).sum())
    f = pid.unique_x - (h_z - i_y)
    assert low - MICROBIT <= f <= high + MICROBIT
    assert abs(pid.unique_y - (h_z - i_x) - f) < 1e-12
    assert abs(pid.redundant + pid.unique_x - i_x) < 1e-12
    total = pid.redundant + pid.unique_x + pid.unique_y + pid.synergistic
    assert abs(total - information(p)) < 1e-12


def test_the_exam_has_38_questions():
    assert len(EXAM) == 38
    assert all(abs(p.sum() - 1) < 1e-9 and p.min() >= 0 for p in EXAM.values())
    assert min(p[p > 0].min() for p in EXAM.values()) < 1e-19


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAM)
def test_exam(name):
    assert_right(EXAM[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EXAM if name.startswith("near copy")])
def test_exam_near_copies_have_their_closed_form(name):
    """Y is a garbled X: redundant = I(Z;Y), unique_y = 0."""
    p = EXAM[name]
    pid = broja_pid(p).to("bits")
    i_x, i_y = (information(p.sum(axis=axis)) / np.log(2) for axis in (2, 1))
    assert abs(pid.redundant - i_y) < 1e-7
    assert abs(pid.unique_x - (i_x - i_y)) < 1e-7
    assert abs(pid.unique_y) < 1e-7


@pytest.mark.slow
def test_a_thousand_random_distributions_pass_the_judge():
    for seed in range(2000, 3000):
        assert_right(random_pmf(seed, largest=64 if seed % 10 == 0 else 20)[1])


def test_the_judge_is_not_fooled():
    """Wrong duals lose, wrong couplings gain, and near-copies make it no softer."""
    for p in (EXAM["near copy 4x8, flip 1e-06"], random_pmf(0)[1]):
        a, b = p.sum(axis=2), p.sum(axis=1)
        pid = broja_pid(p)
        (lam, mu), q = pid.dual, pid.coupling
        low, high = judge(a, b, lam, mu, q)
        assert -1e-13 < high - low < MICROBIT
        noise = 0.1 * np.random.default_rng(0).normal(size=lam.shape)
        assert judge(a, b, lam + noise, mu, q)[0] < low - 1e-4
        assert judge(a, b, lam, mu, a[:, :, None] * b[:, None, :])[1] > high + 1e-4
        shifted_low, _ = judge(a, b, lam + 5.0, mu - 2.0, q)
        assert shifted_low == pytest.approx(low, abs=1e-12)
