"""CKA: oracle values, a slow reference, invariances, the delete-a-block sums, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from estimators import InputError, _alignment
from estimators._alignment import side_of, squared_alignment
from estimators._resample import blocks
from estimators.cka import cka, cka_pair

CASES = json.loads((Path(__file__).parent / "data" / "similarity.json").read_text())["cases"]


def hsic_1_slow(x, y):
    """Song et al. (2012), eq. 5, with n x n matrices."""
    k, m = x @ x.T, y @ y.T
    n = len(k)
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    one = np.ones(n)
    total = np.trace(k @ m) + k.sum() * m.sum() / ((n - 1) * (n - 2))
    return (total - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))


def cka_slow(x, y):
    return hsic_1_slow(x, y) / np.sqrt(hsic_1_slow(x, x) * hsic_1_slow(y, y))


@pytest.mark.parametrize("case", CASES)
def test_oracle(case):
    assert cka(case["X"], case["Y"], ci=None).value == pytest.approx(case["cka_debiased"], abs=1e-9)
    biased = cka(case["X"], case["Y"], debiased=False, ci=None)
    assert biased.value == pytest.approx(case["cka_biased_linear"], abs=1e-9)


@pytest.mark.parametrize(("n", "dx", "dy"), [(5, 3, 2), (60, 4, 90), (200, 7, 7)])
def test_equals_the_slow_reference(n, dx, dy):
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, dx)) + 3
    y = x @ rng.normal(size=(dx, dy)) + rng.normal(size=(n, dy))
    assert cka(x, y, ci=None).value == pytest.approx(cka_slow(x, y), rel=1e-9)


def test_left_out_blocks_equal_recomputation():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), rng.normal(size=(40, 5))
    label = blocks(40, None, 4)
    sides = side_of(x, label, 4), side_of(y, label, 4)
    left = squared_alignment(*sides, label, 4)[0][1:]
    again = [cka_slow(x[label != b], y[label != b]) for b in range(4)]
    assert left == pytest.approx(again, rel=1e-9)


@pytest.mark.parametrize(("memory", "rows"), [(2**28, 256), (0, 1), (0, 10**6)])
def test_products_held_in_memory_in_a_file_or_made_again(monkeypatch, memory, rows):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 3)), rng.normal(size=(400, 5))
    before = cka(x, y)
    monkeypatch.setattr(_alignment, "_IN_MEMORY", memory)
    monkeypatch.setattr(_alignment, "_WORTH_A_FILE", rows)
    memos = {}, {}
    for _ in range(2):
        debiased, biased = cka_pair(x, y, memo_x=memos[0], memo_y=memos[1])
        assert debiased == before
        assert biased == cka(x, y, debiased=False, ci=None)


def test_invariant_to_rotation_scale_and_shift():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(80, 6)), rng.normal(size=(80, 6))
    y += x
    q, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    base = cka(x, y, ci=None).value
    assert cka(1e200 * (x @ q) + 1e201, y, ci=None).value == pytest.approx(base, rel=1e-8)


def test_debiasing_removes_the_width_effect():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(50, 400)), rng.normal(size=(50, 400))
    assert cka(x, y, debiased=False, ci=None).value > 0.8
    assert abs(cka(x, y, ci=None).value) < 0.1


def test_three_samples_give_no_value_and_say_why():
    e = cka(np.eye(3), np.eye(3)[::-1], ci=None)
    assert e.value is None
    assert not e.trustworthy
    assert "at least 4" in e.diagnostics[0].message


def test_interval_leaves_out_groups():
    rng = np.random.default_rng(3)
    each = rng.normal(size=(30, 4))
    x = np.repeat(each, 20, axis=0) + 0.01 * rng.normal(size=(600, 4))
    y = np.repeat(each @ rng.normal(size=(4, 4)) + rng.normal(size=(30, 4)), 20, axis=0)
    honest = cka(x, y, groups=np.repeat(np.arange(30), 20))
    assert honest.ci.width > 2 * cka(x, y).ci.width
    assert honest.value in honest.ci


def test_refusals():
    x = np.random.default_rng(0).normal(size=(10, 2))
    with pytest.raises(InputError, match="x has 10, y has 9"):
        cka(x, x[:9])
    with pytest.raises(InputError, match="constant"):
        cka(x, np.ones((10, 2)))
    x[3, 1] = np.nan
    with pytest.raises(
        InputError, match="1 NaN and 0 infinite values, the first at row 3, column 1"
    ):
        cka(x, x)


@pytest.mark.parametrize("dims", [(90, 200), (90, 30)])
def test_products_of_samples_or_of_features_give_the_same(dims, monkeypatch):
    rng = np.random.default_rng(4)
    x, y = (rng.normal(size=(60, d)) + 2 for d in dims)
    y[:, :30] += x[:, :30]
    groups = np.repeat(np.arange(20), 3)
    wide = cka(x, y, groups=groups)
    monkeypatch.setattr(_alignment, "GRAM_ROWS", 0)
    narrow = cka(x, y, groups=groups)
    assert wide.value == pytest.approx(narrow.value, rel=1e-10)
    assert (wide.ci.low, wide.ci.high) == pytest.approx((narrow.ci.low, narrow.ci.high), rel=1e-10)
