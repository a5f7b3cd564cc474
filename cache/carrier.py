"""What the store is asked for to have what entries say, one deed a kind of change.

A deed is repeated after a crash, to the same effect, and looks before it takes away or
replaces what may be a foreign client's by now. Its answer goes to `Landing`
(mountfs.cache.landing), its refusal to `Setbacks` (mountfs.cache.setbacks). When
something is asked for, and how much at once, is decided by the drain.
"""

from functools import partial
from itertools import takewhile

import trio

from mountfs.cache.entries import (
    Copy,
    Describe,
    Entry,
    Make,
    Remove,
    StoreBytes,
    content_condition,
)
from mountfs.cache.landing import Landing
from mountfs.cache.ledger import Ledger
from mountfs.cache.phases import reached
from mountfs.cache.setbacks import Setbacks
from mountfs.storage.errors import (
    AlreadyExists,
    NotFound,
    PreconditionFailed,
    StoreError,
    VersionChanged,
)
from mountfs.storage.parallel import run_all
from mountfs.storage.retry import is_copy
from mountfs.storage.types import (
    ABSENT,
    Absent,
    Call,
    Condition,
    Metadata,
    Object,
    ObjectKind,
    Version,
)

BATCH_MAX = 1000
LATE_S = 2.0
"""After how long an entry looks at the store before it takes away what is there."""
LOOKS_AT_ONCE = 32

Seen = dict[str, Absent | StoreError | None]
"""What speaks against the removal of a key; absence if there is nothing left."""


