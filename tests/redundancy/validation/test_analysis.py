"""The analysis on studies whose answer is known, and what it does with unusable ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from msgspec.structs import replace
from scipy import stats

from estimators import InputError
from redundancy.validation.analysis import analyse, cluster_interval
from redundancy.validation.records import TARGETS, read_analysis, read_study, write
from redundancy.validation.show import blocks, judgement, sentences
from tests.redundancy.validation.synthetic import curve, make_study


@pytest.fixture(scope="module")
def found():
    return analyse([make_study(seed) for seed in range(6)], draws=300)


def row(found, measure, target="hide", kind="changed"):
    (one,) = [
        r for r in found.associations if (r.measure, r.target, r.kind) == (measure, target, kind)
    ]
    return one


def test_a_reading_that_is_the_risk_predicts_it(found):
    good = row(found, "good")
    assert good.mean > 0.9
    assert good.auc > 0.95
    assert good.images_ci[0] > 0.8
    assert good.clusters_ci[0] > 0.8
    assert good.p_adjusted < 0.05
    assert good.beyond_depth > 0.9
    assert judgement(good) == "predicts, beyond depth"
    assert good.verdicts["redundant"][1] <= 1
    assert good.auc_verdicts > 0.8


def test_the_direction_of_a_measure_counts(found):
    assert row(found, "inverse").mean == pytest.approx(row(found, "good").mean)
    wrong = row(found, "wrong")
    assert wrong.mean == pytest.approx(-row(found, "good").mean)
    assert wrong.auc < 0.05
    assert judgement(wrong) == "predicts the opposite"


def test_noise_and_the_shuffled_control_predict_nothing(found):
    assert judgement(row(found, "noise")) == "no evidence"
    shuffled = row(found, "shuffled")
    assert shuffled.control
    assert shuffled.clusters_ci[0] < 0 < shuffled.clusters_ci[1]
    assert shuffled.p_adjusted is None


def test_a_measure_without_readings_or_spread_has_no_correlation(found):
    for name in ("silent", "flat"):
        empty = row(found, name)
        assert empty.n_models == 0
        assert empty.mean is None
        assert judgement(empty) == "no estimate"


def test_two_readings_alone_are_no_correlation():
    few = make_study(0, readings={"few": curve([1.0, 2.0, *[None] * 6])})
    assert row(analyse([few], draws=100), "few").n_models == 0


def test_words_name_failures_as_plainly_as_successes(found):
    said = " ".join(sentences(found))
    for target in TARGETS:
        assert target in said
    assert "predicts, beyond depth: good, inverse" in said
    assert "no evidence: noise" in said
    assert "predicts the opposite: wrong" in said
    assert "no estimate: silent, flat" in said


def test_wrong_verdicts_are_counted_and_said():
    study = make_study(0)
    misled = replace(study, readings={"blind": curve(range(8), verdicts=["redundant"] * 8)})
    found = analyse([misled], draws=100)
    good, bad = row(found, "blind").verdicts["redundant"]
    assert good + bad == 8
    assert bad >= 6
    assert f"blind called {bad} of 8 redundant that cost more than 5%" in " ".join(sentences(found))
    assert any("one model" in note for note in found.notes)


def test_noisy_readings_widen_the_interval_over_images():
    sure, vague = (
        make_study(0, readings={"good": curve(np.linspace(0, 0.4, 8), se=se)}) for se in (0.0, 0.5)
    )
    narrow = row(analyse([sure], draws=300), "good").images_ci
    wide = row(analyse([vague], draws=300), "good").images_ci
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])


def test_the_interval_over_clusters_is_the_textbook_one_and_covers():
    rng = np.random.default_rng(0)
    values = rng.normal(0.3, 0.1, size=5)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert cluster_interval(values, list("abcde"), 0.95) == pytest.approx(tuple(expected))
    covered = 0
    for _ in range(2000):
        shared = rng.normal(0.2, 0.1, size=5)
        drawn = np.repeat(shared, 4) + rng.normal(0, 0.05, size=20)
        low, high = cluster_interval(drawn, np.repeat(list("abcde"), 4).tolist(), 0.95)
        covered += low <= 0.2 <= high
    assert covered / 2000 == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 2000))
    assert cluster_interval(values, ["a"] * 5, 0.95) is None


def test_a_record_survives_its_file_and_a_damaged_one_is_refused(found, tmp_path):
    write(found, tmp_path / "validation.json")
    assert read_analysis(tmp_path / "validation.json") == found
    study = make_study(3)
    write(study, tmp_path / "study.json")
    assert read_study(tmp_path / "study.json") == study
    text = (tmp_path / "study.json").read_text()
    (tmp_path / "study.json").write_text(text.replace("0.0", "0.1", 1))
    with pytest.raises(InputError):
        read_study(tmp_path / "study.json")
    with pytest.raises(InputError, match="there is no file"):
        read_study(tmp_path / "none.json")


def test_the_tables_can_be_printed(found, capsys):
    from redundancy.cli._common import show

    show(blocks(found))
    printed = capsys.readouterr().out
    assert "beyond depth" in printed
    assert "negative" not in printed.split("In words")[0]
    assert "hide: vision hidden from this layer alone" in printed


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: analyse([]), "no study"),
        (lambda: analyse([make_study(0), make_study(0)]), "two studies are called 'model 0'"),
        (lambda: analyse([make_study(0)], alpha=0.0), "alpha is 0.0"),
        (lambda: analyse([make_study(0)], level=1.0), "level is 1.0"),
        (lambda: analyse([make_study(0)], draws=10), "draws is 10"),
    ],
)
def test_bad_input_is_said_in_one_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call()
