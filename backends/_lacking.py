"""What some services lack, refused: nothing is sent, and nothing is emulated.

A store derives from what it lacks and says its name; its capabilities say the same.
"""

from mountfs.storage.body import Body
from mountfs.storage.errors import Unsupported
from mountfs.storage.types import (
    NO_METADATA,
    Append,
    Condition,
    Metadata,
    Object,
    Version,
)


class Flat:
    """A bucket of keys: nothing is moved, and there are no directories and links."""

    _service: str

    async def move(
        self, source: str, target: str, *, source_version: Version | None = None
    ) -> Object:
        """Raise `Unsupported`."""
        raise Unsupported(f"{self._service} does not move objects", key=source)

    async def make_dir(self, key: str, *, metadata: Metadata = NO_METADATA) -> Object:
        """Raise `Unsupported`."""
        raise Unsupported(f"{self._service} has no directories", key=key)

    async def make_link(
        self,
        key: str,
        target: str,
        *,
        metadata: Metadata = NO_METADATA,
        condition: Condition = None,
    ) -> Object:
        """Raise `Unsupported`."""
        raise Unsupported(f"{self._service} has no links", key=key)


class NoAppend:
    """What is stored is never continued."""

    _service: str

    async def create_append(
        self,
        key: str,
        *,
        base: Object | None = None,
        metadata: Metadata = NO_METADATA,
    ) -> Append:
        """Raise `Unsupported`."""
        raise Unsupported(f"{self._service} does not append", key=key)

    async def write_append(self, append: Append, body: Body) -> Append:
        """Raise `Unsupported`."""
        raise Unsupported(f"{self._service} does not append", key=append.key)

    async def commit_append(self, append: Append) -> Object:
        """Raise `Unsupported`."""
        raise Unsupported(f"{self._service} does not append", key=append.key)
