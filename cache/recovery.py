"""Files that could not be stored: in the journal, and with their bytes in the spool.

A failed file may go on being used; its row then describes it as it was when it
failed, or was last cut, and its bytes are the newest.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import trio

from mountfs.cache.dirty import DirtyFile
from mountfs.cache.failed import describe, restore
from mountfs.cache.journal import FailedFile, Journal
from mountfs.cache.journalfile import JournalError
from mountfs.cache.phases import reached
from mountfs.cache.spool import Spool, on_disk
from mountfs.cache.streaming import Ladder
from mountfs.storage.errors import StoreError
from mountfs.storage.types import Metadata, Object

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Failed:
    """A file that could not be stored, and why."""

    dirty: DirtyFile
    metadata: Metadata
    error: str


@dataclass(frozen=True, slots=True)
class Recovered:
    """A file that an earlier mount left behind: stored now, or why not."""

    key: str
    size: int
    object: Object | None = None
    error: str | None = None


class FailedFiles:
    """The failed files of this mount and of earlier ones."""

    def __init__(
        self, journal: Journal, directory: Path, ladder: Callable[[], Ladder]
    ) -> None:
        self._journal = journal
        self._ladder = ladder
        self._directory = directory
        self._files: dict[str, Failed] = {}

    def __iter__(self) -> Iterator[Failed]:
        return iter(list(self._files.values()))

    def holds(self, dirty: DirtyFile) -> bool:
        """Tell whether a file has failed and was not stored since."""
        return dirty.spool.name in self._files

    async def add(self, failed: Failed) -> None:
        """Journal a file. Returns when bytes and row survive a power cut."""
        await failed.dirty.spool.resize(failed.dirty.size)
        # Parts that the store has may be in the upload only; its row in the journal
        # and this one keep it from being aborted.
        await failed.dirty.spool.sync()
        await self._write_row(failed)

    async def describe_again(self, dirty: DirtyFile) -> None:
        """Journal the new extents of a failed file that was cut."""
        failed = self._files.get(dirty.spool.name)
        if failed is not None:
            await self._write_row(failed)

    async def follow(self, dirty: DirtyFile, old_key: str) -> None:
        """Journal the new name of a file that was renamed, and of what was set aside of
        it.

        Crash before this: the next mount stores it under the old name. The rename is
        done, so that it cannot be written down is no error of that.
        """
        for failed in self:
            kept = failed.dirty
            if kept.spool.name != dirty.spool.name:
                if kept.key != old_key:
                    continue
                kept.key, kept.condition = dirty.key, dirty.starts_from
                kept.inherit = dirty.inherit
                if kept.base is not None:  # a file that was begun anew has none to lend
                    moved = dataclasses.replace(kept.base, key=dirty.key)
                    kept.base = dirty.base or moved
            try:
                await self.add(failed)
            except StoreError as error:
                log.warning(
                    "a crash would take %r for %r: %s", kept.key, old_key, error
                )

    async def set_aside(self, dirty: DirtyFile) -> DirtyFile | None:
        """Keep a failed file as it is before it changes; return what is kept.

        Its bytes are copied to a spool file of their own: else a crash would leave a
        mixture of what failed and what came later. None if there is nothing to keep, or
        if a part of it lies in an upload, which two states cannot share.
        """
        name = dirty.spool.name
        failed = self._files.get(name)
        if failed is None:
            return None
        if dirty.stream is not None and dirty.stream.punched:
            return None
        spool = Spool(self._directory)
        await dirty.spool.copy_to(spool.path, dirty.size)
        # Crash after this: a spool file that no row names; the next mount removes it.
        reached("failed-copied")
        state = describe(dirty, failed.metadata, failed.error, with_stream=False)
        kept, _, _ = restore(state, dirty.key, spool, self._ladder)
        await spool.reopen(dirty.size)
        row = FailedFile(spool.name, dirty.key, dirty.size, state)
        await self._journal.add_failed(row, instead_of=name)
        del self._files[name]
        dirty.is_kept, kept.is_kept = False, True
        self._files[spool.name] = dataclasses.replace(failed, dirty=kept)
        return kept

    def note_error(self, dirty: DirtyFile, error: str) -> None:
        """Remember why the last attempt failed."""
        name = dirty.spool.name
        self._files[name] = dataclasses.replace(self._files[name], error=error)

    async def end(self, dirty: DirtyFile) -> None:
        """Forget a file that is stored or given up; its bytes may go afterwards.

        A crash in between leaves a spool file that nobody knows, and the next mount
        removes it.
        """
        name = dirty.spool.name
        if name in self._files:
            with trio.CancelScope(shield=True):
                await self._journal.end_failed(name)
            del self._files[name]
            dirty.is_kept = False

    async def give_up(self, dirty: DirtyFile) -> bool:
        """Forget a file that is wanted no more; False if it stays for now.

        What it is given up for is done, and must not fail for a journal that is full.
        """
        try:
            await self.end(dirty)
        except JournalError as full:
            log.info("bytes of %r that failed stay for now: %s", dirty.key, full)
            return False
        log.info("the bytes of %r that failed are given up", dirty.key)
        return True

    async def load(self, in_use: set[str]) -> list[Failed | Recovered]:
        """Return what earlier mounts left; what cannot be used says why.

        Removes spool files that no row names, unless they are `in_use` by others.
        """
        in_use = in_use | self._files.keys()
        rows = [row for row in await self._journal.failed() if row.spool not in in_use]
        known = in_use | {row.spool for row in rows}
        await on_disk(_remove_unknown, self._directory, known)
        return [await self._load(row) for row in rows]

    async def spools(self) -> set[str]:
        """Return the names of the spool files that are there."""
        return await on_disk(_names, self._directory)

    async def _load(self, row: FailedFile) -> Failed | Recovered:
        spool = Spool(self._directory, row.spool)
        try:
            dirty, metadata, reason = restore(row.state, row.key, spool, self._ladder)
        except JournalError as damage:
            log.warning("%s", damage)
            return Recovered(row.key, row.size, error=str(damage))
        if not await spool.reopen(dirty.size):
            error = f"the spool file {row.spool} is missing or incomplete"
            log.warning("the bytes of %r are lost: %s", row.key, error)
            return Recovered(row.key, row.size, error=error)
        failed = Failed(dirty, metadata, reason)
        self._files[row.spool] = failed
        dirty.is_kept = True
        return failed

    async def _write_row(self, failed: Failed) -> None:
        dirty = failed.dirty
        name = dirty.spool.name
        state = describe(dirty, failed.metadata, failed.error)
        await self._journal.add_failed(FailedFile(name, dirty.key, dirty.size, state))
        self._files[name] = failed
        dirty.is_kept = True


def _remove_unknown(directory: Path, known: set[str]) -> None:
    for path in directory.glob("*.spool"):
        if path.name not in known:
            path.unlink(missing_ok=True)


def _names(directory: Path) -> set[str]:
    return {path.name for path in directory.glob("*.spool")}
