r"""Multinomial logistic regressions on unions of folds, many of them in lock step.

The Hessian of the multinomial log loss is at most
:math:`\tfrac12 (I - 11^T/K) \otimes X^T X` (Boehning 1992), and in principal coordinates that is
nearly diagonal on every union of folds. Scaled by it, L-BFGS takes some ten steps where it would
take hundreds on raw states. All fits of a stage (folds, targets, penalties) step together, so one
product with the states serves them all, at the speed of a matrix product instead of a few columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from estimators._arrays import FloatArray, IntArray
from probes._choice import Key
from probes._principal import Principal

__all__ = ["LogisticFit", "LogisticSolver", "Task", "log_softmax"]

ROUGH = 5e-5  # tolerance, in nats, of fits that only choose a penalty
_PAIRS = 8  # of steps and gradients that L-BFGS remembers
_TRIALS = 12
_COLUMNS = 160  # of coefficients that step together at least
_VALUES = 2**21  # scores, or coefficients, of the fits that step together


@dataclass(frozen=True, slots=True)
class Task:
    """One fit: the folds it may see, the target's number, the penalty."""

    folds: tuple[int, ...]
    target: int
    penalty: float


@dataclass(frozen=True, slots=True)
class LogisticFit:
    """Coefficients (k, r) and intercept (k,) in principal coordinates."""

    coef: FloatArray
    intercept: FloatArray
    n_iter: int
    converged: bool


def log_softmax(scores: FloatArray, axis: int = 1) -> FloatArray:
    """Log of the softmax along an axis."""
    out = scores - scores.max(axis, keepdims=True)
    return np.asarray(out - np.log(np.exp(out).sum(axis, keepdims=True)))


