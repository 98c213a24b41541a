"""Turn continuous vectors into symbols by a rule fitted once, kept, and applied to any data.

A shared rule for two layers makes their symbols comparable; a rule fitted on other samples keeps
entropies of its symbols honest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from estimators._arrays import FloatArray, many, matrix, to_numpy
from estimators._errors import InputError
from estimators._kmeans import kmeans, nearest, row_lengths

__all__ = ["Quantiser", "quantise"]

Method = Literal["kmeans", "pq", "signs", "uniform"]
Normalise = Literal["none", "unit", "rms"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quantiser:
    """A fitted rule from vectors to symbols 0..n_states - 1.

    Parameters
    ----------
    method : {"kmeans", "pq", "signs", "uniform"}
    n_states : int
        Size of the alphabet.
    dimension : int
        Coordinates of the vectors it takes.
    normalise : {"none", "unit", "rms"}
        What is done to each vector first.
    arrays : mapping of str to array
        The fitted numbers: centres, directions, edges.
    settings : mapping
        How it was fitted: seed, samples, subspaces.
    """

    method: Method
    n_states: int
    dimension: int
    normalise: Normalise
    arrays: Mapping[str, npt.NDArray[np.float64]]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        frozen = {}
        for name, value in self.arrays.items():
            copy = np.array(value)
            copy.flags.writeable = False
            frozen[name] = copy
        object.__setattr__(self, "arrays", MappingProxyType(frozen))
        object.__setattr__(self, "settings", MappingProxyType(dict(self.settings)))

    def encode(self, x: Any) -> npt.NDArray[np.int64]:
        """Return the symbol of each row of x, int64 of shape (n,).

        Raises
        ------
        InputError
            If x is no float matrix with the dimension this was fitted on.
        """
        a = matrix(x, "x", min_samples=1)
        if a.shape[1] != self.dimension:
            raise InputError(
                f"x has {a.shape[1]} coordinates (shape {a.shape}), and this quantiser was fitted "
                f"on {self.dimension}; pass data of the same layer width"
            )
        if self.method == "kmeans":
            return self._encode_kmeans(a)
        a = _normalised(a, self.normalise)
        if self.method == "pq":
            return self._encode_pq(a)
        if self.method == "signs":
            bits = (a - self.arrays["mean"]) @ self.arrays["directions"].T > 0
            return bits @ (1 << np.arange(bits.shape[1], dtype=np.int64))
        return self._encode_uniform(a)

    def _encode_kmeans(self, a: FloatArray) -> npt.NDArray[np.int64]:
        centres, length = self.arrays["centres"], _length(self.normalise, self.dimension)
        if length is None:
            return nearest(a, centres)
        lengths = row_lengths(a)
        _check_directions(lengths)
        return nearest(a, centres, lengths=lengths, length=length)

    def _encode_pq(self, a: FloatArray) -> npt.NDArray[np.int64]:
        codes = np.zeros(len(a), dtype=np.int64)
        pieces = np.array_split(np.arange(self.dimension), self.settings["subspaces"])
        for m, columns in enumerate(pieces):
            centres = self.arrays[f"centres_{m}"]
            codes = codes * len(centres) + nearest(a[:, columns], centres)
        return codes

    def _encode_uniform(self, a: FloatArray) -> npt.NDArray[np.int64]:
        low, high, bins = self.arrays["low"], self.arrays["high"], int(self.settings["bins"])
        width = np.where(high > low, high - low, 1.0)
        cell = np.clip(np.floor((a - low) / width * bins), 0, bins - 1).astype(np.int64)
        codes = np.zeros(len(a), dtype=np.int64)
        for column in cell.T:
            codes = codes * bins + column
        return codes

    def params(self) -> dict[str, Any]:
        """Return everything but the arrays, ready for JSON; the other half of `to_arrays`."""
        return {
            "method": self.method,
            "n_states": self.n_states,
            "dimension": self.dimension,
            "normalise": self.normalise,
            "settings": dict(self.settings),
        }

    def to_arrays(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return the fitted arrays, ready for ``np.savez`` or safetensors."""
        return {name: np.array(value) for name, value in self.arrays.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], params: Mapping[str, Any]) -> Quantiser:
        """Rebuild a quantiser from what `to_arrays` and `params` returned.

        Raises
        ------
        InputError
            If something is missing.
        """
        missing = {"method", "n_states", "dimension", "normalise", "settings"} - set(params)
        if missing:
            raise InputError(
                f"the saved quantiser lacks {', '.join(sorted(missing))}; pass what params() gave"
            )
        return cls(
            method=params["method"],
            n_states=int(params["n_states"]),
            dimension=int(params["dimension"]),
            normalise=params["normalise"],
            arrays={name: to_numpy(a, name) for name, a in arrays.items()},
            settings=params["settings"],
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (self.to_arrays(), self.params()))


