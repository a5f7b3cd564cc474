"""What could not be carried out: it is tried again, or lost, and somebody is told.

An entry that failed waits, longer each time, for as long as it takes. What cannot
succeed any more, since a foreign client was there first, is settled as the user's
policy says: bytes are kept, and nothing that is not ours is replaced or removed.

Nothing of the store is changed here but by keeping bytes beside what they lost to.
"""

import logging

from mountfs.cache.entries import Copy, Describe, Entry, Make, Remove, StoreBytes
from mountfs.cache.hooks import Hooks
from mountfs.cache.incidents import IncidentKind, Incidents
from mountfs.cache.landing import Landing
from mountfs.cache.ledger import Ledger
from mountfs.cache.phases import reached
from mountfs.storage.errors import NotFound, PreconditionFailed, StoreError
from mountfs.storage.types import Object

log = logging.getLogger(__name__)

RETRY_MIN_S = 1.0
RETRY_MAX_S = 60.0


class Setbacks:
    """Deals with entries of a ledger that the store does not have."""

    def __init__(
        self, ledger: Ledger, landing: Landing, incidents: Incidents, hooks: Hooks
    ) -> None:
        self._ledger = ledger
        self._landing = landing
        self._incidents = incidents
        self._hooks = hooks

    def clear(self, entry: Entry) -> None:
        """Tell who was told of a failure that the store has it now."""
        self._incidents.clear(entry.key)
        if entry.attempts:
            self._hooks.failed(entry.key, None)

    def tell_elsewhere(self, entry: Entry, copy: Object) -> None:
        """Tell of a lost race: the name means what the store has, ours is beside."""
        self._hooks.outdated(copy.key)
        self._hooks.outdated(entry.key)

    def note_failure(self, entry: Entry, error: StoreError) -> None:
        """Let an entry that was not stored be tried again later."""
        if entry.is_over:
            return
        is_news = entry.error is None or type(entry.error) is not type(error)
        entry.attempts += 1
        entry.is_unsure = entry.is_unsure or error.is_ambiguous
        entry.error = error
        pause_s = min(RETRY_MAX_S, RETRY_MIN_S * 2.0 ** min(entry.attempts - 1, 10))
        pause_s = max(pause_s, error.retry_after_s or 0.0)
        entry.due_s = self._ledger.now_s() + pause_s
        if not is_news:
            return
        if not error.is_retryable:
            self._incidents.note(IncidentKind.FAILED, entry.key, str(error))
            self._hooks.failed(entry.key, error)
        log.warning(
            "%r is not in the store yet (%s); it is safe here and is tried again",
            entry.key,
            error,
        )

    async def miss(self, entry: Entry, error: NotFound) -> None:
        """A foreign client has deleted what was to be moved, or changed.

        What it makes under the old name from now on is its own, and stays.
        """
        if isinstance(entry.change, Copy):
            await self._spare(entry.change.source.key)
        self._tell_loss(entry, f"a foreign client removed it first ({error})")
        await self._landing.give_up(entry)
        self._hooks.outdated(entry.key)

    async def lose(self, entry: Entry, error: PreconditionFailed) -> None:
        """Somebody else was there first."""
        change = entry.change
        if isinstance(change, StoreBytes):
            await self._ledger.files.keep(change.dirty, error, change.metadata)
            # Crash between the two: both rows speak of the file, and the older counts.
            reached("drain.kept")
            await self._landing.leave(entry)
            # Its close had succeeded. A newer write of the name drops the bytes, and
            # must not drop the news: this one stays.
            self._tell_loss(entry, f"a foreign client changed it first ({error})")
            self._hooks.failed(entry.key, error)
        else:
            text = f"a foreign client changed it first ({error})"
            if isinstance(change, Copy) and not await self._spare(change.source.key):
                text += await self._copy_beside(entry, change.source, error)
            self._tell_loss(entry, text)
            await self._landing.give_up(entry)
        self._hooks.outdated(entry.key)

    async def _spare(self, key: str) -> bool:
        """Let the old name of a rename that was lost stay, with whatever has it.

        False if the key is to have something else.
        """
        async with self._ledger.locks.held(key):
            last = self._ledger.table.newest(key)
            if last is None or not last.is_removal or last.flight is not None:
                return False
            await self._ledger.replace([last], [])
        self._hooks.outdated(key)
        return True

    async def _copy_beside(
        self, entry: Entry, source: Object, lost: PreconditionFailed
    ) -> str:
        """Copy what lost its new name, and has its old one no more; say where it is."""
        if source.key.endswith("/"):
            return ""
        try:
            copy = await self._ledger.files.copy_beside(source, entry.key, lost)
        except (NotFound, PreconditionFailed):
            return ""  # that was changed, too
        self._hooks.outdated(copy.key)
        return f"; it is in {copy.key!r}"

    def _tell_loss(self, entry: Entry, text: str) -> None:
        what = {
            Make: "what was made under this name is not in the store",
            Copy: "the rename to this name is not in the store",
            Describe: "its new attributes are not in the store",
            Remove: "it was not removed",
            StoreBytes: "what was written, and closed without an error, was not stored",
        }.get(type(entry.change), "the change is not in the store")
        self._incidents.note(IncidentKind.CONFLICT, entry.key, f"{what}: {text}")
        log.warning("%r: %s: %s", entry.key, what, text)
