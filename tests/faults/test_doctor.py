"""Every flipped byte, truncation and missing file of a plan, record, journal or store is found."""

from __future__ import annotations

import json

import numpy as np
import pytest

import redundancy as rd
from estimators import InputError
from redundancy.cli.doctor import check_source
from redundancy.record import read_record
from tests.faults.killing import cli, warm_up
from vlm._errors import VLMError
from vlm.plan import SkipPlan


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doctor")
    rng = np.random.default_rng(0)
    arrays = {layer: rng.normal(size=(40, 3, 4)) for layer in range(3)}
    rd.ActivationStore.from_arrays(arrays).save(folder / "acts")
    command = ("estimate", str(folder / "acts"), "-m", "geometric", "--jobs", "1", "-q", "--out")
    warm_up(cli(*command, str(folder / "run")))
    SkipPlan(8, vision_exit=5, evidence={"why": "measured"}).save(folder / "run" / "plan.json")
    return folder / "run"


def problems(path):
    return [one for one in check_source(str(path)) if one["status"] == "problem"]


def read(path):
    if path.name == "plan.json":
        return SkipPlan.load(path)
    return read_record(path)


@pytest.mark.parametrize("name", ["plan.json", "record.json"])
@pytest.mark.parametrize("times", [25, pytest.param(1500, marks=pytest.mark.slow)])
def test_flipped_bits_of_a_plan_and_a_record(run, name, times):
    target, rng = run / name, np.random.default_rng(1)
    sound = target.read_bytes()
    read(target)
    places = np.arange(8 * len(sound))
    if len(places) > times:
        places = rng.choice(places, times, replace=False)
    try:
        for place in places:
            data = bytearray(sound)
            data[place // 8] ^= 1 << (place % 8)
            target.write_bytes(data)
            with pytest.raises((InputError, VLMError), match=name):
                read(target)
            assert [one["what"] for one in problems(run)] == [str(target)], place
            assert [one["what"] for one in problems(target)] == [str(target)], place
    finally:
        target.write_bytes(sound)
    assert problems(run) == []


@pytest.mark.parametrize("name", ["plan.json", "record.json"])
@pytest.mark.parametrize("keep", [0, 1, 50, -1])
def test_truncated_plans_and_records(run, name, keep):
    target = run / name
    sound = target.read_bytes()
    try:
        target.write_bytes(sound[:keep])
        with pytest.raises((InputError, VLMError), match=name):
            read(target)
        assert [one["what"] for one in problems(run)] == [str(target)]
    finally:
        target.write_bytes(sound)


def test_a_missing_record_is_a_problem_and_the_rest_is_read(run):
    target = run / "record.json"
    sound = target.read_bytes()
    target.unlink()
    try:
        found = check_source(str(run))
    finally:
        target.write_bytes(sound)
    assert [one["what"] for one in found if one["status"] == "problem"] == [str(target)]
    assert any("pairs.jsonl" in one["what"] for one in found)


def test_a_plan_by_hand_needs_no_seal_and_one_changed_by_hand_says_so(tmp_path):
    path = SkipPlan(8, vision_exit=5).save(tmp_path / "plan.json")
    changed = path.read_text().replace('"vision_exit": 5', '"vision_exit": 6')
    path.write_text(changed)
    with pytest.raises(VLMError, match=r"does not match its seal.*delete its last entry"):
        SkipPlan.load(path)
    data = json.loads(changed)
    del data["seal"]
    path.write_text(json.dumps(data))
    assert SkipPlan.load(path) == SkipPlan(8, vision_exit=6)


def test_journal_lines(run):
    journal = run / "pairs.jsonl"
    sound = journal.read_bytes()
    try:
        journal.write_bytes(sound[:-9])
        assert problems(run) == []  # what a killed run leaves
        assert any("1 line(s) are broken (2)" in one["text"] for one in check_source(str(run)))
        journal.write_bytes(sound.replace(b'"value":', b'"walue":'))
        assert [one["what"] for one in problems(run)] == [str(journal)]
    finally:
        journal.write_bytes(sound)
