"""A store as it will be when everything that is pending has reached it.

`QueuedStorager` is what the file system of a mount with `durability=journal` sees:
changes return when the journal has them, and are seen at once by whoever asks here.
What only the store itself can answer goes past it (`mountfs.cache.direct`).
"""

import base64
import binascii
import contextlib
import dataclasses
import os
import stat
from collections.abc import Sequence

from mountfs.cache.entries import (
    Copy,
    Describe,
    Entry,
    Make,
    Remove,
    StoreBytes,
)
from mountfs.cache.ledger import Ledger
from mountfs.cache.moves import Moves
from mountfs.cache.queue import Queue
from mountfs.cache.settling import Settling
from mountfs.cache.tokens import is_token
from mountfs.cache.writeback import WriteBack
from mountfs.storage.body import Body
from mountfs.storage.errors import InvalidRequest, NotFound, StoreError, VersionChanged
from mountfs.storage.types import (
    NO_METADATA,
    SPECIAL_TYPES,
    Call,
    Capabilities,
    Condition,
    Content,
    ListMode,
    Metadata,
    Object,
    ObjectKind,
    Page,
    Version,
)
from mountfs.storage.wrapper import StoragerWrapper

RESERVED = ".mountfs/links/"
"""Records that only the store can keep consistent between mounts."""


