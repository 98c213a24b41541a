"""The command line as people meet it: help, examples, completion, colours, narrow terminals."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import typer.main
from typer.testing import CliRunner

from redundancy import registry
from redundancy.cli._app import app, commands
from redundancy.record import write_record
from tests.redundancy.report.records import run as made_up

runner = CliRunner()
ROOT = Path(__file__).resolve().parents[3]
NARROW = {"COLUMNS": "60", "TERMINAL_WIDTH": "60"}


def run(*arguments: object, **env: str):
    return runner.invoke(app, [str(a) for a in arguments], env=env, prog_name="redundancy")


def examples(text: str) -> list[str]:
    """Commands in a piece of text, continued lines joined."""
    joined = re.sub(r" ?\\\n\s*", " ", text)
    found = re.findall(r"^\s*(redundancy [a-z].*)$", joined, flags=re.MULTILINE)
    return [line.strip() for line in found]


def parses(line: str) -> None:
    words = shlex.split(line.partition(" > ")[0], comments=True)
    assert words[0] == "redundancy"
    group = typer.main.get_command(app)
    command = group.commands[words[1]]
    # Makes the context that would run the command, so unknown options and missing ones are errors.
    command.make_context(words[1], words[2:])


@pytest.mark.parametrize("name", commands())
def test_the_help_of_every_command_has_examples_that_parse(name):
    done = run(name, "--help")
    found = [line for line in examples(done.stdout) if line.startswith(f"redundancy {name}")]
    assert len(found) >= 2
    for line in found:
        parses(line)


def test_the_commands_of_the_first_help_and_of_the_readme_parse():
    lines = examples(run("--help").stdout) + examples((ROOT / "README.md").read_text())
    assert len(lines) >= 10
    for line in lines:
        parses(line)


@pytest.mark.parametrize("name", commands())
def test_every_command_speaks_to_programs(name):
    assert "--json" in run(name, "--help").stdout


@pytest.mark.parametrize("name", ["", *commands()])
def test_help_fits_a_narrow_terminal(name):
    done = runner.invoke(
        app, [*filter(None, [name]), "--help"], prog_name="redundancy", terminal_width=60
    )
    assert done.exit_code == 0
    assert max(map(len, done.stdout.splitlines())) <= 60
    assert "list[" not in done.stdout
    assert "..." not in done.stdout.partition("Commands:")[2]


@pytest.fixture
def acts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(60, 4))
    np.savez(tmp_path / "acts.npz", **{"0": x, "1": x + 0.1, "2": x[::-1]})
    return "acts.npz"


@pytest.mark.parametrize(
    "arguments",
    [
        ("estimate", "acts.npz", "-m", "geometric", "-m", "proximal", "--out", "run", "-q"),
        ("ls", "measures"),
        ("ls", "families"),
        ("doctor", "acts.npz"),
    ],
)
def test_output_fits_a_narrow_terminal_and_is_never_cut(acts, arguments):
    done = run(*arguments, **NARROW)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    # Without a terminal lines of words are left whole, for programs; tables are not.
    wide = [line for line in lines if len(line) > 60 and not re.search(r"[·:;(]|→ ", line)]
    assert wide == []
    assert "…" not in done.stdout


@pytest.mark.parametrize("arguments", [("ls", "measures"), ("doctor",)])
def test_colours_are_left_out_where_they_are_not_wanted(arguments):
    colour = re.compile(r"\x1b\[[0-9;]*3[0-7]")
    assert "\x1b" not in run(*arguments).stdout
    assert not colour.search(run(*arguments, NO_COLOR="1", FORCE_COLOR="1").stdout)


def test_verdicts_are_coloured_alike_and_always_in_words(acts):
    done = run(
        "estimate", acts, "-m", "geometric", "--out", "run", "-q", FORCE_COLOR="1", NO_COLOR=""
    )
    assert "redundant" in done.stdout
    assert "needed" in done.stdout
    assert set(re.findall(r"\x1b\[(\d+)m(?:redundant|needed)", done.stdout)) <= {"32", "33"}


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("redundancy estimate -m geo", {"geometric"}),
        ("redundancy estimate acts --pairs ", {"adjacent", "first", "all"}),
        ("redundancy estimate acts --unit b", {"bits"}),
        ("redundancy ls ", {"measures", "estimators", "probes", "families"}),
        ("redundancy skip m --sweep s", {"single"}),
        ("redundancy rep", {"report"}),
    ],
)
def test_the_shell_is_offered_what_exists(typed, offered):
    last = str(len(typed.split(" ")) - 1)
    done = run(_REDUNDANCY_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=last)
    assert set(done.stdout.split()) == offered


def test_every_measure_is_offered():
    done = run(_REDUNDANCY_COMPLETE="complete_bash", COMP_WORDS="redundancy estimate -m ",
               COMP_CWORD="3")  # fmt: skip
    assert tuple(sorted(done.stdout.split())) == registry.names("measures")


MESSAGES = [
    (("report", "nowhere"),
     "error: there is no run record at nowhere; name a record.json that `redundancy estimate` or "
     "`redundancy demo` wrote, or the folder it is in"),
    (("report", "one.json", "two.json"),
     "error: 2 runs make one comparison; name the file to write, e.g. -o comparison.html"),
    (("report", "one.json", "-o", "."),
     "error: . is a folder; name the file to write, e.g. ./report.html"),
    (("report", "one.json", "-o", "no/where.html"), "error: there is no folder no; make it first"),
    (("report", "one.json", "one.json", "-o", "c.html"),
     "is named twice; compare it with another run"),
    (("ls", "measure"),
     "error: no folder named 'measure'; have measures, estimators, probes, families. Did you mean "
     "'measures'?"),
    (("estimate", "acts.npz", "-m", "geometrc"), "error: no measure named 'geometrc'; have "),
    (("estimate", "acts.npz", "--unit", "bit"), "error: unit is 'bit'; use nats or bits"),
    (("estimate", "acts.npz", "--option", "t"),
     "error: option 't' cannot be read; write name=value, e.g. t=0.05"),
    (("estimate", "acts.npz", "--layers", "0-9"),
     "error: layer 3 is not in this source, which has layers 0 to 2"),
    (("plan", "acts.npz", "--model", "m"),
     "error: to certify a plan give both --model and --data; without them thresholds alone decide"),
    (("skip", "m", "--data", "d.jsonl"),
     "error: nothing to apply: give --plan FILE, or --sweep late, exit, drop or single"),
    (("demo", "--out", "acts.npz"), "error: acts.npz is a file; name a folder to write to"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), MESSAGES, ids=[" ".join(m[0]) for m in MESSAGES])
def test_messages_say_what_was_found_and_what_to_type(acts, tmp_path, arguments, message):
    for name in ("one", "two"):
        write_record(made_up(2, measures=("cka",)), tmp_path / f"{name}.json")
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


def test_several_runs_make_one_page(acts, tmp_path):
    for name in ("one", "two"):
        write_record(made_up(2, measures=("cka",)), tmp_path / f"{name}.json")
    done = run("report", "one.json", "two.json", "-o", "both.html", "--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["report"] == "both.html"
    assert len(answer["runs"]) == 2
    assert answer["bytes"] == (tmp_path / "both.html").stat().st_size
