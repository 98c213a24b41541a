"""Every code block of these pages is run, in order, in a folder of its own, so that none can rot.

``python`` blocks share one namespace per page; those with ``>>>`` are held against what they show.
``shell`` blocks run in bash. Blocks of other languages (``text``, ``json``) are only read. A block
that cannot run here (it clones, installs, or needs a model of 14 GB) is preceded by
``<!--- skip: next -->`` or stands in a page that `PAGES` does not name.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from sybil import Example, Sybil
from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser, SkipParser

HERE = Path(__file__).parent
PAGES = ("tutorials/*.md", "howto/*.md", "own_activations.md", "faq.md", "start.md")
collect_ignore = ["conf.py", "mathml.py"]  # Sphinx alone can run them
# Pages that start programs or models; `make tutorials` runs them, and CI does.
SLOW = (
    "vlm.md",
    "own_activations.md",
    "text_model.md",
    "vision_transformer.md",
    "data_in_and_out.md",
)


def shell(example: Example) -> None:
    """Run a block as it would be typed, with this environment's commands first on the path."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "NO_COLOR": "1",
    }
    # A terminal remembers what was set in an earlier block.
    variables = example.namespace.setdefault("_variables", [])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join([*variables, example.parsed])],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        raise AssertionError(
            f"exit code {done.returncode} from\n{example.parsed}\n{done.stdout}\n{done.stderr}"
        )
    variables += re.findall(r"^[A-Z]+=.*$", example.parsed, re.M)


def enter(namespace: dict[str, Any]) -> None:
    folder = tempfile.TemporaryDirectory()
    namespace["_folder"], namespace["_home"] = folder, Path.cwd()
    os.chdir(folder.name)


def leave(namespace: dict[str, Any]) -> None:
    os.chdir(namespace["_home"])
    namespace["_folder"].cleanup()


pytest_collect_file = Sybil(
    path=str(HERE),
    patterns=PAGES,
    parsers=[
        PythonCodeBlockParser(doctest_optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS),
        CodeBlockParser(language="shell", evaluator=shell),
        SkipParser(),
    ],
    setup=enter,
    teardown=leave,
).pytest()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the blocks of slow pages."""
    for item in items:
        if item.path.name in SLOW and item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.slow)
