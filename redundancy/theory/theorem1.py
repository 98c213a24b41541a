"""Theorem 1: close layers with a smooth target are functionally redundant."""

from __future__ import annotations

import math

from estimators import InputError
from redundancy.theory._result import Given, InputKind, Number, TheoryResult

__all__ = ["theorem1"]


def theorem1(
    *,
    alpha: Number,
    beta: Number = 0.0,
    mean_rho: Number | None = None,
    sq_dist: Number | None = None,
    w: Number | None = None,
    w_prime: Number | None = None,
    bridge_mse: Number | None = None,
    bridge_mse_reverse: Number | None = None,
    tr_cov_z: Number | None = None,
    inputs: InputKind = "exact",
) -> TheoryResult:
    r"""Bound the functional redundancy value F by distances of the layers (geometric implies
    functional).

    With :math:`F = E|E[Z|X] - E[Z|X']|^2`, the target's regression
    :math:`h(x, y) = E[Z | X = x, X' = y]` alpha-Lipschitz in x and beta-Lipschitz in y,
    :math:`W = E\,\mathrm{tr\,Cov}(X|X')` and :math:`W' = E\,\mathrm{tr\,Cov}(X'|X)`,

    .. math::
        F \le (\alpha \sqrt W + \beta \sqrt{W'})^2 \le (\alpha + \beta)^2 E|X - X'|^2
          = 2 (\alpha + \beta)^2 E\rho \le 4 (\alpha^2 + \beta^2) E\rho .

    The last form is the paper's, the next to last the corrected one (half of it if beta = 0, the
    Markov chain X' - X - Z). The first is attained. Where W is not known it is bounded by the mean
    squared error of *any* prediction of X from X': of X' itself, which gives the second form; of
    c X' with the best c, which for unit vectors gives :math:`W, W' \le r (2 - r)` with
    :math:`r = E\rho`; or of a fitted affine map, whose error is `bridge_mse`.

    When it lies: alpha and beta are properties of nature. The Lipschitz constant of a fitted probe
    is an estimate of one of them and nothing more (give ``inputs="estimate"``). Without a Lipschitz
    regression nothing follows: X = (sqrt(1 - e^2), e S), X' = (1, 0), Z = S has E rho -> 0 and
    F = 1 for every e. F never exceeds tr Cov(Z), so a larger bound is vacuous.

    Parameters
    ----------
    alpha, beta : float
        Lipschitz constants of h in x (layer l) and in y (layer l-1), Euclidean norms; beta = 0
        states the chain X' - X - Z.
    mean_rho : float in [0, 2], optional
        Mean cosine distance, of states normalised to length 1.
    sq_dist : float, optional
        ``E|X - X'|^2``, for states of any length; give this or `mean_rho`.
    w, w_prime : float, optional
        Upper bounds of W and W'.
    bridge_mse, bridge_mse_reverse : float, optional
        ``E|X - g(X')|^2`` and ``E|X' - g'(X)|^2`` for predictors g, g' fitted on other data.
    tr_cov_z : float, optional
        Trace of the target's covariance (1 - 1/k for k equally likely one-hot classes).
    inputs : {"exact", "certified", "estimate"}
        How well the numbers are known.

    Returns
    -------
    TheoryResult
        `value` is the smallest bound that follows, in squared units of Z. ``forms`` has
        ``"paper"`` (= ``"bound_paper"``), ``"corrected"`` (= ``"bound_sum_sq"``) and
        ``"sharpest"`` (= ``"bound_condcov"``); ``"trivial"`` is tr Cov(Z).

    Raises
    ------
    InputError
        If a number leaves its range, or none says how far the layers are apart.

    Examples
    --------
    >>> result = theorem1(alpha=1.0, beta=1.0, mean_rho=0.025)
    >>> round(result.forms["paper"], 6), round(result.forms["corrected"], 6), round(result.value, 6)
    (0.2, 0.2, 0.1975)
    >>> round(theorem1(alpha=1.0, mean_rho=0.025, tr_cov_z=0.75).value, 6)
    0.049375

    References
    ----------
    Theorem 1 of the paper. Its (22) subtracts E[X'\|X] from h, a vector of another space; the proof
    is repaired by ``tr Cov(h|X = x) = E|h(x, Y1) - h(x, Y2)|^2 / 2`` for Y1, Y2 from X' given x.
    """
    given = Given(inputs)
    a, b = given.nonnegative(alpha, "alpha"), given.nonnegative(beta, "beta")
    if mean_rho is not None and sq_dist is not None:
        raise InputError(
            "give mean_rho (unit vectors) or sq_dist (vectors of any length), not both"
        )
    forms: dict[str, float] = {}
    assumptions = [
        f"E[Z | X = x, X' = y] is Lipschitz on the support, with constants {a:g} in x and {b:g} "
        "in y"
    ]
    forward, backward = [math.inf], [math.inf]
    distance = math.inf
    if mean_rho is not None:
        r = given.cosine_distance(mean_rho, "mean_rho")
        distance = 2.0 * r
        shrunk = r * (2.0 - r)  # = 1 - (E cos)^2, the error of predicting X by (E cos) X'
        forward += [distance, shrunk]
        backward += [distance, shrunk]
        assumptions.append("X and X' have norm 1")
    elif sq_dist is not None:
        distance = given.nonnegative(sq_dist, "sq_dist")
        forward.append(distance)
        backward.append(distance)
    for given_value, name, target in (
        (w, "w", forward),
        (bridge_mse, "bridge_mse", forward),
        (w_prime, "w_prime", backward),
        (bridge_mse_reverse, "bridge_mse_reverse", backward),
    ):
        if given_value is not None:
            target.append(given.nonnegative(given_value, name))
    side_a, side_b = _side(a, min(forward)), _side(b, min(backward))
    if math.isinf(side_a + side_b) and not math.isinf(a + b):
        raise InputError(
            "nothing says how far the layers are apart; give mean_rho or sq_dist, or w or "
            "bridge_mse (and w_prime or bridge_mse_reverse unless beta is 0)"
        )
    value = (side_a + side_b) ** 2
    if not math.isinf(distance):
        forms["paper"] = forms["bound_paper"] = 2.0 * (a * a + b * b) * distance
        forms["corrected"] = forms["bound_sum_sq"] = (a + b) ** 2 * distance
    forms["sharpest"] = forms["bound_condcov"] = value
    vacuous, notes = vacuity(value, tr_cov_z, given, forms)
    if a + b == 0.0:
        notes += ("alpha = beta = 0: F is 0, and the paper's strict inequality fails",)
    return TheoryResult(
        value=value,
        kind=given.kind(tuple(assumptions)),
        unit="squared units of Z",
        statement="F = E|E[Z|X] - E[Z|X']|^2 <= value",
        assumptions=tuple(assumptions),
        vacuous=vacuous,
        forms=forms,
        notes=notes,
    )


def _side(constant: float, variance: float) -> float:
    return constant * math.sqrt(variance) if constant > 0.0 else 0.0


def vacuity(
    value: float, tr_cov_z: Number | None, given: Given, forms: dict[str, float]
) -> tuple[bool, tuple[str, ...]]:
    """Compare a bound on F with tr Cov(Z), which bounds it always; add that to `forms`."""
    if tr_cov_z is None:
        return math.isinf(value), ("tr Cov(Z) was not given, so vacuity is unchecked",)
    trivial = given.nonnegative(tr_cov_z, "tr_cov_z")
    forms["trivial"] = trivial
    if value >= trivial:
        return True, (f"F <= tr Cov(Z) = {trivial:.4g} holds anyway: this bound says nothing more",)
    return False, ()
