"""What capture yields: the states and running sums of one sample, as plain NumPy arrays.

Layer index 0 is what enters the first decoder block, index l what block l hands on (raw, before
any final norm), so a model of L blocks has L + 1 states.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm._errors import VLMError

__all__ = ["DEFAULT_THRESHOLDS", "CapturedSample", "TokenStatistics", "merged"]

DEFAULT_THRESHOLDS: tuple[float, ...] = (
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
    1.0,
)
"""Cosine distances at which tokens are counted while streaming."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStatistics:
    """Sums over all tokens of one modality in one sample; sums of samples merge by addition.

    With rho_k(i, j) the cosine distance of token k between the states i and j, and L blocks:

    Parameters
    ----------
    n_tokens : int
        Tokens of this modality in the sample.
    n_defined : ndarray of int32, shape (L + 1, L + 1)
        Tokens whose distance is defined (neither state is the zero vector); what the diagonal lacks
        to `n_tokens` are the zero vectors of each layer.
    rho_sum : ndarray of float64, shape (L + 1, L + 1)
        Sum of rho_k(i, j) over the tokens where it is defined; symmetric, zero diagonal.
    thresholds : ndarray of float64, shape (t,)
        Distances at which tokens are counted.
    below_adjacent, below_first : ndarray of int32, shape (t, L)
        Number of tokens with rho_k < threshold, strictly, between the states (l - 1, l) and (0, l)
        for l = 1..L.
    sq_dist_adjacent, sq_dist_first : ndarray of float64, shape (L,)
        Sum over tokens of the squared Euclidean distance between the states (l - 1, l) and (0, l).
    sq_norm : ndarray of float64, shape (L + 1,)
        Sum over tokens of the squared norm of state l.
    """

    n_tokens: int
    n_defined: NDArray[np.int32]
    rho_sum: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    below_adjacent: NDArray[np.int32]
    below_first: NDArray[np.int32]
    sq_dist_adjacent: NDArray[np.float64]
    sq_dist_first: NDArray[np.float64]
    sq_norm: NDArray[np.float64]


def merged(statistics: Iterable[TokenStatistics]) -> TokenStatistics:
    """Sum of statistics taken at the same thresholds, as if all their tokens were one sample's.

    Raises
    ------
    VLMError
        If there is nothing to merge, or the thresholds or numbers of layers differ.
    """
    every = list(statistics)
    if not every:
        raise VLMError("there are no statistics to merge.")
    if any(not np.array_equal(one.thresholds, every[0].thresholds) for one in every):
        raise VLMError("statistics counted at different thresholds cannot be merged.")
    if len({one.rho_sum.shape for one in every}) > 1:
        raise VLMError("statistics of models with different numbers of layers cannot be merged.")
    names = [name for name in TokenStatistics.__dataclass_fields__ if name != "thresholds"]
    sums = {name: sum(getattr(one, name) for one in every) for name in names}
    return TokenStatistics(thresholds=every[0].thresholds, **sums)


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedSample:
    """One sample as capture saw it.

    Parameters
    ----------
    id : str
        Identifier of the sample, unique in its data set.
    group : str
        What makes samples dependent: the image (or the prompt) they share.
    statistics : mapping of str to TokenStatistics
        By modality (``"vision"``, ``"text"``), over all tokens.
    states : mapping of str to ndarray, shape (len(layers), k, d)
        By modality, the states of the k kept tokens (all of them or a seeded subsample) in the
        kept `layers`, in the model's precision (bfloat16 as ``ml_dtypes.bfloat16``). Empty if no
        tokens were asked for.
    positions : mapping of str to ndarray of int64, shape (k,)
        Positions of the kept tokens in the sample's own sequence, padding not counted.
    layers : tuple of int
        The layers, 0..L, whose states were kept.
    var_per_head : ndarray of float32, shape (L, H), or None
        Attention mass on vision tokens of the query row that predicts the answer, per query head:
        the last token of the prompt. 0 for a sample without vision.
    var_text_per_head : ndarray of float32, shape (L, H), or None
        The same, averaged over all text tokens that have vision before them.
    vision_effect : ndarray of float32, shape (L, 2), or None
        delta_l of Theorem 6, ``|f_text^l(V, T) - f_text^l(empty, T)|``, on the true trajectory: in
        column 0 over all text tokens (Frobenius norm), in column 1 of the token that predicts the
        answer.
    text_norm : ndarray of float32, shape (L, 2), or None
        The norms of the true text output of block l, T_l, over the same tokens as `vision_effect`.
    n_vision, n_keys : int
        Vision tokens, and all tokens that the query row could attend to.
    row : mapping
        The sample's own record without its images: question, answer, choices, prediction, ...
    """

    id: str
    group: str
    statistics: Mapping[str, TokenStatistics]
    states: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    positions: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    layers: tuple[int, ...] = ()
    var_per_head: NDArray[np.float32] | None = None
    var_text_per_head: NDArray[np.float32] | None = None
    vision_effect: NDArray[np.float32] | None = None
    text_norm: NDArray[np.float32] | None = None
    n_vision: int = 0
    n_keys: int = 0
    row: Mapping[str, Any] = field(default_factory=dict)

    @property
    def relative_vision_effect(self) -> NDArray[np.float32] | None:
        """``delta_l / |T_l|``, shape (L, 2): share of a block's text output that vision made."""
        if self.vision_effect is None or self.text_norm is None:
            return None
        return np.divide(
            self.vision_effect,
            self.text_norm,
            out=np.zeros_like(self.vision_effect),
            where=self.text_norm > 0.0,
        )
