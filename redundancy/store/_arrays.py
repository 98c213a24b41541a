"""Arrays in memory, or in a user's own file, as the source of a store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators import InputError
from estimators._arrays import from_dlpack
from redundancy._files import sha256_file
from redundancy.store._statistics import Statistics
from redundancy.store._tensors import LazyArray

__all__ = ["ArraySource", "layer_number", "source_from_arrays", "to_numpy"]

_LAYER = re.compile(
    r"(?:(?:layers?|hidden(?:_?states?)?|states?|blocks?|arr|h)[._/\- ]?)?([0-9]{1,5})",
    re.IGNORECASE,
)


def layer_number(key: Any) -> int | None:
    """Layer that a key such as ``3``, ``"layer_3"``, ``"layers.3"`` or ``"hidden_3"`` names."""
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        return int(key) if key >= 0 else None
    match = _LAYER.fullmatch(key) if isinstance(key, str) else None
    return int(match[1]) if match else None


def to_numpy(value: Any, name: str) -> NDArray[Any]:
    """A NumPy array of what NumPy, torch (bfloat16 too) or anything with DLPack holds."""
    if type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":
            import ml_dtypes
            import torch

            bits = value.contiguous().view(torch.int16).numpy()
            return np.asarray(bits.view(ml_dtypes.bfloat16))
        return np.asarray(value.numpy())
    if isinstance(value, np.ndarray):
        return value
    try:
        array = from_dlpack(value) if hasattr(value, "__dlpack__") else np.asarray(value)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise InputError(f"{name} is not an array: {error}") from error
    return array


def checked_states(array: LazyArray, name: str) -> LazyArray:
    """Check dtype and shape of a layer's states; integers and foreign byte orders are converted."""
    dtype = array.dtype
    half = dtype.name == "bfloat16"
    if dtype.kind not in "iuf" and not half:
        hint = ""
        if dtype.kind == "V" and dtype.itemsize == 2:
            hint = " (bfloat16 does not survive NumPy's own files: use .safetensors)"
        raise InputError(
            f"{name} has dtype {dtype}{hint}; activations are real numbers: float16, bfloat16, "
            "float32 or float64"
        )
    if len(array.shape) not in (2, 3):
        raise InputError(
            f"{name} has shape {array.shape}; expected (tokens, features) or (samples, tokens, "
            "features)"
        )
    if 0 in array.shape:
        raise InputError(f"{name} has shape {array.shape}: it holds nothing")
    if half or (dtype.kind == "f" and dtype.isnative and dtype.itemsize <= 8):
        return array
    load = array.load
    return LazyArray(array.shape, np.dtype(np.float64), lambda: load().astype(np.float64))


class ArraySource:
    """States given as whole arrays; see `source_from_arrays`."""

    def __init__(
        self,
        arrays: Mapping[str, Mapping[int, LazyArray]],
        groups: Mapping[str, NDArray[Any]] | None,
        target: Mapping[str, NDArray[Any]] | None,
        *,
        path: str | None = None,
    ) -> None:
        self._arrays = arrays
        self._groups = groups
        self._target = target or {}
        self._sha256: str | None = None
        self.modalities = tuple(arrays)
        self.layers = tuple(sorted(arrays[self.modalities[0]]))
        self.n_layers = self.layers[-1]
        self.independent = groups is None
        self.handle = path
        self.model: str | None = None
        if groups is None:
            count = max(self.n_tokens(modality) for modality in self.modalities)
            self._labels: NDArray[Any] = np.arange(count)
        else:
            self._labels = np.unique(np.concatenate(list(groups.values())))
        self.n_samples = len(self._labels)

    def describe(self) -> dict[str, Any]:
        if self._sha256 is None and self.handle is not None:
            # Of the whole file, so that results say what they were computed of; once, when asked.
            self._sha256 = sha256_file(Path(self.handle))
        return {
            "path": self.handle,
            "sha256": self._sha256,
            "model": None,
            "revision": None,
            "dataset": None,
            "tokens": "all",
        }

    def samples(self) -> list[dict[str, Any]]:
        return [{"id": str(label), "group": str(label)} for label in self._labels.tolist()]

    def sample_groups(self) -> NDArray[Any]:
        return self._labels

    def n_tokens(self, modality: str) -> int:
        shape = self._arrays[modality][self.layers[0]].shape
        return int(np.prod(shape[:-1]))

    def token_samples(self, modality: str) -> NDArray[np.int64]:
        if self._groups is None:
            return np.arange(self.n_tokens(modality))
        groups = self._groups[modality].astype(self._labels.dtype)
        return np.searchsorted(self._labels, groups).astype(np.int64)

    def positions(self, modality: str) -> NDArray[np.int64] | None:
        return None

    def dtype(self, modality: str) -> str | None:
        return self._arrays[modality][self.layers[0]].dtype.name

    def dim(self, modality: str) -> int:
        return max(array.shape[-1] for array in self._arrays[modality].values())

    def arrays(self) -> tuple[Any, Any, Any]:
        arrays = {
            modality: {layer: self.read(layer, modality) for layer in self.layers}
            for modality in self.modalities
        }
        return arrays, self._groups, self._target or None

    def read(self, layer: int, modality: str) -> NDArray[Any]:
        array = self._arrays[modality][layer].load()
        return array.reshape(-1, array.shape[-1])

    def lazy(self, layer: int, modality: str) -> NDArray[Any]:
        return self.read(layer, modality)

    def target(self, modality: str) -> NDArray[Any] | None:
        return self._target.get(modality)

    def statistics(self, modality: str) -> Statistics | None:
        return None

    def per_sample(self, name: str) -> list[NDArray[Any] | None] | None:
        return None


