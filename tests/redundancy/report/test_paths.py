"""Short paths go where the long ones went, and marks stand where they stood."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redundancy.report._paths import marks_as_paths, short_path
from redundancy.report._sections import _sizes
from redundancy.report.html import render
from redundancy.results import PairResult, Results
from tests.redundancy.report.records import run

NUMBER = re.compile(r"-?\d*\.?\d+")


def places(d: str) -> list[list[tuple[float, float]]]:
    """Subpaths of M, L, l, h, v and z as absolute points, by the rules of SVG."""
    out: list[list[tuple[float, float]]] = []
    x = y = 0.0
    for letter, rest in re.findall(r"([MLlhvzZ])([^MLlhvzZ]*)", d):
        numbers = [float(n) for n in NUMBER.findall(rest)]
        if letter in "zZ":
            x, y = out[-1][0]
        elif letter in "hv":
            for step in numbers:
                x, y = (x + step, y) if letter == "h" else (x, y + step)
                out[-1].append((x, y))
        else:
            assert len(numbers) % 2 == 0
            for i in range(0, len(numbers), 2):
                a, b = numbers[i : i + 2]
                x, y = (x + a, y + b) if letter == "l" else (a, b)
                if letter == "M" and i == 0:
                    out.append([])
                out[-1].append((x, y))
    return out


coordinates = st.floats(-900, 900).map(lambda v: round(v, 2))
lines = st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=30)


@given(st.lists(st.tuples(lines, st.booleans()), min_size=1, max_size=4))
def test_every_point_is_where_it_was_to_a_twentieth(subpaths):
    text = "".join(
        "M" + "L".join(f"{x:g} {y:g}" for x, y in points) + ("z" if closed else "")
        for points, closed in subpaths
    )
    before, after = places(text), places(short_path(text))
    assert [len(points) for points in after] == [len(points) for points in before]
    for old, new in zip(before, after, strict=True):
        for (a, b), (c, d) in zip(old, new, strict=True):
            # However long the path: each step starts from a rounded point.
            assert abs(a - c) <= 0.0501
            assert abs(b - d) <= 0.0501
    assert short_path(text).count("z") == text.count("z")


@pytest.mark.parametrize("d", ["", "M0 0L0 3.5", "M0 -3C.8 -3 1.56 -2.68 2.12 -2.12z", "M10 20L30"])
def test_what_is_small_curved_or_strange_is_left_alone(d):
    assert short_path(d) == d


def mark(shape: str, x: float, y: float, style: str = ' class="c"') -> str:
    return f'<use href="#{shape}" x="{x:g}" y="{y:g}"{style}/>'


def test_runs_of_equal_marks_become_one_path_in_their_order():
    text = (
        "".join(mark("a", 10 * i, 50 - i) for i in range(1, 9))
        + "<text>between</text>"
        + "".join(mark("b", 10 * i, 7) for i in range(1, 4))
        + "".join(mark("a", 10 * i, 9, ' style="fill: none"') for i in range(1, 7))
    )
    ids = iter("mnopq")
    short = marks_as_paths(text, lambda _: next(ids))
    assert short.count("<marker") == 2
    assert short.count('href="#b"') == 3  # too few to be worth it
    assert short.index('id="m"') < short.index("between") < short.index('id="n"')
    first, second = (places(d)[0] for d in re.findall(r'<path d="([^"]*)"', short))
    np.testing.assert_allclose(first, [(10 * i, 50 - i) for i in range(1, 9)])
    np.testing.assert_allclose(second, [(10 * i, 9) for i in range(1, 7)])
    assert '<use href="#a" class="c"/></marker>' in short
    assert '<use href="#a" style="fill: none"/></marker>' in short
    assert short.count('style="fill: none; marker: url(#') == 2  # no polygon between the marks


@pytest.fixture(scope="module")
def page() -> str:
    return render(run(9))


def test_a_page_refers_to_marks_that_it_has(page):
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    markers = re.findall(r'<marker id="([^"]+)"', page)
    assert len(markers) > 10
    assert sorted(re.findall(r"marker: url\(#([^)]+)\)", page)) == sorted(markers)
    assert "marker { overflow: visible; }" in page


def test_what_is_the_same_in_every_row_is_said_once(page):
    assert re.search(r"n = [\d,]+ in every row, of [\d,]+ groups\.", page)
    record = run(9)
    rows = Results([PairResult.from_record(r) for r in record.results], record).select("cka")
    assert _sizes(rows)
    assert not _sizes(Results(list(rows)[:4]))  # a short table keeps its columns
    one = replace(rows[0], estimate=replace(rows[0].estimate, n=rows[0].estimate.n + 1))
    assert not _sizes(Results([one, *list(rows)[1:]]))
