"""A run's folder is resumable and never deletes what is not its own."""

from __future__ import annotations

import pytest

from estimators import Estimate, InputError
from redundancy.provenance import new_record
from redundancy.results import PairResult
from redundancy.run_folder import RunFolder

SETTINGS = {"acts": "a.npz", "seed": 0}


def result(lower: int, value: float = 0.5) -> PairResult:
    e = Estimate(value=value, unit="nats", kind="estimate", n=10, method="plug-in")
    return PairResult(pair=(lower, lower + 1), measure="informational", estimate=e)


def begun(path) -> RunFolder:
    run = RunFolder.prepare(path, settings=SETTINGS)
    run.write(new_record(command="estimate", options=SETTINGS, status="running"))
    with run.journal() as journal:
        journal.add(result(0))
        journal.add(result(1))
    return run


def test_finished_pairs_come_back_on_resume(tmp_path):
    begun(tmp_path / "run")
    again = RunFolder.prepare(tmp_path / "run", resume=True, settings=SETTINGS)
    assert again.done() == {
        ("informational", "text", 0, 1): result(0),
        ("informational", "text", 1, 2): result(1),
    }


def test_a_line_broken_by_a_kill_is_computed_again_and_swallows_nothing(tmp_path):
    run = begun(tmp_path / "run")
    journal = run.path / "pairs.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    again = RunFolder.prepare(run.path, resume=True, settings=SETTINGS)
    assert list(again.done()) == [("informational", "text", 0, 1)]
    with again.journal() as lines:
        lines.add(result(1))
    assert len(RunFolder.prepare(run.path, resume=True).done()) == 2


def test_other_settings_are_refused_by_name_and_both_values(tmp_path):
    begun(tmp_path / "run")
    with pytest.raises(InputError, match="begun with seed = 0 and is now asked to go on with 1"):
        RunFolder.prepare(tmp_path / "run", resume=True, settings=SETTINGS | {"seed": 1})


def test_a_folder_in_use_needs_a_word(tmp_path):
    begun(tmp_path / "run")
    with pytest.raises(InputError, match="not empty; add --resume"):
        RunFolder.prepare(tmp_path / "run", settings=SETTINGS)


def test_fresh_replaces_our_own_run_only(tmp_path):
    begun(tmp_path / "run")
    assert RunFolder.prepare(tmp_path / "run", fresh=True).done() == {}
    begun(tmp_path / "mixed")
    (tmp_path / "mixed" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"holds thesis\.tex, which this tool did not write"):
        RunFolder.prepare(tmp_path / "mixed", fresh=True)
    assert (tmp_path / "mixed" / "thesis.tex").read_text() == "years of work"
    assert (tmp_path / "mixed" / "pairs.jsonl").exists()


def test_fresh_on_a_strangers_folder_deletes_nothing(tmp_path):
    (tmp_path / "acts").mkdir()
    (tmp_path / "acts" / "photo.jpg").write_text("x")
    with pytest.raises(InputError, match="did not write"):
        RunFolder.prepare(tmp_path, fresh=True)
    assert (tmp_path / "acts" / "photo.jpg").exists()


def test_a_file_is_not_a_folder(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="is a file"):
        RunFolder.prepare(tmp_path / "out")


def test_resume_and_fresh_exclude_each_other(tmp_path):
    with pytest.raises(InputError, match="exclude each other"):
        RunFolder.prepare(tmp_path, resume=True, fresh=True)


def test_a_run_of_which_nothing_came_is_forgotten(tmp_path):
    record = new_record(command="estimate", options=SETTINGS, status="running")
    run = RunFolder.prepare(tmp_path / "runs" / "one", settings=SETTINGS)
    run.write(record)
    with run.journal():
        pass
    run.forget()
    assert list(tmp_path.iterdir()) == []
    # A folder that was there stays, and so do results, and a run that was taken up.
    (tmp_path / "mine").mkdir()
    run = RunFolder.prepare(tmp_path / "mine", settings=SETTINGS)
    run.write(record)
    run.forget()
    assert list((tmp_path / "mine").iterdir()) == []
    full = begun(tmp_path / "full")
    full.forget()
    assert (tmp_path / "full" / "record.json").exists()
    (tmp_path / "full" / "pairs.jsonl").write_bytes(b"")
    RunFolder.prepare(tmp_path / "full", resume=True, settings=SETTINGS).forget()
    assert (tmp_path / "full" / "record.json").exists()
