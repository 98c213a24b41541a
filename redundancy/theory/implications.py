"""Figure 1 as data: which notion of redundancy implies which, when, and what shows the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Arrow", "implications"]

Verdict = Literal["always", "under assumptions", "lower bound only", "never"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """One arrow between two notions of redundancy.

    Parameters
    ----------
    source, target : str
        ``"geometric"``, ``"proximal"``, ``"functional"``, ``"informational"`` or ``"skip"`` (safe
        to skip, by running it).
    verdict : {"always", "under assumptions", "lower bound only", "never"}
    in_paper : bool
        True if the paper draws it.
    statement : str or None
        Function of :mod:`redundancy.theory` that computes the bound.
    bound : str
        What follows, in symbols.
    assumptions : tuple of str
        What must hold for it.
    counterexample : str
        What happens where they fail.
    example : str or None
        Function of :mod:`redundancy.synthetic` that builds the counterexample.
    """

    source: str
    target: str
    verdict: Verdict
    in_paper: bool
    statement: str | None
    bound: str
    assumptions: tuple[str, ...]
    counterexample: str
    example: str | None

    def __str__(self) -> str:
        needs = f" if {' and '.join(self.assumptions)}" if self.assumptions else ""
        return f"{self.source} → {self.target}: {self.verdict}; {self.bound}{needs}"


_ARROWS = (
    Arrow(
        source="proximal",
        target="geometric",
        verdict="under assumptions",
        in_paper=True,
        statement="proposition1",
        bound="E rho <= t + (M - t) P[rho > t]",
        assumptions=("0 <= rho <= M (cosine distance: M = 2)",),
        counterexample="with M = 1, as in the paper, X' = ±X with P(-) = 0.3 gives E rho = 0.6, "
        "not at most 0.3",
        example="sign_flip",
    ),
    Arrow(
        source="geometric",
        target="proximal",
        verdict="always",
        in_paper=False,
        statement="proposition1_converse",
        bound="P[rho >= t] <= E rho / t",
        assumptions=(),
        counterexample="none; the paper omits this arrow",
        example=None,
    ),
    Arrow(
        source="geometric",
        target="functional",
        verdict="under assumptions",
        in_paper=True,
        statement="theorem1",
        bound="F <= 2 (alpha + beta)^2 E rho",
        assumptions=("E[Z | X_l, X_{l-1}] is Lipschitz with constants alpha, beta",),
        counterexample="X_l = (sqrt(1 - e^2), e S), X_{l-1} = (1, 0), Z = S: E rho -> 0 and F = 1",
        example="sphere_tip",
    ),
    Arrow(
        source="proximal",
        target="informational",
        verdict="lower bound only",
        in_paper=True,
        statement="theorem4",
        bound="I(X_l; X_{l-1}) >= d(1 - P_t || q); with Theorem 3's q only for uniform X_l",
        assumptions=("q = (P_X x P_X')[rho <= t] is known",),
        counterexample="circle code: P_t = 0 for small t and H(X_l | X_{l-1}) = log m, arbitrarily "
        "large; it never gives H < eps",
        example="circle_code",
    ),
    Arrow(
        source="informational",
        target="functional",
        verdict="under assumptions",
        in_paper=True,
        statement="theorem5",
        bound="F <= (diam(Z)^2 / 2) H(X_l | X_{l-1})",
        assumptions=(
            "X_{l-1} - X_l - Z is a Markov chain",
            "X_l is discrete and Z bounded",
            "H is below about 1 nat (else vacuous)",
        ),
        counterexample="Z = X_{l-1} = ±1, X_l constant: H(X_l | X_{l-1}) = 0 and F = 1",
        example="forgotten_target",
    ),
    Arrow(
        source="informational",
        target="geometric",
        verdict="never",
        in_paper=False,
        statement=None,
        bound="nothing follows",
        assumptions=(),
        counterexample="X_l = -X_{l-1}: H(X_l | X_{l-1}) = 0 and E rho = 2",
        example="rotation",
    ),
    Arrow(
        source="functional",
        target="geometric",
        verdict="never",
        in_paper=False,
        statement=None,
        bound="nothing follows",
        assumptions=(),
        counterexample="X_l = -X_{l-1}, Z = X_l: F = 0 and E rho = 2",
        example="rotation",
    ),
    Arrow(
        source="functional",
        target="informational",
        verdict="never",
        in_paper=False,
        statement=None,
        bound="nothing follows",
        assumptions=(),
        counterexample="Z constant, X_l independent of X_{l-1}: F = 0 and H(X_l | X_{l-1}) = log k",
        example="constant_target",
    ),
    Arrow(
        source="geometric",
        target="skip",
        verdict="under assumptions",
        in_paper=True,
        statement="theorem6_skip_blocks",
        bound="|Y - Y_skip| <= mu |X_l - X_{l-1}|",
        assumptions=("the layers after l are Lipschitz with constant mu",),
        counterexample="a steep tail: phi(x) = mu x with large mu makes any error of any distance",
        example=None,
    ),
    Arrow(
        source="functional",
        target="skip",
        verdict="never",
        in_paper=True,
        statement=None,
        bound="nothing follows: skipping replaces the state under a fixed tail",
        assumptions=(),
        counterexample="X_l = -X_{l-1}, Z = X_l, phi(x) = x: F = 0 and the squared error is 4",
        example="rotation",
    ),
    Arrow(
        source="informational",
        target="skip",
        verdict="never",
        in_paper=True,
        statement=None,
        bound="nothing follows: skipping replaces the state under a fixed tail",
        assumptions=(),
        counterexample="X_l = -X_{l-1}, phi(x) = x: H(X_l | X_{l-1}) = 0, the squared error is 4",
        example="rotation",
    ),
)


def implications() -> tuple[Arrow, ...]:
    """List which notion of redundancy implies which, with assumptions and counterexamples.

    The paper's Figure 1, corrected. None of the four notions by itself makes a layer safe to skip:
    a fifth, causal one does, the loss between the outputs with and without it, and what these
    arrows say is where to look first.

    Returns
    -------
    tuple of Arrow

    Examples
    --------
    >>> for arrow in implications():
    ...     if arrow.target == "functional":
    ...         print(arrow.source, "·", arrow.bound)
    geometric · F <= 2 (alpha + beta)^2 E rho
    informational · F <= (diam(Z)^2 / 2) H(X_l | X_{l-1})

    References
    ----------
    Figure 1 of the paper.
    """
    return _ARROWS
