"""Linear probes: ridge regression for values, multinomial logistic regression for classes."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from estimators import InputError
from estimators._arrays import FloatArray
from probes._base import Probe, r_squared
from probes._choice import Judge, choose_all
from probes._folded import RidgeSolver
from probes._logistic import LogisticSolver, Task, log_softmax
from probes._principal import Principal, principal
from probes._split import grouped_folds
from probes._target import Target, read_target

__all__ = ["LogisticProbe", "RidgeProbe"]

Penalty = float | Literal["cv"]


class _Linear(Probe):
    """Fit on standardised states, return an affine map of the raw ones."""

    penalty: Penalty
    folds: int
    seed: int
    _width: int | None = None

    def _prepare(self, x: FloatArray, target: Target, groups: Any) -> tuple[Principal, FloatArray]:
        if self.penalty != "cv" and not (
            isinstance(self.penalty, int | float) and 0.0 <= self.penalty < np.inf
        ):
            raise InputError(
                f"penalty is {self.penalty!r}; give a number of at least 0, or 'cv' to choose one"
            )
        if len(x) != len(target.z):
            raise InputError(f"x has {len(x)} samples and y {len(target.z)}; they must agree")
        fold_of = grouped_folds(
            len(x), self.folds, groups=groups, labels=target.codes, seed=self.seed
        )
        layer = principal(x, fold_of, self.folds)
        return layer, target.z[layer.order][:, None]

    def _choose(self, solver: RidgeSolver | LogisticSolver) -> float:
        if self.penalty != "cv":
            return float(self.penalty)
        every = range(self.folds)
        left_out = [Judge(tuple(f for f in every if f != v), v) for v in every]
        return float(10.0 ** choose_all({0: left_out}, 1, solver.errors)[0, 0])

    def _keep(self, layer: Principal, coef: FloatArray, intercept: FloatArray) -> None:
        self._width = len(layer.mean)
        self.coef_ = layer.to_states(coef).T
        self.intercept_ = intercept - self.coef_ @ layer.mean

    def _scores(self, x: Any) -> FloatArray:
        ready = self._check_fitted(x, self._width)
        linear = ready @ self.coef_.T.astype(ready.dtype)
        return np.asarray(linear, dtype=np.float64) + self.intercept_


class RidgeProbe(_Linear):
    r"""Ridge regression of a vector of values, the penalty chosen over grouped folds.

    .. math:: \min_{W, b} \sum_i |z_i - W x_i - b|^2 + n \lambda \sum_j \sigma_j^2 |w_j|^2

    Parameters
    ----------
    penalty : float or "cv"
        :math:`\lambda`, per sample and in units of each coordinate's variance.
    folds : int
        Over which ``"cv"`` chooses, going downhill over powers of 10.
    seed : int
        Of the folds.

    Attributes
    ----------
    coef_ : ndarray, shape (k, d)
    intercept_ : ndarray, shape (k,)
    penalty_ : float

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(300, 5))
    >>> z = x[:, :2] + 0.1 * rng.normal(size=(300, 2))
    >>> RidgeProbe().fit(x[:200], z[:200]).score(x[200:], z[200:]) > 0.95
    True
    """

    def __init__(self, *, penalty: Penalty = "cv", folds: int = 5, seed: int = 0) -> None:
        self.penalty, self.folds, self.seed = penalty, folds, seed

    def fit(self, x: Any, y: Any, groups: Any = None) -> Self:
        """Fit to values of shape (n,) or (n, k).

        Parameters
        ----------
        x : array_like, shape (n, d)
        y : array_like of float, shape (n,) or (n, k)
            Integers are taken as numbers, here.
        groups : array_like, shape (n,), optional
            Cluster of each sample, kept together in folds.

        Raises
        ------
        InputError
            If `y` is not numbers, a value is not finite, or shapes disagree.
        """
        ready = self._read(x, y)
        given = np.asarray(y) if isinstance(y, list | tuple) else y
        if getattr(getattr(given, "dtype", None), "kind", "") in ("i", "u", "b"):
            given = np.asarray(given, dtype=np.float64)  # a regression takes numbers as numbers
        target = read_target(given, len(ready), name="y")
        if target.kind != "values":
            raise InputError("y holds words, which are classes; use LogisticProbe for classes")
        layer, z = self._prepare(ready, target, groups)
        solver = RidgeSolver(layer, z)
        self.penalty_ = self._choose(solver)
        coef, intercept = solver.fit(range(self.folds), [self.penalty_])
        self._flat = np.ndim(y) == 1
        self._keep(layer, coef[0, :, 0], intercept[0, 0])
        return self

    def predict(self, x: Any) -> FloatArray:
        """Predicted values, in the shape of what was fitted."""
        scores = self._scores(x)
        return scores[:, 0] if self._flat else scores

    def score(self, x: Any, y: Any) -> float:
        """Share of the variance explained, all columns together."""
        return r_squared(np.asarray(y), self.predict(x))

    def _is_classifier(self) -> bool:
        return False


class LogisticProbe(_Linear):
    r"""Multinomial logistic regression, the penalty chosen over grouped folds by log loss.

    .. math:: \min_{W, b} -\sum_i \log p(z_i|x_i)
              + \tfrac{n \lambda}{4} \sum_j \sigma_j^2 |w_j|^2

    On standardised states this is scikit-learn's with :math:`C = 2 / (n \lambda)` (twice that for
    two classes, which it gives one set of coefficients), but for one sample of weight that keeps
    the probability of an unseen class above 0.

    Parameters
    ----------
    penalty : float or "cv"
        :math:`\lambda`, above 0.
    folds, seed
        As in `RidgeProbe`.
    max_iter : int
        Steps of L-BFGS.

    Attributes
    ----------
    classes_ : ndarray, shape (k,)
    coef_, intercept_, penalty_
        As in `RidgeProbe`.
    n_iter_ : int
    converged_ : bool

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(400, 5))
    >>> y = np.where(x[:, 0] > 0, "left", "right")
    >>> probe = LogisticProbe().fit(x[:300], y[:300])
    >>> probe.score(x[300:], y[300:]) > 0.95, probe.classes_.tolist()
    (True, ['left', 'right'])
    """

    def __init__(
        self, *, penalty: Penalty = "cv", folds: int = 5, seed: int = 0, max_iter: int = 200
    ) -> None:
        self.penalty, self.folds, self.seed, self.max_iter = penalty, folds, seed, max_iter

    def fit(self, x: Any, y: Any, groups: Any = None) -> Self:
        """Fit to classes, or to distributions over classes.

        Parameters
        ----------
        x : array_like, shape (n, d)
        y : array_like, shape (n,) or (n, k)
            Labels, or one distribution per sample (rows of floats that sum to 1).
        groups : array_like, shape (n,), optional

        Raises
        ------
        InputError
            If `y` has one class, its rows are no distributions, or shapes disagree.
        """
        ready = self._read(x, y)
        target = read_target(y, len(ready), name="y")
        if target.kind == "values" and not (target.k > 1 and target.distribution):
            raise InputError(
                "y holds real numbers that are no distributions over classes; use RidgeProbe for "
                "values, or integers or words for classes"
            )
        if self.penalty == 0:
            raise InputError("penalty is 0, where separable classes have no fit; give 1e-6 or more")
        layer, z = self._prepare(ready, target, groups)
        solver = LogisticSolver(layer, z, max_iter=self.max_iter, tol=1e-7)
        self.penalty_ = self._choose(solver)
        fit = solver.fit([Task(tuple(range(self.folds)), 0, self.penalty_)])[0]
        self.classes_ = np.arange(target.k) if target.classes is None else target.classes
        self.n_iter_, self.converged_ = fit.n_iter, fit.converged
        self._keep(layer, fit.coef.T, fit.intercept)
        return self

    def predict_log_proba(self, x: Any) -> FloatArray:
        """Log probability of each class, shape (n, k)."""
        return log_softmax(self._scores(x))

    def predict_proba(self, x: Any) -> FloatArray:
        """Probability of each class, shape (n, k)."""
        return np.asarray(np.exp(self.predict_log_proba(x)))

    def predict(self, x: Any) -> NDArray[Any]:
        """Most probable class."""
        best = self._scores(x).argmax(1)
        return np.asarray(self.classes_[best])

    def score(self, x: Any, y: Any) -> float:
        """Share of samples whose class is predicted."""
        return float(np.mean(self.predict(x) == np.asarray(y)))

    def _is_classifier(self) -> bool:
        return True
