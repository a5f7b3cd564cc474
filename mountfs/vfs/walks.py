"""Walks: programs that go through a directory or a tree, seen early and run ahead of.

`cp -r`, `grep -r`, `diff -r`, `tar c`, `find` and `ls -R` ask for one thing after the
other, and each costs a round trip to the store. Who has opened two files of a directory
is likely to open the next ones, in the order of their names; who has listed a directory
and one of those in it is likely to list the others. So these are asked for at once,
more of them while programs really come for them, and none if most was in vain.

What is fetched lies where it would lie if a program had asked: bytes in the block
cache, listings in the metadata cache. Nobody waits for anything here, and what fails is
asked for again when it is wanted. The answers also tell that what is known is still
true, so that a walk that is longer than the time to live does not ask for each name.
"""

import bisect
import itertools
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import trio

from mountfs.cache.ahead import AheadCounts
from mountfs.storage.reason import Reason, because
from mountfs.storage.types import Object, ObjectKind, Version
from mountfs.vfs.inodes import Node
from mountfs.vfs.lister import Lister
from mountfs.vfs.pages import component_of
from mountfs.vfs.pushes import Pushes
from mountfs.vfs.rounds import Direction, Round
from mountfs.vfs.volume import Volume

log = logging.getLogger(__name__)

PLACES_MAX = 128
"""So many directories are remembered, the newest."""
KEYS_MAX = 50_000
"""With so many entries in all of them, or with those of one that has more."""
QUIET_S = 10.0
"""A directory in which nothing happened for so long is not walked any more."""
FILES_FIRST, FILES_MAX = 16, 128
"""How many files wait ahead of a program, at first and at most."""
BYTES_FIRST, BYTES_MAX = 4 << 20, 64 << 20
FILE_SIZE_MAX = 8 << 20
"""Of a larger file the first bytes are fetched; reading it fetches the rest ahead."""
DIRECTORIES_FIRST, DIRECTORIES_MAX = 4, 32
WHOLE_MIN = 8
"""Who has opened so many files may want those on both sides of them."""
LOOKS_MAX, DIRECTORY_LOOKS_MAX = 512, 1024
"""So many entries are looked at, at a time."""
FOUND_MIN = 4
FOUND_GAP_S = 0.25
"""So many names, each asked for that soon after another, are worth a listing."""
RENEW_AT = 0.3
"""What is known is renewed when less than this part of its time to live is left."""


@dataclass(slots=True, eq=False)
class _Place:
    """A directory in which something happened lately."""

    key: str
    at_s: float
    keys: Sequence[str] = ()
    """Of its entries, in order; a directory's ends in a slash."""
    opened: int = 0
    """Files that programs opened to read."""
    found: int = 0
    """Names that programs knew and that were not known here, one after the other."""
    found_at_s: float = 0.0
    direction: Direction = field(default_factory=Direction)
    round: Round | None = None
    """How far the entries were looked through for files to fetch."""
    files_max: int = FILES_FIRST
    bytes_max: int = BYTES_FIRST
    directories_max: int = DIRECTORIES_FIRST
    files: dict[str, int] = field(default_factory=dict)
    """Files that were fetched, or are being, and not opened since; their bytes."""
    directories: set[str] = field(default_factory=set)
    """Directories that were listed, or are being, and not asked for since."""
    hopeless: set[tuple[str, Version | None]] = field(default_factory=set)
    """Versions of files, and directories, that could not be had ahead of programs."""
    all_here_until_s: float = 0.0
    """Until when nothing is looked for that is to be fetched: there was nothing. Or
    until it is listed: that may tell of something new.
    """
    is_listing: bool = False
    reads_below: bool = False
    """Whether programs read the files of the directories in it."""
    descends_below: bool = False
    """Whether programs go further down from the directories in it."""