def _rebuild(arrays: dict[str, Any], params: dict[str, Any]) -> Quantiser:
    return Quantiser.from_arrays(arrays, params)


def quantise(
    x: Any,
    method: Method = "kmeans",
    *,
    n_states: int = 256,
    fit_on: Any = None,
    normalise: Normalise = "none",
    subspaces: int = 2,
    seed: int = 0,
) -> Quantiser:
    r"""Fit a rule that turns vectors into symbols.

    The entropy of the symbols is that of the *rule's* view of the data: it grows with `n_states`
    and says nothing of detail within a state. For conditional entropies between layers fit one
    rule on both, ``quantise([a, b], ...)``, and on other samples than those encoded (`fit_on`).

    Parameters
    ----------
    x : float array, shape (n, d), or a list of such arrays
        Data to fit on; the arrays of a list share one rule.
    method : {"kmeans", "pq", "signs", "uniform"}
        ``"kmeans"``: nearest of `n_states` centres. ``"pq"``: product quantisation, k-means in each
        of `subspaces` blocks of coordinates. ``"signs"``: signs of the first log2(n_states)
        principal components. ``"uniform"``: equal bins between minimum and maximum in each
        coordinate.
    n_states : int
        Size of the alphabet, at least 2. ``"pq"`` and ``"uniform"`` use the largest power that
        fits (`Quantiser.n_states` tells), ``"signs"`` the largest power of two.
    fit_on : array, optional
        Rows to fit on, as a boolean mask of shape (n,) or as indices; all by default.
    normalise : {"none", "unit", "rms"}
        Scale each vector to length 1, or to root mean square 1, before anything else.
    subspaces : int
        Blocks of coordinates for ``"pq"``.
    seed : int
        Seed of k-means.

    Returns
    -------
    Quantiser
        With ``.encode(x)``, ``.n_states``, ``.params()``, ``.to_arrays()``.

    Raises
    ------
    InputError
        On integers, NaN, unequal widths, fewer samples than states, an unknown method.

    Examples
    --------
    >>> x = np.array([[0.0], [0.1], [5.0], [5.1]])
    >>> rule = quantise(x, n_states=2)
    >>> codes = rule.encode(x)
    >>> bool(codes[0] == codes[1] != codes[2] == codes[3])
    True

    References
    ----------
    Lloyd 1982; Jegou, Douze and Schmid 2011 (product quantisation); Charikar 2002 (signs).
    """
    if method not in get_args(Method):
        raise InputError(f"method is {method!r}; use one of {', '.join(get_args(Method))}")
    if normalise not in get_args(Normalise):
        raise InputError(f"normalise is {normalise!r}; use one of {', '.join(get_args(Normalise))}")
    if isinstance(n_states, bool) or not isinstance(n_states, int | np.integer) or n_states < 2:
        raise InputError(f"n_states is {n_states!r}; use an integer of at least 2, e.g. 256")
    arrays = many(x, "x", min_samples=1)
    widths = {a.shape[1] for a in arrays}
    if len(widths) > 1:
        raise InputError(
            f"arrays of {' and '.join(map(str, sorted(widths)))} coordinates cannot share one "
            "quantiser; fit one for each"
        )
    dimension = widths.pop()
    fitted = np.concatenate([_normalised(_selected(a, fit_on), normalise) for a in arrays])
    settings: dict[str, Any] = {"seed": seed, "n_fit": len(fitted), "arrays": len(arrays)}
    out: dict[str, npt.NDArray[np.float64]]
    states = int(n_states)
    if method == "kmeans":
        out = {"centres": kmeans(fitted, states, seed=seed)}
    elif method == "pq":
        out, states = _fit_pq(fitted, states, subspaces, seed)
        settings["subspaces"] = len(out)
    elif method == "signs":
        out, states = _fit_signs(fitted, states)
    else:
        bins = _root(states, dimension)
        if bins < 2:
            raise InputError(
                f"{n_states} states cannot give each of {dimension} coordinates 2 uniform bins; "
                'use method="kmeans", or reduce the coordinates first'
            )
        states = bins**dimension
        settings["bins"] = bins
        out = {
            "low": fitted.min(axis=0).astype(np.float64),
            "high": fitted.max(axis=0).astype(np.float64),
        }
    return Quantiser(
        method=method,
        n_states=states,
        dimension=dimension,
        normalise=normalise,
        arrays=out,
        settings=settings,
    )


