"""What the store is to have under a key, and has not yet: pending entries.

An entry is a *state* of a key, not an operation: whatever many changes of one name
came to is one entry, and one upload. The bytes of a `StoreBytes` lie in its spool file;
those of a `Copy` lie in the store, under another key, which must not change before the
copy is made.

Mostly a key has one entry. It has two if a change came while the one before was on its
way, or could not be merged with it; the second then builds on the first.

`EntryTable` is an index of entries and decides what must wait for what. Pure: no I/O.
"""

import dataclasses
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import trio

from mountfs.cache.dirty import DirtyFile
from mountfs.cache.tokens import is_token
from mountfs.storage.errors import StoreError
from mountfs.storage.types import (
    ABSENT,
    Condition,
    Metadata,
    Object,
    ObjectKind,
    Version,
)

T = TypeVar("T")


@dataclass(slots=True)
class StoreBytes:
    """A regular file whose bytes are in the spool, over a base object perhaps."""

    dirty: DirtyFile
    metadata: Metadata


@dataclass(slots=True)
class Make:
    """What one request makes whole: a marker, a link, a special or an empty file."""

    kind: ObjectKind
    metadata: Metadata
    target: str | None = None


@dataclass(slots=True)
class Copy:
    """The bytes of another object in the store; `metadata` replace its own if given."""

    source: Object
    metadata: Metadata | None = None


@dataclass(slots=True)
class Describe:
    """Other metadata for the object that is there."""

    object: Object
    metadata: Metadata


@dataclass(slots=True)
class Remove:
    """Nothing is to be there."""


Change = StoreBytes | Make | Copy | Describe | Remove


@dataclass(slots=True, eq=False)
class Entry:
    """The state that a key is to have.

    `shown` is how programs see it, None if nothing is there. `stored` is what the store
    has under the key before this entry is carried out: a version (which may be the
    token of the entry before), absence, or None for whatever it may be.
    """

    id: int
    key: str
    change: Change
    shown: Object | None
    stored: Condition
    since_s: float = 0.0
    changed_s: float = 0.0
    due_s: float = 0.0
    attempts: int = 0
    is_of_many: bool = False
    """Whether it is a removal that came with many others, which go together."""
    is_unsure: bool = False
    """Whether it may have been carried out although nobody knows."""
    error: StoreError | None = None
    is_local_only: bool = False
    """Whether it stays here, and nothing of it was ever sent (`cache.localonly`)."""
    flight: trio.CancelScope | None = None
    is_over: bool = False
    """Whether it is carried out, given up or replaced."""
    successor: "Entry | None" = None
    """What took its place before it was carried out."""

    @property
    def is_removal(self) -> bool:
        """Whether nothing is to be there."""
        return isinstance(self.change, Remove)

    @property
    def is_directory(self) -> bool:
        """Whether it is of a directory, or its marker."""
        return self.key.endswith("/")

    @property
    def size(self) -> int:
        """How many bytes wait here for the store."""
        change = self.change
        return change.dirty.size if isinstance(change, StoreBytes) else 0

    @property
    def sent_bytes(self) -> int:
        """How many of them lie in an upload that is not finished."""
        change = self.change
        return change.dirty.sent_bytes if isinstance(change, StoreBytes) else 0

    @property
    def stands_on_what_it_replaces(self) -> bool:
        """Whether carrying it out changes what it is made of.

        If that may have happened, only its own name tells: it must not be moved away,
        or taken apart, before that is clear.
        """
        match self.change:
            case StoreBytes(dirty):
                return dirty.base_size > 0
            case Copy() | Describe():
                return True
            case _:
                return False

    def is_base_of(self, dirty: DirtyFile) -> bool:
        """Tell whether a file began as what this entry shows."""
        base = dirty.base.version if dirty.base is not None else None
        shown = self.shown.version if self.shown is not None else None
        return base is not None and shown is not None and base.content == shown.content

    @property
    def needs(self) -> frozenset[str]:
        """Keys whose stored bytes this entry needs, other than its own."""
        match self.change:
            case Copy(source):
                found = {source.key}
            case StoreBytes(dirty):
                bases = [dirty.base if dirty.base_size else None, dirty.inherit]
                found = {base.key for base in bases if base is not None}
            case _:
                found = set()
        return frozenset(found - {self.key})

    @property
    def tokens(self) -> frozenset[str]:
        """The tokens of what this entry stands on."""
        versions = [self.stored if isinstance(self.stored, Version) else None]
        match self.change:
            case Copy(object) | Describe(object):
                versions.append(object.version)
            case StoreBytes(dirty):
                bases = [base for base in (dirty.base, dirty.inherit) if base]
                versions += [base.version for base in bases]
            case _:
                pass
        return frozenset(each.content for each in versions if each and is_token(each))


