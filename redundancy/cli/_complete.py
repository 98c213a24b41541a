"""What the shell offers behind an option: names that exist, read without importing them."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["choices", "names_of"]


def choices(*words: str) -> Callable[[str], list[str]]:
    """Return a completion that offers fixed words.

    Examples
    --------
    >>> choices("nats", "bits")("b")
    ['bits']
    """

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


def names_of(folder: str) -> Callable[[str], list[str]]:
    """Return a completion that offers what stands in one of the registry's folders.

    Examples
    --------
    >>> names_of("measures")("geo")
    ['geometric']
    """

    def complete(incomplete: str) -> list[str]:
        from redundancy import registry

        return [name for name in registry.names(folder) if name.startswith(incomplete)]

    return complete
