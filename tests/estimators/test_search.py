"""The ways of searching, against full distance matrices in float64, on data made to trip them."""

from __future__ import annotations

import numpy as np
import pytest

from estimators import _brute, _neighbours
from estimators._schedule import over_tiles

NORMS = ["chebyshev", "euclidean"]
rng = np.random.default_rng(7)


def matrix_of(x, norm):
    """Comparable distances (squared where Euclidean), summed from left to right as the search."""
    x = np.asarray(x, dtype=np.float64)
    out = np.zeros((len(x), len(x)))
    for column in x.T:
        v = np.abs(column[:, None] - column[None, :])
        out = np.maximum(out, v) if norm == "chebyshev" else out + v * v
    return out


def check(spaces, k, norm, *, closed=False, method=None):
    counts = [(s,) for s in range(len(spaces))]
    found = _neighbours.search(spaces, k, counts=counts, metric=norm, closed=closed, method=method)
    each = [matrix_of(x, norm) for x in spaces]
    joint = np.max(each, axis=0)
    np.fill_diagonal(joint, np.inf)
    assert np.array_equal(found.distances, np.sort(joint, axis=1)[:, :k])
    assert np.array_equal(np.take_along_axis(joint, found.indices, axis=1), found.distances)
    radius = found.radius[:, None]
    for d, count in zip(each, found.counts, strict=True):
        np.fill_diagonal(d, np.inf)
        assert np.array_equal(count, (d <= radius if closed else d < radius).sum(axis=1))
    return found


def laws(n):
    heavy = rng.standard_cauchy(n)
    atoms = np.where(rng.uniform(size=n) < 0.6, 1.0, rng.normal(size=n))
    return {
        "normal": (rng.normal(size=n), rng.normal(size=n)),
        "one line": (rng.normal(size=n),) * 2,
        "heavy tails": (heavy, rng.standard_cauchy(n) ** 3),
        "one atom": (atoms, rng.normal(size=n)),
        "atom of y": (rng.normal(size=n), atoms),
        "atoms of both": (atoms, np.where(rng.uniform(size=n) < 0.5, 0.0, rng.normal(size=n))),
        "lattice": (rng.integers(0, 9, n) * 1.0, rng.integers(0, 9, n) * 1.0),
        "far apart": (np.repeat([0.0, 1e12], n // 2), rng.normal(size=n)),
        "extremes": (rng.normal(size=n) * 1e300, rng.normal(size=n) * 1e-300),
    }


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("law", laws(2))
def test_two_scalars(law, k, closed):
    x, y = (v[:, None] for v in laws(400)[law])
    check([x, y], k, "chebyshev", closed=closed)
    if law != "extremes":  # squares of 1e300 are no floats; callers divide by a power of two
        check([x, y], k, "euclidean", closed=closed)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n", [4, 5, 33, 400])
def test_tiles_of_every_size(n, norm):
    x, y = rng.normal(size=(2, n, 3))
    check([x, y], min(3, n - 1), norm, method="brute")


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("closed", [False, True])
def test_ties_everywhere(norm, closed, monkeypatch):
    """Copies and lattices leave most rows in doubt and most counts undecided."""
    x, y = rng.integers(0, 3, size=(2, 300, 4)).astype(float)
    answers = []
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        monkeypatch.setattr(_neighbours, "SERIAL_BELOW", 10)
        found = check([x, y], 3, norm, closed=closed, method="brute")
        answers.append(found.indices)
    assert np.array_equal(*answers)


def test_one_far_sample_does_not_put_all_others_in_doubt(monkeypatch):
    x = rng.normal(size=(500, 30))
    x[7] *= 1e5
    again = []
    monkeypatch.setattr(_brute, "_do_again", lambda *a: again.extend(a[2]))
    check([x, rng.normal(size=(500, 30))], 3, "euclidean", method="brute")
    assert len(again) <= 1


@pytest.mark.parametrize("room", [0, 3 * 64 * 64 * 4, 2**28])
@pytest.mark.parametrize("threads", ["1", "2"])
def test_kept_tiles_change_nothing(room, threads, monkeypatch):
    monkeypatch.setattr(_brute, "KEEP_BYTES", room)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    monkeypatch.setattr(_neighbours, "SERIAL_BELOW", 10)
    x, y = rng.normal(size=(2, 250, 160))
    each = matrix_of(x, "euclidean"), matrix_of(y, "euclidean")
    found = _neighbours.search([x, y], 3, counts=[(0,), (1,)], metric="euclidean")
    joint = np.maximum(*each)
    np.fill_diagonal(joint, np.inf)
    assert found.distances == pytest.approx(np.sort(joint, axis=1)[:, :3], rel=1e-12)
    for d, count in zip(each, found.counts, strict=True):
        np.fill_diagonal(d, np.inf)
        assert np.array_equal(count, (d < found.radius[:, None] * (1 - 1e-12)).sum(axis=1))


def test_tiles_are_visited_once_and_never_side_by_side():
    import threading

    seen, busy, lock = [], set(), threading.Lock()

    def visit(own, i, j):
        with lock:
            assert not busy & {i, j}
            busy.update((i, j))
            seen.append((i, j))
        own.append((i, j))
        with lock:
            busy.difference_update((i, j))

    over_tiles(1000, 96, 3, list, visit)
    starts = range(0, 1000, 96)
    assert sorted(seen) == [(i, j) for i in starts for j in starts if j >= i]


def test_an_error_in_a_tile_reaches_the_caller():
    def visit(own, i, j):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        over_tiles(1000, 96, 2, list, visit)
