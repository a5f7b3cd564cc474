"""The keys of one in-memory store, in byte order, with what is under way.

No waiting and no checks of arguments: those are `mountfs.backends.memory`'s.
"""

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field

from mountfs.backends._tokens import after_all, key_bytes
from mountfs.storage.errors import QuotaExceeded, UploadNotFound
from mountfs.storage.types import Metadata, Object, Part, Version


@dataclass(frozen=True, slots=True)
class Entry:
    """One object: its bytes and what is kept with them."""

    data: bytes
    metadata: Metadata
    content: int
    attributes: int
    mtime_ns: int

    @property
    def version(self) -> Version:
        """The version as callers see it."""
        return Version(str(self.content), str(self.attributes))


@dataclass(slots=True)
class OpenUpload:
    """A multipart upload that is neither complete nor aborted."""

    key: str
    metadata: Metadata
    parts: dict[int, tuple[Part, bytes]] = field(default_factory=dict)


@dataclass(slots=True)
class OpenAppend:
    """An append that is not committed."""

    key: str
    base: Object | None
    metadata: Metadata
    data: bytearray


class Bucket:
    """A flat, sorted space of keys. Everything in it lives as long as it does."""

    def __init__(self, capacity_bytes: int | None = None) -> None:
        self.entries: dict[str, Entry] = {}
        self.capacity_bytes = capacity_bytes
        self._uploads: dict[str, OpenUpload] = {}
        self._appends: dict[str, OpenAppend] = {}
        self._order: list[bytes] = []
        self._used_bytes = 0
        self._last_number = 0

    def next_number(self) -> int:
        """Return a number that was never given before."""
        self._last_number += 1
        return self._last_number

    def put(self, key: str, entry: Entry) -> None:
        """Store an entry in the place of any other. Raises `QuotaExceeded`."""
        old = self.entries.get(key)
        used = self._used_bytes + len(entry.data) - (len(old.data) if old else 0)
        if self.capacity_bytes is not None and used > self.capacity_bytes:
            raise QuotaExceeded(f"only {self.capacity_bytes} bytes fit", key=key)
        if old is None:
            bisect.insort(self._order, key_bytes(key))
        self.entries[key] = entry
        self._used_bytes = used

    def remove(self, key: str) -> None:
        """Remove an entry; absence is fine."""
        old = self.entries.pop(key, None)
        if old is not None:
            self._used_bytes -= len(old.data)
            del self._order[bisect.bisect_left(self._order, key_bytes(key))]

    def has_below(self, prefix: str) -> bool:
        """Tell whether any key starts with the prefix."""
        return next(self.keys_from(key_bytes(prefix), prefix), None) is not None

    def keys_from(self, start: bytes, prefix: str) -> Iterator[bytes]:
        """Yield the keys with the prefix, from the first that is not below `start`.

        Nothing may change meanwhile.
        """
        below = key_bytes(prefix)
        position = bisect.bisect_left(self._order, max(start, below))
        while position < len(self._order) and self._order[position].startswith(below):
            yield self._order[position]
            position += 1

    def children_from(self, start: bytes, prefix: str) -> Iterator[bytes]:
        """Yield the children of a directory in the same way, each of them once.

        A child that has children ends in `/`; the directory itself is none.
        """
        below = key_bytes(prefix)
        position = bisect.bisect_left(self._order, max(start, below))
        while position < len(self._order) and self._order[position].startswith(below):
            key = self._order[position]
            slash = key.find(b"/", len(below))
            if slash < 0:
                position += 1
                if key != below:
                    yield key
            else:
                child = key[: slash + 1]
                position = bisect.bisect_left(self._order, after_all(child))
                yield child

    def add_upload(self, upload: OpenUpload) -> str:
        """Keep an upload and return its id."""
        number = f"upload-{self.next_number()}"
        self._uploads[number] = upload
        return number

    def upload(self, number: str, key: str) -> OpenUpload:
        """Return an open upload. Raises `UploadNotFound`."""
        found = self._uploads.get(number)
        if found is None or found.key != key:
            raise UploadNotFound("no such upload", key=key)
        return found

    def drop_upload(self, number: str) -> None:
        """Forget an upload; one that is gone already is fine."""
        self._uploads.pop(number, None)

    def uploads(self, prefix: str) -> list[tuple[str, OpenUpload]]:
        """Return the open uploads whose keys start with the prefix, oldest first."""
        pairs = self._uploads.items()
        return [pair for pair in pairs if pair[1].key.startswith(prefix)]

    def add_append(self, append: OpenAppend) -> str:
        """Keep an append and return its id."""
        number = f"append-{self.next_number()}"
        self._appends[number] = append
        return number

    def append(self, number: str, key: str) -> OpenAppend:
        """Return an open append. Raises `UploadNotFound`."""
        found = self._appends.get(number)
        if found is None or found.key != key:
            raise UploadNotFound("no such append", key=key)
        return found

    def drop_append(self, number: str) -> None:
        """Forget an append; one that is gone already is fine."""
        self._appends.pop(number, None)
