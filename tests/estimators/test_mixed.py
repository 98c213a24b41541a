"""Rounded values: information of a Gaussian and its rounding, by quadrature, against mixed_mi."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import digamma, ndtr
from scipy.stats import norm

from estimators._errors import InputError
from estimators._neighbours import search
from estimators.discrete import discrete_mi
from estimators.ksg import ksg_chain, ksg_mi
from estimators.mixed import mixed_cmi, mixed_mi


def cells(step: float) -> np.ndarray:
    return np.arange(-int(9 / step) - 1, int(9 / step) + 2) * step


def one_rounded(r: float, step: float) -> float:
    """I(X; round(Y)) of standard normals with correlation r, in nats."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    grid, s = cells(step)[:, None], np.sqrt(1 - r * r)
    given = ndtr((grid + step / 2 - r * nodes) / s) - ndtr((grid - step / 2 - r * nodes) / s)
    alone = (ndtr(grid + step / 2) - ndtr(grid - step / 2))[:, 0]

    def entropy(p: np.ndarray) -> np.ndarray:
        return -np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0.0).sum(axis=0)

    return float(entropy(alone) - entropy(given) @ (weights / weights.sum()))


def both_rounded(r: float, step: float) -> float:
    """I(round(X); round(Y)) of standard normals with correlation r, in nats."""
    grid, s = cells(step), np.sqrt(1 - r * r)
    joint = np.zeros((len(grid), len(grid)))
    for node, weight in zip(*np.polynomial.legendre.leggauss(20), strict=True):
        x = (grid + step / 2 * node)[:, None]
        within = ndtr((grid + step / 2 - r * x) / s) - ndtr((grid - step / 2 - r * x) / s)
        joint += weight * step / 2 * norm.pdf(x) * within
    product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0)
    m = joint > 1e-300
    return float((joint[m] * np.log(joint[m] / product[m])).sum())