class EntryTable:
    """All pending entries, by key and by what they have to do with each other."""

    def __init__(self, *, is_flat: bool = True, markers_first: bool = False) -> None:
        self._is_flat = is_flat
        """Whether directories are markers, which may go in any order."""
        self._markers_first = markers_first
        """Whether they had better come before what is below them."""
        self._entries: dict[int, Entry] = {}
        self._by_key: dict[str, list[Entry]] = {}
        self._by_token: dict[str, Entry] = {}
        self._below: dict[str, set[str]] = {}
        self._needing: dict[str, set[int]] = {}
        self._needs: dict[int, frozenset[str]] = {}
        self._names: dict[int, frozenset[str]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """Yield all entries, oldest first."""
        return iter(tuple(self._entries.values()))

    def __contains__(self, entry: Entry) -> bool:
        return self._entries.get(entry.id) is entry

    def tokens(self) -> set[str]:
        """Return the tokens that the rows of all entries name."""
        return set[str]().union(*self._names.values())

    def at(self, key: str) -> list[Entry]:
        """Return the entries of a key, oldest first."""
        return list(self._by_key.get(key, ()))

    def newest(self, key: str) -> Entry | None:
        """Return the entry that says how a key shows."""
        entries = self._by_key.get(key)
        return entries[-1] if entries else None

    def of_version(self, version: Version | None) -> Entry | None:
        """Return the entry that a token stands for."""
        return self._by_token.get(version.content) if version is not None else None

    def below(self, prefix: str) -> list[str]:
        """Return the keys below a directory that have entries, sorted."""
        if not prefix:
            return sorted(self._by_key)
        return sorted(self._below.get(prefix, ()))

    def has_present_below(self, prefix: str) -> bool:
        """Tell whether an entry shows that a directory has something in it."""
        newest = (self.newest(key) for key in self._below.get(prefix, ()))
        return any(entry is not None and not entry.is_removal for entry in newest)

    def needing(self, key: str) -> list[Entry]:
        """Return the entries that need the bytes which the store has under a key."""
        return [self._entries[id] for id in self._needing.get(key, ())]

    def add(self, entry: Entry) -> None:
        """Take in an entry, as the newest of its key."""
        self._entries[entry.id] = entry
        self._by_key.setdefault(entry.key, []).append(entry)
        if entry.shown is not None and entry.shown.version is not None:
            self._by_token[entry.shown.version.content] = entry
        for ancestor in ancestors_of(entry.key):
            self._below.setdefault(ancestor, set()).add(entry.key)
        # What it stands on may be another when it goes.
        needs = self._needs[entry.id] = entry.needs
        self._names[entry.id] = entry.tokens
        for key in needs:
            self._needing.setdefault(key, set()).add(entry.id)

    def remove(self, entry: Entry) -> None:
        """Give up an entry, or note that it is carried out."""
        del self._entries[entry.id]
        entries = self._by_key[entry.key]
        entries.remove(entry)
        if not entries:
            del self._by_key[entry.key]
            for ancestor in ancestors_of(entry.key):
                _discard(self._below, ancestor, entry.key)
        if entry.shown is not None and entry.shown.version is not None:
            self._by_token.pop(entry.shown.version.content, None)
        del self._names[entry.id]
        for key in self._needs.pop(entry.id):
            _discard(self._needing, key, entry.id)

    def is_blocked(self, entry: Entry) -> bool:
        """Tell whether something else must be carried out before an entry."""
        if self._by_key[entry.key][0] is not entry:
            return True
        if next(self._before(entry), None) is not None:
            return True
        return self._waits_for_marker(entry)

    def to_go_before(self, removal: Entry) -> Iterator[Entry]:
        """Yield what lies below a directory and is carried out before it is removed.

        Not even a store of markers may have it otherwise: one that keeps directories
        behind the scenes (SeaweedFS) lets it stay if its marker goes before what is
        below it. That is not `is_blocked` if it goes as well: all may go in one batch.
        """
        if not (removal.is_removal and removal.is_directory):
            return
        for key in self._below.get(removal.key, ()):
            first = self._by_key[key][0]
            # What comes there anew waits for the removal itself, and so may what is
            # copied from below it first.
            if first.id < removal.id or (
                first.is_removal and removal not in self._all_before(first)
            ):
                yield first

    def leaves_something_below(self, entry: Entry) -> bool:
        """Tell whether a directory that goes alone would go before what is below it."""
        return next(self.to_go_before(entry), None) is not None

    def may_be_tried(self, entry: Entry) -> bool:
        """Tell whether an entry waits for no other that comes before it."""
        return not self.is_blocked(entry) and not self.leaves_something_below(entry)

    def would_turn_in_a_circle(self, entry: Entry, target: str) -> bool:
        """Tell whether an entry could wait for itself if it went to another key.

        There it would wait for whoever needs what is stored under that key, and for
        what lies above and below; those may wait for others in turn, and at last for
        the bytes that the entry itself needs to be copied first.
        """
        needs = entry.needs
        if isinstance(entry.change, Describe):
            needs |= {entry.key}
        if not needs:
            return False
        kind = ObjectKind.DIRECTORY if target.endswith("/") else ObjectKind.FILE
        moved = Entry(sys.maxsize, target, Make(kind, Metadata()), None, None)
        # What has the entry's key goes to the other one as well.
        return any(
            each.key in needs for each in self._all_before(moved, without=entry.key)
        )

    def _all_before(self, entry: Entry, *, without: str = "") -> Iterator[Entry]:
        """Yield what an entry waits for, and what that waits for, and so on.

        Of the key `without` nothing is yielded, nor what only that waits for.
        """
        waiting, seen = [entry], {entry.id}
        while waiting:
            for each in self._before(waiting.pop()):
                if each.key == without:
                    continue
                for older in (each, *self._older_at(each)):
                    if older.id not in seen:
                        seen.add(older.id)
                        waiting.append(older)
                        yield older

    def _older_at(self, entry: Entry) -> list[Entry]:
        entries = self._by_key[entry.key]
        return entries[: entries.index(entry)]

    def _before(self, entry: Entry) -> Iterator[Entry]:
        """Yield what must be carried out before an entry, under other keys."""
        key = entry.key
        if not isinstance(entry.change, Describe):
            yield from self.needing(key)
        other = key[:-1] if entry.is_directory else key + "/"
        yield from self._older(other, entry)
        yield from self._older_below(entry)
        for step in ancestors_of(key):
            yield from self._older_ancestors(step, entry)

    def _older(self, key: str, entry: Entry) -> Iterator[Entry]:
        return (each for each in self._by_key.get(key, ()) if each.id < entry.id)

    def _older_below(self, entry: Entry) -> Iterator[Entry]:
        """Yield what lies below and must go before, or come before, an entry."""
        if entry.is_directory and not entry.is_removal:
            return
        prefix = entry.key if entry.is_directory else entry.key + "/"
        may_go_together = self._is_flat and entry.is_directory
        for key in self._below.get(prefix, ()):
            for each in self._older(key, entry):
                if not (may_go_together and each.is_removal and each.flight is None):
                    yield each

    def _older_ancestors(self, ancestor: str, entry: Entry) -> Iterator[Entry]:
        # A marker may come after what is below it, and must go after what goes below
        # it; but nothing comes below a file, or a directory that is to go first.
        directory = [
            each
            for each in self._older(ancestor, entry)
            if (not entry.is_removal if each.is_removal else not self._is_flat)
        ]
        for each in (*directory, *self._older(ancestor[:-1], entry)):
            if not isinstance(each.change, Describe):
                yield each

    def _waits_for_marker(self, entry: Entry) -> bool:
        """Tell whether a directory above comes first, which is ready to go.

        SeaweedFS makes directories by itself, and then takes a new marker for one that
        is there already: to find out what it is costs three more requests. What has
        failed, or must wait, is not waited for, so nothing can wait for itself.
        """
        if not self._markers_first or not isinstance(entry.change, StoreBytes | Make):
            return False
        for step in ancestors_of(entry.key):
            marker = next(iter(self._by_key.get(step, ())), None)
            if marker is None or not isinstance(marker.change, Make) or marker.error:
                continue
            if next(self._before(marker), None) is None:
                return True
        return False


def ancestors_of(key: str) -> list[str]:
    """Return the keys of the directories above a key, the nearest first."""
    found: list[str] = []
    end = len(key) - 1 if key.endswith("/") else len(key)
    while (end := key.rfind("/", 0, end)) >= 0:
        found.append(key[: end + 1])
    return found


def was_never_stored(entry: Entry) -> bool:
    """Tell whether the store has nothing of a name, and never had."""
    return entry.stored is ABSENT and not entry.is_unsure


def is_only_in_upload(dirty: DirtyFile) -> bool:
    """Tell whether bytes lie in an open upload and nowhere else."""
    return dirty.stream is not None and bool(dirty.stream.punched)


def content_condition(shown: Object | None) -> Condition:
    """Return what the store has once the entry that shows so is carried out."""
    return ABSENT if shown is None else shown.version


def with_key(object: Object, key: str) -> Object:
    """Return the same object under another key."""
    return dataclasses.replace(object, key=key)


def _discard(index: dict[str, set[T]], key: str, value: T) -> None:
    values = index.get(key)
    if values is not None:
        values.discard(value)
        if not values:
            del index[key]
