"""Pairs with known distances."""

from __future__ import annotations

import numpy as np
import pytest

from redundancy.pairs import LayerPair, PairSummary


@pytest.fixture
def rotated():
    """Make a pair whose token k moved by the cosine distance rho[k]."""

    def make(rho, groups=None, lower=0, upper=1, **more):
        rho = np.asarray(rho, dtype=float)
        angle = np.arccos(1 - rho)
        x = np.zeros((len(rho), 3))
        x[:, 0] = 2.0 + 0.01 * np.arange(len(rho))
        y = np.zeros_like(x)
        y[:, 0], y[:, 1] = np.cos(angle), np.sin(angle)
        groups = None if groups is None else np.asarray(groups)
        return LayerPair(lower, upper, x, y, groups=groups, **more)

    return make


@pytest.fixture
def summed():
    """Make a pair that carries sums alone, as streaming leaves them."""

    def make(lower=0, upper=1, *, samples=40, tokens=10, rho=0.01, **more):
        count = np.full(samples, tokens, dtype=np.int64)
        fields = {
            "groups": np.arange(samples),
            "n_tokens": count,
            "n_defined": count,
            "rho_sum": rho * count,
            "thresholds": np.array([0.01, 0.05]),
            **more,
        }
        return LayerPair(lower, upper, modality="vision", summary=PairSummary(**fields))

    return make
