"""The few BLAS and LAPACK routines that threads call side by side.

scipy's Python wrappers hold the interpreter lock while they work, so that threads wait for one
another; numpy's let go of it but its Cholesky factorisation takes two to three times as long.
These call the very routines that scipy exports for Cython; ctypes lets go of the lock.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cython_blas, cython_lapack

__all__ = ["cholesky", "cholesky_solve", "subtract_gram"]

FloatArray = NDArray[np.float64]


_name_of = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(
    ("PyCapsule_GetName", ctypes.pythonapi)
)
_address_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


@cache
def _routine(module: Any, name: str) -> tuple[Callable[..., None], Callable[[int], Any]]:
    """Return the routine and its integer type, which the capsule's signature tells."""
    capsule = module.__pyx_capi__[name]
    signature = _name_of(capsule)
    pointers = [ctypes.c_void_p] * (signature.count(b",") + 1)
    integer = ctypes.c_int if b"int *" in signature else ctypes.c_int64
    return ctypes.CFUNCTYPE(None, *pointers)(_address_of(capsule, signature)), integer


def _call(module: Any, name: str, *arguments: bytes | int | float | FloatArray) -> int:
    """Call with everything by reference, as Fortran does; return LAPACK's info."""
    routine, integer = _routine(module, name)
    info = integer(0)
    boxes: list[Any] = []
    for argument in arguments:
        if isinstance(argument, bytes):
            boxes.append(ctypes.create_string_buffer(argument))
        elif isinstance(argument, int):
            boxes.append(integer(argument))
        elif isinstance(argument, float):
            boxes.append(ctypes.c_double(argument))
        else:
            boxes.append(argument)
    if module is cython_lapack:
        boxes.append(info)
    routine(*[b.ctypes.data if isinstance(b, np.ndarray) else ctypes.addressof(b) for b in boxes])
    return int(info.value)


def _leading(a: FloatArray) -> int:
    """Leading dimension of a column-major matrix."""
    if a.dtype != np.float64 or a.ndim != 2 or a.strides[0] != 8:
        raise ValueError(f"expected float64 columns, not {a.dtype} with strides {a.strides}")
    return int(max(a.strides[1] // 8, a.shape[0], 1))


def subtract_gram(a: FloatArray, c: FloatArray) -> None:
    """Replace the lower triangle of c by that of ``c - a a^T``; both column-major."""
    n, k = a.shape
    _call(cython_blas, "dsyrk", b"L", b"N", n, k, -1.0, a, _leading(a), 1.0, c, _leading(c))


def cholesky(a: FloatArray, *, lower: bool = True) -> bool:
    """Factor the symmetric column-major matrix in place; False if it is not positive definite."""
    return _call(cython_lapack, "dpotrf", b"L" if lower else b"U", len(a), a, _leading(a)) == 0


def cholesky_solve(factor: FloatArray, b: FloatArray, *, lower: bool = True) -> FloatArray:
    """Solve for one right-hand side with what `cholesky` left."""
    x = np.array(b, dtype=np.float64)
    triangle = b"L" if lower else b"U"
    _call(cython_lapack, "dpotrs", triangle, len(x), 1, factor, _leading(factor), x, max(len(x), 1))
    return x
