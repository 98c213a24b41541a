"""Centres are where they were with faiss; the nearest one is the nearest, at every scale."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators._half import as_float32
from estimators._kmeans import _drawn, kmeans, nearest


def test_every_half_becomes_the_number_numpy_makes_of_it():
    every = np.tile(np.arange(2**16, dtype=np.uint16).view(np.float16), 4)
    for given_ in (every, every[np.isfinite(every)], every.reshape(-1, 64)[::2].T):
        found, wanted = as_float32(given_), given_.astype(np.float32)
        assert found.shape == wanted.shape
        np.testing.assert_array_equal(found.view(np.int32), wanted.view(np.int32))


def squared_distances(x, centres, length):
    x = x.astype(np.longdouble)
    if length is not None:
        x = x / np.sqrt((x * x).sum(axis=1, keepdims=True)) * length
    return ((x[:, None] - centres.astype(np.longdouble)) ** 2).sum(axis=2)


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1e-140, 1e-42, 1e-30, 1.0, 1e30, 1e140]),
    st.sampled_from([None, 1.0, 4.0]),
    st.floats(-3, 6),
)
def test_the_nearest_centre_is_nearest(seed, scale, length, offset):
    """Also where single precision can't tell: tiny, huge, far from the origin, nearly equal."""
    rng = np.random.default_rng(seed)
    x = scale * (rng.normal(size=(50, 7)) + 10.0**offset)
    if 1e-37 < scale < 1e37 and seed % 2:
        x = x.astype(np.float32)
    near = x[rng.integers(50, size=9)].astype(np.float64)
    centres = near if length is None else rng.normal(size=near.shape)
    centres = centres * (1 + 1e-3 * rng.normal(size=near.shape))
    distances = squared_distances(x, centres, length)
    chosen = distances[np.arange(50), nearest(x, centres, length=length)]
    size = 1.0 if length is not None else float(np.abs(x).max()) ** 2
    assert ((chosen - distances.min(axis=1)) / size).max() < 1e-12


def test_half_precision_would_not_do():
    """Centres a millionth apart, which products in float32 alone mix up."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(8, 300)) * 1e-6 + rng.normal(size=300)
    which = rng.integers(8, size=500)
    x = centres[which] + 1e-8 * rng.normal(size=(500, 300))
    np.testing.assert_array_equal(nearest(x, centres), which)
    assert (np.argmax(x.astype(np.float32) @ centres.astype(np.float32).T, axis=1) != which).any()


@pytest.mark.parametrize(("n", "count", "seed"), [(50, 50, 0), (1000, 256, 7), (9, 3, 2**40 + 5)])
def test_rows_are_drawn_as_faiss_draws_them(n, count, seed):
    faiss = pytest.importorskip("faiss")
    order = np.empty(n, dtype=np.int32)
    faiss.rand_perm(faiss.swig_ptr(order), n, seed)
    np.testing.assert_array_equal(_drawn(n, count, seed), order[:count])


@pytest.mark.parametrize(("n", "d", "k"), [(700, 3, 6), (3000, 8, 100), (40, 2, 40)])
def test_centres_are_those_of_faiss(n, d, k):
    faiss = pytest.importorskip("faiss")
    x = np.random.default_rng(n).normal(size=(n, d)).astype(np.float32)
    x -= x.mean(axis=0)
    model = faiss.Kmeans(
        d, k, niter=25, nredo=8 if k <= 64 else 1, seed=3, min_points_per_centroid=1
    )
    model.train(x)
    np.testing.assert_allclose(kmeans(x, k, seed=3), model.centroids, atol=1e-5)


def test_two_tokens_of_many_copies_do_not_lose_a_centre():
    rng = np.random.default_rng(0)
    distinct = rng.normal(size=(12, 4))
    x = distinct[rng.integers(12, size=3000)]
    centres = kmeans(x, 12, seed=1)
    gaps = ((distinct[:, None] - centres) ** 2).sum(axis=2).min(axis=1)
    assert gaps.max() < 1e-8


def test_threads_do_not_change_the_centres():
    from threadpoolctl import threadpool_limits

    x = np.random.default_rng(0).normal(size=(5000, 16))
    with threadpool_limits(1):
        alone = kmeans(x, 100, seed=0)
    np.testing.assert_array_equal(kmeans(x, 100, seed=0), alone)
