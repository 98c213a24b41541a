"""The probe report: everything in one file, nothing unescaped, every picture with its words."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from estimators import InputError
from redundancy.probing import probe_store
from redundancy.provenance import new_record
from redundancy.report.probes import (
    document,
    read_probe_report,
    render_probes,
    write_probe_report,
)
from redundancy.store import ActivationStore
from redundancy.synthetic import GaussianChain

NAMES = np.array(["red", "green <script>alert(1)</script>", "blue & white"])


@pytest.fixture(scope="module")
def report():
    rng = np.random.default_rng(0)
    z = rng.integers(0, 3, size=200)
    x = {layer: rng.normal(size=(200, 6)) for layer in range(4)}
    x[1][:, :3] += 2 * np.eye(3)[z]
    x[2] = x[1] + 0.1 * x[2]
    x[3] = np.ones((200, 6))
    store = ActivationStore.from_arrays(x, target=NAMES[z])
    return probe_store(store, kinds=("linear", "ridge"), threshold=0.05)


@pytest.fixture(scope="module")
def page(report):
    record = new_record(
        command="probe", argv=["redundancy", "probe", "my <acts>", "--kind", "ridge"], seed=0
    )
    return render_probes(report, record)


def test_it_is_one_small_file_that_asks_nobody(page):
    assert len(page.encode()) < 1_000_000
    assert not re.search(r'(src|href)="(?!#|data:)', page)
    assert "<script" not in page.lower()
    assert "url(http" not in page


def test_what_users_named_is_escaped(page):
    assert "green &lt;script&gt;" in page
    assert "my &lt;acts&gt;" in page


@pytest.mark.parametrize(
    "words",
    [
        "What can be read from each layer",
        "Functional redundancy",
        "Theorem 1",
        "Gain of each layer",
        "Confusion at the best layer",
        "Calibration at the best layer",
        "What was fitted on what",
        "What to be careful about",
        "redundancy probe",
        "no estimate",
        "is constant",
    ],
)
def test_it_holds(page, words):
    assert words in page


def test_every_picture_has_words_and_a_table(page):
    pictures = re.findall(r'<div role="img" aria-label="([^"]+)">\s*<svg', page)
    assert len(pictures) == page.count("<svg") == 7
    assert all("table" in words for words in pictures)
    assert page.count("<table>") >= 6


def test_json_comes_back_and_nothing_else_is_taken(report, tmp_path):
    write_probe_report(report, None, tmp_path)
    again = read_probe_report(tmp_path)
    assert again.to_dict() == report.to_dict()
    assert render_probes(again) == (tmp_path / "report.html").read_text()
    (tmp_path / "other.json").write_text(json.dumps({"schema_version": 7}))
    with pytest.raises(InputError, match="no probe report of version 1"):
        read_probe_report(tmp_path / "other.json")
    with pytest.raises(InputError, match="there is no"):
        read_probe_report(tmp_path / "nothing")


def test_the_document_says_how_it_was_made(report):
    record = new_record(command="probe", argv=["redundancy", "probe", "acts"], seed=3)
    found = document(report, record)
    assert found["run"]["argv"] == ["redundancy", "probe", "acts"]
    assert found["provenance"]["python"]
    json.dumps(found, allow_nan=False)


def test_values_have_no_confusion_and_a_gain_in_their_own_units():
    chain = GaussianChain.random(d=4, k=2, seed=1)
    page = render_probes(probe_store(chain.sample(400, seed=0).to_store()))
    assert "Confusion" not in page
    assert "errs less" in page
    assert "Made in Python" in page


def test_many_classes_are_drawn_and_their_worst_mistakes_listed():
    rng = np.random.default_rng(0)
    z = rng.integers(0, 30, size=900)
    x = rng.normal(size=(900, 30)) + 1.5 * np.eye(30)[z]
    page = render_probes(probe_store(ActivationStore.from_arrays({0: x}, target=z), controls=False))
    assert "more kinds of mistake" in page
    assert "Table: all counts" not in page
    assert 'id="functional"' not in page  # one layer makes no pair


def test_nothing_that_could_be_probed_is_said(tmp_path):
    z = np.arange(60) % 2
    found = probe_store(
        ActivationStore.from_arrays({0: np.ones((60, 2)), 1: np.ones((60, 2))}, target=z)
    )
    page = render_probes(found)
    assert "No layer could be probed" in page
    assert "is constant" in page
