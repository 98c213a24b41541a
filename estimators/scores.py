"""Mutual information of every feature with a target: a score function for feature selection."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from estimators._arrays import check_k, check_lengths, matrix, symbols, to_numpy
from estimators._errors import InputError
from estimators.discrete import discrete_mi
from estimators.ksg import ksg_value
from estimators.mixed import ross_mi

__all__ = ["mutual_information_scores"]

Float = npt.NDArray[np.float64]

_JITTER = 1e-10  # of a standard deviation: far below any distance that carries information
_PER_SYMBOL = 10  # samples per distinct value from which a feature counts as symbols


def mutual_information_scores(
    X: Any,
    y: Any,
    *,
    discrete_target: bool | None = None,
    k: int = 3,
    seed: int = 0,
) -> Float:
    r"""Mutual information of each feature with the target, in nats: one score per column.

    A score function for scikit-learn, ``SelectKBest(mutual_information_scores)``, and a quick look
    at single features besides. Features and a continuous target are divided by their standard
    deviation. Each score is one of

    - feature and target continuous: Kraskov, Stoegbauer and Grassberger, variant 1;
    - one of them continuous, the other symbols: Ross;
    - both symbols: the plug-in value with Miller and Madow's correction.

    A feature counts as symbols if it has 10 samples and more per distinct value; rarer ties are
    broken by seeded noise of 1e-10 standard deviations. A feature is scored alone: two of them may
    tell what neither does. Scores around 0 may be negative, which is noise and is not clipped.

    Parameters
    ----------
    X : array of numbers, shape (n, d)
        Samples by features.
    y : array, shape (n,)
        Target: floats, or symbols (int, bool, str).
    discrete_target : bool, optional
        Whether y are symbols; by default whether they are no floats.
    k : int
        Neighbour; 3 favours small bias, 10 small variance.
    seed : int
        Seed of the noise that breaks ties.

    Returns
    -------
    ndarray of float64, shape (d,)
        In nats; 0 for a constant feature.

    Raises
    ------
    InputError
        On NaN, unequal lengths, a target that is constant or has several columns, fewer than
        k + 1 samples.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 3))
    >>> bool(np.argmax(mutual_information_scores(X, X[:, 1] + rng.normal(size=500))) == 1)
    True

    The three best features of a classification, with options given beforehand:

    >>> from functools import partial
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.feature_selection import SelectKBest
    >>> X, y = load_iris(return_X_y=True)
    >>> chosen = SelectKBest(partial(mutual_information_scores, k=5), k=2).fit(X, y)
    >>> chosen.get_support().tolist()
    [False, False, True, True]

    References
    ----------
    Kraskov, Stoegbauer and Grassberger 2004, eq. 8; Ross 2014, eq. 6; Miller 1955.
    """
    features = to_numpy(X, "X")
    if features.dtype.kind in "iub":
        features = features.astype(np.float64)
    columns = np.asarray(matrix(features, "X"), dtype=np.float64)
    target = to_numpy(y, "y")
    if target.ndim == 2 and target.shape[1] == 1:
        target = target[:, 0]
    if target.ndim != 1:
        raise InputError(
            f"y has shape {target.shape}; pass one target per sample, shape ({len(columns)},)"
        )
    n = check_lengths(X=columns, y=target)
    check_k(k, n)
    symbolic = target.dtype.kind != "f" if discrete_target is None else discrete_target
    rng = np.random.default_rng(seed)
    if symbolic:
        codes = _codes(target)
        _check_target(bool((codes == codes[0]).all()))
        return np.array([_with_symbols(x, codes, k, rng) for x in columns.T])
    values = np.asarray(matrix(target.astype(np.float64), "y"), dtype=np.float64)[:, 0]
    _check_target(bool((values == values[0]).all()))
    smooth = _smooth(values, rng)
    return np.array([_with_numbers(x, smooth, k, rng) for x in columns.T])


def _check_target(constant: bool) -> None:
    if constant:
        raise InputError("y is constant, so no feature can say anything about it; check the target")


def _codes(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Number the distinct values, floats included."""
    if values.dtype.kind == "f":
        return symbols(np.unique(values, return_inverse=True)[1], "y")[0]
    return symbols(values, "y")[0]


def _smooth(x: Float, rng: np.random.Generator) -> Float:
    """Values over their standard deviation, ties broken."""
    out = np.asarray(x / x.std())
    if len(np.unique(out)) < len(out):
        out = out + _JITTER * max(1.0, float(np.abs(out).max())) * rng.standard_normal(len(out))
    return out


def _is_symbols(x: Float) -> bool:
    return len(x) >= _PER_SYMBOL * len(np.unique(x))


def _with_symbols(
    x: Float, codes: npt.NDArray[np.int64], k: int, rng: np.random.Generator
) -> float:
    if bool((x == x[0]).all()):
        return 0.0
    if _is_symbols(x):
        found = discrete_mi(_codes(x), codes, ci=None)
    else:
        found = ross_mi(_smooth(x, rng), codes, k=k, metric="chebyshev", ci=None)
    return 0.0 if found.value is None else found.value


def _with_numbers(x: Float, target: Float, k: int, rng: np.random.Generator) -> float:
    if bool((x == x[0]).all()):
        return 0.0
    if _is_symbols(x):
        found = ross_mi(target, _codes(x), k=k, metric="chebyshev", ci=None)
        return 0.0 if found.value is None else found.value
    value, _ = ksg_value(_smooth(x, rng)[:, None], target[:, None], k, 1, "chebyshev")
    return value
