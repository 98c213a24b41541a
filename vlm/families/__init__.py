"""Model families this package was tested on: one file each, named after ``config.model_type``.

A file holds data, not code: a `Family` under the name ``FAMILY``. Adding a file is the whole of
adding a family; the equivalence tests run over `names`, so it is under test the moment it exists.
Vision-language models stand here, text-only ones in the folder ``text``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Family", "load", "names"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What structure and config do not tell about a family of models.

    Parameters
    ----------
    title : str
        Its name in the literature.
    vision_tokens : tuple of str
        Config fields with the ids of the placeholders that vision tokens replace; none for a
        text-only family.
    tiny : mapping
        A config of this family with a few thousand weights, for tests.
    images : mapping of str to nested lists or shapes
        Model inputs that one image brings, for tests: a tuple is the shape of random pixels, a
        list is the values themselves; images are joined along the first axis.
    tokens_per_image : int
        Placeholders one such image fills.
    token_types : str or None
        The model's name for the input that says 1 for vision and 0 for text, for tests.
    """

    title: str
    vision_tokens: tuple[str, ...] = ("image_token_id",)
    tiny: Mapping[str, Any] = field(default_factory=dict)
    images: Mapping[str, Any] = field(default_factory=dict)
    tokens_per_image: int = 0
    token_types: str | None = None


def names(*, text_only: bool = False) -> tuple[str, ...]:
    """List the families, by ``config.model_type``: vision-language ones, or text-only ones.

    Examples
    --------
    >>> "llava" in names(), "llama" in names(text_only=True)
    (True, True)
    """
    from vlm.families import text

    folder = text.__path__ if text_only else __path__
    found = (m.name for m in pkgutil.iter_modules(folder) if not m.ispkg)
    return tuple(sorted(name for name in found if name[0] != "_"))


def load(model_type: str) -> Family | None:
    """Data of a family; None if it has no file.

    Examples
    --------
    >>> load("llava").title
    'LLaVA-1.5'
    >>> load("bert") is None
    True
    """
    if model_type in names():
        where = __name__
    elif model_type in names(text_only=True):
        where = f"{__name__}.text"
    else:
        return None
    family: Family = importlib.import_module(f"{where}.{model_type}").FAMILY
    return family
