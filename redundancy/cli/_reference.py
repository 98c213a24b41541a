"""The reference page of the command line, made from the commands' own help.

``python -m redundancy.cli._reference > docs/cli.md`` writes it; a test holds that it is current.
"""

from __future__ import annotations

import sys

__all__ = ["render"]

# Help is laid out for the terminal at hand; the page must not depend on it.
_TERMINAL = {"COLUMNS": "92", "TERMINAL_WIDTH": "92", "NO_COLOR": "1"}

_HEAD = """# Command line

Exit codes: 0 done; 1 a defect of this package; 2 usage or unreadable input, said in one sentence;
3 with `--strict` where some pair has no trustworthy estimate; 130 interrupted, with the line that
resumes the run. Results go to stdout and everything else to stderr; with `--json` stdout is exactly
one JSON document.
"""


def render() -> str:
    """Return the page."""
    from typer.testing import CliRunner

    from redundancy.cli._app import app, commands

    runner = CliRunner()
    parts = [_HEAD]
    for name in commands():
        shown = runner.invoke(app, [name, "--help"], prog_name="redundancy", env=_TERMINAL).output
        body = "\n".join(line.rstrip() for line in shown.strip().splitlines())
        parts.append(f"## redundancy {name}\n\n```text\n{body}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(render())
