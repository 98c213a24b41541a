"""HSIC of two representations with a linear kernel, from feature sums, rows read block by block.

Nothing of the size of the data is held: two passes over the rows of each side, one product per
pair of sides (of features or, where both are wider than there are samples, of samples). Rows come
from an array or from anything that reads rows when it is indexed.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from estimators._errors import InputError
from estimators._gram import GRAM_ROWS, gram_of, parts_without_blocks
from estimators._half import as_float32
from estimators._products import LARGE, SingleProduct

__all__ = ["Hsic", "Side", "side_of", "squared_alignment"]

Matrix = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
# Fixed numbers: what is added up in which order must not depend on how much memory there is.
_ELEMENTS = 2**22
_IN_MEMORY = 2**28
_STRIP = 2**16
_LONG = 2**36  # multiplications of half a second or more
_WORTH_A_FILE = 256  # rows per block below which a product is sooner made again than read back


@dataclass(frozen=True, slots=True)
class Hsic:
    """HSIC of everything (entry 0) and with each block left out (entries 1..count if count > 1)."""

    debiased: Matrix
    biased: Matrix


@dataclass(frozen=True, slots=True)
class Side:
    """One representation, centred and scaled, with what every product with it needs.

    `norms` (n,) are squared norms of the centred rows, `shifts` (count, d) the means without each
    block, `inner` (n, count) products of rows and shifts; `own` is the HSIC with itself. `gram`
    (n, n) has the products of rows where these are fewer than columns. `large` are the coordinates
    of largest variance.
    """

    rows: Any
    mean: Matrix
    scale: float
    norms: Matrix
    shifts: Matrix
    inner: Matrix
    own: Hsic
    large: npt.NDArray[np.int64]
    gram: Matrix | None = None

    def read(self, chosen: Any) -> Matrix:
        """Rows, centred and scaled, in float64."""
        return _raised(self.rows, chosen, self.mean, self.scale)


def side_of(
    rows: Any, label: Labels, count: int, memo: MutableMapping[Any, Any] | None = None
) -> Side:
    """Study one side; with `memo`, what was found for the same blocks before is used again.

    Parameters
    ----------
    rows : float array, shape (n, d), or what reads such rows when indexed
    label : ndarray of int64, shape (n,)
        Block of each row, 0..count-1.
    count : int
        Blocks; with 1, nothing is left out.
    """
    key = ("hsic", count, label.tobytes())
    if memo is not None and key in memo:
        known: Side = memo[key]
        return known
    n, d = rows.shape
    total, low, high = np.zeros(d), np.full(d, np.inf), np.full(d, -np.inf)
    for part in _parts(np.arange(n), d):
        block = _raised(rows, slice(part[0], part[-1] + 1))
        total += block.sum(axis=0)
        np.minimum(low, block.min(axis=0), out=low)
        np.maximum(high, block.max(axis=0), out=high)
    mean = total / n
    scale = float(max((high - mean).max(), (mean - low).max())) or 1.0
    norms, sums, squares = np.empty(n), np.zeros((count, d)), np.zeros(d)
    for part in _parts(np.arange(n), d):
        span = slice(part[0], part[-1] + 1)
        block = _raised(rows, span, mean, scale)
        norms[span] = np.einsum("ij,ij->i", block, block)
        squares += np.einsum("ij,ij->j", block, block)
        for s in np.unique(label[span]):
            sums[s] += block[label[span] == s].sum(axis=0)
    sizes = np.bincount(label, minlength=count)
    shifts = np.zeros((count, d)) if count == 1 else -sums / (n - sizes)[:, None]
    inner = np.zeros((n, count))
    if count > 1:
        for part in _parts(np.arange(n), d):
            span = slice(part[0], part[-1] + 1)
            inner[span] = _raised(rows, span, mean, scale) @ shifts.T
    empty = Hsic(np.empty(0), np.empty(0))
    large = np.argsort(-squares, kind="stable")[:LARGE]
    side = Side(rows, mean, scale, norms, shifts, inner, empty, large)
    if n < d and n <= GRAM_ROWS:
        spans = [slice(int(part[0]), int(part[-1]) + 1) for part in _parts(np.arange(n), d)]
        side = replace(side, gram=gram_of(n, spans, side.read))
    side = replace(side, own=_hsic(side, side, label, count))
    if memo is not None:
        memo[key] = side
    return side


def squared_alignment(a: Side, b: Side, label: Labels, count: int) -> tuple[Matrix, Matrix]:
    """CKA of everything and without each block, debiased and biased; NaN where undefined."""
    cross = _hsic(a, b, label, count)
    return (
        _ratio(cross.debiased, a.own.debiased, b.own.debiased),
        _ratio(cross.biased, a.own.biased, b.own.biased),
    )


def _ratio(cross: Matrix, a: Matrix, b: Matrix) -> Matrix:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((a > 0) & (b > 0), cross / np.sqrt(a * b), np.nan)


def _hsic(a: Side, b: Side, label: Labels, count: int) -> Hsic:
    """HSIC of two sides, and with each block left out.

    With K = A A', L = B B' of centred rows, tr(KL) is the squared norm of A'B. Without block s
    the means shift by -S_s / (n - n_s), which is put right in closed form.
    """
    n = len(label)
    shape = (len(a.mean), len(b.mean))
    if a.gram is not None and b.gram is not None:
        parts = parts_without_blocks(a.gram, b.gram, label, count)
        return _hsic_of([_values(trace, left, right) for trace, left, right in parts], n)

    single = _in_single(a, b)

    def product(s: int) -> Matrix:
        blocks = _parts(np.flatnonzero(label == s), max(shape))
        both = ((left := a.read(rows), left if b is a else b.read(rows)) for rows in blocks)
        if single:
            product = SingleProduct(shape, (a.large, b.large), symmetric=b is a)
            for left, right in both:
                product.add(left, right)
            return product.total()
        part = np.zeros(shape)
        for left, right in both:
            part += left.T @ right
        return part

    whole = np.zeros(shape)
    with _Shelf(whole.nbytes, count if count > 1 else 0, n, product) as shelf:
        for s in range(count):
            part = product(s)
            whole += part
            shelf.put(part)
        found = [_values(_square(whole), a.norms, b.norms)]
        for s in range(count if count > 1 else 0):
            kept = label != s
            shifts = int(kept.sum()) * a.shifts[s], b.shifts[s]
            trace = _square_without(whole, shelf.take(s), *shifts)
            found.append(_values(trace, _moved(a, s)[kept], _moved(b, s)[kept]))
    return _hsic_of(found, n)


def _in_single(a: Side, b: Side) -> bool:
    """Whether products within a block of rows are taken in single precision.

    For long ones, of what came in it or in less: blocks are added up in double, and so are the
    coordinates of large variance from the start, so that rounding averages out over the others.
    """
    narrow = all(side.rows.dtype.itemsize <= 4 for side in (a, b))
    return narrow and len(a.norms) * len(a.mean) * len(b.mean) >= _LONG


def _hsic_of(found: list[tuple[float, float]], n: int) -> Hsic:
    debiased, biased = np.array(found).T
    if n < 4:
        debiased = np.full_like(debiased, np.nan)
    return Hsic(debiased, biased)


def _moved(side: Side, s: int) -> Matrix:
    """Squared norms of the rows once the mean of what is left has been taken off."""
    shift = side.shifts[s]
    return np.asarray(side.norms - 2.0 * side.inner[:, s] + float(shift @ shift))


def _square(cross: Matrix) -> float:
    return float(np.einsum("ij,ij->", cross, cross))


def _square_without(whole: Matrix, part: Matrix, left: Matrix, right: Matrix) -> float:
    """Squared norm of the whole less a part and an outer product, by strips that fit a cache."""
    total, step = 0.0, max(1, _STRIP // len(right))
    for start in range(0, len(left), step):
        rows = slice(start, start + step)
        strip = whole[rows] - part[rows]
        strip -= left[rows, None] * right
        total += _square(strip)
    return total


def _values(trace: float, norms_a: Matrix, norms_b: Matrix) -> tuple[float, float]:
    n = len(norms_a)
    biased = trace / (n - 1) ** 2 if n > 1 else math.nan
    if n < 4:
        return math.nan, biased
    # Rows are centred, so the off-diagonal row sums of K are minus its diagonal.
    dot = float(norms_a @ norms_b)
    total = trace - dot - 2.0 / (n - 2) * dot
    total += float(norms_a.sum() * norms_b.sum()) / ((n - 1) * (n - 2))
    return total / (n * (n - 3)), biased


def _parts(rows: npt.NDArray[np.int64], width: int) -> Iterator[npt.NDArray[np.int64]]:
    step = max(1, min(4096, _ELEMENTS // max(1, width)))
    for start in range(0, len(rows), step):
        yield rows[start : start + step]


def _raised(rows: Any, chosen: Any, mean: Matrix | None = None, scale: float = 1.0) -> Matrix:
    """Some rows in float64, less the mean, over the scale."""
    block = np.asarray(rows[chosen])
    if block.dtype.itemsize == 2:  # NumPy is slow from half precision to float64 in one step
        block = as_float32(block)
    out = block.astype(np.float64)
    if mean is not None:
        out -= mean
        out /= scale
    return out


class _Shelf:
    """Products put away until their sum is known: in memory if they are small, else in a file; or
    made again, where that is less work than to read them back."""

    def __init__(self, nbytes: int, count: int, n: int, again: Callable[[int], Matrix]) -> None:
        self._again, self._held, self._shape = again, dict[int, Matrix](), (0, 0)
        self._count, self._kept = count, 0
        self._file: IO[bytes] | None = None
        self._keep = count * nbytes <= _IN_MEMORY
        if not self._keep and n >= _WORTH_A_FILE * count > 0:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__

    def __enter__(self) -> _Shelf:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def put(self, matrix: Matrix) -> None:
        if not self._count:
            return
        if self._keep:
            self._held[self._kept] = matrix
        elif self._file is not None:
            self._shape = matrix.shape
            try:
                matrix.tofile(self._file)
            except OSError as error:
                raise InputError(
                    f"{tempfile.gettempdir()} has no room for temporary sums of "
                    f"{self._count * matrix.nbytes:,} bytes; make room, or set TMPDIR to another "
                    "folder"
                ) from error
        self._kept += 1

    def take(self, index: int) -> Matrix:
        if self._keep:
            return self._held.pop(index)
        if self._file is None:
            return self._again(index)
        size = math.prod(self._shape)
        self._file.seek(index * size * 8)
        found = np.fromfile(self._file, np.float64, size).reshape(self._shape)
        return np.asarray(found)
