"""A multilayer perceptron as probe, for what a linear one cannot read."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from estimators import InputError
from estimators._arrays import FloatArray
from probes._base import Probe, not_fitted, r_squared
from probes._logistic import log_softmax
from probes._principal import standardised
from probes._split import grouped_folds
from probes._target import read_target

__all__ = ["MLPProbe"]

_GELU = 1.13  # its steepest slope is 1.1289


class MLPProbe(Probe):
    """One hidden layer or more, stopped where the loss on left-out groups is least.

    Classes (integers, words) and distributions over them are fitted by log loss, values by squared
    error. A nested split, one of `folds` folds of groups, decides when to stop; the weights of the
    best epoch are kept. Needs torch.

    When it lies: with few groups the left-out ones choose the epoch by chance, and two fits differ
    by their seed. A larger network is not always a better reader: compare with a linear probe.

    Parameters
    ----------
    hidden : int
        Units of each hidden layer.
    depth : int
        Hidden layers.
    dropout, weight_decay, learning_rate : float
    batch_size : int
    max_epochs : int
    patience : int
        Epochs without an improvement before it stops.
    folds : int
        One of these is left out to decide when to stop.
    seed : int
        Of the split, the weights and the order; torch's own random state is left as it was.
    device : str
        ``"cpu"``, ``"cuda"``, or ``"auto"`` for a GPU where there is one.

    Attributes
    ----------
    classes_ : ndarray or None
    n_epochs_ : int
        Epochs whose weights were kept.
    validation_loss_ : float

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(600, 2))
    >>> y = (x[:, 0] * x[:, 1] > 0).astype(int)               # no linear probe reads this
    >>> probe = MLPProbe(hidden=32, max_epochs=60, seed=0).fit(x[:500], y[:500])
    >>> probe.score(x[500:], y[500:]) > 0.8
    True
    """

    def __init__(
        self,
        *,
        hidden: int = 256,
        depth: int = 1,
        dropout: float = 0.0,
        weight_decay: float = 1e-4,
        learning_rate: float = 3e-3,
        batch_size: int = 256,
        max_epochs: int = 100,
        patience: int = 8,
        folds: int = 5,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.hidden, self.depth, self.dropout = hidden, depth, dropout
        self.weight_decay, self.learning_rate = weight_decay, learning_rate
        self.batch_size, self.max_epochs, self.patience = batch_size, max_epochs, patience
        self.folds, self.seed, self.device = folds, seed, device
        self._net: Any = None
        self._width: int | None = None

    def fit(self, x: Any, y: Any, groups: Any = None) -> Self:
        """Fit to classes, distributions or values.

        Parameters
        ----------
        x : array_like, shape (n, d)
        y : array_like, shape (n,) or (n, k)
        groups : array_like, shape (n,), optional
            Cluster of each sample, kept on one side of the nested split.

        Raises
        ------
        InputError
            If inputs do not fit each other, an option is out of range, or the loss diverges.
        """
        import torch

        for name in ("hidden", "depth", "batch_size", "max_epochs", "patience"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)!r}; use an integer of at least 1")
        for name in ("dropout", "weight_decay", "learning_rate"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)!r}; use a number of at least 0")
        raw = self._read(x, y)
        target = read_target(y, len(raw), name="y")
        self.classes_ = target.classes
        self._soft = target.kind == "classes" or (target.k > 1 and target.distribution)
        self._flat = not self._soft and np.ndim(y) == 1
        fold_of = grouped_folds(
            len(raw), self.folds, groups=groups, labels=target.codes, seed=self.seed
        )
        train, held = np.flatnonzero(fold_of != 0), np.flatnonzero(fold_of == 0)
        _, self._mean, self._scale = standardised(raw[train])
        self._width = raw.shape[1]
        self._offset = np.zeros(target.k) if self._soft else target.z[train].mean(0)
        spread = 1.0 if self._soft else float(np.sqrt(target.z[train].var(0).mean()))
        self._spread = spread if spread > 0.0 else 1.0
        device = self._place(torch)
        inputs = self._tensor(torch, raw, device)
        wanted = torch.as_tensor(
            (target.z - self._offset) / self._spread, dtype=torch.float32, device=device
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self._net = _network(torch, inputs.shape[1], target.k, self).to(device)
            self._train(torch, inputs, wanted, train, held)
        return self

    def _train(
        self, torch: Any, inputs: Any, wanted: Any, train: NDArray[Any], held: NDArray[Any]
    ) -> None:
        rng = np.random.default_rng(self.seed)
        optimiser = torch.optim.AdamW(
            self._net.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
        )
        best, kept, since = math.inf, None, 0
        for epoch in range(1, self.max_epochs + 1):
            self._net.train()
            order = rng.permutation(train)
            for i in range(0, len(order), self.batch_size):
                rows = torch.as_tensor(order[i : i + self.batch_size], device=inputs.device)
                optimiser.zero_grad()
                loss = _loss(torch, self._net(inputs[rows]), wanted[rows], self._soft)
                loss.backward()
                optimiser.step()
            with torch.no_grad():
                self._net.eval()
                rows = torch.as_tensor(held, device=inputs.device)
                value = float(_loss(torch, self._net(inputs[rows]), wanted[rows], self._soft))
            since += 1
            if value < best:
                best, since, self.n_epochs_ = value, 0, epoch
                kept = {k: v.detach().clone() for k, v in self._net.state_dict().items()}
            elif since >= self.patience:
                break
        if kept is None:
            raise InputError(
                f"the loss was never finite at learning_rate = {self.learning_rate:g}; use a "
                "smaller one"
            )
        self._net.load_state_dict(kept)
        self.validation_loss_ = best

    def _place(self, torch: Any) -> Any:
        if self.device != "auto":
            return torch.device(self.device)
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def _tensor(self, torch: Any, x: FloatArray, device: Any) -> Any:
        ready = (x - self._mean) / self._scale
        return torch.as_tensor(ready, dtype=torch.float32, device=device)

    def _scores(self, x: Any) -> FloatArray:
        import torch

        raw = self._check_fitted(x, self._width)
        device = next(self._net.parameters()).device
        parts = []
        with torch.no_grad():
            self._net.eval()
            for i in range(0, len(raw), 8192):
                scores = self._net(self._tensor(torch, raw[i : i + 8192], device))
                parts.append(scores.double().cpu().numpy())
        return np.asarray(np.concatenate(parts)) * self._spread + self._offset

    def predict_log_proba(self, x: Any) -> FloatArray:
        """Log probability of each class; for classes and distributions only."""
        scores = self._scores(x)
        if not self._soft:
            raise InputError("this probe was fitted to values, which have no probabilities")
        return log_softmax(scores)

    def predict_proba(self, x: Any) -> FloatArray:
        """Probability of each class; for classes and distributions only."""
        return np.asarray(np.exp(self.predict_log_proba(x)))

    def predict(self, x: Any) -> NDArray[Any]:
        """Most probable class, or values in the shape of what was fitted."""
        scores = self._scores(x)
        if not self._soft:
            return scores[:, 0] if self._flat else scores
        best = scores.argmax(1)
        return np.asarray(best if self.classes_ is None else self.classes_[best])

    def score(self, x: Any, y: Any) -> float:
        """Share of classes predicted, or of variance explained."""
        if self._soft:
            return float(np.mean(self.predict(x) == np.asarray(y)))
        return r_squared(np.asarray(y), self.predict(x))

    def lipschitz_bound(self) -> float:
        """Return a number that no change of the prediction per unit of the raw states exceeds.

        The product of the spectral norms of the layers (Szegedy et al. 2014), 1.13 for each GELU
        and 1/2 for the softmax: valid for Euclidean norms, and as a rule far too large.
        """
        import torch

        if self._width is None:
            raise not_fitted("this MLPProbe is not fitted; call fit(x, y) first")
        weights = [m.weight for m in self._net if isinstance(m, torch.nn.Linear)]
        first = weights[0].detach().double().cpu().numpy() / self._scale
        norms = [np.linalg.norm(first, 2)]
        norms += [np.linalg.norm(w.detach().double().cpu().numpy(), 2) for w in weights[1:]]
        outer = 0.5 if self._soft else self._spread
        return float(np.prod(norms)) * _GELU ** (len(weights) - 1) * outer

    def _is_classifier(self) -> bool:
        return bool(getattr(self, "_soft", True))


def _network(torch: Any, width: int, k: int, probe: MLPProbe) -> Any:
    layers: list[Any] = []
    for _ in range(probe.depth):
        layers += [torch.nn.Linear(width, probe.hidden), torch.nn.GELU()]
        if probe.dropout:
            layers.append(torch.nn.Dropout(probe.dropout))
        width = probe.hidden
    return torch.nn.Sequential(*layers, torch.nn.Linear(width, k))


def _loss(torch: Any, scores: Any, wanted: Any, soft: bool) -> Any:
    if soft:
        return -(wanted * torch.log_softmax(scores, dim=1)).sum(1).mean()
    return ((scores - wanted) ** 2).sum(1).mean()
