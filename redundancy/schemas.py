"""JSON Schemas of the files this package writes: store, record and plan.

``python -m redundancy.schemas docs/schemas`` writes them; a test holds that they are current, and
that real files satisfy them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from estimators import InputError
from redundancy.record import RunRecord
from redundancy.registry import unknown
from redundancy.store._schema import Manifest, Sidecar

__all__ = ["NAMES", "PlanFile", "json_schema", "write_schemas"]

Layer = Annotated[int, Meta(ge=0)]


class PlanFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A plan as `SkipPlan.save` writes it: which layers run, and which of them see vision tokens.

    Vision tokens take part from layer `vision_entry` up to, but not including, `vision_exit` (null:
    to the end), except in `vision_off`; layers in `drop_layers` do not run at all. `seal` is the
    SHA-256 of all bytes before the comma that precedes it; a plan written by hand needs none.
    """

    schema_version: Literal[1]
    n_layers: Annotated[int, Meta(ge=1)]
    model_type: str | None = None
    vision_entry: Layer = 0
    vision_exit: Layer | None = None
    vision_off: list[Layer] = []
    drop_layers: list[Layer] = []
    evidence: dict[str, Any] | None = None
    seal: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")] | None = None


_FILES: dict[str, tuple[Any, str]] = {
    "store": (Manifest, "store.json, at the root of an activation store"),
    "sidecar": (Sidecar, "the JSON file beside each shard of an activation store"),
    "record": (RunRecord, "record.json of a run"),
    "plan": (PlanFile, "a skip plan"),
}

NAMES = tuple(_FILES)
"""What there are schemas of."""


def json_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of one kind of file.

    Parameters
    ----------
    name : {"store", "sidecar", "record", "plan"}

    Raises
    ------
    InputError
        If there is no such file.

    Examples
    --------
    >>> json_schema("plan")["title"]
    'redundancy: a skip plan'
    """
    if name not in _FILES:
        raise InputError(unknown("schema", name, NAMES))
    kind, title = _FILES[name]
    (top,), parts = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    for part in parts.values():
        part["description"] = " ".join(part.get("description", "").split())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"redundancy: {title}",
        **top,
        "$defs": parts,
    }


def write_schemas(folder: str | Path) -> list[Path]:
    """Write every schema to ``<folder>/<name>.json`` and return the paths."""
    home = Path(folder)
    home.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in NAMES:
        path = home / f"{name}.json"
        data = msgspec.json.format(msgspec.json.encode(json_schema(name)), indent=2)
        path.write_bytes(data + b"\n")
        paths.append(path)
    return paths


if __name__ == "__main__":
    write_schemas(sys.argv[1] if len(sys.argv) > 1 else "docs/schemas")