def source_from_arrays(
    arrays: Mapping[Any, Any],
    modality: str = "text",
    groups: Any = None,
    target: Any = None,
    *,
    path: str | None = None,
) -> ArraySource:
    """Check a user's arrays and make a source of them; values may be arrays or `LazyArray`."""
    if not isinstance(arrays, Mapping) or not arrays:
        raise InputError(
            "activations are given as {layer: array} or {modality: {layer: array}}; got "
            + (type(arrays).__name__ if not isinstance(arrays, Mapping) else "an empty mapping")
        )
    nested = [isinstance(value, Mapping) for value in arrays.values()]
    if any(nested) and not all(nested):
        raise InputError(
            "activations mix {layer: array} with {modality: {layer: array}}; use one of the two"
        )
    by_modality = dict(arrays) if all(nested) else {modality: arrays}
    checked: dict[str, dict[int, LazyArray]] = {}
    for word, layers in by_modality.items():
        if not isinstance(word, str) or not re.fullmatch(r"[A-Za-z0-9_\-]{1,100}", word):
            raise InputError(
                f"modality {word!r} is not a plain word; use letters, digits, '-' and '_'"
            )
        checked[word] = _layers(layers, word)
    names = list(checked)
    for other in names[1:]:
        if checked[other].keys() != checked[names[0]].keys():
            raise InputError(
                f"{names[0]} has layers {sorted(checked[names[0]])}, {other} has "
                f"{sorted(checked[other])}; give the same layers for each modality"
            )
    shapes = {word: next(iter(layers.values())).shape[:-1] for word, layers in checked.items()}
    labels = _per_token(groups, shapes, "groups")
    for word, label in (labels or {}).items():
        if label.ndim != 1 or label.dtype.kind not in "iuUS":
            raise InputError(
                f"groups of {word} have shape {label.shape} and dtype {label.dtype}; give one "
                "integer or one word per token"
            )
    if labels is None and any(len(shape) == 2 for shape in shapes.values()):
        labels = {
            word: np.repeat(np.arange(shape[0]), shape[1] if len(shape) == 2 else 1)
            for word, shape in shapes.items()
        }
    return ArraySource(checked, labels, _per_token(target, shapes, "target"), path=path)


def _layers(layers: Mapping[Any, Any], modality: str) -> dict[int, LazyArray]:
    found: dict[int, LazyArray] = {}
    if not layers:
        raise InputError(f"{modality} has no layers")
    for key, value in layers.items():
        number = layer_number(key)
        if number is None:
            raise InputError(
                f"{key!r} does not name a layer; use 3, 'layer_3', 'layers.3' or 'hidden_3'"
            )
        if number in found:
            raise InputError(f"layer {number} of {modality} is given twice (as {key!r} again)")
        name = f"layer {number} ({modality})"
        lazy = value if isinstance(value, LazyArray) else LazyArray.of(to_numpy(value, name))
        found[number] = checked_states(lazy, name)
    found = dict(sorted(found.items()))
    first = next(iter(found))
    for number, lazy in found.items():
        if lazy.shape[:-1] != found[first].shape[:-1]:
            raise InputError(
                f"layer {number} ({modality}) has shape {lazy.shape}, layer {first} "
                f"{found[first].shape}; every layer must hold the same samples in the same order"
            )
    return found


def _per_token(
    value: Any, shapes: Mapping[str, tuple[int, ...]], what: str
) -> dict[str, NDArray[Any]] | None:
    """Groups or targets as one array per modality with one entry per token."""
    if value is None:
        return None
    given = value if isinstance(value, Mapping) else dict.fromkeys(shapes, value)
    result: dict[str, NDArray[Any]] = {}
    for modality, shape in shapes.items():
        if modality not in given:
            raise InputError(f"{what} has no entry for modality {modality!r}; give one for each")
        array = to_numpy(given[modality], what)
        tokens = int(np.prod(shape))
        if array.dtype == object:
            raise InputError(f"{what} of {modality} holds Python objects; use numbers or words")
        if array.ndim and len(shape) == 2 and array.shape[:2] == shape:
            array = array.reshape(tokens, *array.shape[2:])
        elif array.ndim and len(shape) == 2 and len(array) == shape[0]:
            array = np.repeat(array, shape[1], axis=0)
        if array.ndim not in (1, 2) or len(array) != tokens:
            per = f"{tokens} tokens" + (f" ({shape[0]} samples)" if len(shape) == 2 else "")
            raise InputError(
                f"{what} has shape {array.shape} but {modality} has {per}; give one entry per "
                "token" + (" or per sample" if len(shape) == 2 else "")
            )
        result[modality] = array
    return result
