"""Every picture, drawn without a page: what is on the axes is what the record says."""

from __future__ import annotations

from dataclasses import replace

import matplotlib
import numpy as np
import pytest

from estimators import Estimate, InputError, Interval
from redundancy.record import DistanceRecord
from redundancy.report import plots
from redundancy.report._drops import drops
from redundancy.report._svg import slim
from redundancy.report.implications import arrow_states
from redundancy.report.plots.ruler import plan_cells
from redundancy.results import PairResult, Results
from tests.redundancy.report.records import run

matplotlib.use("agg")


@pytest.fixture(scope="module")
def record():
    return run(6)


@pytest.fixture(scope="module")
def results(record):
    return Results([PairResult.from_record(r) for r in record.results], record)


@pytest.fixture
def ax():
    from matplotlib.figure import Figure

    return Figure().add_subplot()


def estimate(value: float | None, half: float = 0.1, unit: str = "nats") -> Estimate:
    ci = None if value is None else Interval(low=value - half, high=value + half, level=0.95,
                                             method="t")  # fmt: skip
    return Estimate(value=value, unit=unit, kind="estimate", n=9, method="m", ci=ci)


def text(ax) -> str:
    return " ".join(t.get_text() for t in ax.texts)


def test_a_measure_is_drawn_with_line_band_and_threshold(results, ax):
    vision = results.select("geometric", "vision")
    assert plots.plot_measure(vision, ax=ax) is ax
    assert ax.lines[0].get_ydata() == pytest.approx([r.estimate.value for r in vision])
    assert ax.lines[0].get_xdata() == pytest.approx([1, 2, 3, 4, 5, 6])
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(max(r.estimate.ci.high for r in vision))
    assert "0.1" in text(ax)


def test_a_pair_without_an_estimate_leaves_a_gap_and_no_crash(results, ax):
    rows = [replace(r, estimate=estimate(None)) if i < 2 else r
            for i, r in enumerate(results.select("cka", "text"))]  # fmt: skip
    plots.plot_measure(Results(rows), ax=ax)
    assert len(ax.lines[0].get_xdata()) == 4


def test_heads_are_drawn_from_the_least_to_the_greatest(results, ax):
    rows = results.select("var")
    plots.plot_var(rows, ax=ax)
    strokes = ax.lines[0].get_ydata()
    heads = rows[0].estimate.params["per_head"]
    assert strokes[:2] == pytest.approx([min(heads), max(heads)])
    assert "gate" in text(ax)
    plots.plot_var(Results([replace(r, threshold=None) for r in rows]), ax=ax)
    assert "share of" in text(ax)


def test_the_parts_of_a_decomposition_stand_on_one_another(ax):
    parts = {"redundant": 0.5, "unique_lower": 0.25, "synergistic": 0.125}
    r = PairResult(
        pair=(3, 4), measure="pid", estimate=estimate(0.2),
        extras={key: estimate(value) for key, value in parts.items()},
    )  # fmt: skip
    plots.plot_pid(Results([r]), ax=ax)
    spans = [p.get_path().vertices[:, 1] for p in ax.patches]
    assert [(s.min(), s.max()) for s in spans] == [
        pytest.approx(pair) for pair in [(0, 0.5), (0.5, 0.75), (0.75, 0.95), (0.95, 1.075)]
    ]
    # The third interval belongs to the upper layer's own part, which begins at 0.75.
    assert ax.lines[2].get_ydata()[:2] == pytest.approx([0.75 + 0.1, 0.75 + 0.3])


def test_a_withheld_part_is_left_out_and_a_negative_one_has_no_bar(ax):
    extras = {"redundant": estimate(0.5), "unique_lower": estimate(-0.01),
              "synergistic": estimate(None)}  # fmt: skip
    r = PairResult(pair=(0, 1), measure="pid", estimate=estimate(0.2), extras=extras)
    plots.plot_pid(Results([r]), ax=ax)
    assert len(ax.patches) == 2


def test_functional_shows_bounds_up_to_the_cap(results, ax):
    rows = results.select("functional", "vision")
    plots.plot_functional(rows, ax=ax)
    words = [t.get_text() for t in ax.get_legend().get_texts()]
    assert words == ["Theorem 2, up to the cap", "plug-in, biased up", "F"]
    cap = rows[0].extras["trivial_cap"].value
    assert np.nanmax(ax.lines[0].get_ydata()) <= cap + 1e-12
    plots.plot_probe_fit(rows, ax=ax)


def test_the_small_multiples_draw_what_the_estimate_carries(results, ax):
    row = results.select("informational", "vision")[0]
    plots.plot_scaling({"vision": row}, ax=ax)
    assert list(ax.lines[0].get_xdata()) == [125, 250, 500, 1000]
    assert ax.get_xscale() == "log"
    other = ax.figure.add_subplot()
    plots.plot_k_sweep({"vision": row}, ax=other)
    assert list(other.lines[0].get_xdata()) == [1, 3, 5, 10]


def test_heat_maps_have_the_matrix_and_a_hole_where_nothing_is_known(ax):
    matrix = DistanceRecord(layers=[0, 4, 8], matrix=[[0, 1, 2], [1, 0, None], [2, None, 0]])
    plots.plot_distances(matrix, ax=ax)
    drawn = ax.collections[0].get_array()
    assert drawn[0, 2] == 2
    assert np.ma.is_masked(drawn[1, 2]) or np.isnan(drawn[1, 2])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "4", "8"]
    plots.plot_cka(matrix, ax=ax.figure.add_subplot())