class QueuedStorager(StoragerWrapper):
    """Takes changes into a queue, and answers as if they were carried out."""

    def __init__(
        self,
        ledger: Ledger,
        settling: Settling,
        queue: Queue,
        moves: Moves,
        writeback: WriteBack,
    ) -> None:
        super().__init__(ledger.store)
        self._ledger = ledger
        self._settling = settling
        self._queue = queue
        self._moves = moves
        self._writeback = writeback
        able, gates = ledger.store.capabilities, ledger.store.features
        self._capabilities = dataclasses.replace(
            able,
            move=able.move or gates.virtual_move,
            move_clears=False,  # the name changes here, in one step
            move_dir=able.move_dir or gates.virtual_move,
            conditions=able.conditions | {Call.WRITE, Call.COMPLETE, Call.DELETE},
        )

    @property
    def capabilities(self) -> Capabilities:
        """What the store can do; conditions are held against what is pending."""
        return self._capabilities

    # --- questions --------------------------------------------------------------

    @property
    def moves_natively(self) -> bool:
        """Whether the store itself moves directories."""
        return self._inner.capabilities.move_dir

    def holds(self, version: Version) -> bool:
        """Tell whether the bytes of a version are here, and not in the store."""
        entry = self._ledger.table.of_version(version)
        return entry is not None and isinstance(entry.change, StoreBytes | Make)

    async def stat(self, key: str, *, kind: ObjectKind | None = None) -> Object:
        """Look up what is pending, then the store."""
        entry = self._ledger.table.newest(key)
        if entry is None and kind is None and self._capabilities.native_dirs:
            entry = self._ledger.table.newest(key + "/")
        if entry is not None and entry.shown is not None:
            return await self._completed(entry, entry.shown)
        if kind is ObjectKind.DIRECTORY and self._ledger.table.has_present_below(key):
            return await self._implied(key, is_gone=entry is not None)
        if entry is not None:
            raise NotFound(key=key)
        try:
            return await self._inner.stat(key, kind=kind)
        except NotFound:
            # Somebody else may have removed a directory in which something waits here.
            below = key + "/"
            is_native = kind is None and self._capabilities.native_dirs
            if is_native and self._ledger.table.has_present_below(below):
                return Object(key=below, kind=ObjectKind.DIRECTORY)
            raise

    async def _implied(self, key: str, *, is_gone: bool) -> Object:
        """Return a directory that exists at least by what is pending below it."""
        if not is_gone:
            with contextlib.suppress(NotFound):
                return await self._inner.stat(key, kind=ObjectKind.DIRECTORY)
        return Object(key=key, kind=ObjectKind.DIRECTORY)

    async def _completed(self, entry: Entry, shown: Object) -> Object:
        """Return an object that moves with the metadata that the store has of it."""
        if shown.metadata is not None or not isinstance(entry.change, Copy):
            return shown
        source = entry.change.source
        kind = ObjectKind.DIRECTORY if source.key.endswith("/") else None
        try:
            found = await self._inner.stat(source.key, kind=kind)
        except NotFound:
            return entry.shown or shown
        if entry.shown is not None:
            entry.shown = dataclasses.replace(
                entry.shown,
                kind=found.kind,
                size=found.size if entry.shown.size is None else entry.shown.size,
                metadata=found.metadata,
                link_target=found.link_target,
            )
            return entry.shown
        return shown

    async def list(
        self,
        prefix: str,
        *,
        mode: ListMode = ListMode.DIRECTORY,
        token: str | None = None,
        limit: int | None = None,
    ) -> Page:
        """List the store with what is pending; a page may be larger than asked for.

        What is pending when a page is asked for is believed, not what the store says
        of the same key then: it may be on its way just now.
        """
        after, inner_token = _from_token(token)
        pending = self._pending_below(prefix, mode)
        if limit is not None:
            # Or a page could be full of what is pending to be removed.
            limit += len(pending.direct)
        try:
            page = await self._inner.list(
                prefix, mode=mode, token=inner_token, limit=limit
            )
        except NotFound:
            own = self._ledger.table.newest(prefix)
            is_made = own is not None and own.shown is not None
            if not (is_made or pending.shows_anything):
                raise
            page = Page((), None)
        last = page.objects[-1].key if page.objects else after
        until = last if page.token is not None else None
        found = pending.over(page.objects, after, until)
        return Page(found, _to_token(last, page.token))

    def _pending_below(self, prefix: str, mode: ListMode) -> "_Overlay":
        """Return what pending entries say of a listing."""
        directory = prefix[: prefix.rfind("/") + 1]
        table, overlay = self._ledger.table, _Overlay()
        for key in (
            [directory, *table.below(directory)] if directory else table.below("")
        ):
            entry = table.newest(key)
            if entry is None or not key.startswith(prefix):
                continue
            if mode is ListMode.PREFIX:
                overlay.direct[key] = entry.shown
                continue
            step, slash, rest = key.removeprefix(prefix).partition("/")
            if not step and not rest:
                continue  # the marker of the directory itself
            if not rest:
                overlay.direct[key] = entry.shown
            elif entry.shown is not None:
                overlay.implied.add(prefix + step + slash)
        return overlay

    async def read(
        self,
        key: str,
        offset: int = 0,
        size: int | None = None,
        *,
        version: Version | None = None,
    ) -> Content:
        """Read what is pending from here, else from the store."""
        while True:
            entry = self._entry_of(key, version)
            if entry is None:
                return await self._inner.read(key, offset, size, version=version)
            if entry.shown is None:
                raise NotFound(key=key)
            try:
                return await self._read_pending(entry, entry.shown, offset, size)
            except StoreError:
                # It may be stored, or replaced, while we read: then look again.
                if self._entry_of(key, version) is entry:
                    if entry.flight is None:
                        raise
                    await self._ledger.news.wait()

    def _entry_of(self, key: str, version: Version | None) -> Entry | None:
        table = self._ledger.table
        if version is not None and is_token(version):
            return table.of_version(version)
        # With a version of the store: somebody still reads what was there before.
        return table.newest(key) if version is None else None

    async def _read_pending(
        self, entry: Entry, shown: Object, offset: int, size: int | None
    ) -> Content:
        if offset < 0 or (size is not None and size < 0):
            raise InvalidRequest("a negative offset or size", key=entry.key)
        match entry.change:
            case StoreBytes(dirty):
                wanted = dirty.size - offset if size is None else size
                data = await self._writeback.read(dirty, offset, max(0, wanted))
                if entry.is_over:
                    raise VersionChanged("it was stored meanwhile", key=entry.key)
                return Content(shown, data)
            case Make(_, _, target):
                text = (target or "").encode("utf-8", "surrogateescape")
                end = None if size is None else offset + size
                return Content(shown, text[offset:end])
            case Copy(object) | Describe(object):
                content = await self._read_beneath(object, offset, size)
                return Content(shown, content.data)
            case Remove():
                raise NotFound(key=entry.key)

    async def _read_beneath(
        self, object: Object, offset: int, size: int | None
    ) -> Content:
        if self._ledger.table.of_version(object.version) is not None:
            return await self.read(object.key, offset, size, version=object.version)
        return await self._inner.read(object.key, offset, size, version=object.version)

    # --- changes ----------------------------------------------------------------

    async def write(
        self,
        key: str,
        body: Body | None,
        *,
        size: int | None = None,
        metadata: Metadata = NO_METADATA,
        inherit: Object | None = None,
        condition: Condition = None,
    ) -> Object:
        """Take in an empty or special file; bytes come by `WriteBack`."""
        if body is None and not size and not key.startswith(RESERVED):
            kind = ObjectKind.SPECIAL if _is_special(metadata) else ObjectKind.FILE
            return await self._queue.make(key, kind, metadata, condition=condition)
        await self._settling.settle_entries(self._ledger.table.at(key))
        return await self._inner.write(
            key,
            body,
            size=size,
            metadata=metadata,
            inherit=inherit,
            condition=condition,
        )

    async def delete(self, key: str, *, condition: Condition = None) -> None:
        """Take in that a key is to have nothing."""
        if key.startswith(RESERVED):
            await self._inner.delete(key, condition=condition)
            return
        await self._queue.remove([key])

    async def delete_many(self, keys: Sequence[str]) -> dict[str, Exception]:
        """Take in that keys are to have nothing."""
        await self._queue.remove(keys)
        return {}

    async def copy(
        self,
        source: str,
        target: str,
        *,
        source_version: Version | None = None,
        metadata: Metadata | None = None,
        condition: Condition = None,
    ) -> Object:
        """Copy in the store, when it has the source."""
        table = self._ledger.table
        await self._settling.settle_entries([*table.at(source), *table.at(target)])
        return await self._inner.copy(
            source,
            target,
            source_version=source_version,
            metadata=metadata,
            condition=condition,
        )

    async def move(
        self, source: str, target: str, *, source_version: Version | None = None
    ) -> Object:
        """Take in that an object, or a directory, has another key."""
        if source.endswith("/"):
            return (await self.move_tree(source, target))[source]
        return await self._moves.move(source, target, source_version)

    async def move_tree(self, source: str, target: str) -> dict[str, Object]:
        """Take in that a directory has another key; return all that it has now.

        By the keys that it had. Where the store moves directories by itself, only the
        directory: what is below it is what it was.
        """
        return await self._moves.move_tree(source, target)

    async def make_dir(self, key: str, *, metadata: Metadata = NO_METADATA) -> Object:
        """Take in a directory."""
        return await self._queue.make(key, ObjectKind.DIRECTORY, metadata)

    async def make_link(
        self,
        key: str,
        target: str,
        *,
        metadata: Metadata = NO_METADATA,
        condition: Condition = None,
    ) -> Object:
        """Take in a symbolic link."""
        return await self._queue.make(
            key, ObjectKind.LINK, metadata, target=target, condition=condition
        )

    async def set_metadata(
        self, object: Object, metadata: Metadata, *, condition: Condition = None
    ) -> Object:
        """Take in other metadata."""
        return await self._queue.describe(object, metadata, condition)


