"""`LayerPair`: two layers seen on the same tokens, which is all that a measure gets to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators import InputError

__all__ = ["LayerPair", "PairSummary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSummary:
    """Per-sample sums over *all* tokens of a pair of layers, gathered while streaming.

    Parameters
    ----------
    groups : ndarray, shape (s,)
        Group (image, prompt) of each of the s samples.
    n_tokens, n_defined : ndarray of int64, shape (s,)
        Tokens per sample, and those whose cosine distance is defined.
    rho_sum : ndarray of float64, shape (s,)
        Sum of cosine distances per sample.
    sq_dist_sum : ndarray of float64, shape (s,), or None
        Sum of squared Euclidean distances; kept for adjacent pairs and for pairs (0, l).
    thresholds : ndarray of float64, shape (t,)
        Distances at which tokens were counted.
    below : ndarray of int64, shape (s, t), or None
        Tokens with distance strictly below each threshold; kept for adjacent pairs and (0, l).
    var_per_head : ndarray of float32, shape (s, H), or None
        Attention mass on vision tokens in the upper block, per query head.
    vision_share : ndarray of float64, shape (s,), or None
        Vision tokens as a share of all keys the query row could attend to.
    vision_effect, text_norm : ndarray of float32, shape (s, 2), or None
        By how much hiding vision from the upper block changes its text output, and the norm of
        that output: over all text tokens (column 0) and for the token that predicts the answer
        (column 1). NaN where it was not captured.
    """

    groups: NDArray[Any]
    n_tokens: NDArray[np.int64]
    n_defined: NDArray[np.int64]
    rho_sum: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    sq_dist_sum: NDArray[np.float64] | None = None
    below: NDArray[np.int64] | None = None
    var_per_head: NDArray[np.float32] | None = None
    vision_share: NDArray[np.float64] | None = None
    vision_effect: NDArray[np.float32] | None = None
    text_norm: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class LayerPair:
    """Two layers, the same tokens: what every measure takes.

    Parameters
    ----------
    lower, upper : int
        Layer indices, ``lower < upper``.
    x_lower, x_upper : ndarray, shape (n, d), or None
        States of the same n tokens, any float dtype; None where only sums were kept.
    modality : str
        ``"vision"``, ``"text"`` or the user's own word.
    groups : ndarray, shape (n,), or None
        Group (image, prompt) of each token; None if tokens are independent.
    target : ndarray, shape (n,) or (n, k), or None
        The variable Z that functional measures predict.
    summary : PairSummary or None
        Sums over all tokens, where the source kept them.

    Examples
    --------
    >>> import numpy as np
    >>> pair = LayerPair(0, 1, np.ones((4, 2)), np.ones((4, 2)))
    >>> pair.n, pair.label
    (4, '0→1')
    """

    lower: int
    upper: int
    x_lower: NDArray[Any] | None = None
    x_upper: NDArray[Any] | None = None
    modality: str = "text"
    groups: NDArray[Any] | None = None
    target: NDArray[Any] | None = None
    summary: PairSummary | None = None

    def __post_init__(self) -> None:
        if not self.lower < self.upper:
            raise InputError(
                f"a pair goes from a lower to an upper layer; got {self.lower} and {self.upper}"
            )
        n = None
        for name in ("x_lower", "x_upper", "groups", "target"):
            array = getattr(self, name)
            if array is None:
                continue
            if name.startswith("x_") and array.ndim != 2:
                raise InputError(
                    f"{name} of layers {self.label} has shape {array.shape}; states are "
                    "two-dimensional: (tokens, features)"
                )
            if n is None:
                n = len(array)
            elif len(array) != n:
                raise InputError(
                    f"{name} of layers {self.label} has {len(array)} rows where {n} were "
                    "expected; both layers, groups and target must describe the same tokens"
                )

    def __repr__(self) -> str:
        kept = "sums only" if self.x_lower is None else f"{self.n:,} tokens"
        return f"LayerPair({self.label}, {self.modality}, {kept})"

    @property
    def label(self) -> str:
        """The pair as tables print it, e.g. ``0→1``."""
        return f"{self.lower}→{self.upper}"

    @property
    def n(self) -> int:
        """Number of tokens whose states are at hand."""
        return 0 if self.x_lower is None else len(self.x_lower)

    @property
    def n_groups(self) -> int:
        """Number of distinct groups: what intervals rest on."""
        if self.x_lower is None:
            return 0 if self.summary is None else len(np.unique(self.summary.groups))
        return self.n if self.groups is None else len(np.unique(self.groups))