def test_the_ruler_has_a_cell_per_verdict_and_a_row_for_the_plan(results, ax):
    plots.plot_ruler(results, plan=results.record.plan, ax=ax)
    verdicts = sum(r.verdict is not None for r in results)
    assert len(ax.patches) == verdicts + 6
    assert ax.get_yticklabels()[-1].get_text() == "the plan"
    assert text(ax).count("skip") == 4


@pytest.mark.parametrize("plan", [None, {}, {"n_layers": "eight"}, {"vision_entry": 2}])
def test_what_is_no_plan_has_no_row(plan):
    assert plan_cells(plan) == []


def test_plans_are_judged_by_their_most_doubtful_layer(record, results):
    found = drops(results, record.sweeps)
    assert {d.kind for d in found} == {"late", "exit"}
    vision = {r.pair[0]: r.verdict for r in results.select("geometric", "vision")}
    order = ["needed", "no estimate", "undecided", "redundant"]
    for d in found:
        assert d.skipped == (tuple(range(d.layer)) if d.kind == "late"
                             else tuple(range(d.layer, 6)))  # fmt: skip
        worst = min((vision[layer] for layer in d.skipped), key=order.index)
        assert d.verdicts["geometric", "vision"] == worst
        assert all(modality == "vision" for _, modality in d.verdicts)
    assert found[0].changed == pytest.approx(1 - record.sweeps[0].points[1]
                                             .evaluation.agreement.value)  # fmt: skip


def test_every_judged_plan_is_one_mark(record, results, ax):
    plots.plot_verdicts_against_drop(results, record.sweeps, ax=ax)
    found = drops(results, record.sweeps)
    marks = [line for line in ax.lines if line.get_linestyle() == "None"]
    assert sum(len(line.get_xdata()) for line in marks) == sum(len(d.verdicts) for d in found)


def test_a_sweep_is_drawn_with_plan_and_chance(record, ax):
    plots.plot_sweep(record.sweeps[0], ax=ax)
    words = [t.get_text() for t in ax.get_legend().get_texts()]
    assert words == ["accuracy", "same answer as full model", "chance", "the plan"]


def test_runs_of_different_depth_are_drawn_over_the_share_of_depth(ax):
    runs = {}
    for n in (4, 8):
        rows = Results([PairResult.from_record(r) for r in run(n, measures=("cka",)).results])
        runs[f"{n} layers"] = rows.select("cka", "text")
    plots.plot_runs(runs, relative=True, ax=ax)
    assert [line.get_xdata()[-1] for line in ax.lines[:2]] == [1.0, 1.0]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["4 layers", "8 layers"]


def test_arrows_are_worth_what_the_numbers_make_them():
    def state(measure, value, unit, arrow, **params):
        e = replace(estimate(value, 0.001, unit), params=params)
        found = arrow_states(Results([PairResult(pair=(0, 1), measure=measure, estimate=e)]))
        return next(a.state for a in found if (a.source, a.target) == arrow)

    near = ("geometric", "proximal")
    assert state("geometric", 0.002, "cosine distance", near) == "holds"
    assert state("geometric", 0.5, "cosine distance", near) == "vacuous"
    assert state("geometric", 0.002, "cosine distance", ("geometric", "skip")) == "conditional"
    assert state("geometric", 0.002, "cosine distance", ("proximal", "geometric")) == "not measured"
    assert state("functional", 0.0, "x", ("functional", "skip")) == "never"
    markov = ("informational", "functional")
    assert state("informational", 0.1, "nats", markov) == "conditional"
    back = ("proximal", "geometric")
    assert state("proximal", 0.99, "probability", back, t=0.05) == "holds"


def test_the_diagram_names_every_notion_and_says_how_often_it_was_found(results, ax):
    plots.plot_implications(results, ax=ax)
    words = text(ax)
    redundant = sum(r.verdict == "redundant" for r in results.select("geometric", "vision"))
    assert f"geometric\nvision {redundant} of 6" in words
    assert "safe to skip" in words


def test_results_draw_themselves(results, ax):
    import matplotlib.pyplot as plt

    found = results.plot()
    assert set(found) == {"verdicts", *results.measures}
    plt.close("all")
    only = results.select("geometric")
    assert only.plot(ax=ax) == {"geometric": ax}
    with pytest.raises(InputError, match="one pair of axes holds one measure and there are 8"):
        results.plot(ax=ax)
    with pytest.raises(InputError, match="there is nothing to draw"):
        Results([]).plot()


def test_a_picture_takes_its_colours_from_the_page():
    picture = ('<?xml?><svg height="1pt" width="2pt" viewBox="0 0 2 1">'
               '<style>*{stroke-linejoin: round}</style><g id="a"><g/>'
               '<path id="b" d="M 0 0.50000 &#10;L 1 1" style="fill: #0072b2; stroke: #010203"/>'
               '<use xlink:href="#b" x="1.23456" style="fill: none"/></g></svg>')  # fmt: skip
    small = slim(picture, "9rem", "one")
    assert "var(--blue)" in small
    assert "currentColor" in small
    assert "#0072b2" not in small
    assert 'x="1.23"' in small
    name = small.split('id="')[1].split('"')[0]
    assert f'href="#{name}"' in small
    assert name not in slim(picture, "9rem", "two")
