"""Rules that choose, token by token and at run time, which vision tokens a layer computes.

A rule is any function from a `Step` to a mask; `skipping(model, plan, keep=rule)` asks it at every
layer the prompt passes. A token that sits out passes the layer unchanged, is no key there, and
leaves nothing in that layer's cache, as under a plan. Text tokens always take part.

    def nearest_half(step):  # keep the vision tokens most like the last text token
        likeness = torch.cosine_similarity(step.hidden, step.hidden[:, -1:], dim=-1)
        return likeness >= likeness[step.vision].median()
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vlm._errors import VLMError

__all__ = ["Counted", "Rule", "Step", "cosine_distance", "settled", "strongest"]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What a rule may look at before a layer.

    Parameters
    ----------
    layer : int
    hidden : tensor, shape (batch, tokens, d)
        States that enter the layer.
    before : tensor, shape (batch, tokens, d), or None
        States that entered the layer before; None at the first, and after one that the plan
        hides vision from.
    vision : bool tensor, shape (batch, tokens)
        Which tokens are vision.
    took_part : bool tensor, shape (batch, tokens)
        Which vision tokens took part when the rule was last asked; at first, all.
    """

    layer: int
    hidden: Tensor
    before: Tensor | None
    vision: Tensor
    took_part: Tensor


Rule = Callable[[Step], Tensor]
"""From a step to a bool tensor (batch, tokens): the vision tokens that take part in the layer."""


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """1 minus the cosine of the angle between the last axes of two tensors, in float32.

    Examples
    --------
    >>> cosine_distance(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])).item()
    1.0
    """
    return 1.0 - torch.cosine_similarity(a.float(), b.float(), dim=-1)


class Counted:
    """A rule that remembers how many vision tokens it let take part, per row and layer.

    Parameters
    ----------
    rule : callable
    """

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self.counts: dict[int, Tensor] = {}

    def __call__(self, step: Step) -> Tensor:
        took = self._rule(step)
        if took.shape == step.vision.shape and took.dtype == torch.bool:
            self.counts[step.layer] = (took & step.vision).sum(dim=1)
        return took


def settled(threshold: float, *, patience: int = 1) -> Rule:
    """Make the rule that a vision token sits out once a layer has hardly turned it.

    A token whose state the layer before has turned by a cosine distance below the threshold takes
    no part from then on: a token that sits out is not turned at all. The price is one comparison
    per token and layer.

    Parameters
    ----------
    threshold : float
        Cosine distance in (0, 2].
    patience : int
        Number of first layers in which every token takes part.

    Examples
    --------
    >>> rule = settled(0.1)
    >>> still, turned = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> all_vision = torch.ones(1, 2, dtype=torch.bool)
    >>> rule(
    ...     Step(1, torch.stack([still, turned], 1), torch.stack([still, still], 1), all_vision,
    ...          all_vision)
    ... ).tolist()
    [[False, True]]
    """
    if not 0.0 < threshold <= 2.0:
        raise VLMError(f"threshold is {threshold!r}; a cosine distance in (0, 2] is needed.")
    if patience < 1:
        raise VLMError(f"patience is {patience!r}; it must be at least 1.")

    def rule(step: Step) -> Tensor:
        if step.before is None or step.layer < patience:
            return step.took_part
        return step.took_part & (cosine_distance(step.hidden, step.before) >= threshold)

    rule.__qualname__ = f"settled({threshold!r}, patience={patience!r})"
    return rule


def strongest(share: float, *, layer: int, score: Callable[[Step], Tensor] | None = None) -> Rule:
    """Make the rule that from one layer on only the vision tokens of the highest scores take part.

    With attention as the score this is FastV (Chen et al. 2024). States are what a rule sees, so
    the default score is the cosine between a vision token and the last token of the prompt.

    Parameters
    ----------
    share : float
        Share of each row's vision tokens to keep, in [0, 1]; rounded to the next whole token.
    layer : int
        The layer before which the choice is made, once for all later layers; if the plan hides
        vision there, the next that sees it.
    score : callable, optional
        From a `Step` to a tensor of shape (batch, tokens).
    """
    if not 0.0 <= share <= 1.0:
        raise VLMError(f"share is {share!r}; it lies between 0 and 1.")
    if layer < 0:
        raise VLMError(f"layer is {layer!r}; layers count from 0.")

    def likeness(step: Step) -> Tensor:
        return -cosine_distance(step.hidden, step.hidden[:, -1:])

    def rule(step: Step) -> Tensor:
        if step.layer < layer or not torch.equal(step.took_part, step.vision):
            return step.took_part
        scores = (score or likeness)(step).float().masked_fill(~step.vision, -torch.inf)
        rank = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        return step.vision & (rank < (share * step.vision.sum(dim=1, keepdim=True)).round())

    rule.__qualname__ = f"strongest({share!r}, layer={layer!r})"
    return rule