class Carrier:
    """Carries out entries of a ledger."""

    def __init__(self, ledger: Ledger, landing: Landing, setbacks: Setbacks) -> None:
        self._ledger = ledger
        self._landing = landing
        self._setbacks = setbacks

    def may_be_in_batch(self, removal: Entry) -> bool:
        """Tell whether a removal may go with others: what has failed goes alone."""
        return removal.error is None

    async def carry_out(self, entries: list[Entry]) -> None:
        """Let the store have what the one entry says."""
        (entry,) = entries
        reached("drain.begun")
        try:
            object = await self._request(entry)
        except PreconditionFailed as error:
            await self._setbacks.lose(entry, error)
            return
        except NotFound as error:
            if isinstance(entry.change, StoreBytes | Make):
                raise  # of nothing that the change is about: it is tried again
            object = await self._own_copy(entry)
            if object is None:
                await self._setbacks.miss(entry, error)
                return
        reached("drain.stored")
        # Until its row is gone, which may fail: then a newer state of the name must not
        # count on what was there before.
        entry.is_unsure = True
        if object is None or object.key == entry.key:
            with trio.CancelScope(shield=True):
                await self._landing.finish(entry, object)
            self._setbacks.clear(entry)
        else:
            with trio.CancelScope(shield=True):
                await self._landing.finish_elsewhere(entry, object)
            self._setbacks.tell_elsewhere(entry, object)

    async def remove_all(self, entries: list[Entry]) -> None:
        """Delete many keys, in the order given, with as few requests as possible.

        Of what stays no directory goes: it would be gone before what is below it.
        """
        staying: set[str] = set()
        size = min(BATCH_MAX, self._ledger.store.capabilities.delete_many_max)
        while entries:
            seen = await self._look_before(entries[:size])
            batch = list(takewhile(partial(self._may_go, seen), entries[:size]))
            if batch:
                await self._remove_batch(batch, seen, staying)
            entries = entries[len(batch) :]

    def _may_go(self, seen: Seen, removal: Entry) -> bool:
        return removal.key in seen or not self._must_look(removal)

    async def _remove_batch(
        self, entries: list[Entry], seen: Seen, staying: set[str]
    ) -> None:
        wrong: dict[str, Exception] = {
            key: what for key, what in seen.items() if isinstance(what, StoreError)
        }
        gone = {key for key, what in seen.items() if what is ABSENT}
        staying.update(wrong)
        entries = [each for each in entries if not _is_above(each, staying)]
        keys = [e.key for e in entries if e.key not in wrong and e.key not in gone]
        if len(keys) == 1:
            await self._ledger.store.delete(keys[0])
        elif keys:
            wrong |= await self._ledger.store.delete_many(keys)
        reached("drain.removed")
        staying.update(wrong)
        done = [entry for entry in entries if entry.key not in wrong]
        for entry in done:
            entry.is_unsure = True  # as in `carry_out`
        with trio.CancelScope(shield=True):
            await self._landing.finish_removals(done)
        for entry in done:
            self._setbacks.clear(entry)
        for entry in entries:
            match wrong.get(entry.key):
                case None:
                    pass
                case PreconditionFailed() as error:
                    await self._setbacks.lose(entry, error)
                case error:
                    self._setbacks.note_failure(entry, _store_error(error))

    async def _look_before(self, removals: list[Entry]) -> Seen:
        """Look at removals that have waited for long; return what was seen, by key.

        Where that is done one by one, with a delete behind each look, removals come
        faster than they go as soon as they are late: all that follow are late, too.
        What was seen must not get late itself: others may write there meanwhile. So
        after a while no look begins, and what that leaves out comes next.
        """
        seen: Seen = {}
        until_s = self._ledger.now_s() + LATE_S

        async def look(removal: Entry) -> None:
            if self._ledger.now_s() <= until_s:
                seen[removal.key] = await self._look(removal)

        looks = [partial(look, each) for each in removals if self._must_look(each)]
        await run_all(looks, at_once=LOOKS_AT_ONCE)
        return seen

    async def _look(self, removal: Entry) -> Absent | StoreError | None:
        """Return what speaks against a removal, absence if there is nothing left."""
        try:
            await self._check(removal)
        except VersionChanged as error:
            return ABSENT if await self._is_gone(removal) else error
        except StoreError as error:
            return error
        return None

    # --- one change -------------------------------------------------------------

    async def _request(self, entry: Entry) -> Object | None:
        """Send what an entry stands for; return what the store has then."""
        store = self._ledger.store
        match entry.change:
            case StoreBytes(dirty, metadata):
                # A rename that failed may have named another key already.
                dirty.key, dirty.condition = entry.key, entry.stored
                return await self._ledger.files.store(dirty, metadata)
            case Make(ObjectKind.DIRECTORY, metadata):
                return await store.make_dir(entry.key, metadata=metadata)
            case Make(ObjectKind.LINK, metadata, str(target)):
                condition = await self._checked(entry)
                return await store.make_link(
                    entry.key, target, metadata=metadata, condition=condition
                )
            case Make(_, metadata):
                condition = await self._checked(entry)
                return await store.write(
                    entry.key, None, metadata=metadata, condition=condition
                )
            case Copy():
                return await self._copy(entry, entry.change)
            case Describe(object, metadata):
                return await self._describe(entry, object, entry.change)
            case Remove():
                await self._remove(entry)
                return None

    async def _checked(self, entry: Entry) -> Condition:
        """Return the condition to send; look first if the store honours none."""
        if entry.stored is None or Call.WRITE in self._conditions:
            return entry.stored
        await self._check(entry)
        return None

    @property
    def _conditions(self) -> frozenset[Call]:
        return self._ledger.store.capabilities.conditions

    async def _check(self, entry: Entry) -> None:
        """See that the store has what an entry takes the place of.

        Raises `PreconditionFailed`. Between the look and the request a foreign write
        can slip in.
        """
        if entry.stored is None:
            return
        found: Condition
        try:
            kind = ObjectKind.DIRECTORY if entry.is_directory else None
            found = content_condition(
                await self._ledger.store.stat(entry.key, kind=kind)
            )
        except NotFound:
            found = ABSENT
        if not isinstance(entry.stored, Version):
            if found is not ABSENT:
                raise AlreadyExists("an object is there", key=entry.key)
            return
        wanted = self._ledger.aliases.real(entry.stored)
        if found is ABSENT:
            raise VersionChanged("the object is gone", key=entry.key)
        if entry.is_directory or not isinstance(found, Version):
            return
        if self._ledger.aliases.real(found).content != wanted.content:
            raise VersionChanged("the object is another by now", key=entry.key)

    async def _copy(self, entry: Entry, change: Copy) -> Object:
        """Copy an object to a key, and let it have other metadata if there are any."""
        if change.source.key.endswith("/"):
            return await self._copy_directory(entry, change)
        arrived = await self._arrived(entry, change.source)
        if arrived is not None:
            return arrived
        copied = await self._copy_or_move(entry, change.source)
        if change.metadata is not None:
            # Crash before this: the copy is made again, from a source that is gone
            # if it was moved; then `_own_copy` finds it, and this is repeated.
            copied = await self._ledger.store.set_metadata(copied, change.metadata)
        return copied

    async def _copy_directory(self, entry: Entry, change: Copy) -> Object:
        """Make a marker like another: not every store can copy one."""
        store, metadata = self._ledger.store, change.metadata
        if metadata is None:
            key = change.source.key
            found = await store.stat(key, kind=ObjectKind.DIRECTORY)
            metadata = found.metadata or Metadata()
        return await store.make_dir(entry.key, metadata=metadata)

    async def _arrived(self, entry: Entry, source: Object) -> Object | None:
        """Return what is to be copied if it is at its key already."""
        assert isinstance(entry.change, Copy)
        if source.key == entry.key:  # it has come back to where it was
            here = self._ledger.aliases.without_token(source)
            metadata = entry.change.metadata
            if metadata is None:
                return here
            return await self._ledger.store.set_metadata(here, metadata)
        if not self._is_late(entry):
            return None
        try:
            await self._check(entry)
        except PreconditionFailed:
            copied = await self._own_copy(entry)
            if copied is not None:
                return copied
            # A store that moves nothing onto another object removes that one first:
            # killed in between, it is our own move that must go on. Nobody's bytes are
            # replaced then, whoever removed it.
            if not await self._is_gone(entry):
                raise
        return None

    async def _copy_or_move(self, entry: Entry, source: Object) -> Object:
        store, version = self._ledger.store, source.version
        removal = self._removal_of(source.key, entry)
        is_emulated = store.capabilities.move_is_copy
        if removal is None or (removal.is_of_many and is_emulated):
            copied = await store.copy(source.key, entry.key, source_version=version)
            entry.is_unsure = True  # until all else is done
            if removal is not None and not removal.is_over:
                # It has just been seen to be what is to go: with others, in a batch.
                removal.since_s = self._ledger.now_s()
            return copied
        # It is on its way, too: whatever comes to its key now follows it.
        removal.flight, removal.is_unsure = entry.flight, True
        try:
            # One that copies may have done that when it fails.
            entry.is_unsure = entry.is_unsure or is_emulated
            moved = await store.move(source.key, entry.key, source_version=version)
            entry.is_unsure = True  # until all else is done
            # Crash before this: the source is gone, and `_own_copy` finds the copy.
            reached("drain.moved")
            with trio.CancelScope(shield=True):
                await self._landing.finish(removal, None)
        finally:
            removal.flight = None
        return moved

    def _removal_of(self, key: str, entry: Entry) -> Entry | None:
        """Return the entry that a move of a key carries out besides its copy."""
        table = self._ledger.table
        waiting = table.at(key)
        if len(waiting) != 1 or not waiting[0].is_removal or waiting[0].flight:
            return None
        if table.needing(key) != [entry] or self._ledger.locks.is_held(key):
            return None
        return waiting[0]

    async def _describe(self, entry: Entry, known: Object, change: Describe) -> Object:
        condition = entry.stored if isinstance(entry.stored, Version) else None
        if entry.is_directory:
            condition = None  # it is another version with every change in it
            known = self._ledger.aliases.without_token(known)
        return await self._ledger.store.set_metadata(
            known, change.metadata, condition=condition
        )

    def _must_look(self, removal: Entry) -> bool:
        return self._is_late(removal) and isinstance(removal.stored, Version)

    def _is_late(self, entry: Entry) -> bool:
        return self._ledger.now_s() - entry.since_s > LATE_S

    async def _remove(self, entry: Entry) -> None:
        if self._is_late(entry):
            try:
                await self._check(entry)
            except VersionChanged:
                if await self._is_gone(entry):
                    return
                raise
        await self._ledger.store.delete(entry.key)

    async def _is_gone(self, entry: Entry) -> bool:
        kind = ObjectKind.DIRECTORY if entry.is_directory else None
        try:
            await self._ledger.store.stat(entry.key, kind=kind)
        except NotFound:
            return True
        return False

    async def _own_copy(self, entry: Entry) -> Object | None:
        """Return the copy that was made before a crash, with its metadata; or None.

        It has the commit id of its source, or if that was moved away, its size.
        """
        if not isinstance(entry.change, Copy):
            return None
        store, source = self._ledger.store, entry.change.source
        try:
            copied = await store.stat(entry.key)
        except NotFound:
            return None
        if self._is_as_before(entry, copied):
            return None
        try:
            original = await store.stat(source.key)
        except NotFound:
            if source.size is None or copied.size != source.size:
                return None
        else:
            if not is_copy(original, copied):
                return None
        if entry.change.metadata is not None:
            copied = await store.set_metadata(copied, entry.change.metadata)
        return copied

    def _is_as_before(self, entry: Entry, found: Object) -> bool:
        """Tell whether the store has what an entry was to take the place of."""
        before, aliases = entry.stored, self._ledger.aliases
        if not isinstance(before, Version) or not aliases.is_known(before):
            return False
        if found.version is None:
            return False
        return aliases.real(before).content == aliases.real(found.version).content


def _is_above(entry: Entry, keys: set[str]) -> bool:
    return entry.is_directory and any(key.startswith(entry.key) for key in keys)


def _store_error(error: Exception) -> StoreError:
    return error if isinstance(error, StoreError) else StoreError(str(error))