class _Overlay:
    """What pending entries say of the keys of one listing."""

    def __init__(self) -> None:
        self.direct: dict[str, Object | None] = {}
        self.implied: set[str] = set()

    @property
    def shows_anything(self) -> bool:
        """Whether something is there that the store need not know of."""
        return bool(self.implied) or any(self.direct.values())

    def over(
        self, listed: Sequence[Object], after: str, until: str | None
    ) -> tuple[Object, ...]:
        """Return a page of the store with what is pending of its range of keys."""
        found = {
            object.key: object
            for object in listed
            if self.direct.get(object.key, object) is not None
            or object.key in self.implied
        }
        low, high = _order(after), None if until is None else _order(until)
        for key in (*self.direct, *self.implied):
            is_in_page = low < _order(key) and (high is None or _order(key) <= high)
            if not (is_in_page or key in found):
                continue
            shown = self.direct.get(key)
            if shown is not None:
                found[key] = shown
            elif key in self.implied and key not in found:
                found[key] = Object(key=key, kind=ObjectKind.DIRECTORY)
        return tuple(found[key] for key in sorted(found, key=_order))


def _order(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def _to_token(last: str, token: str | None) -> str | None:
    """Return a token that also says where the page ended."""
    if token is None:
        return None
    return f"{base64.urlsafe_b64encode(_order(last)).decode()}.{token}"


def _from_token(token: str | None) -> tuple[str, str | None]:
    if token is None:
        return "", None
    last, _, inner = token.partition(".")
    try:
        return os.fsdecode(base64.urlsafe_b64decode(last)), inner
    except binascii.Error as error:
        raise InvalidRequest(f"{token!r} is no token of a listing") from error


def _is_special(metadata: Metadata) -> bool:
    attributes = metadata.attributes
    mode = attributes.mode if attributes is not None else None
    return stat.S_IFMT(mode or 0) in SPECIAL_TYPES
