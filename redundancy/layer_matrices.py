"""What all layers are to one another: the matrices behind the report's heat maps."""

from __future__ import annotations

from collections.abc import Sequence

from estimators import InputError
from redundancy.measures import cka
from redundancy.record import DistanceRecord, plain
from redundancy.store import ActivationStore

__all__ = ["layer_matrices"]

# Distances from states cost a pass per pair of layers; so many state values take about a second.
_WORTH_IT = 2e8


def layer_matrices(
    store: ActivationStore,
    measures: Sequence[str],
    *,
    modality: str | None = None,
    layers: Sequence[int] | None = None,
    seed: int = 0,
) -> dict[str, dict[str, DistanceRecord]]:
    """Return the record's ``distances`` and ``cka``, by modality, as far as they are cheap.

    Parameters
    ----------
    store : ActivationStore
    measures : sequence of str
        Distances come with ``"geometric"``, similarities with ``"cka"``.
    modality : str, optional
        All by default.
    layers : sequence of int, optional
        All by default.
    seed : int
        Of the tokens that CKA looks at.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> store = ActivationStore.from_arrays({0: x, 1: x, 2: x[:, ::-1]})
    >>> found = layer_matrices(store, ["geometric", "cka"])
    >>> round(found["cka"]["text"].matrix[0][2], 6), found["distances"]["text"].layers
    (1.0, [0, 1, 2])
    """
    words = store.modalities if modality is None else (modality,)
    out: dict[str, dict[str, DistanceRecord]] = {"distances": {}, "cka": {}}
    for word in words:
        if "geometric" in measures and _cheap(store, word):
            found = store.distances(word)
            keep = [i for i, layer in enumerate(found.layers) if layers is None or layer in layers]
            out["distances"][word] = DistanceRecord(
                layers=[found.layers[i] for i in keep],
                matrix=plain(found.sample_weighted[keep][:, keep]),
            )
        if "cka" in measures:
            chosen = [layer for layer in store.layers if layers is None or layer in layers]
            try:
                values = cka.matrix(store, word, layers=chosen, seed=seed)
            except InputError:
                # The rows of the measure itself say what is missing.
                continue
            out["cka"][word] = DistanceRecord(layers=chosen, matrix=plain(values))
    return out


def _cheap(store: ActivationStore, modality: str) -> bool:
    known = store.layers
    if len(known) > 1 and store.summary(known[0], known[1], modality) is not None:
        return True
    pairs = len(known) * (len(known) - 1) / 2
    return bool(pairs * store.n_tokens(modality) * store.dim(modality) <= _WORTH_IT)
