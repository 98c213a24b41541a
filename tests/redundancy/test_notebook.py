"""What a notebook shows: well-formed, escaped, and the numbers are those of the object."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from estimators import Diagnostic, Estimate, Interval
from estimators._html import shares, table
from estimators.broja import broja_pid
from redundancy.results import PairResult, Results
from redundancy.store import ActivationStore
from vlm.plan import SkipPlan

HOSTILE = "<script>alert('x')</script>"


class Balanced(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def words(shown: str) -> list[str]:
    """The texts of a piece of HTML, which must close what it opens and bring no markup along."""
    assert "<script" not in shown
    outline = Balanced()
    outline.feed(shown)
    assert outline.open == []
    return outline.words


def result(layer: int, **changes: object) -> PairResult:
    given = {
        "value": 0.25, "unit": f"nats {HOSTILE}", "kind": "estimate", "n": 9, "method": HOSTILE,
        "ci": Interval(low=0.125, high=0.5, level=0.9, method="t"),
        "diagnostics": (Diagnostic(code="c", severity="warning", message=f"careful {HOSTILE}"),),
    }  # fmt: skip
    return PairResult(
        pair=(layer, layer + 1),
        measure=f"pid {HOSTILE}",
        modality=HOSTILE,
        estimate=Estimate(**(given | changes)),
        verdict="needed",
    )


def test_results():
    shown = words(Results([result(0), result(1, value=None, ci=None)])._repr_html_())
    assert "0.125 – 0.5" in shown
    assert "90% CI" in shown
    assert "needed" in shown
    assert any("careful" in text for text in shown)
    assert any("not every pair" in text for text in shown)


def test_many_results_say_how_many_are_not_shown():
    shown = words(Results([result(i) for i in range(30)])._repr_html_())
    assert any("and 6 more" in text for text in shown)
    assert sum("→" in text for text in shown) == 24


def test_no_results():
    assert "0 results" in words(Results([])._repr_html_())


def test_a_decomposition_shows_its_atoms_and_its_certificate():
    p = np.zeros((2, 2, 2))
    for x in range(2):
        for y in range(2):
            p[x & y, x, y] = 1 / 4
    shown = words(broja_pid(p).to("bits")._repr_html_())
    assert "bits" in shown
    assert shown[shown.index("redundant") + 1] == "0.3113"
    assert shown[shown.index("synergistic") + 1] == "0.5"
    assert any("certified: gap" in text for text in shown)
    bar = broja_pid(p)._repr_html_()
    assert [float(w) for w in re.findall(r"width: ([\d.]+)%; background", bar)] == pytest.approx(
        [38.37, 0.0, 0.0, 61.63], abs=0.02
    )


def test_a_decomposition_without_a_joint_says_that_synergy_is_unknown():
    p = np.full((2, 2), 0.25)
    shown = words(broja_pid(p_zx=p, p_zy=p)._repr_html_())
    assert shown[shown.index("synergistic") + 1] == "unknown"


def test_a_decomposition_of_samples_shows_both_intervals():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 2, (2, 400))
    shown = words(broja_pid(samples=(x & y, x, y))._repr_html_())
    assert "95% CI" in shown
    assert sum("–" in text for text in shown) >= 6


def test_a_plan_shows_each_layer():
    plan = SkipPlan(6, vision_entry=1, vision_exit=5, drop_layers=(3,), model_type=HOSTILE)
    shown = words(plan._repr_html_())
    assert any("vision tokens enter at layer 1" in text for text in shown)
    assert re.findall(r'title="layer (\d): ([^"]*)"', plan._repr_html_()) == [
        ("0", "no vision"), ("1", "runs"), ("2", "runs"), ("3", "dropped"), ("4", "runs"),
        ("5", "no vision"),
    ]  # fmt: skip


def test_a_store_says_what_it_holds(tmp_path):
    x = np.zeros((12, 5)) + np.arange(12)[:, None]
    store = ActivationStore.from_arrays({"vision": {0: x, 1: x}}).save(tmp_path / "<script>")
    shown = words(store._repr_html_())
    assert any("<script>" in text for text in shown)
    assert shown[shown.index("vision") + 1 :][:2] == ["12", "5"]
    assert any("layers 0" in text for text in shown)


def test_a_table_escapes_every_part():
    assert words(table(HOSTILE, [HOSTILE], [[HOSTILE]], HOSTILE)).count(HOSTILE) == 4
    assert HOSTILE not in shares([(HOSTILE, 1.0)])
    assert shares([("a", 0.0), ("b", -1.0)]) == ""
