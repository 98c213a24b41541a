"""Visual attention ratio: how much of a query token's attention falls on the image."""

from __future__ import annotations

import numpy as np

from estimators import Estimate, InputError
from estimators.intervals import cluster_mean
from redundancy.measures._grouped import check_level, mean_estimate, p_values, with_vision
from redundancy.measures._spec import Column, MeasureSpec, Reading
from redundancy.pairs import LayerPair

__all__ = ["SPEC", "measure"]

SPEC = MeasureSpec(
    title="attention that the answering token pays to vision tokens, mean over query heads",
    symbol="VAR",
    unit="attention mass",
    needs=frozenset({"attention"}),
    redundant_when="below",
    default_threshold=None,
    paper="eq. (3)",
    columns=(Column("sum", "VAR sum"), Column("enrichment", "enrichment")),
)


def measure(
    pair: LayerPair,
    *,
    threshold: float | None = None,
    ci: float | None = 0.95,
    seed: int = 0,
) -> Reading:
    r"""Attention mass on vision tokens in the upper block of the pair, averaged over heads.

    .. math:: \text{VAR} = \frac1H \sum_{h=1}^{H} \sum_{i \in \text{image}} A^{(l, h)}_{q, i}
              \in [0, 1]

    for the query position q that predicts the answer. The paper's eq. (3) is the *sum* over the H
    query heads, in [0, H], which cannot be compared between models with different H; it is among
    the extras, as are the percentage and the enrichment (VAR over the share of vision tokens among
    all keys: 1 is what indifferent attention would give).

    When it lies: it sees one query row. Vision that flows into *other* text tokens and reaches the
    answer later is missed: in a small model the first layer had the lowest VAR and was the one
    whose vision was needed most. No threshold is set by default for that reason.

    Parameters
    ----------
    pair : LayerPair
        Whose summary carries ``var_per_head``.
    threshold : float, optional
        Mean attention mass in (0, 1] below which vision counts as redundant in this block.
    ci : float or None
        Level of the intervals (cluster t over groups).
    seed : int
        Not used; nothing here is random.

    Returns
    -------
    Reading
        In attention mass per head, with ``params["per_head"]`` (mean over samples of each head);
        extras ``sum``, ``percent``, ``enrichment``.

    Raises
    ------
    InputError
        If the pair carries no attention, or attention outside [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from redundancy.pairs import PairSummary
    >>> per_head = np.array([[0.2, 0.4], [0.4, 0.6]], dtype=np.float32)
    >>> two = np.ones(2, dtype=np.int64)
    >>> summary = PairSummary(groups=np.arange(2), n_tokens=two, n_defined=two,
    ...     rho_sum=np.zeros(2), thresholds=np.array([]), var_per_head=per_head)
    >>> reading = measure(LayerPair(0, 1, summary=summary))
    >>> round(reading.estimate.value, 3), round(reading.extras["sum"].value, 3)
    (0.4, 0.8)

    References
    ----------
    Jiang et al. (2025), Devils in middle layers of large vision-language models.
    """
    check_level(ci)
    if threshold is not None and not 0.0 < threshold <= 1.0:
        raise InputError(
            f"threshold is {threshold!r}; give the attention mass per head, in (0, 1]: a sum over "
            "heads divided by their number"
        )
    summary = pair.summary
    if summary is None or summary.var_per_head is None:
        raise InputError(
            f"layers {pair.label} carry no attention on the image; VAR needs activations extracted "
            "from a vision-language model with this project's capture, attention included"
        )
    per_head = np.asarray(summary.var_per_head, dtype=np.float64)
    known, notes = with_vision(summary, per_head, "attention on the image")
    if not known.any():
        return Reading(
            estimate=Estimate(
                value=None,
                unit=SPEC.unit,
                kind="estimate",
                n=0,
                method="mean over heads and samples",
                diagnostics=notes,
            )
        )
    per_head = per_head[known]
    # Attention is summed in float32: 576 keys leave an excess of about 1e-6.
    outside = (per_head < 0) | (per_head > 1 + 1e-4)
    if outside.any():
        raise InputError(
            f"{int(outside.sum())} attention masses of layers {pair.label} lie outside [0, 1] "
            f"(the first is {per_head[outside][0]:g}); give one row of softmax weights per head, "
            "summed over the vision tokens"
        )
    per_head = np.minimum(per_head, 1.0)
    groups = summary.groups[known]
    heads = per_head.shape[1]
    n = len(per_head)

    def scaled(factor: float, unit: str, method: str) -> Estimate:
        top = (0.0, factor)
        mean = cluster_mean(per_head.mean(axis=1) * factor, groups=groups, level=ci, support=top)
        return mean_estimate(mean, unit=unit, n=n, method=method, support=top, ci=ci)

    mean = cluster_mean(per_head.mean(axis=1), groups=groups, level=ci, support=(0.0, 1.0))
    headline = mean_estimate(
        mean,
        unit=SPEC.unit,
        n=n,
        method="mean over heads and samples",
        support=(0.0, 1.0),
        ci=ci,
        diagnostics=notes,
        params={
            "n_heads": heads,
            "per_head": [float(value) for value in per_head.mean(axis=0)],
            "query": "the position that predicts the answer",
        },
    )
    extras = {
        "sum": scaled(float(heads), f"attention mass over {heads} heads", "sum over heads"),
        "percent": scaled(100.0, "percent", "mean over heads, in percent"),
    }
    if summary.vision_share is not None:
        share = np.asarray(summary.vision_share, dtype=np.float64)[known]
        shared = share > 0  # false also where the share was not captured
        if shared.any():
            ratio = cluster_mean(
                per_head.mean(axis=1)[shared],
                share[shared],
                groups=groups[shared],
                weighting="token",
                level=ci,
            )
            extras["enrichment"] = mean_estimate(
                ratio,
                unit="ratio",
                n=int(shared.sum()),
                method="mean VAR over mean share of vision tokens among keys",
                support=(0.0, float("inf")),
                ci=ci,
                params={"vision_share": float(share[shared].mean())},
            )
    below = above = None
    if threshold is not None:
        below, above = p_values(mean, threshold, (0.0, 1.0))
    return Reading(estimate=headline, extras=extras, p_redundant=below, p_needed=above)
