"""The site says something of everything: every public name, every measure, every theorem."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import redundancy as rd
from redundancy import registry, synthetic, theory

DOCS = Path(__file__).resolve().parents[1] / "docs"
REFERENCE = "\n".join(p.read_text(encoding="utf-8") for p in sorted((DOCS / "api").glob("*.md")))
DOCUMENTED = set(
    re.findall(r"^\.\. auto(?:function|class|exception|data):: (\S+)", REFERENCE, re.M)
)
MODULES = {"theory", "risk", "synthetic", "measures", "planning", "demo"}


def test_every_public_name_is_in_the_reference():
    names = {f"redundancy.{name}" for name in rd.__all__} - {"redundancy.__version__"}
    names -= {f"redundancy.{module}" for module in MODULES}
    assert names <= DOCUMENTED


@pytest.mark.parametrize("module", [theory, synthetic], ids=lambda m: m.__name__)
def test_every_name_of_a_public_module_is_in_the_reference(module):
    assert {f"{module.__name__}.{name}" for name in module.__all__} <= DOCUMENTED


@pytest.mark.parametrize("name", registry.names("measures"))
def test_every_measure_has_a_page_that_says_when_it_lies(name):
    page = (DOCS / "measures" / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {name}\n")
    assert "**When it lies.**" in page
    assert f"redundancy.measures.{name}.measure" in DOCUMENTED
    assert f"](measures/{name}.md)" in (DOCS / "index.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_what_the_reference_names_is_there_and_explained(name):
    import importlib

    module, _, attribute = name.rpartition(".")
    found = getattr(importlib.import_module(module), attribute)
    assert (found.__doc__ or "").strip()


def test_every_page_is_in_the_table_of_contents():
    # Sphinx only warns of an orphan where it can; a glob hides what it does not match.
    contents = "\n".join(p.read_text() for p in (DOCS / "index.md", DOCS / "api.md"))
    for page in DOCS.rglob("*.md"):
        if {"_build", "schemas"} & set(page.parts) or page.name in ("index.md",):
            continue
        stem = page.relative_to(DOCS).with_suffix("").as_posix()
        listed = re.search(rf"^{re.escape(stem)}$", contents, re.M)
        globbed = re.search(rf"^{re.escape(stem.partition('/')[0])}/\*$", contents, re.M)
        assert listed or globbed, stem


def links_checker():
    import importlib.util

    spec = importlib.util.spec_from_file_location("check_links", DOCS / "check_links.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("link", "why"),
    [
        ("https://github.com/EvolvingLMMs-Lab/lmms-eval", ""),
        ("https://arxiv.org/abs/2403.03853v2#S1", ""),
        ("https://www.python.org/?q=a", ""),
        ("data:text/csv;base64,AAAA", ""),
        ("http://github.com/a/b", "not https"),
        ("ftp://host.org/a", "not https"),
        ("https://example.com/page", "host"),
        ("https://docs.example/page", "host"),
        ("https://localhost:8000/", "host"),
        ("https://your-site.org/", "host"),
        ("https://github", "host"),
        ("https://-bad-.org", "host"),
        ("https://[::1", "IPv6"),
        ("https://github.com", "owner"),
        ("https://github.com/your-name/redundancy", "placeholder"),
        ("https://github.com/<owner>/redundancy", "placeholder"),
        ("https://github.com/TODO", "placeholder"),
        ("https://huggingface.co/user/model", "placeholder"),
        ("https://a.org/...", "placeholder"),
        ("https://me:secret@a.org/", "password"),
        ("mailto:someone@a.org", "mailto"),
    ],
)
def test_addresses_that_cannot_be_right_are_found_without_a_network(link, why):
    found = links_checker().malformed(link)
    assert bool(found) == bool(why)
    assert why in found


def test_links_that_lead_out_of_the_pages_are_well_formed():
    malformed = links_checker().malformed
    root = DOCS.parent
    pages = [*root.glob("*.md"), root / "CITATION.cff", root / "pyproject.toml"]
    pages += [p for p in DOCS.rglob("*.md") if "_build" not in p.parts]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        links = re.findall(
            r"(?:\]\(|<|\"|^url: |repository-code: )(https?://[^\s)>\"]+)", text, re.M
        )
        assert [(link, why) for link in links if (why := malformed(link))] == [], page
