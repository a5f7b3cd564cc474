"""What is known of keys, how old that knowledge is, and which directories are complete.

The meeting place of the file system and the uploads: whoever learns something newer of
a key puts it here, whoever needs it asks here first. Knowledge is fresh for `ttl_s`
seconds after the store gave it, or for as long as the store cannot be asked, if the
user wants that; older knowledge is kept, as a hint what to ask for and to carry
metadata over to a listing that shows the same version.

Everything runs on the trio thread and nothing awaits, so each method is atomic. A
listing takes many requests, though, and we may change its directory meanwhile: names
changed between `begin_listing` and `put_listing` keep what the change put here.

How it lies in memory, and what goes first, is read in `mountfs.cache.knowledge`.

What is learnt of an object is also told to whoever keeps it for later (`Notes`), and
what a change of ours has made of it to whoever tells other mounts (`Changes`).
"""

import dataclasses
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain, islice
from typing import Protocol

from mountfs.cache.knowledge import (
    EXPIRED_S,
    UNSURE,
    Aged,
    Directories,
    Directory,
    Knowledge,
    Known,
    Stretch,
    children_of,
    in_order,
    is_absent,
    knowledge_of,
    packed_in,
    place_of,
    split_key,
)
from mountfs.cache.listings import ListingInProgress, Listings
from mountfs.cache.packed import pack, unpack
from mountfs.cache.shared import shared
from mountfs.storage.foreign_names import other_key
from mountfs.storage.types import ABSENT, Absent, Object, Version, is_same_state

LOOKS_MAX = 64
"""So many names at each end of a directory tell whether there is any."""


def _never() -> bool:
    return False


