"""Check the installation, and a store where one is named.

Every shard of the store is read and held against its checksum. Exit code 2 if anything is wrong.

Examples:

  redundancy doctor

  # every file of a store or of a run, against its checksum
  redundancy doctor acts
"""

from __future__ import annotations

from typing import Annotated

import typer

from redundancy.cli._common import Json, print_json, show
from redundancy.cli._guarded import Failure

__all__ = ["command"]

_NEEDED = (
    "numpy",
    "scipy",
    "scikit-learn",
    "faiss-cpu",
    "numba",
    "safetensors",
    "msgspec",
    "joblib",
    "matplotlib",
)
_OPTIONAL = {
    "torch": "vlm",
    "transformers": "vlm",
    "accelerate": "vlm",
    "datasets": "vlm",
    "pillow": "vlm",
    "pandas": "frames",
    "dask": "dask",
    "distributed": "dask",
    "dit": "reference",
    "npeet_plus": "reference",
}


def command(
    acts: Annotated[
        str | None, typer.Argument(metavar="ACTS", help="A store, or a run's folder.")
    ] = None,
    json_: Json = False,
) -> None:
    """Print findings, one a line."""
    findings = check_installation()
    if acts is not None:
        findings += check_source(acts)
    if json_:
        print_json(findings)
    else:
        from rich.text import Text

        words = {"ok": "ok     ", "note": "note   ", "problem": "problem"}
        colour = {"ok": "green", "note": "default", "problem": "red"}
        show(
            Text(words[f["status"]], style=colour[f["status"]]).append(
                f"  {f['what']}: {f['text']}", style="default"
            )
            for f in findings
        )
    problems = [f for f in findings if f["status"] == "problem"]
    if problems:
        raise Failure(f"{len(problems)} of {len(findings)} checks found a problem", 2)


def check_installation() -> list[dict[str, str]]:
    """Return a finding per package."""
    import importlib.metadata
    import platform

    from redundancy._version import __version__

    found = [_finding("ok", "redundancy", f"{__version__} on Python {platform.python_version()}")]
    for name in (*_NEEDED, *_OPTIONAL):
        try:
            found.append(_finding("ok", name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            if name in _OPTIONAL:
                text = f"not installed; for it, type: pip install 'redundancy[{_OPTIONAL[name]}]'"
                found.append(_finding("note", name, text))
            else:
                text = "missing; type: pip install --force-reinstall redundancy"
                found.append(_finding("problem", name, text))
    return found


def check_source(path: str) -> list[dict[str, str]]:
    """Return a finding per damaged file, or one that says all is well."""
    from pathlib import Path

    from estimators import InputError
    from redundancy.record import read_record
    from redundancy.store import open_source, verify_store

    found: list[dict[str, str]] = []
    folder = Path(path)
    stores = [folder]
    if (folder / "record.json").exists():
        stores = [folder / "acts"] if (folder / "acts").is_dir() else []
        try:
            record = read_record(folder)
            text = f"{record.status}, {len(record.results)} results"
            found.append(_finding("ok", str(folder / "record.json"), text))
        except InputError as error:
            found.append(_finding("problem", str(folder / "record.json"), str(error)))
    for store_path in stores:
        try:
            plain = not store_path.is_dir()
            # Before a store is opened, which would stop at the first damaged shard.
            problems = open_source(store_path).verify() if plain else verify_store(store_path)
        except InputError as error:
            found.append(_finding("problem", str(store_path), str(error)))
            continue
        found += [
            # Leftovers of a killed process do no harm.
            _finding("ok" if one.severity == "note" else "problem", one.path, str(one))
            for one in problems
        ]
        if all(one.severity == "note" for one in problems):
            store = open_source(store_path)
            text = f"{store.n_samples:,} samples, layers {store.layers[0]} to {store.layers[-1]}"
            found.append(_finding("ok", str(store_path), f"{text}, all checksums match"))
    return found


def _finding(status: str, what: str, text: str) -> dict[str, str]:
    return {"status": status, "what": what, "text": text}
