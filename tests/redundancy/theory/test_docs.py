"""The worked examples of the theory's pages are run, and no statement is without a page."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from redundancy import theory

PAGES = Path(__file__).parents[3] / "docs" / "theory"


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda p: p.stem)
def test_worked_examples(page):
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.testfile(str(page), module_relative=False, optionflags=flags, encoding="utf-8")
    assert result.attempted > 0, f"{page.name} has no worked example"
    assert result.failed == 0


def test_every_statement_has_a_page():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES.glob("*.md"))
    for name in theory.__all__:
        if name[0].islower() and not name.startswith(("lemma", "text_drift", "unique", "segment")):
            assert name in text or (PAGES / f"{name}.md").exists(), name
    for number in range(1, 6):
        assert (PAGES / f"lemma{number}.md").exists()
    for number in range(1, 7):
        assert (PAGES / f"theorem{number}.md").exists()
