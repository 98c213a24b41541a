"""A seal on JSON files: the last key holds the SHA-256 of all bytes before it.

The file stays plain JSON, and a change of any byte is found, also one that leaves valid JSON.
"""

from __future__ import annotations

import hashlib

__all__ = ["SEAL_LENGTH", "seal", "seal_holds"]

_SEAL = b',\n  "seal": "'
SEAL_LENGTH = len(_SEAL) + 64 + len(b'"\n}\n')


def seal(body: bytes) -> bytes:
    """Append the seal to an encoded JSON object.

    Examples
    --------
    >>> seal_holds(seal(b'{"a": 1}')), seal_holds(seal(b'{"a": 1}').replace(b"1", b"2"))
    (True, False)
    """
    head = body.rstrip()[:-1].rstrip()
    return head + _SEAL + hashlib.sha256(head).hexdigest().encode() + b'"\n}\n'


def seal_holds(data: bytes) -> bool:
    """Whether bytes end in the seal of what precedes it."""
    return len(data) > SEAL_LENGTH and seal(data[:-SEAL_LENGTH] + b"}") == data
