"""How `--help` is laid out: words for what an option takes, examples that can be copied."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Any

from typer.core import TyperCommand

__all__ = ["Command", "example_lines", "first_sentence"]

# What an option takes, where its type alone would say little.
_WORDS = {
    "batch_size": "N",
    "data": "DATA",
    "engine": "ENGINE",
    "epsilon": "E",
    "kind": "KIND",
    "layers": "LAYERS",
    "measure": "NAME",
    "memory": "SIZE",
    "modality": "NAME",
    "model": "MODEL",
    "option": "NAME=VALUE",
    "out": "PATH",
    "pairs": "PAIRS",
    "plan": "FILE",
    "sweep": "KIND",
    "target": "COLUMN",
    "unit": "UNIT",
}
_TYPES = {"int": "N", "float": "X"}
# Options that mean the same in every command stand together, at the end.
_SHARED = ("seed", "jobs", "out", "resume", "fresh", "strict", "json_", "quiet", "help")


class Command(TyperCommand):
    """A command whose help reads like a page: text, examples, what it takes."""

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write the text, each example on lines of its own."""
        text, _, examples = (self.help or "").partition("Examples:")
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(text.strip())
        lines = [line.strip() for line in textwrap.dedent(examples).splitlines() if line.strip()]
        if lines:
            with formatter.section("Examples"):
                for i, line in enumerate(lines):
                    if i and (line.startswith("#") or not lines[i - 1].startswith("#")):
                        formatter.write("\n")
                    room = max(20, formatter.width - formatter.current_indent)
                    for part in example_lines(line, room):
                        formatter.write(" " * formatter.current_indent + part + "\n")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, the command's own options, and those that all commands share."""
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": [], "Shared": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            if param.param_type_name == "argument":
                name = "Arguments"
            else:
                name = "Shared" if param.name in _SHARED else "Options"
            groups[name].append((_worded(record[0], str(param.name)), record[1]))
        groups["Shared options"] = groups.pop("Shared")
        for name, records in groups.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)


def _worded(declared: str, name: str) -> str:
    """Put a word of the reader's in place of the type of the programmer's."""

    def word(match: re.Match[str]) -> str:
        return "" if not declared.startswith("-") else f" {_word(name, match[1])}"

    return re.sub(r" <(?:list\[)?([\w|]+)\]?>", word, declared)


def _word(name: str, kind: str) -> str:
    return _WORDS.get(name) or _TYPES.get(kind) or "TEXT"


def example_lines(line: str, width: int) -> Iterator[str]:
    r"""Yield a command on lines of at most `width`, joined as a shell joins them.

    A line that begins with ``#`` is a remark and is folded as text.

    Examples
    --------
    >>> list(example_lines("redundancy ls measures --json", 24))
    ['redundancy ls measures \\', '    --json']
    >>> list(example_lines("redundancy plan acts -o plan.json", 26))
    ['redundancy plan acts \\', '    -o plan.json']
    """
    remark = line.startswith("#")
    if len(line) <= width:
        yield line
        return
    # An option keeps its value, a redirection its file.
    glued = line if remark else re.sub(r"( -{1,2}[\w-]+| >) (?=[^-\s])", "\\1\0", line)
    parts = textwrap.wrap(
        glued,
        width - 2,
        subsequent_indent="# " if remark else "    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    for i, part in enumerate(parts):
        text = part.replace("\0", " ")
        yield text if remark or i == len(parts) - 1 else f"{text} \\"


def first_sentence(text: str | None) -> str:
    """Return the first line of a docstring, whole: what the list of commands shows."""
    return (text or "").strip().partition("\n")[0]
