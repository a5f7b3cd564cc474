"""Connections of those who ask the mount something: a few at once, none at its cost.

Who goes away in the middle has the right to, and a bug that a question finds is logged,
and ends the answer. What is said is up to the servers that hold these connections.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

log = logging.getLogger(__name__)


class Connections:
    """The connections of one server."""

    def __init__(self, most: int, bug: str) -> None:
        """`bug` is what to say of an answer that fails: what could not be done."""
        self._most = most
        self._bug = bug
        self._count = 0

    @asynccontextmanager
    async def held(self, stream: trio.SocketStream) -> AsyncIterator[bool]:
        """Close a connection after the block; tell it whether there is room for it."""
        self._count += 1
        try:
            async with stream:
                yield self._count <= self._most
        except* trio.BrokenResourceError:
            pass  # the other side went away, which is its good right
        except* Exception:
            # Whoever can ask must not be able to end the mount.
            log.exception("a bug in mountfs: %s", self._bug)
        finally:
            self._count -= 1


async def received(stream: trio.SocketStream, mark: bytes, size_max: int) -> bytes:
    """Return what is said up to a mark, or all that is said, or may be."""
    found = bytearray()
    while mark not in found and len(found) < size_max:
        chunk = await stream.receive_some(size_max)
        if not chunk:
            break
        found += chunk
    return bytes(found)
