"""What a newer state of a name takes over from the one that waits before it.

An entry that is not on its way goes for the one that comes after it, so that many
changes of a name are one upload. What must not be lost with it is handed on: bytes,
what those lie upon, what is inherited, and the commits by which an attempt that nobody
knows the end of may have made an object.

Files and changes are made fit here; which entries go and come is written by the ledger
(`mountfs.cache.ledger`), and who calls holds the lock of the key.
"""

import secrets

from mountfs.cache.dirty import DirtyFile
from mountfs.cache.entries import (
    Change,
    Copy,
    Describe,
    Entry,
    Make,
    Remove,
    StoreBytes,
    is_only_in_upload,
)
from mountfs.cache.promised import PromisedFiles
from mountfs.cache.tokens import is_token
from mountfs.storage.errors import NotFound
from mountfs.storage.types import Metadata, Object


class Succession:
    """Lets files take in what waits under their names."""

    def __init__(self, files: PromisedFiles) -> None:
        self._files = files

    async def absorb(self, last: Entry, dirty: DirtyFile) -> bool:
        """Let a newer state of a file take in the one that waits; False if it cannot.

        The bytes that both have in common are copied into the newer spool file: the
        older one is what was acknowledged, and must stay whole until the row of the
        newer is synced.
        """
        if not may_be_replaced(last):
            return False
        base = dirty.base if dirty.base_size else None
        is_on_top = base is not None and last.is_base_of(dirty)
        if base is not None and is_token(base.version) and not is_on_top:
            return False
        self._take_over_commits(last, dirty)
        match last.change:
            case StoreBytes(older) if is_on_top:
                if not await self._merge(last, older, dirty):
                    return False
                dirty.inherit = older.inherit
            case StoreBytes(older):
                dirty.inherit = older.inherit
            case Copy(source):
                self._ground(dirty, is_on_top, source)
            case Describe(object):
                self._ground(dirty, is_on_top, object)
            case Make() | Remove():
                if is_on_top:
                    self._files.put_base(dirty, None)
                dirty.inherit = None
        return True

    async def _merge(self, last: Entry, older: DirtyFile, newer: DirtyFile) -> bool:
        if await self._files.merge(older, newer):
            return True
        # Of two states the first would have to go to the store.
        return last.is_local_only and await self._files.make_whole(older, newer)

    def _take_over_commits(self, last: Entry, dirty: DirtyFile) -> None:
        """Let an object that an earlier attempt may have made count as ours."""
        match last.change:
            case StoreBytes(older):
                dirty.commit_ids.update(dict.fromkeys(older.commit_ids, -1))
            case Make(_, Metadata(commit_id=str(commit_id))) | Describe(
                _, Metadata(commit_id=str(commit_id))
            ):
                dirty.commit_ids[commit_id] = -1
            case _:
                pass

    def _ground(self, dirty: DirtyFile, is_on_top: bool, stored: Object) -> None:
        if is_on_top:
            self._files.put_base(dirty, stored)
        dirty.inherit = stored


def may_be_replaced(last: Entry) -> bool:
    """Tell whether an entry may go for a newer one: it is not on its way."""
    change = last.change
    if isinstance(change, StoreBytes) and is_only_in_upload(change.dirty):
        return False
    if isinstance(change, Copy) and last.is_unsure:
        return False
    return last.flight is None


def may_be_described(last: Entry) -> bool:
    """Tell whether an entry may take in other metadata."""
    is_sure = not (isinstance(last.change, Copy) and last.is_unsure)
    return last.flight is None and is_sure


def with_metadata(last: Entry, metadata: Metadata) -> Change:
    """Return what an entry stands for, with other metadata. Raises `NotFound`."""
    match last.change:
        case StoreBytes(dirty):
            return StoreBytes(dirty, metadata)
        case Make(kind, _, target):
            return Make(kind, metadata, target)
        case Copy(source):
            return Copy(source, metadata)
        case Describe(object):
            return Describe(object, metadata)
        case Remove():
            raise NotFound(key=last.key)


def recommit(last: Entry, entry: Entry) -> None:
    """Let bytes that wait be stored by another commit than before."""
    if isinstance(last.change, StoreBytes):
        dirty = last.change.dirty
        # An object of the commit before has the bytes, but not these metadata.
        dirty.revision += 1
        dirty.commit_id = secrets.token_hex(16)
        dirty.commit_ids[dirty.commit_id] = dirty.revision
        entry.stored = last.stored
