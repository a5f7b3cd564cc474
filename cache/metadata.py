"""What is known of keys, how old that knowledge is, and which directories are complete.

The meeting place of the file system and the uploads: whoever learns something newer of
a key puts it here, whoever needs it asks here first. Knowledge is fresh for `ttl_s`
seconds after the store gave it, or for as long as the store cannot be asked, if the
user wants that; older knowledge is kept, as a hint what to ask for and to carry
metadata over to a listing that shows the same version.

Everything runs on the trio thread and nothing awaits, so each method is atomic. A
listing takes many requests, though, and we may change its directory meanwhile: names
changed between `begin_listing` and `put_listing` keep what the change put here.

Memory is bounded by the number of entries; the least recently used go first. A listing
goes with the first of its names that does.

What is learnt of an object is also told to whoever keeps it for later (`Notes`), and
what a change of ours has made of it to whoever tells other mounts (`Changes`).
"""

import dataclasses
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from cachetools import LRUCache

from mountfs.storage.types import ABSENT, Absent, Object, Version, is_same_state

Knowledge = Object | Absent

_EXPIRED_S = float("-inf")


def _never() -> bool:
    return False


def _always(_: Object) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class _Entry:
    known: Knowledge
    at_s: float


@dataclass(slots=True)
class _Listing:
    names: set[str]
    at_s: float
    is_whole: bool = True
    """Whether all that is to be known of the names was learnt, too."""


@dataclass(slots=True, eq=False)
class ListingInProgress:
    """A listing that has begun: the names that we changed since."""

    prefix: str
    changed: set[str] = field(default_factory=set)


class Notes(Protocol):
    """Who keeps what is learnt for longer than this cache does."""

    def note(self, object: Object) -> None:
        """Remember what is known of an object."""
        ...


class Changes(Protocol):
    """Who keeps what changes of this mount have made of objects."""

    def changed(self, object: Object) -> None:
        """Take in an object that was made or changed."""
        ...

    def gone(self, key: str) -> None:
        """Take in that an object was removed."""
        ...