class LogisticSolver:
    r"""Logistic fits of one layer to one or more targets with the same classes.

    Each minimises :math:`\sum_i -\log p(z_i|x_i) + \tfrac{n \lambda}{4} |W|^2` and the loss of one
    further sample at the mean whose class is uniform, so that a class that is absent keeps a
    probability above 0.

    Parameters
    ----------
    layer : Principal
    z : ndarray of float64, shape (n, m, k)
        The m targets, one-hot or distributions, rows in the layer's order.
    max_iter : int
    tol : float
        Decrease of the mean log loss, in nats, at which a fit stops.
    """

    def __init__(
        self, layer: Principal, z: FloatArray, *, max_iter: int = 300, tol: float = 1e-6
    ) -> None:
        self.layer, self.max_iter, self.tol = layer, max_iter, tol
        self.k = int(z.shape[2])
        flipped = z.transpose(1, 2, 0).astype(layer.x.dtype)
        self._z = [np.ascontiguousarray(flipped[:, :, rows]) for rows in layer.folds]
        self._counts = [z[rows].sum(0) for rows in layer.folds]
        self._known: dict[tuple[int, tuple[int, ...]], dict[float, LogisticFit]] = {}

    def fit(self, tasks: Sequence[Task], *, tol: float | None = None) -> list[LogisticFit]:
        """Fit all tasks; each starts from the nearest fit that saw some of its samples only."""
        out: list[LogisticFit] = []
        columns = max(_COLUMNS, _VALUES // max(self.layer.n, self.layer.rank))
        step = max(1, columns // self.k)
        for i in range(0, len(tasks), step):
            some = tasks[i : i + step]
            starts = [self._start(task) for task in some]
            fits = _lock_step(self, some, starts, self.tol if tol is None else tol)
            for task, fit in zip(some, fits, strict=True):
                self._known.setdefault((task.target, task.folds), {})[task.penalty] = fit
            out += fits
        return out

    def log_proba(self, fit: LogisticFit, fold: int) -> FloatArray:
        """Log probabilities of a fold's samples, shape (n_f, k)."""
        x = self.layer.x[self.layer.folds[fold]]
        scores = np.asarray(x @ fit.coef.T.astype(x.dtype), dtype=np.float64)
        return log_softmax(scores + fit.intercept)

    def errors(self, keys: Sequence[Key]) -> dict[Key, Mapping[int, float]]:
        """Log losses of rough fits on every fold that they did not see."""
        tasks = [Task(folds, target, 10.0**step) for folds, target, step in keys]
        out: dict[Key, Mapping[int, float]] = {}
        for key, fit in zip(keys, self.fit(tasks, tol=ROUGH), strict=True):
            folds, target, _ = key
            out[key] = {
                f: -float(np.einsum("ij,ji->", self.log_proba(fit, f), self._z[f][target]))
                for f in range(len(self.layer.folds))
                if f not in folds
            }
        return out

    def _start(self, task: Task) -> LogisticFit | None:
        within = [
            (folds, fits)
            for (target, folds), fits in self._known.items()
            if target == task.target and set(folds) <= set(task.folds)
        ]
        if not within:
            return None
        fits = max(within, key=lambda found: len(found[0]))[1]
        return fits[min(fits, key=lambda penalty: abs(np.log(penalty / task.penalty)))]

    def prior(self, task: Task) -> FloatArray:
        """Intercept of the class shares."""
        counts = np.sum([self._counts[f][task.target] for f in task.folds], axis=0)
        share = (counts + 1.0 / self.k) / (counts.sum() + 1.0)
        return np.asarray(np.log(share))

    def of_fold(self, fold: int, targets: IntArray) -> FloatArray:
        """Targets of a fold, classes first: shape (len(targets), k, n_f)."""
        return self._z[fold][targets]


class _State:
    """What is known of the fits that still step."""

    def __init__(
        self, solver: LogisticSolver, tasks: Sequence[Task], starts: Sequence[LogisticFit | None]
    ) -> None:
        layer, k = solver.layer, solver.k
        self.solver, self.x, self.k, self.r = solver, layer.x, k, layer.rank
        self.dtype = layer.x.dtype
        self.targets = np.array([task.target for task in tasks])
        self.seen = np.array([[f in task.folds for f in range(len(layer.folds))] for task in tasks])
        self.n = np.array([float(layer.size(task.folds)) for task in tasks])
        self.ridge = self.n * np.array([task.penalty for task in tasks])
        # Variables in which the bound on the Hessian is the identity.
        near = self.n[:, None] / layer.n * layer.values[None] + self.ridge[:, None]
        self.unit = np.sqrt(2.0 / near).astype(self.dtype)
        self.unit_b = np.sqrt(2.0 / self.n)
        p = len(tasks)
        self.w = np.zeros((p, k, self.r), dtype=self.dtype)
        self.b = np.zeros((p, k))
        for i, (task, start) in enumerate(zip(tasks, starts, strict=True)):
            if start is None:
                self.b[i] = solver.prior(task)
            else:
                self.w[i], self.b[i] = start.coef, start.intercept
        self.z = [solver.of_fold(f, self.targets[self.seen[:, f]]) for f in self.folds]
        self.scores = self.products(self.w, self.b)
        self.steps: list[tuple[FloatArray, FloatArray, FloatArray]] = []

    @property
    def folds(self) -> range:
        return range(len(self.solver.layer.folds))

    def products(self, w: FloatArray, b: FloatArray) -> list[FloatArray]:
        """Scores, per fold of shape (fits that see it, k, n_f)."""
        out = []
        for f in self.folds:
            mine = self.seen[:, f]
            rows = self.x[self.solver.layer.folds[f]]
            flat = w[mine].reshape(-1, self.r) @ rows.T
            s = flat.reshape(int(mine.sum()), self.k, len(rows))
            s += b[mine][:, :, None].astype(self.dtype)
            out.append(s)
        return out

    def value(
        self, scores: Sequence[FloatArray], w2: FloatArray, b: FloatArray
    ) -> tuple[FloatArray, list[FloatArray], FloatArray]:
        """Loss of each fit, and the probabilities."""
        loss = 0.25 * self.ridge * w2
        found = []
        for f, s in enumerate(scores):
            top = s.max(1, keepdims=True)
            e = np.exp(s - top)
            total = e.sum(1, keepdims=True)
            e /= total
            own = np.log(total) + top
            mine = self.seen[:, f]
            loss[mine] += own.sum((1, 2), dtype=np.float64)
            loss[mine] -= _inner(self.z[f], s)
            found.append(e)
        prior = log_softmax(b)
        return loss - prior.mean(1), found, np.exp(prior)

    def gradient(self, proba: Sequence[FloatArray], prior: FloatArray) -> FloatArray:
        """Of the loss in scaled variables, shape (fits, k r + k)."""
        g = (0.5 * self.ridge[:, None, None]).astype(self.dtype) * self.w
        gb = prior - 1.0 / self.k
        for f, e in enumerate(proba):
            mine = self.seen[:, f]
            excess = e - self.z[f]
            rows = self.x[self.solver.layer.folds[f]]
            pulled = excess.reshape(len(excess) * self.k, len(rows)) @ rows
            g[mine] += pulled.reshape(len(excess), self.k, self.r)
            gb[mine] += excess.sum(2, dtype=np.float64)
        g *= self.unit[:, None, :]
        return np.concatenate(
            [g.reshape(len(g), -1), (gb * self.unit_b[:, None]).astype(self.dtype)], axis=1
        )

    def unscaled(self, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Coefficients and intercepts of scaled variables."""
        w = v[:, : self.k * self.r].reshape(-1, self.k, self.r) * self.unit[:, None, :]
        return w, v[:, self.k * self.r :].astype(np.float64) * self.unit_b[:, None]

    def direction(self, g: FloatArray) -> FloatArray:
        """Two loops of L-BFGS (Nocedal 1980) for every fit."""
        q = -g
        kept = []
        for s, y, rho in reversed(self.steps):
            a = rho * _dots(s, q)
            q -= a[:, None].astype(self.dtype) * y
            kept.append(a)
        if self.steps:
            s, y, rho = self.steps[-1]
            gamma = 1.0 / np.maximum(rho * _dots(y, y), 1e-30)
            q *= np.where(rho > 0.0, gamma, 1.0)[:, None].astype(self.dtype)
        for (s, y, rho), a in zip(self.steps, reversed(kept), strict=True):
            c = a - rho * _dots(y, q)
            q += c[:, None].astype(self.dtype) * s
        return q

    def remember(self, s: FloatArray, y: FloatArray) -> None:
        """Keep a step and the change of the gradient along it."""
        product = _dots(s, y)
        rho = np.where(product > 0.0, 1.0 / np.where(product > 0.0, product, 1.0), 0.0)
        self.steps = [*self.steps[-(_PAIRS - 1) :], (s, y, rho)]

    def keep(self, which: FloatArray) -> None:
        """Go on with some of the fits only."""
        for f in self.folds:
            among = which[self.seen[:, f]]
            self.z[f], self.scores[f] = self.z[f][among], self.scores[f][among]
        for name in ("targets", "seen", "n", "ridge", "unit", "unit_b", "w", "b"):
            setattr(self, name, getattr(self, name)[which])
        self.steps = [(s[which], y[which], rho[which]) for s, y, rho in self.steps]


def _lock_step(
    solver: LogisticSolver,
    tasks: Sequence[Task],
    starts: Sequence[LogisticFit | None],
    tol: float,
) -> list[LogisticFit]:
    state = _State(solver, tasks, starts)
    out: dict[int, LogisticFit] = {}
    names = np.arange(len(tasks))
    w2 = _inner(state.w, state.w)
    loss, proba, prior = state.value(state.scores, w2, state.b)
    g = state.gradient(proba, prior)
    for iteration in range(1, solver.max_iter + 1):
        d = state.direction(g)
        slope = _dots(d, g)
        uphill = slope >= 0.0
        if bool(uphill.any()):
            d[uphill] = -g[uphill]
            slope = _dots(d, g)
        dw, db = state.unscaled(d)
        t, new_loss, scores, proba, prior = _search(state, loss, slope, dw, db)
        shift = t[:, None].astype(state.dtype)
        state.w += shift[:, :, None] * dw
        state.b += t[:, None] * db
        state.scores = scores
        last, g = g, state.gradient(proba, prior)
        state.remember(shift * d, g - last)
        done = loss - new_loss <= tol * np.maximum(new_loss, state.n)
        loss = new_loss
        if bool(done.any()) or iteration == solver.max_iter:
            ends = np.ones_like(done) if iteration == solver.max_iter else done
            for i in np.flatnonzero(ends):
                out[int(names[i])] = LogisticFit(
                    state.w[i].copy(), state.b[i].copy(), iteration, bool(done[i])
                )
            if bool(ends.all()):
                break
            going = ~ends
            state.keep(going)
            names, loss, g = names[going], loss[going], g[going]
    return [out[i] for i in range(len(tasks))]


def _search(
    state: _State, loss: FloatArray, slope: FloatArray, dw: FloatArray, db: FloatArray
) -> tuple[FloatArray, FloatArray, list[FloatArray], list[FloatArray], FloatArray]:
    """Find a step along each direction that meets Wolfe's conditions.

    Scores are linear in the step, so trials cost no product with the states.
    """
    along = state.products(dw, db)
    w2 = (_inner(state.w, state.w), _inner(state.w, dw), _inner(dw, dw))
    t, low, high = np.ones_like(loss), np.zeros_like(loss), np.full_like(loss, np.inf)
    for trial in range(_TRIALS):
        b = state.b + t[:, None] * db
        scores = [
            s + t[state.seen[:, f]][:, None, None].astype(state.dtype) * along[f]
            for f, s in enumerate(state.scores)
        ]
        value, proba, prior = state.value(scores, w2[0] + 2 * t * w2[1] + t**2 * w2[2], b)
        here = 0.5 * state.ridge * (w2[1] + t * w2[2])
        here += ((prior - 1.0 / state.k) * db).sum(1)
        for f, e in enumerate(proba):
            here[state.seen[:, f]] += _inner(e, along[f]) - _inner(state.z[f], along[f])
        noise = 1e-7 * np.abs(loss) if state.dtype == np.float32 else 0.0
        too_long = value > loss + 1e-4 * t * slope + noise
        too_short = ~too_long & (here < 0.9 * slope)
        if not bool((too_long | too_short).any()) or trial == _TRIALS - 1:
            break
        high, low = np.where(too_long, t, high), np.where(too_short, t, low)
        # The loss is convex: its slope passes through zero between the two ends.
        guess = t * slope / np.where(slope - here < 0.0, slope - here, -1e-30)
        closed = np.isfinite(high)
        gap = np.where(closed, high, low) - low
        inside = np.where(
            closed,
            np.clip(guess, low + 0.1 * gap, low + 0.9 * gap),
            np.clip(guess, 2.0 * t, 10.0 * t),
        )
        t = np.where(too_long | too_short, inside, t)
    stuck = value > loss
    if bool(stuck.any()):
        # Rounding hides any further descent: stay, which ends the fit.
        t = np.where(stuck, 0.0, t)
        value = np.where(stuck, loss, value)
        for f, s in enumerate(state.scores):
            among = stuck[state.seen[:, f]]
            scores[f][among] = s[among]
    return t, value, scores, proba, prior


def _dots(a: FloatArray, b: FloatArray) -> FloatArray:
    """Inner products of rows."""
    return np.asarray(np.matmul(a[:, None, :], b[:, :, None])[:, 0, 0], dtype=np.float64)


def _inner(a: FloatArray, b: FloatArray) -> FloatArray:
    """Inner products over all but the first axis."""
    if not len(a):
        return np.zeros(0)
    return _dots(a.reshape(len(a), -1), b.reshape(len(b), -1))
