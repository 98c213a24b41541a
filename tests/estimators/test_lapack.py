"""The routines that let go of the interpreter lock give what numpy gives."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from estimators._lapack import cholesky, cholesky_solve, subtract_gram


def positive(n: int) -> np.ndarray:
    a = np.random.default_rng(n).normal(size=(n, n + 2))
    return np.asfortranarray(a @ a.T + np.eye(n))


@pytest.mark.parametrize("n", [1, 2, 7, 40])
@pytest.mark.parametrize("lower", [True, False])
def test_factor_and_solve(n, lower):
    a, b = positive(n), np.arange(1.0, n + 1)
    factor = a.copy(order="F")
    assert cholesky(factor, lower=lower)
    kept = np.tril(factor) if lower else np.triu(factor).T
    assert np.abs(kept @ kept.T - a).max() < 1e-10 * np.abs(a).max()
    x = cholesky_solve(factor, b, lower=lower)
    assert np.abs(a @ x - b).max() < 1e-8
    assert b[-1] == n


def test_what_is_not_positive_definite_is_said():
    assert not cholesky(np.asfortranarray(np.diag([1.0, -1.0])))


def test_gram_is_subtracted_from_the_lower_triangle():
    rng = np.random.default_rng(0)
    a, c = np.asfortranarray(rng.normal(size=(5, 3))), np.asfortranarray(rng.normal(size=(5, 5)))
    wanted = np.where(np.tri(5, dtype=bool), c - a @ a.T, c)
    subtract_gram(a, c)
    assert np.abs(c - wanted).max() < 1e-14


def test_rows_or_other_types_are_refused():
    with pytest.raises(ValueError, match="strides"):
        cholesky(np.eye(3)[::2, ::2])
    with pytest.raises(ValueError, match="float32"):
        cholesky(np.asfortranarray(np.eye(3, dtype=np.float32)))


def test_another_thread_runs_meanwhile():
    """With scipy's wrappers the other thread waits for the whole factorisation."""
    a = positive(1500)
    beats, stop = [0], threading.Event()

    def beat() -> None:
        while not stop.is_set():
            beats[0] += 1
            time.sleep(0.0005)

    other = threading.Thread(target=beat)
    other.start()
    try:
        time.sleep(0.01)
        before = beats[0]
        assert cholesky(a)
        during = beats[0] - before
    finally:
        stop.set()
        other.join()
    assert during >= 2
