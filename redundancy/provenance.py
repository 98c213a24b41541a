"""Where a result comes from: versions, platform, commit, source, and the exact command."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from redundancy._version import __version__
from redundancy.record import SCHEMA_VERSION, RunInfo, RunRecord, plain

__all__ = ["new_record", "new_run_id", "provenance"]

_PACKAGES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "numba",
    "safetensors",
    "torch",
    "transformers",
)


def new_run_id() -> str:
    """Return eight hexadecimal digits that name a run."""
    return secrets.token_hex(4)


def new_record(
    *,
    command: str,
    run_id: str | None = None,
    argv: Sequence[str] = (),
    options_given: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int | None = None,
    store: Mapping[str, Any] | None = None,
    status: Literal["running", "complete", "failed", "interrupted"] = "complete",
) -> RunRecord:
    """Return a record without results, stamped with this moment and this environment."""
    return RunRecord(
        schema_version=SCHEMA_VERSION,
        status=status,
        run=RunInfo(
            id=run_id or new_run_id(),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            command=command,
            argv=list(argv),
            options_given=cast(dict[str, Any], plain(options_given or {})),
            options=cast(dict[str, Any], plain(options or {})),
            seed=seed,
        ),
        provenance=provenance(store),
    )


def provenance(store: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the environment and, where there is one, the description of the store."""
    return {
        "redundancy": __version__,
        "python": platform.python_version(),
        "packages": _versions(),
        "platform": platform.platform(),
        "device": _device(),
        "git": _commit(),
        "store": plain(store) if store is not None else None,
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _device() -> str:
    # Asking torch would import it; only a run that has done so already can have used a GPU.
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name(0))
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Return the commit of a source checkout, with a mark if files differ from it."""
    home = Path(__file__).resolve().parent.parent
    if not (home / ".git").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(home), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
