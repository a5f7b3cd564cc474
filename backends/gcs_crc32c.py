"""CRC32C, the checksum that Google Cloud Storage keeps of every object.

Pure but for the reading of bodies. The sum of a whole follows from those of its parts,
so what a compose made can be compared with what was sent.
"""

import base64
import functools
from collections.abc import Iterable
from typing import Protocol

import google_crc32c

_PIECE = 1 << 20
_POLYNOMIAL = 0x82F63B78
"""Castagnoli's, its bits reversed."""
_Matrix = tuple[int, ...]


def of_bytes(data: bytes) -> int:
    """Return the checksum of bytes."""
    value: int = google_crc32c.value(data)
    return value


class Reader(Protocol):
    """What bytes can be read from."""

    def read(self, count: int, /) -> bytes:
        """Return the next bytes."""
        ...


def of_reader(reader: Reader, size: int) -> int:
    """Return the checksum of the next `size` bytes of a reader, or of all there are."""
    value, left = 0, size
    while left and (piece := reader.read(min(_PIECE, left))):
        value = google_crc32c.extend(value, piece)
        left -= len(piece)
    return value


def encoded(value: int) -> str:
    """Return a checksum as the service writes it."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def decoded(text: str) -> int | None:
    """Return the checksum that the service has written; None if it is none."""
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return int.from_bytes(raw, "big") if len(raw) == 4 else None


def joined(parts: Iterable[tuple[int, int]]) -> int:
    """Return the checksum of a whole from the checksum and the size of each part."""
    whole = 0
    for value, size in parts:
        whole = _shifted(whole, size) ^ value
    return whole


def _shifted(value: int, size: int) -> int:
    """Return what becomes of a checksum before `size` more bytes, but for theirs."""
    power = 3  # of two, in bits: a byte
    while size:
        if size & 1:
            value = _times(_zeros(power), value)
        size >>= 1
        power += 1
    return value


@functools.lru_cache(maxsize=64)
def _zeros(power: int) -> _Matrix:
    """Return the matrix that feeds 2**power zero bits into a checksum."""
    if power == 0:
        return (_POLYNOMIAL, *(1 << bit for bit in range(31)))
    half = _zeros(power - 1)
    return tuple(_times(half, column) for column in half)


def _times(matrix: _Matrix, vector: int) -> int:
    found, row = 0, 0
    while vector:
        if vector & 1:
            found ^= matrix[row]
        vector >>= 1
        row += 1
    return found
