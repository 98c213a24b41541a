"""The command tree: help, version, what is listed, what doctor finds, and what Ctrl-C leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from redundancy import __version__, registry
from redundancy.cli import _reference, main
from redundancy.cli._app import app, commands

runner = CliRunner()
ROOT = Path(__file__).resolve().parents[3]


def run(*arguments: object):
    return runner.invoke(app, [str(a) for a in arguments])


def test_help_lists_every_command_of_the_contract():
    done = run("--help")
    assert done.exit_code == 0
    contract = {"demo", "extract", "estimate", "plan", "skip", "report", "ls", "doctor"}
    assert contract <= set(commands())
    assert all(name in done.stdout for name in commands())


@pytest.mark.parametrize("name", commands())
def test_every_command_explains_itself_with_examples(name):
    done = run(name, "--help")
    assert done.exit_code == 0
    assert f"redundancy {name}" in done.stdout


def test_the_version():
    assert run("--version").stdout.strip() == f"redundancy {__version__}"


def test_a_mistyped_command_or_flag_is_usage():
    assert run("estimat").exit_code == 2
    assert run("estimate", "--no-such-flag").exit_code == 2


@pytest.mark.parametrize("what", registry.FOLDERS)
def test_ls_names_what_is_there(what):
    done = run("ls", what, "--json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert [row["name"] for row in found] == list(registry.names(what))
    assert all(row["summary"] for row in found)


def test_ls_of_something_else_is_refused():
    done = run("ls", "mesures")
    assert done.exit_code == 2
    assert "Did you mean 'measures'" in done.stderr


def test_doctor_finds_a_healthy_installation():
    done = run("doctor", "--json")
    assert done.exit_code == 0
    assert {row["status"] for row in json.loads(done.stdout)} <= {"ok", "note"}


def test_doctor_names_a_damaged_source(tmp_path):
    (tmp_path / "broken.npz").write_bytes(b"PK")
    done = run("doctor", tmp_path / "broken.npz")
    assert done.exit_code == 2
    assert "broken.npz" in done.stdout


def test_report_rebuilds_a_page_from_its_record(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(60, 4))
    np.savez("acts.npz", **{"0": x, "1": x + 0.1})
    assert run("estimate", "acts.npz", "-m", "geometric", "--out", "run", "-q").exit_code == 0
    before = (tmp_path / "run" / "report.html").read_text()
    assert run("report", "run", "-o", "again.html").exit_code == 0
    assert (tmp_path / "again.html").read_text() == before


def test_a_report_replaces_reports_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(60, 4))
    np.savez("acts.npz", **{"0": x, "1": x + 0.1})
    assert run("estimate", "acts.npz", "-m", "geometric", "--out", "run", "-q").exit_code == 0
    before = (tmp_path / "acts.npz").read_bytes()
    done = run("report", "run", "-o", "acts.npz")
    assert done.exit_code == 2
    assert "acts.npz is no HTML page" in done.stderr
    assert (tmp_path / "acts.npz").read_bytes() == before
    assert run("report", "run", "-o", "run/report.html").exit_code == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize(
    "words",
    [
        ["report", "pipe"],
        ["estimate", "link.npz"],
        ["plan", "acts", "--out=pipe"],
        ["doctor", "/dev/zero"],
        ["report", "\udcff"],
        ["doctor", "--json", "\ud800"],
        ["plan", "acts", "-o", "\0"],
    ],
)
def test_words_that_no_command_can_use(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    (tmp_path / "link.npz").symlink_to("pipe")
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "is a pipe or a device" in said or "is not UTF-8 text" in said
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("seed", ["-1", "4294967296", "99999999999999999999"])
@pytest.mark.parametrize("words", [["crosscheck", "acts"], ["estimate", "acts"], ["probe", "acts"]])
def test_seeds_are_those_that_every_library_takes(words, seed):
    done = run(*words, "--seed", seed)
    assert done.exit_code == 2
    assert f"{seed} is not between 0 and 4294967295" in done.stderr


@pytest.mark.parametrize("jobs", ["0", "-1", "99999999999999999999"])
@pytest.mark.parametrize("words", [["estimate", "acts"], ["probe", "acts"]])
def test_no_more_workers_than_any_machine_has(words, jobs):
    done = run(*words, "-j", jobs)
    assert done.exit_code == 2
    assert f"jobs is {jobs}" in done.stderr


def test_report_of_nothing_is_refused(tmp_path):
    done = run("report", tmp_path)
    assert done.exit_code == 2
    assert "there is no run record" in done.stderr


def test_the_reference_page_is_current():
    page = (ROOT / "docs" / "cli.md").read_text()
    assert page == _reference.render(), (
        "docs/cli.md differs from the commands; write it again with: "
        "python -m redundancy.cli._reference > docs/cli.md"
    )


def test_ctrl_c_leaves_a_run_that_resumes(tmp_path):
    rng = np.random.default_rng(0)
    x = {str(i): rng.normal(size=(4000, 64)) for i in range(12)}
    np.savez(tmp_path / "acts.npz", **x)
    command = [sys.executable, "-m", "redundancy", "estimate", "acts.npz", "-m", "informational"]
    command += ["--out", "run", "-q", "--jobs", "1", "--states", "4"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        # A shell that runs the tests in the background has told its children to ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    journal = tmp_path / "run" / "pairs.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "redundancy estimate acts.npz" in errors
    assert "--resume" in errors
    finished = len(journal.read_text().splitlines())
    assert finished >= 1
    again = subprocess.run(
        [*command, "--resume", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert len(json.loads(again.stdout)["results"]) == 11
