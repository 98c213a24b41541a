"""matplotlib's SVG made fit for a page: small, and in the page's own colours and letters."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter

from redundancy.report._paths import marks_as_paths, short_path

__all__ = ["INK", "PAGE_COLOURS", "slim"]

# Drawn in this colour, replaced by the page's own: one picture serves light, dark and print.
INK = "#010203"
# The palette of the pictures, by the name of the page's colour of that hue (style.css).
PAGE_COLOURS = {
    "#0072b2": "--blue",
    "#d55e00": "--red",
    "#009e73": "--green",
    "#cc79a7": "--pink",
    "#e69f00": "--orange",
    "#56b4e9": "--sky",
    "#999999": "--grey",
}


def slim(text: str, max_width: str, name: str = "") -> str:
    """Return the picture for a page.

    Colours become those of the page, so that light, dark and print each have their own; the family
    of the letters is the page's; names that nothing refers to go, since they would meet those of
    the page's other pictures.

    Parameters
    ----------
    text : str
        A file as matplotlib writes it.
    max_width : str
        CSS length; the page may make it smaller.
    name : str
        Tells the picture from others of the page that may look the same.

    Examples
    --------
    >>> slim('<?xml?><svg width="9pt" viewBox="0 0 1 1"><g id="a"><path d="M 0.1234 0"/></g></svg>',
    ...      "9rem")
    '<svg viewBox="0 0 1 1" style="max-width: 9rem"><path d="M.12 0"/></svg>'
    """
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg\b[^>]*?)(?: width="[^"]*")', r"\1", text, count=1)
    text = re.sub(r'(<svg\b[^>]*?)(?: height="[^"]*")', r"\1", text, count=1)
    text = re.sub(r' xmlns(?::\w+)?="[^"]*"| version="[\d.]+"', "", text)
    text = re.sub(r"<svg\b([^>]*)>", rf'<svg\1 style="max-width: {max_width}">', text, count=1)
    text = text.replace("xlink:href", "href").replace(INK, "currentColor")
    for colour, variable in PAGE_COLOURS.items():
        text = text.replace(colour, f"var({variable})")
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    text = re.sub(r" font-family: [^;\"]*;?", "", text)
    text = re.sub(r' transform="rotate\(-?0 [^"]*"', "", text)
    # Names are the picture's own: two pictures of one page must not share one.
    mark = _name(name + text)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(
        r' id="([^"]*)"', lambda m: f' id="{_name(mark + m[1])}"' if m[1] in used else "", text
    )
    text = re.sub(r'(href="#|url\(#)([^")]+)', lambda m: m[1] + _name(mark + m[2]), text)
    text = re.sub(r'\b(x|y|d|points)="([^"]*)"', _shorter, text)
    # Backgrounds that are not painted.
    text = re.sub(r'<path d="[^"]*" style="fill: none"/>', "", text)
    text = re.sub(r"<defs>\s*</defs>|\n\s*", "", text)
    text = re.sub(r'(<path\b[^>]*? ?d=")([^"]*)"', lambda m: f'{m[1]}{short_path(m[2])}"', text)
    return _with_classes(marks_as_paths(_without_idle_groups(text), lambda t: _name(mark + t)))


def _name(text: str) -> str:
    """Return a short name that depends on `text` alone, so that equal things may share it."""
    return "s" + base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().lower()[:5]


def _shorter(match: re.Match[str]) -> str:
    """Write coordinates with two decimals and no more signs than a reader of SVG needs."""
    text = re.sub(r"-?\d+\.\d+", lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), match[2])
    text = re.sub(r"(?<!\d)0\.", ".", text.replace("-0 ", "0 "))
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r" ?([MLCQzZ]) ?", r"\1", text) if match[1] == "d" else text
    return f'{match[1]}="{text}"'


def _without_idle_groups(text: str) -> str:
    """Drop groups that say nothing, keeping what is in them."""
    out: list[str] = []
    kept: list[bool] = []
    for piece in re.split(r"(<g\b[^>]*>|</g>)", text):
        if piece == "<g/>":
            continue
        if piece == "</g>":
            if kept.pop():
                out.append(piece)
        elif piece.startswith("<g"):
            kept.append(piece != "<g>")
            if kept[-1]:
                out.append(piece)
        else:
            out.append(piece)
    return "".join(out)


def _with_classes(text: str) -> str:
    """Give styles that come again a name, derived from the style: alike in all pictures."""
    counts = Counter(re.findall(r' style="([^"]*)"', text))
    names = {style: _name(style) for style, n in counts.items() if n > 2}
    if not names:
        return text
    text = re.sub(
        r' style="([^"]*)"',
        lambda m: f' class="{names[m[1]]}"' if m[1] in names else m[0],
        text,
    )
    rules = "".join(f".{name}{{{style}}}" for style, name in names.items())
    head, mark, rest = text.partition(">")
    return f"{head}{mark}<style>{rules}</style>{rest}"
