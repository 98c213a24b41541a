"""States to symbols for a PID: by what a probe predicts from them, or by their own geometry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from estimators._arrays import matrix, to_numpy
from estimators._errors import InputError
from estimators._kmeans import kmeans, nearest
from estimators._resample import blocks
from estimators.quantise import quantise

__all__ = ["Coded", "Rule", "code_states", "default_states"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Rule = Literal["prediction", "kmeans", "pq"]

_MOST_STATES = 64
# Of the samples: to fit the probe, to fit the codebook on; the others are evaluated.
_PROBE_SHARE, _CODEBOOK_SHARE = 3, 1
_BLOCKS = 8
# Wider states are first projected on so many principal directions.
_MOST_DIRECTIONS = 128


@dataclass(frozen=True, slots=True)
class Coded:
    """Symbols of both sources on the rows that were not used for fitting.

    `probe_information` is I(Z; source) in nats as the probe sees it (H(Z) minus its held-out
    log-loss), None where there was no probe.
    """

    x: IntArray
    y: IntArray
    rows: IntArray
    probe_information: tuple[float | None, float | None]
    rule: str


def default_states(n: int, n_z: int) -> int:
    """Return the number of states per source that leaves about two samples per cell."""
    return int(np.clip(np.sqrt(n / (2.0 * n_z)), 2, _MOST_STATES))


def code_states(
    z: IntArray, x: Any, y: Any, *, rule: Rule, n_states: int | None, groups: IntArray | None,
    seed: int,
) -> Coded:  # fmt: skip
    """Fit a quantiser on half of the groups, encode both sources on the other half."""
    if rule not in get_args(Rule):
        raise InputError(f"quantiser is {rule!r}; use one of {', '.join(get_args(Rule))}")
    x, y = matrix(x, "x"), matrix(y, "y")
    block = blocks(len(z), groups, _BLOCKS, seed=seed)
    probe_rows = np.flatnonzero(block < _PROBE_SHARE)
    codebook_rows = np.flatnonzero(
        (block >= _PROBE_SHARE) & (block < _PROBE_SHARE + _CODEBOOK_SHARE)
    )
    rows = np.flatnonzero(block >= _PROBE_SHARE + _CODEBOOK_SHARE)
    if min(len(probe_rows), len(codebook_rows), len(rows)) < 2:
        raise InputError(
            f"{len(z)} samples in {len(np.unique(block))} groups cannot be split into a part to "
            "fit the quantiser on and one to evaluate; pass at least 16 samples in 8 groups, or "
            "integer symbols, which need no quantiser"
        )
    k = default_states(len(rows), int(z.max()) + 1) if n_states is None else n_states
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 2:
        raise InputError(f"n_states is {n_states!r}; use an integer of at least 2, e.g. 16")
    if rule != "prediction":
        fit_rows = np.sort(np.concatenate([probe_rows, codebook_rows]))
        codes = _by_geometry(x, y, rule, int(k), fit_rows, seed)
        return Coded(codes[0][rows], codes[1][rows], rows, (None, None), rule)
    return _by_prediction(z, (x, y), int(k), probe_rows, codebook_rows, rows, seed)


def _by_geometry(
    x: Any, y: Any, rule: Literal["kmeans", "pq"], k: int, fit_rows: IntArray, seed: int
) -> tuple[IntArray, IntArray]:
    """One rule for both sources where they have the same width, so that equal states agree."""
    if x.shape[1] == y.shape[1]:
        shared = quantise([x, y], rule, n_states=k, fit_on=fit_rows, seed=seed)
        return shared.encode(x), shared.encode(y)
    of_x = quantise(x, rule, n_states=k, fit_on=fit_rows, seed=seed)
    of_y = quantise(y, rule, n_states=k, fit_on=fit_rows, seed=seed)
    return of_x.encode(x), of_y.encode(y)


def _posteriors(
    z: IntArray, x: Any, probe_rows: IntArray, n_z: int, seed: int
) -> NDArray[np.float64]:
    """Predict P(z|x) of every row by multinomial logistic regression fitted on `probe_rows`."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    seen = np.unique(z[probe_rows])
    out = np.zeros((len(z), n_z))
    if len(seen) == 1:
        out[:, seen[0]] = 1.0
    else:
        steps = [StandardScaler(), LogisticRegression(max_iter=500)]
        if x.shape[1] > _MOST_DIRECTIONS:
            directions = min(_MOST_DIRECTIONS, len(probe_rows) - 1)
            steps.insert(
                1, PCA(directions, whiten=True, svd_solver="randomized", random_state=seed)
            )
        probe = make_pipeline(*steps)
        probe.fit(x[probe_rows], z[probe_rows])
        out[:, seen] = probe.predict_proba(x)
    # A class the probe has not met keeps a share, so that its log-loss is finite.
    smoothing = 1.0 / (len(probe_rows) + n_z)
    return (1.0 - n_z * smoothing) * out + smoothing if n_z * smoothing < 1 else out


def _by_prediction(
    z: IntArray,
    sources: tuple[Any, Any],
    k: int,
    probe_rows: IntArray,
    codebook_rows: IntArray,
    rows: IntArray,
    seed: int,
) -> Coded:
    """Cluster the predicted posteriors of both sources with one codebook.

    Both live in the simplex over Z, whatever the widths of the layers, so equal predictions get
    equal symbols. Square roots make Euclidean distance the Hellinger distance.
    """
    n_z = int(z.max()) + 1
    of_z = np.bincount(z[rows], minlength=n_z) / len(rows)
    entropy = -float(of_z[of_z > 0] @ np.log(of_z[of_z > 0]))
    posteriors = [_posteriors(z, source, probe_rows, n_z, seed) for source in sources]
    information = tuple(
        entropy + float(np.log(np.maximum(posterior[rows, z[rows]], 1e-300)).mean())
        for posterior in posteriors
    )
    roots = [np.sqrt(posterior) for posterior in posteriors]
    fit_on = np.concatenate([root[codebook_rows] for root in roots])
    distinct = len(np.unique(fit_on.astype(np.float32), axis=0))
    centres = kmeans(fit_on, min(k, max(distinct, 1)), seed=seed)
    x, y = (nearest(root[rows], centres) for root in roots)
    return Coded(x, y, rows, (information[0], information[1]), "prediction")


def is_states(a: Any, name: str) -> bool:
    """True for floating point states, False for symbols."""
    return to_numpy(a, name).dtype.kind == "f"
