"""Answers that end: how much of one is taken in, whatever a server sends.

A body that was asked for by its range may be as long as that; of everything else, a
listing or an error say, nothing longer is an answer. A body of a whole object, asked
for without a range, has no bound but the deadline of the request.
"""

import re
import weakref
import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from urllib3.exceptions import ProtocolError

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

TOLD_MAX = 64 << 20
"""No listing and no error is longer."""
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


def bytes_max(headers: Mapping[str, str], *, is_object: bool) -> int | None:
    """Return how long the answer to a request may be; None for an object of any size.

    A server that knows no ranges sends it all, so a small range allows for more.
    """
    told = headers.get("range") or headers.get("Range") or ""
    asked = _RANGE.fullmatch(told)
    if asked is not None:
        return max(TOLD_MAX, int(asked[2]) - int(asked[1]) + 1)
    return None if is_object else TOLD_MAX


def bounded(response: "BaseHTTPResponse", most: int | None) -> "BaseHTTPResponse":
    """Let nobody take in more of an answer than `most` bytes, unpacked ones.

    None is no limit; what is wrong with the lengths is a `ProtocolError` even then.
    """
    # Held strongly it would hold itself, and its connection, until the next collection.
    kind, held = type(response), weakref.ref(response)

    def bounded_stream(
        amt: int | None = 1 << 16, decode_content: bool | None = None
    ) -> Iterator[bytes]:
        size, own = 0, held()
        assert own is not None, "who streams it has it"
        try:
            for piece in kind.stream(own, amt, decode_content):
                size += len(piece)
                if most is not None and size > most:
                    own.close()
                    raise ProtocolError("the answer does not end")
                yield piece
        except (ValueError, OverflowError, MemoryError) as error:
            own.close()  # lengths below zero, or beyond all
            raise ProtocolError("the answer has no length that can be") from error

    response.stream = bounded_stream  # type: ignore[method-assign]  # of this one alone
    return response


def unzipped(packed: bytes) -> bytes:
    """Unpack what is short. Raises `ProtocolError` for what is long, or is no gzip."""
    machine = zlib.decompressobj(wbits=31)
    try:
        plain = machine.decompress(packed, TOLD_MAX + 1)
    except zlib.error as error:
        raise ProtocolError("the answer is not packed as it says") from error
    if len(plain) > TOLD_MAX or not machine.eof:
        raise ProtocolError("the answer does not end")
    return plain
