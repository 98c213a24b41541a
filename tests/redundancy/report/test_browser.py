"""The pages in a real browser: nothing overflows, complains, or is out of a keyboard's reach."""

from __future__ import annotations

import pytest

from redundancy.report.comparison import render_comparison
from redundancy.report.html import render
from tests.redundancy.report import browser
from tests.redundancy.report.records import run

PATH = browser.find()
pytestmark = pytest.mark.skipif(PATH is None, reason="no Chromium on this machine")

OVERFLOW = """(() => {
  const wide = document.documentElement.clientWidth, found = [];
  for (const e of document.querySelectorAll("body *")) {
    if (e.closest(".scroll, svg, .skip")) continue;
    const box = e.getBoundingClientRect();
    if (box.right > wide + 0.5 || box.left < -0.5) found.push(e.tagName + "." + e.className);
  }
  return [document.documentElement.scrollWidth - wide, found];
})()"""
TEXT_SIZES = """Math.min(...[...document.querySelectorAll("svg text")].map(
  e => e.getBoundingClientRect().height))"""
UNREACHED = """[...document.querySelectorAll(".scroll")].filter(
  e => e.scrollWidth > e.clientWidth && e.tabIndex !== 0).length"""
PICTURES = """[...document.querySelectorAll("[role=img], img, svg")].filter(
  e => !(e.closest("[role=img]") || e).getAttribute("aria-label")).length"""
DOUBLES = """(() => { const seen = new Set();
  for (const e of document.querySelectorAll("[id]")) {
    if (seen.has(e.id)) return e.id; seen.add(e.id); } return null; })()"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    some = ("geometric", "informational", "pid", "var")
    (folder / "one.html").write_text(render(run(24, measures=some)))
    records = [
        run(40, dataset=name, seed=i, measures=("geometric",))
        for i, name in enumerate(("scenes", "charts"))
    ]
    (folder / "two.html").write_text(render_comparison(records))
    return folder


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser.Browser(PATH, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("name", ["one.html", "two.html"])
@pytest.mark.parametrize("width", [360, 768, 1440])
def test_nothing_overflows_and_nothing_complains(tab, pages, name, width):
    tab.open(pages / name, width)
    tab.ask("for (const d of document.querySelectorAll('details')) d.open = true; 1")
    over, elements = tab.ask(OVERFLOW)
    assert over <= 0, f"{name} is {over} px wider than {width} px: {elements[:5]}"
    assert elements == []
    assert tab.ask(UNREACHED) == 0
    assert tab.ask(TEXT_SIZES) >= 8
    assert tab.complaints() == []


@pytest.mark.parametrize("name", ["one.html", "two.html"])
def test_pictures_have_words_and_names_are_unique(tab, pages, name):
    tab.open(pages / name, 768)
    assert tab.ask(PICTURES) == 0
    assert tab.ask(DOUBLES) is None


def test_a_keyboard_gets_everywhere(tab, pages):
    tab.open(pages / "one.html", 768)
    tab.press("Tab")
    assert tab.ask("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(60):
        tab.press("Tab")
        reached.add(tab.ask("document.activeElement.tagName"))
    assert {"A", "SUMMARY", "DIV"} <= reached


def test_light_and_dark_are_different_pages(tab, pages):
    background = "getComputedStyle(document.body).backgroundColor"
    tab.open(pages / "one.html", 768, scheme="light")
    light = tab.ask(background)
    tab.open(pages / "one.html", 768, scheme="dark")
    assert light == "rgb(255, 255, 255)"
    assert tab.ask(background) == "rgb(22, 24, 27)"
    # Paper is white, whatever the screen was.
    tab.open(pages / "one.html", 768, scheme="dark", media="print")
    assert tab.ask(background) == light


def test_print_opens_what_was_folded(tab, pages):
    tab.open(pages / "one.html", 768, media="print")
    shown = tab.ask("document.querySelector('details table').getBoundingClientRect().height")
    assert shown > 20