def _selected(a: FloatArray, fit_on: Any) -> FloatArray:
    if fit_on is None:
        return a
    rows = to_numpy(fit_on, "fit_on")
    if rows.dtype == bool and rows.shape == (len(a),):
        chosen: FloatArray = a[rows]
    elif rows.dtype.kind in "iu" and rows.ndim == 1 and rows.size:
        if rows.min() < 0 or rows.max() >= len(a):
            raise InputError(
                f"fit_on names row {int(rows.max())} (lowest {int(rows.min())}) of an array with "
                f"{len(a)} rows; pass indices from 0 to {len(a) - 1}"
            )
        chosen = a[rows]
    else:
        raise InputError(
            f"fit_on has dtype {rows.dtype} and shape {rows.shape}; pass a boolean mask of shape "
            f"({len(a)},) or row indices"
        )
    if len(chosen) == 0:
        raise InputError("fit_on selects no rows; select some to fit on")
    return chosen


def _length(how: Normalise, dimension: int) -> float | None:
    """What rows are scaled to, if they are."""
    return {"none": None, "unit": 1.0, "rms": math.sqrt(dimension)}[how]


def _normalised(a: FloatArray, how: Normalise) -> FloatArray:
    length = _length(how, a.shape[1])
    if length is None:
        return a
    lengths = row_lengths(a)
    _check_directions(lengths)
    return np.asarray(a / (lengths / length)[:, None])


def _check_directions(lengths: npt.NDArray[np.float64]) -> None:
    zero = np.flatnonzero(lengths == 0)
    if len(zero):
        raise InputError(
            f"{len(zero)} rows are zero vectors (the first is row {int(zero[0])}), which have no "
            f'direction to normalise; drop them or use normalise="none"'
        )


def _root(states: int, power: int) -> int:
    """Largest integer whose `power`-th power does not exceed `states`."""
    root: int = round(float(states) ** (1.0 / power))
    while root**power > states:
        root -= 1
    while (root + 1) ** power <= states:
        root += 1
    return root


def _fit_pq(
    a: FloatArray, states: int, subspaces: int, seed: int
) -> tuple[dict[str, npt.NDArray[np.float64]], int]:
    if not 1 <= subspaces <= a.shape[1]:
        raise InputError(
            f"subspaces is {subspaces} for {a.shape[1]} coordinates; use 1 to {a.shape[1]}"
        )
    each = _root(states, subspaces)
    if each < 2:
        raise InputError(
            f"{states} states cannot be split over {subspaces} subspaces; use at least "
            f"{2**subspaces} states or fewer subspaces"
        )
    pieces = np.array_split(np.arange(a.shape[1]), subspaces)
    centres = {
        f"centres_{m}": kmeans(np.ascontiguousarray(a[:, columns]), each, seed=seed + m)
        for m, columns in enumerate(pieces)
    }
    return centres, each**subspaces


def _fit_signs(a: FloatArray, states: int) -> tuple[dict[str, npt.NDArray[np.float64]], int]:
    mean = a.mean(axis=0, dtype=np.float64)
    bits = min(states.bit_length() - 1, a.shape[1], len(a))
    if bits > 62:
        raise InputError(f"{states} states need {bits} signs; symbols hold at most 62")
    # The covariance is d x d, the Gram matrix n x n: take the smaller through the SVD.
    _, values, directions = np.linalg.svd(a - mean, full_matrices=False)
    rank = int((values > 1e-10 * values[0]).sum()) if values[0] > 0 else 0
    if rank == 0:
        raise InputError("the data to fit on are constant; there is no direction to take signs of")
    bits = min(bits, rank)
    # The sign of a singular vector is arbitrary: fix it so that symbols repeat across machines.
    top = directions[:bits]
    flip = np.sign(top[np.arange(bits), np.abs(top).argmax(axis=1)])
    return {"mean": mean, "directions": top * flip[:, None]}, 2**bits
