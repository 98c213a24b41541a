"""What stands between a command and the user: errors become one sentence and an exit code."""

from __future__ import annotations

import errno
import functools
import os
import re
import shlex
import stat
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import typer

__all__ = [
    "Failure",
    "check_arguments",
    "guarded",
    "remember_arguments",
    "remember_out",
    "resume_line",
    "say",
    "typed",
]

P = ParamSpec("P")
T = TypeVar("T")


# What a disk or a path does to us, wherever it happens; no defect of this package.
_SURROUNDINGS = {
    errno.ENAMETOOLONG, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES,
    errno.EPERM, errno.EIO, errno.ELOOP, errno.ENOTDIR, errno.EISDIR,
}  # fmt: skip


class Failure(Exception):
    """Ends a command with a message and an exit code, after its output has been written."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def say(text: str) -> None:
    """Write one line to stderr; stdout belongs to the result."""
    print(text, file=sys.stderr, flush=True)


def guarded(function: Callable[P, T]) -> Callable[P, T]:
    """Turn what a command raises into the exit codes of the package's documentation."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        global _forget
        _forget = None
        try:
            return function(*args, **kwargs)
        except typer.Exit:
            raise
        except Failure as failure:
            say(str(failure))
            raise typer.Exit(failure.code) from None
        except KeyboardInterrupt:
            say(f"interrupted; nothing is lost. To go on, type: {resume_line(_arguments)}")
            raise typer.Exit(130) from None
        except BrokenPipeError:
            # The reader (`| head`) left; Python would otherwise complain while closing stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except Exception as error:
            if _forget is not None:
                _forget()
            if isinstance(error, OSError) and error.errno in _SURROUNDINGS:
                name = str(error.filename or "a file")
                short = name if len(name) <= 200 else f"{name[:100]}...{name[-50:]}"
                say(
                    f"error: {short!r}: {error.strerror}; check the path, its permissions and the "
                    "room on the disk, then run the command again"
                )
                raise typer.Exit(2) from None
            if _is_users(error):
                say(f"error: {' '.join(str(error).split())}")
                raise typer.Exit(2) from None
            traceback.print_exc()
            say(
                "this is a defect of redundancy, not of your input; please report it with the "
                "lines above and the command you typed"
            )
            raise typer.Exit(1) from None

    return wrapper


def _is_users(error: Exception) -> bool:
    """Return whether the error is about the input, without importing what was not imported yet."""
    from estimators import InputError

    if isinstance(error, InputError):
        return True
    vlm_errors = sys.modules.get("vlm._errors")
    return vlm_errors is not None and isinstance(error, vlm_errors.VLMError)


_out: str | None = None
_forget: Callable[[], None] | None = None
_arguments: list[str] = sys.argv[1:]


def remember_arguments(arguments: list[str]) -> None:
    """Note what was typed, for the record and for the line that resumes a run."""
    global _arguments
    _arguments = arguments


def check_arguments(arguments: Sequence[str]) -> None:
    """End the program on words that no command can use.

    Text that is not UTF-8 fits into no record; a pipe or a device is waited for without end, or,
    as a place to write to, taken away from the system.
    """
    for word in arguments:
        problem = None
        # What no UTF-8 can hold comes in as lone surrogates.
        if "\0" in word or re.search("[\ud800-\udfff]", word):
            problem = f"{word!a} is not UTF-8 text; rename the file, or correct the word"
        for name in (word, word.partition("=")[2]):
            if not problem and _is_device(name):
                problem = f"{name} is a pipe or a device; name a file"
        if problem:
            say(f"error: {problem}")
            raise SystemExit(2)


def _is_device(name: str) -> bool:
    try:
        kind = os.stat(name).st_mode  # noqa: PTH116 - what is no path at all raises here
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))


def typed() -> list[str]:
    """Return the command as it was typed."""
    return ["redundancy", *_arguments]


def remember_out(path: str, forget: Callable[[], None] | None = None) -> None:
    """Note where this run writes, for the line that resumes it; `forget` is called if it fails."""
    global _out, _forget
    _out, _forget = path, forget


def resume_line(arguments: list[str]) -> str:
    """Return the command that takes up an interrupted run where it stopped."""
    kept = [a for a in arguments if a not in ("--fresh", "--resume")]
    if _out is not None and not any(a == "--out" or a.startswith("--out=") for a in kept):
        kept += ["--out", _out]
    return shlex.join(["redundancy", *kept, "--resume"])