class MetadataCache:
    """The newest answers of the store, by key."""

    def __init__(
        self,
        *,
        ttl_s: float,
        entries_max: int = 1_000_000,
        learnt: Notes | None = None,
        changes: Changes | None = None,
        believes_all: Callable[[], bool] = _never,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ttl_s = ttl_s
        """For how long an answer of the store is believed, in seconds."""
        self._learnt = learnt
        self._changes = changes
        self.believes_all = believes_all
        """Whether what the store has said is believed now, whatever its age."""
        self._clock = clock
        self._entries: LRUCache[str, _Entry] = _Entries(entries_max, self._evicted)
        self._listings: dict[str, _Listing] = {}
        self._in_progress: dict[str, list[ListingInProgress]] = {}

    # --- asking -----------------------------------------------------------------

    def lookup(self, key: str) -> Knowledge | None:
        """Return the object or its absence, if either is known freshly."""
        entry = self._entries.get(key)
        if entry is not None and self._is_fresh(entry.at_s):
            return entry.known
        parent, name = split_key(key)
        listing = self._listings.get(parent)
        if listing is not None and self._is_fresh(listing.at_s):
            return ABSENT if name not in listing.names else None
        return None

    def moment(self, key: str) -> object:
        """Return a token of what is known of a key now, for `put_answer`."""
        return self._entries.get(key)

    def put_answer(self, key: str, answer: Knowledge, asked_at: object) -> Knowledge:
        """Take in an answer to a question that was asked at `asked_at`.

        Something newer may have been learnt while it was on its way, above all by a
        change of our own: then that is kept, and returned.
        """
        entry = self._entries.get(key)
        if entry is not None and entry is not asked_at and entry.at_s != _EXPIRED_S:
            return entry.known
        if isinstance(answer, Object):
            return self._take(answer)
        self._take_absent(key)
        return answer

    def last_known(self, key: str) -> Knowledge | None:
        """Return what was last known of a key, whatever its age."""
        entry = self._entries.get(key)
        return entry.known if entry is not None else None

    def listing(self, prefix: str) -> tuple[Object, ...] | None:
        """Return all children of a directory, if they are known freshly."""
        listing = self._listings.get(prefix)
        if listing is None or not self._is_fresh(listing.at_s):
            return None
        if not listing.is_whole:
            return None
        found = [self.last_known(prefix + name) for name in listing.names]
        objects = [known for known in found if isinstance(known, Object)]
        if len(objects) < len(listing.names):
            return None
        return tuple(sorted(objects, key=lambda object: object.key))

    def count_listed(self, prefix: str) -> int | None:
        """Return how many names a directory had when it was last listed, if it was."""
        listing = self._listings.get(prefix)
        return len(listing.names) if listing is not None else None

    def is_listed(self, prefix: str) -> bool:
        """Tell whether all children of a directory are known freshly."""
        listing = self._listings.get(prefix)
        if listing is None or not listing.is_whole:
            return False
        return self._is_fresh(listing.at_s)

    def is_good_for(self, key: str, time_s: float) -> bool:
        """Tell whether the object of a key is known, and will be for so long."""
        entry = self._entries.get(key)
        return entry is not None and self._clock() + time_s - entry.at_s < self.ttl_s

    # --- learning ---------------------------------------------------------------

    def put(self, object: Object) -> Object:
        """Take in what a change of ours has made of an object, with what else is known.

        Metadata that the answer does not carry are taken from what was known of the
        same version.
        """
        merged = self._take(object)
        if self._changes is not None:
            self._changes.changed(merged)
        return merged

    def settle(self, shown: Object, object: Object) -> None:
        """Take in that the store has now what `shown` has promised, as `object`.

        Unless something else was learnt since, the key goes on showing the version
        that it was promised with, with the times of the store.
        """
        assert shown.version is not None
        assert object.version is not None
        entry = self._entries.get(shown.key)
        if entry is not None and isinstance(entry.known, Object):
            version = entry.known.version
            if version is not None and version.content == shown.version.content:
                own = Version(version.content, object.version.attributes)
                settled = dataclasses.replace(
                    entry.known,
                    version=own,
                    mtime_ns=object.mtime_ns or entry.known.mtime_ns,
                )
                self._entries[shown.key] = _Entry(settled, self._clock())
        known = (
            object
            if object.is_described
            else dataclasses.replace(
                object,
                metadata=shown.metadata,
                kind=shown.kind,
                link_target=shown.link_target,
            )
        )
        if self._learnt is not None:
            self._learnt.note(known)
        if self._changes is not None:
            self._changes.changed(known)

    def put_absent(self, key: str) -> None:
        """Take in that we have removed what had this key."""
        self._take_absent(key)
        if self._changes is not None:
            self._changes.gone(key)

    def complete(self, object: Object, asked_at: object) -> Knowledge:
        """Take in metadata that were kept from earlier on for an object just listed.

        Nothing was asked, so what is known grows no newer; as with `put_answer`, what
        was learnt since `asked_at` is kept, and returned.
        """
        entry = self._entries.get(object.key)
        if entry is None:
            return object
        if entry is not asked_at:
            return entry.known
        self._entries[object.key] = dataclasses.replace(entry, known=object)
        return object

    def begin_listing(self, prefix: str) -> ListingInProgress:
        """Note that a listing of a directory begins; end it with `put_listing`."""
        listing = ListingInProgress(prefix)
        self._in_progress.setdefault(prefix, []).append(listing)
        return listing

    def put_listing(
        self,
        begun: ListingInProgress,
        objects: Iterable[Object],
        *,
        is_sure: Callable[[Object], bool] = _always,
    ) -> tuple[Object, ...]:
        """Take in all children of a directory; return them as they are known now.

        What we changed while the listing ran wins over what the listing says. Of what
        `is_sure` says no to only the name is taken in: it is still to be asked for.
        """
        self.drop_listing(begun)
        now_s = self._clock()
        names: set[str] = set()
        is_whole = True
        for object in objects:
            _, name = split_key(object.key)
            if name in begun.changed:
                continue
            names.add(name)
            known = self._carry_over(object)
            if is_sure(known):
                self._entries[object.key] = _Entry(known, now_s)
            else:
                is_whole = False
        for name in begun.changed:
            if isinstance(self.last_known(begun.prefix + name), Object):
                names.add(name)
        self._listings[begun.prefix] = _Listing(names, now_s, is_whole)
        found = [self.last_known(begun.prefix + name) for name in sorted(names)]
        return tuple(known for known in found if isinstance(known, Object))

    def drop_listing(self, begun: ListingInProgress) -> None:
        """End a listing, because it failed or is about to be taken in."""
        running = self._in_progress.get(begun.prefix, [])
        if begun in running:
            running.remove(begun)
        if not running:
            self._in_progress.pop(begun.prefix, None)

    # --- forgetting -------------------------------------------------------------

    def expire(self, key: str) -> None:
        """Make what is known of a key stale; it is asked for again when needed."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries[key] = dataclasses.replace(entry, at_s=_EXPIRED_S)
        parent, _ = split_key(key)
        self._listings.pop(parent, None)

    def forget_below(self, prefix: str) -> None:
        """Forget a directory and everything below it."""
        for key in [key for key in self._entries if key.startswith(prefix)]:
            self._entries.pop(key, None)
        for known in [known for known in self._listings if known.startswith(prefix)]:
            del self._listings[known]

    # --- inside -----------------------------------------------------------------

    def _is_fresh(self, at_s: float) -> bool:
        if self._clock() - at_s < self.ttl_s:
            return True
        return at_s != _EXPIRED_S and self.believes_all()

    def _take(self, object: Object) -> Object:
        """Note the newest answer for a key; return it with what else is known."""
        merged = self._carry_over(object)
        self._entries[object.key] = _Entry(merged, self._clock())
        if self._learnt is not None:
            self._learnt.note(merged)
        parent, name = split_key(object.key)
        if (listing := self._listings.get(parent)) is not None:
            listing.names.add(name)
        self._note_change(parent, name)
        return merged

    def _take_absent(self, key: str) -> None:
        self._entries[key] = _Entry(ABSENT, self._clock())
        parent, name = split_key(key)
        if (listing := self._listings.get(parent)) is not None:
            listing.names.discard(name)
        self._note_change(parent, name)
        if key.endswith("/"):
            self._listings.pop(key, None)

    def _carry_over(self, object: Object) -> Object:
        if object.is_described:
            return object
        known = self.last_known(object.key)
        if not isinstance(known, Object) or known.metadata is None:
            return object
        if not is_same_state(known, object):
            return object
        return dataclasses.replace(
            object,
            kind=known.kind,
            metadata=known.metadata,
            link_target=known.link_target,
            has_foreign_name=known.has_foreign_name,
        )

    def _note_change(self, parent: str, name: str) -> None:
        for listing in self._in_progress.get(parent, ()):
            listing.changed.add(name)

    def _evicted(self, key: str) -> None:
        parent, _ = split_key(key)
        self._listings.pop(parent, None)


class _Entries(LRUCache[str, _Entry]):
    """The bounded map; tells which key had to go."""

    def __init__(self, entries_max: int, evicted: Callable[[str], None]) -> None:
        super().__init__(entries_max)
        self._tell = evicted

    def popitem(self) -> tuple[str, _Entry]:
        """Remove the least recently used entry and say so."""
        key, entry = super().popitem()
        self._tell(key)
        return key, entry


def split_key(key: str) -> tuple[str, str]:
    """Split a key into its directory's key and its last component.

    The component of a directory keeps its slash: `a/b/` is `a/` and `b/`.
    """
    end = len(key) - 1 if key.endswith("/") else len(key)
    cut = key.rfind("/", 0, end) + 1
    return key[:cut], key[cut:]
