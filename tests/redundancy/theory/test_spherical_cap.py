"""The logarithm of a spherical cap, against 50-digit arithmetic."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

from estimators import InputError
from redundancy.theory import log_spherical_cap

DIMENSIONS = [2, 3, 4, 5, 7, 16, 33, 64, 201, 202, 768, 1024, 2048, 4096, 5120, 8191, 8192]


def reference(d: int, t: float) -> mpmath.mpf:
    with mpmath.workdps(50):
        x = mpmath.mpf(t)
        small = x if x <= 1 else 2 - x
        half = mpmath.mpf(1) / 2
        cap = mpmath.betainc((d - half * 2) / 2, half, 0, small * (2 - small), regularized=True) / 2
        return mpmath.log(cap) if x <= 1 else mpmath.log1p(-cap)


def test_vectors(cases):
    for case in cases("cap_fraction"):
        value = log_spherical_cap(case["d"], case["t"])
        # The file rounds what is less than an ulp of 1 away from a whole sphere to 0.
        assert value == pytest.approx(case["log_cap"], rel=1e-13, abs=1e-16), case


@pytest.mark.parametrize("d", DIMENSIONS)
def test_thirteen_digits(d):
    rng = np.random.default_rng(d)
    thresholds = np.concatenate(
        [
            10.0 ** rng.uniform(-6, 0, 6),
            rng.uniform(0, 2, 8),
            # where the cap is neither nearly nothing nor nearly everything
            1 + rng.normal(size=8) / math.sqrt(d),
            1 + 10.0 ** rng.uniform(-12, -1, 3),
            1 - 10.0 ** rng.uniform(-12, -1, 3),
            2 - 10.0 ** rng.uniform(-6, 0, 3),
        ]
    )
    for t in thresholds[(thresholds > 0) & (thresholds <= 2)]:
        exact = reference(d, float(t))
        value = log_spherical_cap(d, float(t))
        if abs(exact) < mpmath.mpf("1e-290"):
            assert abs(value) < 1e-290
        else:
            assert abs((mpmath.mpf(value) - exact) / exact) < mpmath.mpf("1e-13"), (d, t)


def test_closed_forms():
    t = np.array([1e-9, 0.1, 0.5, 1.0, 1.5, 1.999])
    np.testing.assert_allclose(log_spherical_cap(3, t), np.log(t / 2), rtol=1e-13)
    np.testing.assert_allclose(log_spherical_cap(2, t), np.log(np.arccos(1 - t) / np.pi), rtol=1e-7)
    np.testing.assert_allclose(log_spherical_cap([2, 10, 5000], 1.0), -math.log(2), rtol=1e-15)


def test_the_two_sides_of_a_plane_make_a_sphere():
    rng = np.random.default_rng(0)
    for d in (2, 3, 8, 100):
        t = rng.uniform(0, 1, 20)
        total = np.exp(log_spherical_cap(d, t)) + np.exp(log_spherical_cap(d, 2 - t))
        np.testing.assert_allclose(total, 1.0, rtol=1e-13)


def test_edges():
    assert log_spherical_cap(8, 0.0) == -math.inf
    assert log_spherical_cap(8, -1.0) == -math.inf
    assert log_spherical_cap(8, 2.0) == 0.0
    assert log_spherical_cap(8, 3.0) == 0.0
    assert isinstance(log_spherical_cap(8, 0.5), float)
    assert log_spherical_cap([4, 8], [[0.1], [0.2]]).shape == (2, 2)
    # Nothing underflows on the way.
    assert -3e6 < log_spherical_cap(8192, 1e-300) < -2e6


def test_monotone_in_both_arguments():
    t = np.linspace(0.001, 1.999, 400)
    for d in (2, 3, 50, 4096):
        assert (np.diff(log_spherical_cap(d, t)) >= 0).all()
    dims = np.arange(2, 300)
    assert (np.diff(log_spherical_cap(dims, 0.3)) < 0).all()


@pytest.mark.parametrize("d", [1, 0, 2.5, -3])
def test_bad_dimension(d):
    with pytest.raises(InputError, match="dimension"):
        log_spherical_cap(d, 0.5)


def test_nan():
    with pytest.raises(InputError, match="NaN"):
        log_spherical_cap(3, math.nan)
