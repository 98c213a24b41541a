"""Answers and costs of one model under one plan, sample by sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm.plan import SkipPlan

__all__ = ["Evaluation"]

Floats = NDArray[np.float64]
_ARRAYS = (
    "correct",
    "agrees",
    "nll",
    "n_text",
    "n_vision",
    "prefill_seconds",
    "decode_seconds",
    "decode_steps",
    "prefill_flops",
    "kv_bytes",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """Answers and costs of one model under one plan, sample by sample.

    Arrays have one entry per sample, in the order of the data. Samples of one group (one image,
    say) depend on each other: an interval has to resample groups.

    Parameters
    ----------
    plan : SkipPlan
    ids, groups : tuple of str
    predictions : tuple of str
        The model's greedy answers.
    correct : float array
        1 if the prediction equals an accepted answer but for case and punctuation, else 0; NaN
        where the data has no answer.
    agrees : float array or None
        1 if the prediction is that of the baseline, else 0; None without a baseline.
    nll : float array
        Negative log-likelihood of the (first accepted) answer's tokens given the prompt, in nats,
        summed over the answer; NaN where not asked for or without an answer.
    n_text, n_vision : int array
        Tokens of the prompt, padding not counted.
    prefill_seconds : float array
        Wall time of the language model over the prompt: the batch's, divided by its rows. The
        vision tower is not in it.
    decode_seconds : float array
        Wall time of the language model over the tokens of the answer, per sample alike.
    decode_steps : int array
        Passes of the language model after the prompt.
    prefill_flops : float array
        Operations of the decoder blocks over the prompt (`vlm.flops`).
    kv_bytes : int array
        Bytes of keys and values of the prompt, padding not counted.
    settings : mapping
        What `evaluate` was called with.
    """

    plan: SkipPlan
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    predictions: tuple[str, ...]
    correct: Floats
    agrees: Floats | None
    nll: Floats
    n_text: NDArray[np.int64]
    n_vision: NDArray[np.int64]
    prefill_seconds: Floats
    decode_seconds: Floats
    decode_steps: NDArray[np.int64]
    prefill_flops: Floats
    kv_bytes: NDArray[np.int64]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def accuracy(self) -> float | None:
        """Share of correct answers among samples that have one; None if none has."""
        return _mean(self.correct)

    @property
    def agreement(self) -> float | None:
        """Share of samples answered as the baseline does; None without a baseline."""
        return None if self.agrees is None else _mean(self.agrees)

    def summary(self) -> dict[str, Any]:
        """Totals and means as plain JSON data, without intervals."""
        steps = int(self.decode_steps.sum())
        decode = float(self.decode_seconds.sum())
        return {
            "plan": self.plan.to_json(),
            "n": len(self),
            "n_groups": len(set(self.groups)),
            "accuracy": self.accuracy,
            "agreement": self.agreement,
            "nll": _mean(self.nll),
            "prefill_seconds": float(self.prefill_seconds.sum()),
            "decode_seconds": decode,
            "decode_seconds_per_token": decode / steps if steps else None,
            "prefill_flops": float(self.prefill_flops.sum()),
            "kv_bytes": int(self.kv_bytes.sum()),
        }

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON data; NaN becomes None."""
        columns: dict[str, Any] = {}
        for name in ("ids", "groups", "predictions"):
            columns[name] = list(getattr(self, name))
        for name in _ARRAYS:
            array = getattr(self, name)
            columns[name] = (
                None if array is None else [None if x != x else x for x in array.tolist()]
            )
        return {**self.summary(), "settings": dict(self.settings), "samples": columns}


def _mean(values: Floats) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None
