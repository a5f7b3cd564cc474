"""A store in memory that a test can look into, and put things in behind its back.

It is `MemoryStore` with the capabilities of a plain key store. On top of it there are
only the list of requests, directories and links for stores that have their own, and
conditions that are claimed and not honoured.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import trio

from mountfs.backends.memory import MemoryStore
from mountfs.backends.memory_bucket import Entry, OpenUpload
from mountfs.storage.types import (
    NO_METADATA,
    Call,
    Capabilities,
    Condition,
    Metadata,
    MultipartLimits,
    Object,
    ObjectKind,
)
from tests.fakes.faulty import OPERATIONS

KEY_STORE = Capabilities(
    service="flat",
    copy=True,
    multipart=MultipartLimits(part_size_min=10, part_size_max=40, parts_max=100),
    multipart_copy=True,
    metadata=True,
    pairs=frozenset({"content-type", "cache-control", "content-encoding"}),
    dir_metadata=True,
    conditions=frozenset(Call),
    set_metadata=True,
)
CONDITIONAL = {
    "write": Call.WRITE,
    "make_link": Call.WRITE,
    "copy": Call.COPY,
    "set_metadata": Call.COPY,
    "complete_multipart": Call.COMPLETE,
    "delete": Call.DELETE,
}


class FlatStore(MemoryStore):
    """A `MemoryStore` under observation.

    `ignored` are calls whose conditions the store claims to honour and does not.
    """

    def __init__(
        self,
        capabilities: Capabilities = KEY_STORE,
        *,
        ignored: frozenset[Call] = frozenset(),
    ) -> None:
        super().__init__(capabilities=capabilities)
        self.requests: list[str] = []
        self._ignored = ignored
        self._link_targets: dict[str, str] = {}

    # What a test looks at or puts in, without a request.

    @property
    def objects(self) -> Mapping[str, Entry]:
        """All objects, by key."""
        return self.bucket.entries

    @property
    def uploads(self) -> Mapping[str, OpenUpload]:
        """All open uploads, by id."""
        return dict(self.bucket.uploads(""))

    def put(
        self, key: str, data: bytes = b"", metadata: Metadata = NO_METADATA
    ) -> Object:
        """Let a foreign client write an object."""
        return MemoryStore._put(self, key, data, metadata, None)

    # What a subclass may change.

    def _begin(self, call: str) -> None:
        self.requests.append(call)

    def _honoured(self, call: Call, condition: Condition) -> Condition:
        return None if call in self._ignored else condition

    # What `MemoryStore` lacks.

    async def stat(self, key: str, *, kind: ObjectKind | None = None) -> Object:
        found = await super().stat(key, kind=kind)
        target = self._link_targets.get(key)
        if target is None:
            return found
        return dataclasses.replace(found, kind=ObjectKind.LINK, link_target=target)

    async def make_dir(self, key: str, *, metadata: Metadata = NO_METADATA) -> Object:
        if not self.capabilities.native_dirs:
            return await super().make_dir(key, metadata=metadata)
        await trio.lowlevel.checkpoint()
        return self._put(key, b"", metadata, None)

    async def make_link(
        self,
        key: str,
        target: str,
        *,
        metadata: Metadata = NO_METADATA,
        condition: Condition = None,
    ) -> Object:
        if not self.capabilities.native_links:
            return await super().make_link(key, target, metadata=metadata)
        await trio.lowlevel.checkpoint()
        made = self._put(key, b"", metadata, condition)
        self._link_targets[key] = target
        return dataclasses.replace(made, kind=ObjectKind.LINK, link_target=target)

    async def delete_many(self, keys: Sequence[str]) -> dict[str, Exception]:
        await trio.lowlevel.checkpoint()
        for key in keys:
            self.bucket.remove(key)
        return {}


def _noted(name: str) -> Callable[..., Awaitable[Any]]:
    """Return the operation with its note in `requests`."""
    forward = getattr(FlatStore, name)

    async def call(self: FlatStore, *args: Any, **options: Any) -> Any:
        self._begin(name)
        if name in CONDITIONAL:
            wanted = options.get("condition")
            options["condition"] = self._honoured(CONDITIONAL[name], wanted)
        return await forward(self, *args, **options)

    call.__name__ = name
    return call


for _name in OPERATIONS:
    setattr(FlatStore, _name, _noted(_name))
