"""Options, output and progress that all commands share."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redundancy.cli._complete import choices

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from redundancy._progress import TimeLeft

__all__ = [
    "CI",
    "Fresh",
    "Jobs",
    "Json",
    "Out",
    "Quiet",
    "Resume",
    "Seed",
    "Strict",
    "Unit",
    "console",
    "one_thread",
    "print_json",
    "progress",
    "quiet_libraries",
    "show",
]

Json = Annotated[
    bool, typer.Option("--json", help="Print exactly one JSON document on stdout, nothing else.")
]
Out = Annotated[
    str | None, typer.Option("--out", "-o", help="Where to write; runs/<id> if not given.")
]


def _known_seed(value: int) -> int:
    if not 0 <= value < 2**32:
        raise typer.BadParameter(f"{value} is not between 0 and {2**32 - 1}")
    return value


def known_jobs(value: int | None) -> int | None:
    """Refuse what no machine has: plans of the work grow with the number of workers."""
    if value is not None and not 1 <= value <= 10_000:
        raise typer.BadParameter(f"jobs is {value}; it is not between 1 and 10,000")
    return value


Seed = Annotated[
    int, typer.Option("--seed", help="Seed of everything random.", callback=_known_seed)
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what stands in the output.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Replace what stands in the output.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Exit with 3 if a pair has no trustworthy estimate.")
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        help="Worker processes; chosen by size if not given.",
        callback=known_jobs,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no chatter.")]
Unit = Annotated[
    str, typer.Option("--unit", help="nats or bits.", autocompletion=choices("nats", "bits"))
]
CI = Annotated[float, typer.Option("--ci", help="Level of the confidence intervals.")]


def console(*, stderr: bool = False) -> Console:
    """Return a console; without a terminal it is wide enough for every table."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else 160
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=width)


def quiet_libraries() -> None:
    """Keep transformers' own bars and remarks off the terminal; errors still show."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold numerical libraries to one thread: for small work more threads wait for one another."""
    import torch
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships none

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def show(blocks: Iterable[RenderableType]) -> None:
    """Print blocks to stdout; lines of text are folded for a terminal only."""
    from rich.text import Text

    out = console()
    for block in blocks:
        out.print(block, soft_wrap=isinstance(block, Text) and not out.is_terminal)


def print_json(document: Any) -> None:
    """Print one JSON document to stdout."""
    import msgspec

    from redundancy.record import plain

    data = document if isinstance(document, msgspec.Struct) else plain(document)
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(data), indent=1).decode() + "\n")
    sys.stdout.flush()


@contextmanager
def progress(
    title: str, *, quiet: bool = False, clock: TimeLeft | None = None
) -> Iterator[Callable[[int, int | None], None]]:
    """Show a bar with the time left on stderr and yield ``update(done, total)``.

    Without a terminal one line is written at most every ten seconds, so that logs stay readable.
    A `clock` that knows more of the work than its number of steps tells the time left better.
    """
    if quiet:
        yield lambda done, total: None
    elif sys.stderr.isatty():
        with _bar(title, clock) as update:
            yield update
    else:
        yield _lines(title, clock)


@contextmanager
def _bar(title: str, clock: TimeLeft | None) -> Iterator[Callable[[int, int | None], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
    from rich.text import Text

    from redundancy._progress import TimeLeft as Clock
    from redundancy.report.numbers import duration

    known = clock or Clock()

    class Left(ProgressColumn):
        def render(self, task: Any) -> Text:
            left = known.seconds()
            return Text("" if left is None else f"{duration(left)} left")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Left())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def update(done: int, total: int | None) -> None:
            if total is not None:
                known.update(done, total)
            bar.update(task, completed=done, total=total)

        yield update


def _lines(title: str, clock: TimeLeft | None) -> Callable[[int, int | None], None]:
    from redundancy._progress import TimeLeft as Clock
    from redundancy.report.numbers import duration

    last, clock = time.monotonic(), clock or Clock()

    def update(done: int, total: int | None) -> None:
        nonlocal last
        if total is None:
            return
        clock.update(done, total)
        now, left = time.monotonic(), clock.seconds()
        # The first steps pay for start-up; a time left made from them alone would frighten.
        if left is not None and now - last >= 10 and 0.02 * total < done < total:
            print(f"{title}: {done} of {total}, {duration(left)} left", file=sys.stderr)
            last = now

    return update
