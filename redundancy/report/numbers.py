"""How numbers are written, everywhere: enough digits to see the interval, no more."""

from __future__ import annotations

import math
from collections.abc import Iterable

__all__ = [
    "MISSING",
    "count",
    "decimals_for",
    "duration",
    "heading",
    "interval",
    "number",
    "pair_ranges",
    "size",
]

MISSING = "–"


def decimals_for(values: Iterable[float | None]) -> int:
    """Return the decimals that show a column's typical value with three significant digits.

    Examples
    --------
    >>> decimals_for([0.0123, 0.0456]), decimals_for([3.1, 4.2]), decimals_for([])
    (4, 2, 2)
    """
    sizes = sorted(abs(v) for v in values if v is not None and math.isfinite(v) and v != 0)
    if not sizes:
        return 2
    middle = sizes[len(sizes) // 2]
    return min(max(2 - math.floor(math.log10(middle)), 0), 6)


def number(value: float | None, decimals: int = 2) -> str:
    """Return a number with fixed decimals; a dash for none; a word for infinity.

    Examples
    --------
    >>> number(0.1234, 3), number(None), number(math.inf), number(-0.0001, 2)
    ('0.123', '–', '∞', '0.00')
    """
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    text = f"{value:,.{decimals}f}"
    return text.lstrip("-") if text.strip("-0.,") == "" else text


def interval(low: float | None, high: float | None, decimals: int = 2) -> str:
    """Return an interval as ``0.10 – 0.20``; a dash where there is none.

    Examples
    --------
    >>> interval(0.1, 0.2), interval(None, None)
    ('0.10 – 0.20', '–')
    """
    if low is None and high is None:
        return MISSING
    left = "-∞" if low is None else number(low, decimals)
    right = "∞" if high is None else number(high, decimals)
    return f"{left} – {right}"


def count(n: int, singular: str, plural: str | None = None) -> str:
    """Return ``1 pair`` or ``2,048 tokens``.

    Examples
    --------
    >>> count(1, "pair"), count(2048, "token")
    ('1 pair', '2,048 tokens')
    """
    return f"{n:,} {singular if n == 1 else plural or singular + 's'}"


def pair_ranges(pairs: Iterable[tuple[int, int]]) -> str:
    """Return pairs of layers in few words: runs of neighbours by their ends.

    Examples
    --------
    >>> pair_ranges([(1, 2), (0, 1), (2, 3), (3, 4), (7, 8), (0, 5)])
    '0→1 to 3→4, 0→5, 7→8'
    """
    runs: list[list[tuple[int, int]]] = []
    for pair in sorted(set(pairs), key=lambda pair: (pair[1] - pair[0], pair)):
        if runs and pair == (runs[-1][-1][0] + 1, runs[-1][-1][1] + 1):
            runs[-1].append(pair)
        else:
            runs.append([pair])
    texts = []
    for run in sorted(runs):
        labels = [f"{a}→{b}" for a, b in run]
        texts += labels if len(run) < 3 else [f"{labels[0]} to {labels[-1]}"]
    return ", ".join(texts)


def heading(name: str) -> str:
    """Return a measure's file name as a heading.

    Examples
    --------
    >>> heading("vision_effect"), heading("cka")
    ('Vision effect', 'CKA')
    """
    return name.upper() if len(name) <= 3 else name.replace("_", " ").capitalize()


def duration(seconds: float) -> str:
    """Return a duration in the unit a person would use.

    Examples
    --------
    >>> duration(0.00234), duration(0.0123), duration(41.2), duration(200)
    ('2.3 ms', '12 ms', '41 s', '3 min 20 s')
    """
    if seconds < 0.01:
        return f"{1000 * seconds:.2g} ms"
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def size(n_bytes: float) -> str:
    """Return a size in binary units.

    Examples
    --------
    >>> size(512), size(2.5 * 2**20)
    ('512 B', '2.5 MiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n_bytes < 1024 or unit == "GiB":
            break
        n_bytes /= 1024
    return f"{n_bytes:.0f} B" if unit == "B" else f"{n_bytes:.1f} {unit}"