class Walks:
    """Sees what programs do in the directories of a volume, and runs ahead of them."""

    def __init__(
        self,
        volume: Volume,
        lister: Lister,
        pushes: Pushes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._volume = volume
        self._lister = lister
        self._pushes = pushes
        self._clock = clock
        self._ledger = volume.blocks.ledger
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._nursery: trio.Nursery | None = None

    @property
    def counts(self) -> AheadCounts:
        """What was fetched ahead, and what became of it."""
        return self._ledger.counts

    async def run(self) -> None:
        """Run ahead of programs until cancelled."""
        with because(Reason.PREFETCH):
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    await trio.sleep_forever()
                finally:
                    self._nursery = None

    # --- what programs do -------------------------------------------------------

    def note_opened(self, node: Node) -> None:
        """Note that a program opens a file to read it."""
        if self._nursery is None or node.parent is None or node.is_nameless:
            return
        place = self._place(node.parent.key())
        key = node.key()
        place.opened += 1
        place.direction.note(key)
        was_ahead = (size := place.files.pop(key, None)) is not None
        if node.object is not None and size is not None:
            # The kernel may have the bytes by now, and then nobody asks us for them.
            self._volume.blocks.note_used(node.object, size)
        if place.opened < 2 and not was_ahead:
            return
        above = node.parent.parent
        if above is not None and (known := self._places.get(above.key())) is not None:
            known.reads_below = True
        if len(place.files) <= place.files_max // 2:
            if was_ahead:
                place.files_max = min(place.files_max * 2, FILES_MAX)
                place.bytes_max = min(place.bytes_max * 2, BYTES_MAX)
            self._fetch_files(place, after=key)

    def note_changed(self, node: Node) -> None:
        """Note that a program opens a file to change it: it waits for nobody now."""
        if self._nursery is None or node.parent is None or node.is_nameless:
            return
        place = self._places.get(node.parent.key())
        if place is not None:
            place.files.pop(node.key(), None)

    def note_listed(self, directory: Node) -> None:
        """Note that a program lists a directory."""
        if self._nursery is None or directory.is_nameless:
            return
        key = directory.key()
        place = self._place(key)
        place.opened, place.all_here_until_s = 0, 0.0
        if directory.parent is None:
            return
        above = self._places.get(directory.parent.key())
        if above is None:
            return
        if key in above.directories:
            above.directories.discard(key)
            self.counts.listings_used += 1
            above.directories_max = min(above.directories_max * 2, DIRECTORIES_MAX)
        top = directory.parent.parent
        if top is not None and (known := self._places.get(top.key())) is not None:
            known.descends_below = True
        self._list_directories(above, after=key)
        if above.descends_below:
            self._list_directories(place, after="")
        if above.reads_below:
            self._fetch_files(place, after="")

    def note_found(self, directory: Node) -> None:
        """Note that a program knew a name that was not known here."""
        if self._nursery is None or directory.is_nameless:
            return
        place = self._place(directory.key())
        is_soon = place.at_s - place.found_at_s < FOUND_GAP_S
        place.found = place.found + 1 if is_soon else 1
        place.found_at_s = place.at_s
        if place.found == FOUND_MIN:
            self._start_listing(place)

    # --- files ------------------------------------------------------------------

    def _fetch_files(self, place: _Place, *, after: str) -> None:
        """Fetch the next files of a directory, as many as are to wait."""
        if self._ledger.is_wasteful:
            return
        if not self._has_entries(place):
            self._start_listing(place)
            return
        self._renew(place, after)
        if (round := self._round(place, after)) is None:
            return
        size, bytes_max = sum(place.files.values()), self._bytes_max(place)
        for _ in range(LOOKS_MAX):
            if round.is_over:
                self._end_round(place, round)
                return
            if len(place.files) >= place.files_max or size >= bytes_max:
                return
            known = self._missing(place, place.keys[round.next()])
            if known is None:
                continue
            assert known.size is not None, "it would not be missing"
            wanted = min(known.size, FILE_SIZE_MAX)
            size += wanted
            round.is_in_vain = False
            place.files[known.key] = wanted
            self._start(partial(self._fetch, place, known, wanted))

    def _round(self, place: _Place, after: str) -> Round | None:
        """Return the round of who reads a directory, or None if it is just over."""
        is_backwards = place.direction.is_backwards
        if (round := place.round) is not None and round.is_backwards == is_backwards:
            if round.is_ahead_of(bisect.bisect_left(place.keys, after)):
                return round
        elif round is None and place.at_s < place.all_here_until_s:
            return None  # to look through a directory at each of its files takes long
        start = _next_position(place, after)
        place.round = Round(
            start,
            len(place.keys),
            is_backwards=is_backwards,
            is_whole=place.opened >= WHOLE_MIN,
        )
        return place.round

    def _end_round(self, place: _Place, round: Round) -> None:
        place.round = None
        if round.is_in_vain and round.tells_of_all:
            ttl_s = min(self._volume.metadata.ttl_s, QUIET_S)
            place.all_here_until_s = place.at_s + ttl_s

    def _missing(self, place: _Place, key: str) -> Object | None:
        """Return what is known of a file if it is to be fetched."""
        if key.endswith("/") or key in place.files:
            return None
        known = self._volume.metadata.last_known(key)
        if not isinstance(known, Object) or known.kind is not ObjectKind.FILE:
            return None
        if not known.size or (known.key, known.version) in place.hopeless:
            return None
        if self._volume.blocks.is_cached(known, 0, min(known.size, FILE_SIZE_MAX)):
            return None
        return known

    async def _fetch(self, place: _Place, object: Object, size: int) -> None:
        metadata = self._volume.metadata
        asked_at = metadata.moment(object.key)
        content = await self._volume.blocks.fetch_ahead(object, size)
        if content is None:
            place.files.pop(object.key, None)
            place.hopeless.add((object.key, object.version))
            return
        self.counts.files += 1
        # The store has just said which version is the newest.
        metadata.put_answer(object.key, content.object, asked_at)
        node = self._node(place, object)
        if node is not None:
            self._pushes.offer(node, object, content.data)

    def _node(self, place: _Place, object: Object) -> Node | None:
        """Return the node of a file, if the kernel knows it."""
        directory = self._volume.known_directory(place.key.rstrip("/"))
        if directory is None:
            return None
        name = self._volume.names.name(component_of(object))
        return directory.children.get(name)

    def _bytes_max(self, place: _Place) -> int:
        return min(place.bytes_max, self._volume.blocks.size_max // 8)

    # --- directories ------------------------------------------------------------

    def _list_directories(self, place: _Place, *, after: str) -> None:
        """List the next directories of a directory, as many as are to wait."""
        if not self._has_entries(place):
            return
        for key in self._next_directories(place, after):
            if len(place.directories) >= place.directories_max:
                return
            if key in place.directories or (key, None) in place.hopeless:
                continue
            if self._is_listed(key):
                continue
            place.directories.add(key)
            self._start(partial(self._list, place, key))

    async def _list(self, above: _Place, key: str) -> None:
        self.counts.listings += 1
        if await self._lister.list_ahead(key) is None:
            above.directories.discard(key)
            above.hopeless.add((key, None))
            return
        if above.reads_below:
            self._fetch_files(self._place(key), after="")
        if above.descends_below:
            self._list_directories(self._place(key), after="")

    def _start_listing(self, place: _Place) -> None:
        """List a directory itself: many of its names are asked for."""
        if not place.is_listing:
            place.is_listing = True
            self._start(partial(self._list_place, place))

    async def _list_place(self, place: _Place) -> None:
        self.counts.listings += 1
        listed = await self._lister.list_ahead(place.key)
        # If it is too large, or failed, it is not tried again while it is remembered.
        place.is_listing = listed is None
        self._take_entries(place, listed or ())

    def _renew(self, place: _Place, after: str) -> None:
        """Ask anew before what is known of the next files is too old."""
        metadata = self._volume.metadata
        if not metadata.ttl_s:
            return  # no answer is believed for longer than it takes
        first, count = _next_position(place, after), len(place.keys)
        step = -FILES_FIRST if place.direction.is_backwards else FILES_FIRST
        for position in (first, first + step):
            if not 0 <= position < count:
                continue
            key = place.keys[position]
            if key.endswith("/") or key in place.files:
                continue
            if not metadata.is_good_for(key, RENEW_AT * metadata.ttl_s):
                self._start_listing(place)

    # --- inside -----------------------------------------------------------------

    def _start(self, deed: Callable[[], Awaitable[None]]) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(self._do, deed)

    async def _do(self, deed: Callable[[], Awaitable[None]]) -> None:
        try:
            await deed()
        except Exception:  # whatever it is, it must not cost the mount
            log.exception("a bug in mountfs: nothing was fetched ahead")

    def _place(self, key: str) -> _Place:
        """Return what is remembered of a directory, now the newest of all."""
        now_s = self._clock()
        place = self._places.get(key)
        if place is None or now_s - place.at_s > QUIET_S:
            place = self._places[key] = _Place(key, now_s)
            while len(self._places) > PLACES_MAX:
                self._places.popitem(last=False)
        place.at_s = now_s
        self._places.move_to_end(key)
        return place

    def _has_entries(self, place: _Place) -> bool:
        if not place.keys:
            self._take_entries(place, self._volume.metadata.listing(place.key) or ())
        return bool(place.keys)

    def _take_entries(self, place: _Place, entries: Sequence[Object]) -> None:
        place.keys = sorted(object.key for object in entries)
        count = sum(len(each.keys) for each in self._places.values())
        for each in self._places.values():
            if count <= KEYS_MAX:
                break
            if each is not place:
                count -= len(each.keys)
                each.keys, each.round = (), None
        place.round, place.all_here_until_s = None, 0.0

    def _next_directories(self, place: _Place, after: str) -> Iterator[str]:
        """Yield the directories that come after one, and then those before it."""
        start, end = bisect.bisect_right(place.keys, after), len(place.keys)
        indexes = itertools.chain(range(start, end), range(start))
        for index in itertools.islice(indexes, DIRECTORY_LOOKS_MAX):
            if place.keys[index].endswith("/"):
                yield place.keys[index]

    def _is_listed(self, key: str) -> bool:
        return self._volume.metadata.is_listed(key)


def _next_position(place: _Place, after: str) -> int:
    """Return where the entry stands that a program will want after one."""
    if place.direction.is_backwards:
        return bisect.bisect_left(place.keys, after) - 1
    return bisect.bisect_right(place.keys, after)
