"""A skip plan: which decoder layers run, and which of them run without the vision tokens.

Plain data; nothing here knows torch, so a plan can be made, read and checked anywhere.
"""

from __future__ import annotations

import json
import operator
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any

from vlm._errors import VLMError
from vlm._seal import seal, seal_holds

__all__ = ["SCHEMA_VERSION", "SkipPlan"]

SCHEMA_VERSION = 1
_MAX_BYTES = 16 * 2**20
_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class SkipPlan:
    """Which decoder layers run, and which run on text alone.

    Layers count from 0. A vision token that a layer skips passes it unchanged, is no key for any
    other token there, and leaves nothing in that layer's cache. Text tokens always keep their
    original positions. A plan changes what the model computes; whether the answers survive is an
    empirical question (see `vlm.evaluate`).

    Parameters
    ----------
    n_layers : int
        Number of decoder layers of the model the plan is for.
    vision_entry : int
        Late entry: layers 0 to ``vision_entry - 1`` run without vision; the vision tokens enter
        layer ``vision_entry`` as they left the projector.
    vision_exit : int, optional
        Early exit: layers from ``vision_exit`` on run without vision. None: no exit.
    vision_off : iterable of int
        Further layers that run without vision.
    drop_layers : iterable of int
        Layers that do not run at all.
    model_type : str, optional
        ``config.model_type`` of the model the plan is for; checked when the plan is applied.
    evidence : mapping, optional
        Why this plan: plain JSON data (measures, thresholds, held-out figures). It takes no part
        in comparisons.

    Raises
    ------
    VLMError
        For indices out of range, listed twice, or not whole numbers; for a plan without any layer.

    Examples
    --------
    >>> plan = SkipPlan(32, vision_entry=4, vision_exit=20)
    >>> [layer for layer in range(32) if plan.active_vision(layer)] == list(range(4, 20))
    True
    >>> print(plan.describe())
    32 layers: vision tokens enter at layer 4 and leave at layer 20 (16 of 32 layers see them).
    >>> SkipPlan(32).is_noop
    True
    """

    n_layers: int
    vision_entry: int = 0
    vision_exit: int | None = None
    vision_off: tuple[int, ...] = ()
    drop_layers: tuple[int, ...] = ()
    model_type: str | None = None
    evidence: Mapping[str, Any] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        n = _whole(self.n_layers, "n_layers")
        if not 1 <= n <= _LIMIT:
            raise VLMError(f"n_layers is {n}; a model has between 1 and {_LIMIT} decoder layers.")
        entry = _whole(self.vision_entry, "vision_entry")
        if not 0 <= entry <= n:
            raise VLMError(f"vision_entry is {entry}; with {n} layers it lies between 0 and {n}.")
        leave = n if self.vision_exit is None else _whole(self.vision_exit, "vision_exit")
        if not 0 <= leave <= n:
            raise VLMError(f"vision_exit is {leave}; with {n} layers it lies between 0 and {n}.")
        if leave < entry:
            raise VLMError(
                f"vision_exit ({leave}) lies before vision_entry ({entry}); vision tokens cannot "
                "leave before they have entered."
            )
        off = _layers(self.vision_off, "vision_off", n)
        drop = _layers(self.drop_layers, "drop_layers", n)
        if len(drop) == n:
            raise VLMError(f"drop_layers names all {n} layers; at least one has to run.")
        if self.model_type is not None and not isinstance(self.model_type, str):
            raise VLMError(f"model_type is {self.model_type!r}; give a text such as 'llava'.")
        given: dict[str, Any] = {
            "n_layers": n,
            "vision_entry": entry,
            "vision_exit": None if leave == n else leave,
            "vision_off": off,
            "drop_layers": drop,
            "evidence": None if self.evidence is None else _plain(self.evidence),
        }
        for name, value in given.items():
            object.__setattr__(self, name, value)

    def active_vision(self, layer: int) -> bool:
        """Whether vision tokens take part in a layer (False where the layer does not run)."""
        layer = _in_range(layer, "layer", self.n_layers)
        return (
            self.vision_entry <= layer
            and (self.vision_exit is None or layer < self.vision_exit)
            and layer not in self.vision_off
            and layer not in self.drop_layers
        )

    def runs(self, layer: int) -> bool:
        """Whether a layer runs at all."""
        return _in_range(layer, "layer", self.n_layers) not in self.drop_layers

    @property
    def is_noop(self) -> bool:
        """Whether the plan leaves the model as it is."""
        return all(self.active_vision(layer) for layer in range(self.n_layers))

    @property
    def drops_only(self) -> bool:
        """Whether vision tokens take part in every layer that runs."""
        return all(self.active_vision(layer) == self.runs(layer) for layer in range(self.n_layers))

    def describe(self) -> str:
        """Say in plain words what the plan does."""
        if self.is_noop:
            return f"{self.n_layers} layers: nothing is skipped."
        entry, leave = self.vision_entry, self.vision_exit
        inside = [layer for layer in range(self.n_layers) if self.active_vision(layer)]
        parts = []
        if not inside:
            parts.append("no layer sees the vision tokens")
        elif entry and leave is not None:
            parts.append(f"vision tokens enter at layer {entry} and leave at layer {leave}")
        elif entry:
            parts.append(f"vision tokens enter at layer {entry}")
        elif leave is not None:
            parts.append(f"vision tokens leave at layer {leave}")
        if inside and self.vision_off:
            parts.append(f"they are hidden from {_ranges(self.vision_off)}")
        if self.drop_layers:
            verb = "does" if len(self.drop_layers) == 1 else "do"
            parts.append(f"{_ranges(self.drop_layers)} {verb} not run")
        text = "; ".join(parts)
        verb = "run" if self.drops_only else "see them"
        return f"{self.n_layers} layers: {text} ({len(inside)} of {self.n_layers} layers {verb})."

    def _repr_html_(self) -> str:
        from vlm._html import plan_html

        cells = [
            "dropped"
            if layer in self.drop_layers
            else "runs"
            if self.active_vision(layer)
            else "no vision"
            for layer in range(self.n_layers)
        ]
        return plan_html(self.describe(), cells, self.model_type)

    def check(self, model_or_n_layers: Any, model_type: str | None = None) -> None:
        """Make sure that the plan is for this model.

        Parameters
        ----------
        model_or_n_layers : PreTrainedModel or int
            A live model, or a number of decoder layers.
        model_type : str, optional
            ``config.model_type``, if only the number of layers is given.

        Raises
        ------
        VLMError
            If the number of layers or the model type is another.
        """
        if isinstance(model_or_n_layers, Integral):
            n = int(model_or_n_layers)
        else:
            from vlm import model as live

            n = len(live.decoder_layers(model_or_n_layers))
            model_type = live.model_type(model_or_n_layers)
        if n != self.n_layers:
            raise VLMError(
                f"the plan is for a model of {self.n_layers} decoder layers, this one has {n}; "
                "make a plan for this model."
            )
        if self.model_type is not None and model_type not in (None, self.model_type):
            raise VLMError(
                f"the plan is for a {self.model_type!r} model, this one is {model_type!r}; "
                "make a plan for this model."
            )

    def save(self, path: str | Path) -> Path:
        """Write the plan as JSON; a file of that name is replaced in one step, or not at all.

        Raises
        ------
        VLMError
            If the file cannot be written.
        """
        path = Path(path)
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise VLMError(f"cannot write the plan {path}: it is a pipe or a device; name a file.")
        text = json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n"
        try:
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        except OSError as error:
            raise VLMError(f"cannot write the plan {path}: {error.strerror}.") from error
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(seal(text.encode()).decode())
                stream.flush()
                os.fsync(stream.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except OSError as error:
            raise VLMError(f"cannot write the plan {path}: {error.strerror}.") from error
        finally:
            Path(temporary).unlink(missing_ok=True)
        return path

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON data."""
        return {
            "schema_version": SCHEMA_VERSION,
            "model_type": self.model_type,
            "n_layers": self.n_layers,
            "vision_entry": self.vision_entry,
            "vision_exit": self.vision_exit,
            "vision_off": list(self.vision_off),
            "drop_layers": list(self.drop_layers),
            "evidence": self.evidence,
        }

    @classmethod
    def from_json(cls, data: Any, where: str = "the plan") -> SkipPlan:
        """Make a plan from plain JSON data; `where` names the source in error messages.

        Raises
        ------
        VLMError
            For data that is no plan, or of a schema version this package does not know.
        """
        if not isinstance(data, Mapping):
            raise VLMError(f"{where} holds a {type(data).__name__}, not a plan object.")
        version = data.get("schema_version")
        if version != SCHEMA_VERSION or isinstance(version, bool):
            raise VLMError(
                f"{where} has schema_version {version!r}; this release reads {SCHEMA_VERSION}."
            )
        fields = {key: value for key, value in data.items() if key != "schema_version"}
        known = set(cls.__dataclass_fields__)
        if unknown := sorted(set(fields) - known):
            raise VLMError(f"{where} has unknown fields: {', '.join(map(str, unknown))}.")
        if "n_layers" not in fields:
            raise VLMError(f"{where} lacks n_layers, the number of decoder layers it is for.")
        try:
            return cls(**fields)
        except VLMError as error:
            raise VLMError(f"{where}: {error}") from error

    @classmethod
    def load(cls, path: str | Path) -> SkipPlan:
        """Read a plan that `save` wrote.

        Raises
        ------
        VLMError
            For a missing, oversized or broken file, an unknown schema version, or bad indices.

        Examples
        --------
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = SkipPlan(8, vision_exit=5).save(pathlib.Path(folder) / "plan.json")
        ...     SkipPlan.load(path) == SkipPlan(8, vision_exit=5)
        True
        """
        path = Path(path)
        try:
            with path.open("rb") as stream:
                raw = stream.read(_MAX_BYTES + 1)
        except OSError as error:
            raise VLMError(f"cannot read the plan {path}: {error.strerror}.") from error
        if len(raw) > _MAX_BYTES:
            raise VLMError(f"{path} is larger than {_MAX_BYTES // 2**20} MiB; that is no plan.")
        try:
            data = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise VLMError(f"{path} is not readable JSON: {error}.") from error
        # A plan written by hand has no seal; one that has it must match.
        if isinstance(data, dict) and data.pop("seal", None) is not None and not seal_holds(raw):
            raise VLMError(
                f"{path} does not match its seal: it is damaged, or was changed by hand. Restore "
                'it from a copy; if the change was meant, delete its last entry, "seal".'
            )
        return cls.from_json(data, str(path))


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool):
        raise VLMError(f"{name} is {value!r}; give a whole number.")
    try:
        return operator.index(value)
    except TypeError:
        raise VLMError(f"{name} is {value!r}; give a whole number.") from None


def _in_range(value: Any, name: str, n: int) -> int:
    layer = _whole(value, name)
    if not 0 <= layer < n:
        raise VLMError(f"{name} names layer {layer}; with {n} layers they are 0 to {n - 1}.")
    return layer


def _layers(given: Iterable[Any], name: str, n: int) -> tuple[int, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise VLMError(f"{name} is {given!r}; give a list of layer indices.")
    found = [_in_range(value, name, n) for value in given]
    twice = sorted({layer for layer in found if found.count(layer) > 1})
    if twice:
        raise VLMError(f"{name} names layer {twice[0]} twice; name each layer once.")
    return tuple(sorted(found))


def _plain(evidence: Any) -> dict[str, Any]:
    if not isinstance(evidence, Mapping):
        raise VLMError(f"evidence is a {type(evidence).__name__}; give a mapping of plain data.")
    try:
        copy: dict[str, Any] = json.loads(json.dumps(dict(evidence), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise VLMError(
            f"evidence must be plain JSON data without NaN or infinity: {error}."
        ) from error
    return copy


def _ranges(layers: Iterable[int]) -> str:
    """Layers in words: ``layers 1 to 3 and 7``."""
    found: list[list[int]] = []
    for layer in layers:
        if found and layer == found[-1][-1] + 1:
            found[-1].append(layer)
        else:
            found.append([layer])
    words = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in found]
    many = sum(map(len, found)) > 1
    text = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
    return f"layer{'s' if many else ''} {text}"
