"""Intrinsic dimension: known manifolds, a peer, duplicates."""

from __future__ import annotations

import numpy as np
import pytest

from estimators import InputError
from estimators.intrinsic import intrinsic_dimension


@pytest.mark.parametrize("method", ["twonn", "mle"])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_dimension_of_a_flat_sheet_in_a_wide_space(method, d):
    rng = np.random.default_rng(d)
    x = rng.uniform(size=(1500, d)) @ rng.normal(size=(d, 40))
    assert intrinsic_dimension(x, method, ci=None).value == pytest.approx(
        d, rel=0.2 if method == "mle" else 0.12
    )


def test_a_curve_is_one_dimensional():
    t = np.random.default_rng(0).uniform(0, 9, size=1500)
    x = np.column_stack([t * np.cos(t), t * np.sin(t), t])
    assert intrinsic_dimension(x, ci=None).value == pytest.approx(1.0, abs=0.1)


def test_agrees_with_scikit_dimension():
    skdim = pytest.importorskip("skdim")
    x = np.random.default_rng(3).normal(size=(800, 6))
    peer = skdim.id.TwoNN(discard_fraction=0.1).fit(x).dimension_
    assert intrinsic_dimension(x, ci=None).value == pytest.approx(peer, rel=0.01)


def test_scale_and_shift_do_not_matter():
    x = np.random.default_rng(0).normal(size=(400, 4))
    base = intrinsic_dimension(x, ci=None).value
    assert intrinsic_dimension(2.0**40 * x, ci=None).value == pytest.approx(base, rel=1e-12)
    assert intrinsic_dimension(x + 1000.0, ci=None).value == pytest.approx(base, rel=1e-7)


def test_duplicates_are_left_out_and_said():
    x = np.random.default_rng(0).normal(size=(500, 3))
    twice = np.concatenate([x, x[:200]])
    e = intrinsic_dimension(twice, ci=None)
    assert e.value == pytest.approx(3.0, rel=0.15)
    assert "200 of 700" in e.diagnostics[0].message
    assert not e.trustworthy


def test_high_dimensions_are_marked_as_too_low():
    x = np.random.default_rng(0).normal(size=(800, 40))
    e = intrinsic_dimension(x, ci=None)
    assert e.value < 40
    assert any(d.code == "dimension-too-low" for d in e.diagnostics)


def test_interval_contains_the_value():
    e = intrinsic_dimension(np.random.default_rng(0).normal(size=(400, 2)))
    assert e.value in e.ci
    assert e.ci.width < 1.5


def test_refusals():
    with pytest.raises(InputError, match="fewer than k"):
        intrinsic_dimension(np.random.default_rng(0).normal(size=(2, 2)))
    with pytest.raises(InputError, match="use 'twonn' or 'mle'"):
        intrinsic_dimension(np.eye(5), "pca")
    with pytest.raises(InputError, match="constant"):
        intrinsic_dimension(np.ones((30, 2)))
