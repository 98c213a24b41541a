"""Reading a store in full to find truncation, bit rot and leftovers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from estimators import InputError
from redundancy._files import sha256_file
from redundancy._remote import AnyPath, place
from redundancy.store._create import orphans, temporaries
from redundancy.store._disk import DiskSource, open_shard
from redundancy.store._schema import MANIFEST, read_manifest, read_sidecar, sidecars
from redundancy.summary import check_finite

__all__ = ["Finding", "verify_store"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a store.

    Parameters
    ----------
    path : str
        The file.
    severity : {"error", "warning", "note"}
        An error means that data is damaged; a warning that values are unusable; a note that
        something may be tidied up.
    problem, remedy : str
        What was found, and what to do.
    """

    path: str
    severity: Literal["error", "warning", "note"]
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}"


def verify_store(path: str | AnyPath) -> list[Finding]:
    """Check every byte of a store against its checksums, and its values for NaN.

    Parameters
    ----------
    path : str, Path or URL
        Folder of the store, however damaged.

    Returns
    -------
    list of Finding
        Empty if all is well.
    """
    folder = place(path)
    try:
        read_manifest(folder)
    except InputError as error:
        return [
            Finding(
                str(folder / MANIFEST),
                "error",
                _what(error),
                "restore store.json from a copy; the shards are not touched by this",
            )
        ]
    findings: list[Finding] = []
    seen: dict[str, str] = {}
    sound: list[AnyPath] = []
    for file_path in sidecars(folder):
        shard = file_path.with_suffix(".safetensors")
        remedy = (
            f"delete {file_path.name} and {shard.name}, then run the extraction again with "
            "--resume: only its samples are computed anew"
        )
        try:
            sidecar = read_sidecar(file_path)
        except InputError as error:
            findings.append(Finding(str(file_path), "error", _what(error), remedy))
            continue
        try:
            file = open_shard(shard, sidecar)
            for name in file.tensors:
                file.read(name)
            if sha256_file(shard) != sidecar.sha256:
                raise InputError(f"{shard} does not match its SHA-256")
            sound.append(shard)
        except InputError as error:
            findings.append(Finding(str(shard), "error", _what(error), remedy))
            continue
        twice = [row.id for row in sidecar.samples if row.id in seen]
        if twice:
            findings.append(
                Finding(
                    str(shard),
                    "note",
                    f"{len(twice):,} of its samples, first {twice[0]!r}, are in "
                    f"{seen[twice[0]]} too",
                    "nothing to do: each sample counts once",
                )
            )
        seen.update({row.id: seen.get(row.id, shard.name) for row in sidecar.samples})
    findings += _leftovers(folder)
    findings += _values(folder, {shard.stem for shard in sound})
    return findings


def _what(error: InputError) -> str:
    """What an error says was found; its advice, after the semicolon, is for those who read."""
    return str(error).partition("; ")[0]


def _leftovers(folder: AnyPath) -> list[Finding]:
    reason = "of a process that was killed, or is still writing"
    return [
        Finding(
            str(path),
            "note",
            f"{kind} {reason}",
            "it does not count; --resume removes it once its process is gone",
        )
        for kind, paths in (
            ("a temporary file", temporaries(folder)),
            ("a shard without sidecar", orphans(folder)),
        )
        for path in paths
    ]


def _values(folder: AnyPath, sound: set[str]) -> list[Finding]:
    """Whether what is intact also fits together and holds numbers."""
    found: list[Finding] = []
    try:
        source = DiskSource(folder, only=sound)
    except InputError as error:
        return [Finding(str(folder), "error", _what(error), "see the other findings")]
    advice = "capture those samples again in bfloat16 or float32, or leave the layer out"
    for modality in source.modalities:
        try:
            statistics = source.statistics(modality)
            if statistics is not None and not np.isfinite(statistics.arrays["rho_sum"]).all():
                bad = ~np.isfinite(statistics.arrays["rho_sum"]).all(axis=(1, 2))
                problem = f"{modality}: distances of {int(bad.sum()):,} samples are not finite"
                found.append(Finding(str(folder), "warning", problem, advice))
            for layer in source.layers if source.n_tokens(modality) else ():
                try:
                    check_finite(source.read(layer, modality), f"layer {layer} ({modality})")
                except InputError as error:
                    found.append(Finding(str(folder), "warning", _what(error), advice))
        except InputError as error:
            found.append(Finding(str(folder), "error", _what(error), "see the file that is named"))
    return found