def _always(_: Object) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class _Moment:
    """What was known of a name when it was asked for, after which number, and when."""

    known: Known | None
    number: int
    at_s: float


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
        self._directories = Directories(entries_max)
        self._listings = Listings()

    def __len__(self) -> int:
        return self._directories.entries

    # --- asking -----------------------------------------------------------------

    def now_s(self) -> float:
        """Return the time that the age of knowledge is counted by."""
        return self._clock()

    def lookup(self, key: str) -> Knowledge | None:
        """Return the object or its absence, if either is known freshly."""
        parent, name = split_key(key)
        directory = self._directories.used(parent)
        if directory is None:
            return None
        known = directory.names.get(name)
        if known is not None and self._is_fresh(directory.age(known)):
            return knowledge_of(key, known)
        is_listed = directory.is_complete and self._is_fresh(directory.at_s)
        if (is_listed or self._is_stretched(directory, name)) and is_absent(known):
            return ABSENT
        return None

    def fresh(self, key: str) -> bytes | None:
        """Return the object of a key, packed, if it is known freshly."""
        directory = self._directories.used(split_key(key)[0])
        if directory is None or (known := self._directories.known(key)) is None:
            return None
        return packed_in(known) if self._is_fresh(directory.age(known)) else None

    def moment(self, key: str) -> object:
        """Return a token of what is known of a key now, for `put_answer`, `confirm`."""
        known = self._directories.known(key)
        return _Moment(known, self._listings.number, self._clock())

    def put_answer(self, key: str, answer: Knowledge, asked_at: object) -> Knowledge:
        """Take in an answer to a question that was asked at `asked_at`.

        Something newer may have been learnt while it was on its way, above all by a
        change of our own: then that is kept, and returned. What we removed may even be
        forgotten by now, with its directory or by a newer listing: then the answer is
        returned, and not remembered.
        """
        assert isinstance(asked_at, _Moment)
        known = self._directories.known(key)
        is_expired = isinstance(known, Aged) and known.at_s == EXPIRED_S
        now = None if known is None or is_expired else knowledge_of(key, known)
        if now is not None and known is not asked_at.known:
            return now
        if known is None:
            directory = self._directories.get(split_key(key)[0])
            listed_as = 0 if directory is None else directory.listed_as
            if self._listings.have_overtaken(key, asked_at.number, listed_as):
                return answer
        if isinstance(answer, Object):
            return self._take(answer)
        self._take_absent(key)
        return answer

    def confirm(self, object: Object, asked_at: object) -> None:
        """Note that an object was still what is known of it when that was asked.

        The answer to a request for bytes says so, and takes long: it is as old as the
        question. If it tells anything new, that is asked for when it is needed.
        """
        assert isinstance(asked_at, _Moment)
        known = self._directories.known(object.key)
        packed = packed_in(known)
        if packed is None or known is not asked_at.known or object.version is None:
            return
        if unpack(object.key, packed).version == object.version:
            self._directories.put(object.key, Aged(packed, asked_at.at_s))

    def last_known(self, key: str) -> Knowledge | None:
        """Return what was last known of a key, whatever its age."""
        known = self._directories.known(key)
        return None if known is None else knowledge_of(key, known)

    def newest(self, key: str) -> bytes | Absent | None:
        """Return what was last known of a key, whatever its age: an object packed.

        A listing that does not show a key tells its absence as well as an answer does.
        """
        parent, name = split_key(key)
        directory = self._directories.get(parent)
        if directory is None:
            return None
        known = directory.names.get(name)
        if known is None:
            return ABSENT if directory.is_complete else None
        return known.known if isinstance(known, Aged) else known

    def packed(self, key: str) -> bytes | None:
        """Return the object that was last known under a key, packed."""
        return packed_in(self._directories.known(key))

    def listing(self, prefix: str) -> tuple[Object, ...] | None:
        """Return all children of a directory, if they are known freshly."""
        directory = self._directories.used(prefix)
        if directory is None or not directory.is_complete or not directory.is_whole:
            return None
        is_fresh = self._is_fresh(directory.at_s)
        return children_of(prefix, directory) if is_fresh else None

    def has_child_beside(self, key: str) -> bool:
        """Tell whether something is known freshly beside a key, in its directory.

        Some names at both ends are looked at: those that were removed stay for a while,
        as not there. The key under which a foreign tool keeps the same goes with it.
        """
        parent, name = split_key(key)
        same = name, split_key(other_key(key))[1]
        directory = self._directories.used(parent)
        if directory is None:
            return False
        names = directory.names
        ends = chain(islice(names, LOOKS_MAX), islice(reversed(names), LOOKS_MAX))
        return any(
            each not in same
            and packed_in(names[each]) is not None
            and self._is_fresh(directory.age(names[each]))
            for each in ends
        )

    def count_listed(self, prefix: str) -> int | None:
        """Return how many names a directory had when it was last listed, if it was."""
        directory = self._directories.get(prefix)
        is_listed = directory is not None and directory.is_complete
        return len(directory.names) if directory is not None and is_listed else None

    def is_listed(self, prefix: str) -> bool:
        """Tell whether all children of a directory are known freshly."""
        directory = self._directories.get(prefix)
        if directory is None or not directory.is_complete or not directory.is_whole:
            return False
        return self._is_fresh(directory.at_s)

    def is_renewed(self, prefix: str, time_s: float = 0.0) -> bool:
        """Tell whether a directory's names are known, if not all of what they mean.

        And whether they still will be after `time_s` seconds.
        """
        directory = self._directories.get(prefix)
        if directory is None or not directory.is_complete:
            return False
        return self._is_fresh(directory.at_s - time_s)

    def listed_below(self, top: str) -> list[str]:
        """Return the directories at and below one that were listed, whenever."""
        below = self._directories.tree(top)
        return [each for each in below if self.count_listed(each) is not None]

    def fits_below(self, top: str, names_max: int, unlisted: int) -> bool:
        """Tell whether a tree has at most so many names, as far as is known.

        A directory that was never listed counts for `unlisted` names.
        """
        left = names_max
        for each in self._directories.tree(top):
            count = self.count_listed(each)
            left -= unlisted if count is None else count
            if left < 0:
                return False
        return True

    def was_known_as(self, object: Object) -> bool:
        """Tell whether the object was known before, just as a listing shows it now."""
        known = self.packed(object.key)
        if known is None or known == pack(object):
            return known is not None
        return is_same_state(unpack(object.key, known), object)

    def is_good_for(self, key: str, time_s: float) -> bool:
        """Tell whether the object of a key is known, and will be for so long."""
        parent, name = split_key(key)
        directory = self._directories.get(parent)
        known = None if directory is None else directory.names.get(name)
        if directory is None or known is None or knowledge_of(key, known) is None:
            return False
        return self._clock() + time_s - directory.age(known) < self.ttl_s

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
        now = self.last_known(shown.key)
        version = now.version if isinstance(now, Object) else None
        if version is not None and version.content == shown.version.content:
            assert isinstance(now, Object)
            settled = dataclasses.replace(
                now,
                # Of a directory nobody had said it; a listing does.
                size=object.size if now.size is None else now.size,
                version=Version(version.content, object.version.attributes),
                mtime_ns=object.mtime_ns or now.mtime_ns,
            )
            self._directories.put(settled.key, Aged(pack(settled), self._clock()))
            # A listing that began before shows what was promised, with its time.
            self._listings.note_change(settled.key)
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
        assert isinstance(asked_at, _Moment)
        known = self._directories.known(object.key)
        now = None if known is None else knowledge_of(object.key, known)
        if known is None or now is None:
            return object
        if known is not asked_at.known:
            return now
        packed = pack(object)
        if isinstance(known, Aged):
            self._directories.put(object.key, Aged(packed, known.at_s))
        else:
            self._directories.put(object.key, packed)
        return object

    def begin_listing(self, prefix: str) -> ListingInProgress:
        """Note that a listing of a directory begins; end it with `put_listing`."""
        return self._listings.begin(prefix)

    def add_page(self, begun: ListingInProgress, objects: Iterable[Object]) -> None:
        """Take in a part of a listing, for `put_listing`: all at once takes long."""
        directory = self._directories.get(begun.prefix)
        before = {} if directory is None else directory.names
        cut = len(begun.prefix)
        for object in objects:
            name, more, packed = shared(object.key[cut:]), object, pack(object)
            known = packed_in(before.get(name))
            if known == packed:
                packed = known  # once is enough in memory
            elif known is not None and not object.is_described:
                was = unpack(object.key, known)
                more = _carried_over(was, object)
                if more is not object:
                    packed = known if more is was else pack(more)
            begun.found.append(more)
            begun.names[name] = packed

    def listed(self, begun: ListingInProgress) -> list[Object]:
        """Return what a listing told so far, and what we have changed meanwhile."""
        if not begun.changed:
            return begun.found
        found = [each for each in begun.found if not begun.has_changed(each)]
        for name in begun.changed:
            known = self.last_known(begun.prefix + name)
            if isinstance(known, Object):
                found.append(known)
        return found

    def complete_listing(
        self, begun: ListingInProgress, completed: Iterable[Object]
    ) -> None:
        """Take in what else was learnt of the objects of a listing, before its end.

        Nobody is to see a listed object of which more is about to be known.
        """
        before = {each.key: each for each in begun.found}
        begun.found = list(completed)
        for each in begun.found:
            if before.get(each.key) is not each:
                begun.names[split_key(each.key)[1]] = pack(each)

    def put_listing(
        self,
        begun: ListingInProgress,
        objects: Iterable[Object] = (),
        *,
        is_sure: Callable[[Object], bool] = _always,
    ) -> tuple[Object, ...]:
        """Take in all children of a directory; return them as they are known now.

        What we changed while the listing ran wins over what the listing says. Of what
        `is_sure` says no to only the name is taken in: it is still to be asked for.
        Nothing is, if the directory has moved since the listing began.
        """
        self.add_page(begun, objects)
        self._listings.end(begun)
        if begun.is_overtaken:
            return in_order(begun.found)
        before = self._directories.get(begun.prefix) or Directory()
        names, found, is_whole = begun.names, self.listed(begun), True
        for name in begun.changed:
            known = before.names.get(name)
            # We knew of it, and have no room for that: it may be there, or not.
            names[name] = UNSURE if known is None else known
            is_whole = is_whole and known is not None
        if is_sure is not _always:
            for each in found:
                name = split_key(each.key)[1]
                if name not in begun.changed and not is_sure(each):
                    names[name] = before.with_own_age(before.names.get(name))
                    is_whole = False
        directory = self._directories.made(begun.prefix)
        self._directories.set_names(directory, names)
        directory.at_s = self._clock()
        directory.listed_as, directory.stretches = begun.number, ()
        directory.is_complete, directory.is_whole = True, is_whole
        self._expire_again(begun)
        self._directories.make_room()
        return in_order(found)

    def put_stretch(
        self,
        begun: ListingInProgress,
        objects: Iterable[Object],
        *,
        first: str,
        last: str | None,
        is_sure: Callable[[Object], bool],
    ) -> None:
        """Take in one page of a directory, which tells all keys from `first` to `last`.

        As with `put_listing` what we changed meanwhile wins, and what `is_sure` says no
        to is still to be asked for. Without a `last` nothing lies behind the page.
        """
        self.add_page(begun, objects)
        self._listings.end(begun)
        if begun.is_overtaken:
            return
        directory, now_s = self._directories.made(begun.prefix), self._clock()
        names: dict[str, Known] = {}
        for object in begun.found:
            name = object.key[len(begun.prefix) :]
            if name in begun.changed:
                continue
            if is_sure(object):
                names[name] = Aged(packed_in(begun.names[name]), now_s)
            else:
                names[name] = directory.with_own_age(directory.names.get(name))
        for name in begun.changed:
            if name not in directory.names:
                names[name] = UNSURE  # we knew of it, and have no room for that
        self._directories.add_names(directory, names)
        behind = None if last is None else place_of(split_key(last)[1])
        stretch = Stretch(place_of(split_key(first)[1]), behind, now_s)
        fresh = (each for each in directory.stretches if self._is_fresh(each.at_s))
        directory.stretches = (*fresh, stretch)
        self._expire_again(begun)
        self._directories.make_room()

    def drop_listing(self, begun: ListingInProgress) -> None:
        """End a listing, because it failed or is about to be taken in."""
        self._listings.end(begun)

    # --- forgetting -------------------------------------------------------------

    def expire(self, key: str, *, is_there: bool = False) -> None:
        """Make what is known of a key stale; it is asked for again when needed.

        If `is_there`, and it was before, all names of its directory are still known.
        A listing that has begun may tell what was before: that is as stale.
        """
        self._listings.note_outdated(key, is_there=is_there)
        parent, name = split_key(key)
        directory = self._directories.get(parent)
        if directory is None:
            return
        if is_there and not is_absent(directory.names.get(name)):
            directory.is_whole = False
        else:
            directory.may_have_more()
        if (known := directory.names.get(name)) is not None:
            packed = known.known if isinstance(known, Aged) else known
            directory.names[name] = Aged(packed, EXPIRED_S)

    def forget_below(self, prefix: str) -> None:
        """Forget a directory and everything below it; costs what is known there.

        What was asked about it before and is on its way tells of it no more.
        """
        self._listings.note_forgotten(prefix)
        parent, name = split_key(prefix)
        above = self._directories.get(parent)
        if name and above is not None and name in above.names:
            above.names[name] = UNSURE
        self._directories.drop_below(prefix)

    # --- settings ---------------------------------------------------------------

    def believe_for(self, ttl_s: float) -> None:
        """Believe answers for another time, those that are known too."""
        self.ttl_s = ttl_s

    def keep_at_most(self, entries_max: int) -> None:
        """Keep so many entries from now on, and drop at once what is too much."""
        self._directories.keep_at_most(entries_max)

    # --- inside -----------------------------------------------------------------

    def _expire_again(self, ended: ListingInProgress) -> None:
        """Make stale what a listing has told of names that grew old since it began."""
        for name, is_there in ended.outdated.items():
            self.expire(ended.prefix + name, is_there=is_there)

    def _is_fresh(self, at_s: float) -> bool:
        if self._clock() - at_s < self.ttl_s:
            return True
        return at_s != EXPIRED_S and self.believes_all()

    def _is_stretched(self, directory: Directory, name: str) -> bool:
        """Tell whether a page that was listed lately would have told of a name.

        Also if a foreign tool keeps it under another key, which may be in another page.
        """
        if not directory.stretches:
            return False
        place, other = place_of(name), place_of(other_key(name))
        return any(
            self._is_fresh(each.at_s)
            and each.vouches_for(place)
            and each.vouches_for(other)
            for each in directory.stretches
        )

    def _take(self, object: Object) -> Object:
        """Note the newest answer for a key; return it with what else is known."""
        merged = self._carry_over(object)
        self._directories.put(object.key, Aged(pack(merged), self._clock()))
        if self._learnt is not None:
            self._learnt.note(merged)
        self._listings.note_change(object.key)
        return merged

    def _take_absent(self, key: str) -> None:
        self._directories.put(key, Aged(ABSENT, self._clock()))
        self._listings.note_change(key)
        directory = self._directories.get(key) if key.endswith("/") else None
        if directory is not None:
            directory.may_have_more()

    def _carry_over(self, object: Object) -> Object:
        if object.is_described:
            return object
        known = self.last_known(object.key)
        return _carried_over(known, object) if isinstance(known, Object) else object


def _carried_over(known: Object, listed: Object) -> Object:
    """Return what a listing shows, with what else is known of the same state.

    That is what is known itself, if the listing tells nothing new: so it mostly is.
    """
    if known.metadata is None or not is_same_state(known, listed):
        return listed
    if known.mtime_ns == listed.mtime_ns and known.version == listed.version:
        return known
    return dataclasses.replace(
        listed,
        kind=known.kind,
        metadata=known.metadata,
        link_target=known.link_target,
        has_foreign_name=known.has_foreign_name,
    )