def normals(n: int, r: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return x, r * x + np.sqrt(1 - r * r) * rng.normal(size=n)


def rounded(x: np.ndarray, step: float) -> np.ndarray:
    return np.round(x / step) * step


def authors(x: np.ndarray, y: np.ndarray, k: int = 3) -> float:
    """Strict counts throughout, as in the code published with the paper."""
    found = search([x[:, None], y[:, None]], k, counts=[(0,), (1,)], metric="chebyshev")
    near_x, near_y = (digamma(c + 1) for c in found.counts)
    return float(np.log(len(x)) + digamma(k) - (near_x + near_y).mean())


def test_the_truth_is_that_of_the_unrounded_where_steps_are_small():
    for r in (0.6, 0.95):
        exact = -0.5 * np.log(1 - r * r)
        assert one_rounded(r, 0.01) == pytest.approx(exact, abs=2e-4)
        assert both_rounded(r, 0.02) == pytest.approx(exact, abs=1e-3)
        assert both_rounded(r, 0.5) < one_rounded(r, 0.5) < exact
    # Two symbols: the sign of one side.
    assert one_rounded(0.0, 0.3) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("r", [0.0, 0.6, 0.95])
@pytest.mark.parametrize("step", [0.02, 0.1, 0.5])
def test_rounding_one_side_hardly_moves_the_estimate(r, step):
    truth, ours, theirs = one_rounded(r, step), [], []
    for seed in range(10):
        x, y = normals(1000, r, seed)
        y = rounded(y, step)
        ours.append(mixed_mi(x, y, ci=None).value)
        theirs.append(authors(x, y))
    assert abs(np.mean(ours) - truth) < 0.06
    if step == 0.1:
        assert np.mean(theirs) - truth > 0.08  # what strict counts alone would read
    # Nor does it matter which side it is.
    swapped = mixed_mi(y, x, ci=None).value
    assert swapped == pytest.approx(ours[-1], abs=1e-12)


@pytest.mark.parametrize("r", [0.0, 0.9])
@pytest.mark.parametrize("step", [0.02, 0.1, 0.2, 0.3, 1.2])
def test_rounding_both_sides_is_right_or_said(r, step):
    truth, ours, said = both_rounded(r, step), [], []
    for seed in range(8):
        x, y = normals(1000, r, seed)
        e = mixed_mi(rounded(x, step), rounded(y, step), ci=None)
        ours.append(e.value)
        said.append({d.code: d.severity for d in e.diagnostics})
    error = np.mean(ours) - truth
    assert -0.03 < error < 0.12
    if error > 0.05:
        assert all("small-atoms" in one for one in said)
    if step in (0.02, 1.2):  # a density for all purposes, or atoms
        assert abs(error) < 0.035
        assert not any(said)


def test_the_bias_goes_with_more_samples():
    errors = []
    for n in (500, 8000):
        x, y = normals(n, 0.6, 0)
        errors.append(mixed_mi(x, rounded(y, 0.2), ci=None).value - one_rounded(0.6, 0.2))
    assert abs(errors[1]) < 0.02
    assert abs(errors[1]) < abs(errors[0])


def test_a_symbol_beside_a_number_is_what_it_was():
    """No tied distances off atoms: a coin and a number that depends on it."""
    rng = np.random.default_rng(0)
    coin = rng.integers(0, 2, size=2000)
    e = mixed_mi(coin, 10.0 * coin + rng.normal(size=2000), ci=None)
    assert e.value == pytest.approx(np.log(2), abs=0.01)
    assert e.params["atoms"] == 0
    assert not e.diagnostics


def test_continuous_data_are_spared_the_second_count(monkeypatch):
    from estimators import _mixture

    x, y = normals(400, 0.6, 0)
    plain = mixed_mi(x, y)
    assert plain.params["ties"] is False
    assert plain.value == pytest.approx(
        ksg_mi(x, y, ci=None).value + np.log(400) - digamma(400), abs=1e-12
    )
    calls = []
    real = _mixture.count_within
    monkeypatch.setattr(_mixture, "count_within", lambda *a, **k: calls.append(1) or real(*a, **k))
    again = mixed_mi(x, y)
    assert len(calls) == 3  # joint and two sides, once: none of the halves of the interval
    assert again.ci == plain.ci
    tied = mixed_mi(x, rounded(y, 0.1))
    assert tied.params["ties"] is True
    assert len(calls) > 100


def test_rare_symbols_are_said_to_be_smeared():
    rng = np.random.default_rng(0)
    x, y = (rng.integers(0, 60, size=500).astype(str) for _ in range(2))
    e = mixed_mi(x, y, ci=None)
    assert {d.code: d.severity for d in e.diagnostics}["smeared"] == "error"
    assert not e.trustworthy
    few = mixed_mi(rng.integers(0, 3, size=500), rng.integers(0, 3, size=500), ci=None)
    assert not few.diagnostics
    assert abs(few.value) < 0.02


def test_conditional_information_counts_ties_too():
    """I(X; Y | Z) with Z a coin: within each face, the information of a rounding."""
    truth, ours = one_rounded(0.6, 0.2), []
    for seed in range(6):
        x, y = normals(1500, 0.6, seed)
        z = np.random.default_rng(100 + seed).integers(0, 2, size=1500)
        ours.append(mixed_cmi(x, rounded(y, 0.2), z, ci=None).value)
    assert abs(np.mean(ours) - truth) < 0.08
    whole = discrete_mi(np.arange(1500) % 3, np.arange(1500) % 3, ci=None).value
    assert whole == pytest.approx(np.log(3), abs=0.01)


@pytest.mark.parametrize(
    ("estimator", "sides"), [(ksg_mi, 2), (mixed_mi, 2), (mixed_cmi, 3), (ksg_chain, 0)]
)
def test_all_of_them_check_alike(estimator, sides):
    """One check serves them: lengths, constants, k, each in the same words."""
    good, other = normals(40, 0.5, 0)

    def call(*arrays, **more):
        if not sides:
            return estimator(arrays, **more)
        return estimator(*arrays, *([other] * (sides - len(arrays))), **more)

    for wrong, words in (
        ((good, other[:-1]), "differ in their number of samples"),
        ((good, np.zeros(40)), "is constant"),
        ((good, np.full(40, np.nan)), "NaN"),
    ):
        with pytest.raises(InputError, match=words):
            call(*wrong)
    with pytest.raises(InputError, match="fewer than k \\+ 1"):
        call(good, other, k=40)
