"""Which tokens of a store make a row of the probes, and what is predicted for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators import InputError
from estimators._arrays import FloatArray, IntArray
from redundancy.store import ActivationStore

__all__ = ["Rows", "only_modality", "target_values"]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows made of tokens.

    Parameters
    ----------
    n : int
    first : ndarray of int64, shape (n,)
        A token of each row, whose target is the row's.
    order : ndarray or None
        Tokens sorted by sample, where several make a row.
    counts : ndarray of int64, shape (n,)
        Tokens of each row.
    groups : ndarray, shape (n,), or None
    """

    n: int
    first: IntArray
    order: IntArray | None
    counts: IntArray
    groups: NDArray[Any] | None

    @classmethod
    def of(cls, store: ActivationStore, word: str, pool: str) -> Rows:
        """Read which tokens belong together."""
        owner = store.token_samples(word)
        if len(owner) == 0:
            raise InputError(
                f"the store keeps no {word} states, and probes need them; extract with --tokens"
            )
        groups = store.groups(word)
        if pool == "token" or len(np.unique(owner)) == len(owner):
            every = np.arange(len(owner))
            return cls(len(owner), every, None, np.ones(len(owner), dtype=np.int64), groups)
        order = np.argsort(owner, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(owner[order]) != 0])
        counts = np.diff(np.r_[starts, len(owner)])
        first = order[starts]
        return cls(len(first), first, order, counts, None if groups is None else groups[first])

    def target(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the value of each row from one per token.

        Raises
        ------
        InputError
            If tokens of one row differ in it.
        """
        if self.order is not None:
            whole = values[self.order]
            own = np.repeat(values[self.first], self.counts, axis=0)
            different = whole != own if whole.ndim == 1 else (whole != own).any(axis=1)
            # NaN is unlike itself; it gets its own sentence when the target is read.
            different &= np.asarray(whole == whole if whole.ndim == 1 else (whole == whole).all(1))
            if bool(different.any()):
                raise InputError(
                    f"the target differs between tokens of one sample ({int(different.sum()):,} "
                    "tokens differ from the first of theirs), and the mean over tokens has one "
                    "target; use pool='token'"
                )
        return values[self.first]

    def pooled(self, x: FloatArray) -> FloatArray:
        """States of the rows from those of the tokens."""
        if self.order is None:
            return x
        starts = np.r_[0, np.cumsum(self.counts)[:-1]]
        sums = np.add.reduceat(x[self.order], starts, axis=0)
        return np.asarray(sums / self.counts[:, None].astype(x.dtype))


def only_modality(store: ActivationStore) -> str:
    """Return the one modality of a store, or ask for its name."""
    if len(store.modalities) != 1:
        raise InputError(
            f"the store has {', '.join(store.modalities)} tokens; say whose states to probe "
            "(modality=)"
        )
    return str(store.modalities[0])


def target_values(store: ActivationStore, target: Any, word: str) -> tuple[str, NDArray[Any]]:
    """Return the name and the values per token of what is predicted."""
    if isinstance(target, str):
        values = store.with_target(target).target_of(word)
        name = target
    elif target is None:
        values, name = store.target_of(word), "target"
    else:
        values, name = np.asarray(target), "target"
    if values is None:
        columns = sorted({key for row in store.samples[:100] for key in row})
        raise InputError(
            "there is no target to probe for; name a column of the samples "
            f"({', '.join(columns)}) or give one value per token"
        )
    tokens = store.n_tokens(word)
    if values.ndim == 0 or len(values) != tokens:
        raise InputError(
            f"the target has shape {values.shape} for {tokens:,} {word} tokens; give one value "
            "per token"
        )
    return name, values
