"""Can the lower layer, the upper layer and the target form a Markov chain in that order?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators import Estimate, InputError, Interval
from estimators._arrays import group_codes
from estimators.intervals import cluster_mean

__all__ = ["MarkovAudit", "markov_audit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkovAudit:
    r"""What `markov_audit` found about the chain X_{l-1} - X_l - Z.

    Parameters
    ----------
    rejected : bool
        True if the lower layer tells the probes something of Z that the upper one does not.
    reverse : float
        Estimate of I_V(Z; X_{l-1} | X_l), what the chain says is 0, in nats.
    low : float
        Its one-sided lower confidence limit.
    level : float
        Level of that limit.
    n, n_groups : int
        Samples and independent groups.
    message : str
        The finding in one sentence.
    forward : float or None
        Estimate of I_V(Z; X_l | X_{l-1}), if the losses of the lower layer's probe were given.
    """

    rejected: bool
    reverse: float
    low: float
    level: float
    n: int
    n_groups: int
    message: str
    forward: float | None = None

    def reverse_estimate(self) -> Estimate:
        """Return I_V(Z; X_{l-1} | X_l) as an estimate, cut at 0."""
        return Estimate(
            value=max(self.reverse, 0.0),
            unit="nats",
            kind="estimate",
            n=self.n,
            n_groups=self.n_groups,
            method="difference of held-out log losses of two probes",
            ci=Interval(
                low=max(self.low, 0.0),
                high=math.inf,
                level=self.level,
                method="one-sided cluster t",
            ),
        )

    def forward_estimate(self) -> Estimate | None:
        """Return I_V(Z; X_l | X_{l-1}) as an estimate, cut at 0; None if it was not measured."""
        if self.forward is None:
            return None
        return Estimate(
            value=max(self.forward, 0.0),
            unit="nats",
            kind="estimate",
            n=self.n,
            n_groups=self.n_groups,
            method="difference of held-out log losses of two probes",
        )

    def __str__(self) -> str:
        return self.message


def markov_audit(
    *,
    loss_upper: ArrayLike,
    loss_both: ArrayLike,
    loss_lower: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> MarkovAudit:
    r"""Test whether X_{l-1} - X_l - Z can be a Markov chain, from held-out losses of two probes.

    .. math:: I_V(Z; X_{l-1} | X_l) = E[-\log \hat p(Z | X_l)] - E[-\log \hat p(Z | X_l, X_{l-1})]

    Under the chain I(Z; X_{l-1} | X_l) = 0: the upper layer says all that the lower one does. The
    chain is rejected if the lower confidence limit of the difference exceeds 0, and Theorem 5 then
    takes its general form.

    When it lies, both ways. Not rejecting proves nothing: the probes may be too weak, or the sample
    too small, to see what is there. Rejecting is about *these* probes: where the upper layer holds
    the same information in a form that they cannot read (an invertible but non-linear layer and
    linear probes), the difference is above 0 although the chain holds. The general form is a bound
    in either case, so the error costs sharpness and never validity.

    Parameters
    ----------
    loss_upper : array_like, shape (n,)
        -log of the probability that a probe of X_l gave to each sample's Z, in nats, on samples it
        was not fitted on.
    loss_both : array_like, shape (n,)
        The same of a probe of the same family and budget that sees X_l and X_{l-1}.
    loss_lower : array_like, shape (n,), optional
        The same of a probe of X_{l-1} alone; gives the audit its `forward` information.
    groups : array_like, shape (n,), optional
        Cluster of each sample.
    level : float
        Level of the one-sided confidence limit.

    Returns
    -------
    MarkovAudit

    Raises
    ------
    InputError
        If the losses do not fit each other, are not finite, or come from one group.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> noise = 0.1 * rng.normal(size=500)
    >>> markov_audit(loss_upper=0.6 + noise, loss_both=0.3 + 0.5 * noise).rejected
    True

    References
    ----------
    Xu et al. (2020); Hewitt et al. (2021) for the conditional form.
    """
    if not 0.5 < level < 1.0:
        raise InputError(f"level is {level!r}; it lies strictly between 0.5 and 1, e.g. 0.95")
    one, two = _losses(loss_upper, "loss_upper"), _losses(loss_both, "loss_both")
    if one.shape != two.shape:
        raise InputError(
            f"loss_upper has {one.size} samples and loss_both {two.size}; give both losses of the "
            "same samples"
        )
    forward = None
    if loss_lower is not None:
        three = _losses(loss_lower, "loss_lower")
        if three.shape != two.shape:
            raise InputError(
                f"loss_lower has {three.size} samples and loss_both {two.size}; give both losses "
                "of the same samples"
            )
    codes, _ = group_codes(groups, one.size)
    if loss_lower is not None:
        forward = cluster_mean(three - two, groups=codes, level=None).value
    difference = one - two
    # A two-sided interval of level 2 L - 1 has a one-sided lower limit of level L.
    mean = cluster_mean(difference, groups=codes, level=2.0 * level - 1.0)
    low = -math.inf if mean.interval is None else mean.interval.low
    rejected = low > 0.0
    message = (
        f"I_V(Z; X_(l-1) | X_l) = {mean.value:.3g} nats, {100 * level:g}% lower limit {low:.3g}: "
        + (
            "the chain X_(l-1) - X_l - Z is rejected for these probes"
            if rejected
            else "the chain X_(l-1) - X_l - Z is not rejected, which does not prove it"
        )
    )
    return MarkovAudit(
        rejected=rejected,
        reverse=mean.value,
        low=low,
        level=level,
        n=one.size,
        n_groups=mean.n_groups,
        message=message,
        forward=forward,
    )


def _losses(values: Any, name: str) -> NDArray[np.float64]:
    out = np.asarray(values, dtype=np.float64)
    if out.ndim != 1 or out.size < 2:
        raise InputError(f"{name} has shape {out.shape}; give one loss per sample, at least two")
    bad = ~np.isfinite(out)
    if bad.any():
        raise InputError(
            f"{name} holds {int(bad.sum())} values that are not finite, the first at "
            f"{int(np.argmax(bad))}; smooth the probe's probabilities so that none is 0"
        )
    return out
