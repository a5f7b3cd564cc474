"""What becomes of an entry when it was carried out, or cannot be.

Its row goes from the journal, then it goes from the table, and what is known of what it
showed follows the object into the store: versions, attributes, cached bytes, and what
others have built on it. Nothing is sent here, and nothing decided: the drain
(`mountfs.cache.drain`) knows what the store has answered.

Crash before the row is gone: the next mount carries the entry out again, to the same
effect. Who calls must see to it that it is not cancelled before the row is gone.
"""

import trio

from mountfs.cache.entries import Entry, StoreBytes
from mountfs.cache.entry_text import to_row
from mountfs.cache.journal import PendingRow
from mountfs.cache.ledger import Ledger, content_of
from mountfs.cache.phases import reached
from mountfs.storage.types import Object


class Landing:
    """Ends the entries of a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def finish(self, entry: Entry, object: Object | None) -> None:
        """Note that the store has what an entry says; `object` is what it answered."""
        async with self._ledger.locks.held(entry.key):
            if entry.is_over:
                return  # a newer state took its place while another carried it out
            await self._finish(entry, object, [])

    async def finish_elsewhere(self, entry: Entry, copy: Object) -> None:
        """Note that the bytes of an entry lost its name, and are in a copy beside.

        What was built on them, here or by who has the file open, reads them there.
        """
        ledger, shown = self._ledger, entry.shown
        if shown is not None and shown.version is not None:
            ledger.aliases.lost(shown.version.content, copy)
        async with ledger.locks.held(entry.key):
            rows: list[PendingRow] = []
            for each in ledger.table.at(entry.key):
                match each.change:
                    case StoreBytes(dirty) if entry.is_base_of(dirty):
                        # Nobody knows the token of its base any more after a crash.
                        ledger.files.put_base(dirty, copy)
                        rows.append(to_row(each, await content_of(each)))
                    case _:
                        pass
            await self._finish(entry, None, rows)

    async def _finish(
        self, entry: Entry, object: Object | None, others: list[PendingRow]
    ) -> None:
        ledger = self._ledger
        rows = ledger.aliases.row(entry.shown, object) if object is not None else ()
        with trio.CancelScope(shield=True):
            await ledger.journal.change_pending(others, [entry.id], rows)
            ledger.alias_rows.note(rows)
            reached("queue.finished")
            ledger.end(entry)
            if object is not None and entry.shown is not None:
                self._settle(entry, entry.shown, object)
            if isinstance(entry.change, StoreBytes):
                await ledger.files.forget(entry.change.dirty)
            await ledger.alias_rows.forget(ledger.table)

    def _settle(self, entry: Entry, shown: Object, object: Object) -> None:
        """Let what is known here of an object follow it into the store."""
        if object.version is None or shown.version is None:
            return
        ledger = self._ledger
        is_newest = ledger.table.newest(entry.key) is None
        key = entry.key if is_newest else None
        ledger.aliases.learn(shown.version.content, object.version, key)
        ledger.files.stored(object, shown)
        if is_newest:
            ledger.metadata.settle(shown, object)

    async def finish_removals(self, entries: list[Entry]) -> None:
        """Note that names are gone from the store, all in one transaction."""
        ledger = self._ledger
        async with ledger.locks.held(*(entry.key for entry in entries)):
            await ledger.journal.change_pending((), [entry.id for entry in entries])
            reached("queue.finished")
            for entry in entries:
                if not entry.is_over:
                    ledger.end(entry)
            await ledger.alias_rows.forget(ledger.table)

    async def leave(self, entry: Entry) -> None:
        """Drop an entry whose bytes somebody else keeps."""
        async with self._ledger.locks.held(entry.key):
            with trio.CancelScope(shield=True):
                await self._ledger.journal.change_pending((), [entry.id])
                self._ledger.end(entry)

    async def give_up(self, entry: Entry) -> None:
        """Drop an entry, and its bytes, for good: somebody has been told."""
        async with self._ledger.locks.held(entry.key):
            await self._ledger.replace([entry], [])
