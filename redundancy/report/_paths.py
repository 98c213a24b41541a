"""Paths and marks of a picture in fewer letters: steps for places, one path for many marks."""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["marks_as_paths", "short_path"]

# A tenth of a unit is less than a fifth of a pixel at the width that pictures are shown in.
_TENTHS = 10
# Shapes of marks are a few units wide, and keep their hundredths.
_SMALL = 8.0
_NUMBER = r"-?\d*\.?\d+(?:e-?\d+)?"
_PLAIN = re.compile(rf"^(?:[MLzZ]|{_NUMBER}|[ ,])*$")
_TOKEN = re.compile(rf"[MLzZ]|{_NUMBER}")
# As few marks as this take less room one by one.
_RUN = 4


def short_path(d: str) -> str:
    """Return a path of straight lines as steps between points rounded to a tenth.

    Each step leads from one rounded point to the next, so that errors do not add up. Paths with
    curves, and small ones, come back as they are.

    Examples
    --------
    >>> short_path("M10 20L14.63 20L19.22 18.04L100 18.04z")
    'M10 20h4.6l4.6-2h80.8z'
    >>> short_path("M0 0L0 3.5"), short_path("M0 0C1 1 2 2 30 30")
    ('M0 0L0 3.5', 'M0 0C1 1 2 2 30 30')
    """
    if not _PLAIN.match(d):
        return d
    tokens = _TOKEN.findall(d)
    if max((abs(float(t)) for t in tokens if t not in "MLzZ"), default=0.0) < _SMALL:
        return d
    out: list[str] = []
    here = start = (0, 0)
    i, command = 0, ""
    while i < len(tokens):
        if tokens[i] in ("M", "L"):
            command = tokens[i]
            i += 1
        elif tokens[i] in "zZ":
            out.append("z")
            here, command = start, ""
            i += 1
            continue
        if not command or i + 1 >= len(tokens):
            return d
        point = (round(_TENTHS * float(tokens[i])), round(_TENTHS * float(tokens[i + 1])))
        i += 2
        if command == "M":
            out.append("M" + _pair(point))
            start, command = point, "L"
        else:
            out.append(_step(point[0] - here[0], point[1] - here[1]))
        here = point
    return _joined(out)


def _step(dx: int, dy: int) -> str:
    if dy == 0:
        return "h" + _tenth(dx)
    return "v" + _tenth(dy) if dx == 0 else "l" + _pair((dx, dy))


def _tenth(value: int) -> str:
    text = f"{value / _TENTHS:.1f}".removesuffix(".0")
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def _pair(point: tuple[int, int]) -> str:
    x, y = map(_tenth, point)
    return f"{x}{y}" if y.startswith("-") else f"{x} {y}"


def _joined(parts: list[str]) -> str:
    """Join commands; one that is the last one's again needs no letter."""
    out, last = "", ""
    for part in parts:
        letter, rest = part[0], part[1:]
        if letter == last and letter in "lhv":
            out += rest if rest.startswith("-") else f" {rest}"
        else:
            out += part
        last = letter
    return out


_USE = r'<use href="#(\w+)" x="([^"]*)" y="([^"]*)"((?: (?:class|style)="[^"]*")?)/>'


def marks_as_paths(text: str, name: Callable[[str], str]) -> str:
    """Return a picture whose runs of equal marks are one path each, with the mark at its points.

    Parameters
    ----------
    text : str
        SVG in which a mark is drawn by ``<use href="#shape" x="..." y="..."/>``.
    name : callable
        Makes an id of a text.

    Examples
    --------
    >>> row = "".join(f'<use href="#s" x="{10 * x}" y="5" class="c"/>' for x in range(1, 6))
    >>> print(marks_as_paths(row, lambda text: "m"))
    <defs><marker id="m" markerUnits="userSpaceOnUse"><use href="#s" class="c"/></marker></defs><path d="M10 5h10 10 10 10" style="fill: none; marker: url(#m)"/>
    """  # noqa: E501

    def run(match: re.Match[str]) -> str:
        found = re.findall(_USE, match[0])
        if len(found) < _RUN:
            return match[0]
        shape, style = found[0][0], found[0][3]
        mark = name(f"{shape}{style}{match.start()}")
        d = "M" + "L".join(f"{x} {y}" for _, x, y, _ in found)
        return (
            f'<defs><marker id="{mark}" markerUnits="userSpaceOnUse">'
            f'<use href="#{shape}"{style}/></marker></defs>'
            f'<path d="{short_path(d)}" style="fill: none; marker: url(#{mark})"/>'
        )

    # A run repeats its first mark but for the place.
    same = r'(?:<use href="#\1" x="[^"]*" y="[^"]*"\4/>)+'
    return re.sub(_USE + same, run, text)
