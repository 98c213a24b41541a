"""Colours: letters and pictures stand out from their page, light and dark, for every eye."""

from __future__ import annotations

import itertools
import re
from importlib.resources import files

import numpy as np
import pytest

from redundancy.report._svg import PAGE_COLOURS
from redundancy.report.plots import SERIES, VERDICT_COLOURS

CSS = (files("redundancy.report") / "templates" / "style.css").read_text()
LETTERS = ("ink", "soft", "accent", "good", "warn", "bad")
HUES = tuple(name.removeprefix("--") for name in PAGE_COLOURS.values())
# Viénot, Brettel and Mollon (1999): what dichromats see of linear RGB.
DEUTAN = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])
PROTAN = np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]])


def themes() -> dict[str, dict[str, str]]:
    """The colours of light, dark and print, as the style sheet has them."""
    blocks = re.findall(r":root \{(.*?)\}", CSS, flags=re.DOTALL)
    assert len(blocks) == 3
    found = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in blocks]
    return dict(zip(("light", "dark", "print"), found, strict=True))


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2."""
    a, b = (float(linear(c) @ (0.2126, 0.7152, 0.0722)) + 0.05 for c in (one, other))
    return max(a, b) / min(a, b)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB (white D65)."""
    xyz = np.clip(rgb, 0, 1) @ np.array(
        [[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]]
    )
    t = xyz / (0.9505, 1.0, 1.089)
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_the_measure_of_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_all_themes_name_the_same_colours_and_paper_is_the_light_one():
    found = themes()
    assert set(found["light"]) == set(found["dark"])
    assert found["print"] == found["light"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_letters_stand_out(theme):
    colours = themes()[theme]
    for ground in ("page", "card"):
        for name in LETTERS:
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    for cell in "rnuo":
        assert contrast(colours["cell-ink"], colours[f"cell-{cell}"]) >= 4.5, cell


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pictures_stand_out(theme):
    colours = themes()[theme]
    for name in HUES:
        assert contrast(colours[name], colours["page"]) >= 3.0, name


@pytest.mark.parametrize("eye", [np.eye(3), DEUTAN, PROTAN], ids=["all", "deutan", "protan"])
@pytest.mark.parametrize("theme", ["light", "dark", "python"])
def test_curves_that_share_a_picture_are_told_apart_by_every_eye(theme, eye):
    names = {colour: variable.removeprefix("--") for colour, variable in PAGE_COLOURS.items()}
    shown = names if theme == "python" else {c: themes()[theme][n] for c, n in names.items()}
    look = {c: c if theme == "python" else shown[c] for c in names}
    # Vision and text; accuracy, agreement and the plan; the first runs of a comparison.
    together = [SERIES[:2], ("#0072b2", "#cc79a7", "#009e73"), SERIES[:3]]
    for group in together:
        for one, other in itertools.combinations(group, 2):
            apart = lab(eye @ linear(look[one])) - lab(eye @ linear(look[other]))
            assert np.linalg.norm(apart) >= 11, (one, other)


def test_no_verdict_is_told_by_colour_alone():
    from redundancy.report._ruler import _CLASSES
    from redundancy.report.plots._style import VERDICT_MARKS
    from redundancy.report.plots.ruler import VERDICT_LETTERS

    for told in (VERDICT_LETTERS, VERDICT_MARKS, _CLASSES):
        assert set(told) == set(VERDICT_COLOURS)
        assert len(set(told.values())) == len(told)
