"""The command line: one file per command, heavy imports inside the functions.

Exit codes: 0 done; 1 a defect of this package; 2 usage or unreadable input; 3 with ``--strict``
where some pair has no trustworthy estimate; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    from redundancy.cli import _guarded
    from redundancy.cli._app import app

    arguments = list(sys.argv[1:] if argv is None else argv)
    _guarded.check_arguments(arguments)
    _guarded.remember_arguments(arguments)
    app(args=arguments, prog_name="redundancy")
