"""Cosine distances to full precision, whatever the dtype, and their sums."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from estimators import InputError
from redundancy.summary import check_finite, cosine_distances, summarise

RNG = np.random.default_rng(5)


def by_hand(x, y):
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(60):
        out = []
        for a, b in zip(x.astype(np.float64), y.astype(np.float64), strict=True):
            a, b = [mpmath.mpf(v) for v in a.tolist()], [mpmath.mpf(v) for v in b.tolist()]
            dot = mpmath.fsum(p * q for p, q in zip(a, b, strict=True))
            norms = mpmath.fsum(p * p for p in a) * mpmath.fsum(q * q for q in b)
            out.append(float(1 - dot / mpmath.sqrt(norms)))
    return np.array(out)


@pytest.mark.parametrize("gap", [1e-12, 1e-9, 1e-6, 1e-3, 0.1, 1.0, 10.0])
def test_small_distances_keep_their_digits(gap):
    x = RNG.normal(size=(20, 33))
    y = 3.7 * (x + gap * RNG.normal(size=x.shape))
    # Rounding of the unit vectors themselves adds about 1e-16 of length.
    np.testing.assert_allclose(
        cosine_distances(x, y), by_hand(x, y), rtol=1e-3 * 1e-12 / gap + 1e-9
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("d", [3, 1024])
def test_half_precision_is_raised_before_anything_is_computed(dtype, d):
    x = RNG.normal(size=(6, d)).astype(dtype)
    y = (x.astype(np.float32) + 0.02 * RNG.normal(size=x.shape)).astype(dtype)
    expected = by_hand(x, y)
    np.testing.assert_allclose(cosine_distances(x, y), expected, rtol=1e-11)


@pytest.mark.parametrize("scale", [1e-40, 1e-20, 1.0, 1e20, 1e37])
def test_scale_does_not_matter(scale):
    x, y = RNG.normal(size=(2, 5, 4))
    expected = cosine_distances(x, y)
    np.testing.assert_allclose(
        cosine_distances((x * scale).astype(np.float32), (y / 7).astype(np.float32)),
        expected,
        rtol=1e-5 if scale > 1e-38 else 1e-4,
    )
    np.testing.assert_allclose(cosine_distances(x * scale**7, y), expected, rtol=1e-9)


def test_known_values_and_the_undefined():
    x = np.array([[1.0, 0], [1, 0], [1, 0], [0, 0], [2, 2]])
    y = np.array([[5.0, 0], [0, 1], [-2, 0], [1, 1], [0, 0]])
    np.testing.assert_array_equal(cosine_distances(x, y), [0, 1, 2, np.nan, np.nan])
    summary = summarise(x, y, np.array([0, 0, 1, 1, 2]), [1.0, 2.0])
    np.testing.assert_array_equal(summary.n_tokens, [2, 2, 1])
    np.testing.assert_array_equal(summary.n_defined, [2, 1, 0])
    np.testing.assert_array_equal(summary.rho_sum, [1, 2, 0])
    # Strictly below: a distance of exactly 1 is not below 1.
    np.testing.assert_array_equal(summary.below, [[1, 2], [0, 0], [0, 0]])
    np.testing.assert_array_equal(summary.sq_dist_sum, [16 + 2, 9 + 2, 8])


@given(
    hnp.arrays(np.float64, (7, 3), elements=st.floats(-1e6, 1e6)),
    hnp.arrays(np.float64, (7, 3), elements=st.floats(-1e6, 1e6)),
    hnp.arrays(np.int64, 7, elements=st.integers(0, 3)),
    st.permutations(range(7)),
)
def test_sums_do_not_depend_on_order_or_on_who_is_first(x, y, groups, order):
    one = summarise(x, y, groups)
    other = summarise(y[order], x[order], groups[order])
    np.testing.assert_array_equal(one.groups, other.groups)
    np.testing.assert_array_equal(one.n_defined, other.n_defined)
    np.testing.assert_allclose(one.rho_sum, other.rho_sum, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(one.below, other.below)
    assert (one.rho_sum <= 2 * one.n_defined).all()
    assert (np.diff(one.below, axis=1) >= 0).all()
    whole = summarise(x, y)
    assert len(whole.groups) == 7
    np.testing.assert_allclose(whole.rho_sum.sum(), one.rho_sum.sum())


def test_blocks_join_without_a_seam():
    x, y = RNG.normal(size=(2, 40_000, 16)).astype(np.float32)
    whole = cosine_distances(x, y)
    parts = np.concatenate(
        [cosine_distances(x[i : i + 997], y[i : i + 997]) for i in range(0, 40_000, 997)]
    )
    np.testing.assert_array_equal(whole, parts)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_a_number_is_counted_and_placed(dtype, bad):
    x = np.ones((5, 4), dtype)
    y = x.copy()
    y[3, 1] = y[4, 2] = bad
    with pytest.raises(
        InputError, match=r"layers 3→4, upper layer, holds 2 NaN .* of 20, .* row 3"
    ):
        summarise(x, y, name="layers 3→4")
    check_finite(x, "x")
    largest = np.full((2, 2), ml_dtypes.finfo(dtype).max, dtype)
    check_finite(largest, "x")


@pytest.mark.parametrize(
    ("x", "y", "options", "sentence"),
    [
        (np.ones((3, 2)), np.ones((4, 2)), {}, r"shapes \(3, 2\) and \(4, 2\)"),
        (np.ones((3, 2)), np.ones((3, 3)), {}, "the same width"),
        (np.ones(3), np.ones(3), {}, r"shape \(3,\)"),
        (np.ones((0, 2)), np.ones((0, 2)), {}, "has no tokens"),
        (np.ones((3, 2)), np.ones((3, 2)), {"groups": np.zeros(2)}, r"groups has shape \(2,\)"),
        (np.ones((3, 2)), np.ones((3, 2)), {"thresholds": [0.0]}, "above 0 and at most 2"),
    ],
)
def test_unusable_input(x, y, options, sentence):
    with pytest.raises(InputError, match=sentence):
        summarise(x, y, **options)
