"""Check the installation, and a store where one is named.

Every shard of the store is read and held against its checksum. Exit code 2 if anything is wrong.

Examples:

  redundancy doctor

  # every file of a store or of a run, against its checksum
  redundancy doctor acts
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from redundancy.cli._common import Json, print_json, show
from redundancy.cli._guarded import Failure

__all__ = ["command"]

_NEEDED = (
    "numpy",
    "scipy",
    "scikit-learn",
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
        str | None,
        typer.Argument(metavar="ACTS", help="A store, a run's folder, a plan or a record."),
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
    """Return a finding per damaged file of a store, run, plan or record; or that all is well."""
    from redundancy._remote import is_url

    where = Path(path)
    if is_url(path):
        return _check_store(path)
    if where.suffix == ".json" and where.is_file():
        return [_check_json(where)]
    if not any((where / name).exists() for name in ("record.json", "pairs.jsonl")):
        return _check_store(path)
    found = [_check_json(where / "record.json")]
    if (where / "plan.json").exists():
        found.append(_check_json(where / "plan.json"))
    if (where / "pairs.jsonl").exists():
        found.append(_check_journal(where))
    return found + (_check_store(str(where / "acts")) if (where / "acts").is_dir() else [])


def _check_json(path: Path) -> dict[str, str]:
    """A record or a plan, whichever it says it is."""
    from estimators import InputError
    from redundancy._files import read_json
    from redundancy.record import read_record
    from vlm._errors import VLMError
    from vlm.plan import SkipPlan

    try:
        # A record of which so much is damaged that it no longer looks like one is one by its name.
        content = {} if path.name == "record.json" else read_json(path)
        if isinstance(content, dict) and "n_layers" in content and "kind" not in content:
            return _finding("ok", str(path), SkipPlan.load(path).describe())
        record = read_record(path)
    except (InputError, VLMError) as error:
        return _finding("problem", str(path), str(error))
    return _finding("ok", str(path), f"{record.status}, {len(record.results)} results")


def _check_journal(folder: Path) -> dict[str, str]:
    from redundancy.run_folder import RunFolder

    path = folder / "pairs.jsonl"
    broken = RunFolder(folder).broken_lines()
    if not broken:
        return _finding("ok", str(path), "every line matches its checksum")
    lines = ", ".join(map(str, broken[:5])) + (", ..." if len(broken) > 5 else "")
    text = (
        f"{len(broken)} line(s) are broken ({lines}): the run was killed there, or the file is "
        "damaged; --resume computes their pairs again"
    )
    # A killed run leaves one such line, where it was interrupted; nothing else does.
    return _finding("note" if len(broken) == 1 else "problem", str(path), text)


def _check_store(path: str) -> list[dict[str, str]]:
    from estimators import InputError
    from redundancy._remote import is_url, place
    from redundancy.store import open_source, verify_store

    found: list[dict[str, str]] = []
    try:
        folder = is_url(path) or place(path).is_dir()
        # Before a store is opened, which would stop at the first damaged shard.
        problems = verify_store(path) if folder else open_source(path).verify()
    except InputError as error:
        return [_finding("problem", path, str(error))]
    found += [
        # Leftovers of a killed process do no harm.
        _finding("ok" if one.severity == "note" else "problem", one.path, str(one))
        for one in problems
    ]
    if all(one.severity == "note" for one in problems):
        store = open_source(path)
        text = f"{store.n_samples:,} samples, layers {store.layers[0]} to {store.layers[-1]}"
        found.append(_finding("ok", path, f"{text}, all checksums match"))
    return found


def _finding(status: str, what: str, text: str) -> dict[str, str]:
    return {"status": status, "what": what, "text": text}
