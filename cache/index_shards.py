"""The shards of attribute indexes: read, remembered for a while, replaced.

A shard is replaced only while it is what was read, where the store honours conditions;
elsewhere it is read just before, and what another mount writes between the two is lost.
A shard of a newer format is not touched and counts as empty, one that is damaged counts
as empty and is replaced by the next change.

Memory is bounded by the number of entries; the least recently used shards go first.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import trio
from cachetools import LRUCache

from mountfs.cache.index_format import (
    PREFIX,
    SHARDS_MAX,
    Damaged,
    Shard,
    UnknownFormat,
    decode,
    directory_of,
    directory_prefix,
    encode,
    halves,
    missing,
    owner,
    shard_key,
)
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import (
    BucketNotFound,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
)
from mountfs.storage.parallel import run_all
from mountfs.storage.protocol import Storager
from mountfs.storage.types import (
    ABSENT,
    NO_METADATA,
    Absent,
    Call,
    Condition,
    ListMode,
    Metadata,
    Version,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

BYTES_MAX = 64 << 20
"""What is longer is no shard."""
ASKED_FIRST_SIZE = 16 << 10
"""A shard that is longer is read again only if it has changed. Bytes."""
INLINE_ENTRIES = 200
"""More entries are packed and unpacked in a thread."""
READS_AT_ONCE = 16
DIVISION_TRIES_MAX = 5
WARNINGS_MAX = 1000
DIRECTORIES_MAX = 100_000
_TYPE = "application/gzip"


@dataclass(slots=True, eq=False)
class Loaded:
    """A shard as the store had it at some moment; it may be replaced if it still is.

    `shard` is None if there is nothing to believe.
    """

    number: int
    shard: Shard | None
    version: Version | Absent | None
    size: int
    at_s: float
    is_foreign: bool = False
    """Whether it is not ours to replace."""

    @property
    def weight(self) -> int:
        """How much of the memory it takes, in entries."""
        return 1 + (len(self.shard.entries) if self.shard is not None else 0)


class Shards:
    """The shards of all indexes of one store."""

    def __init__(
        self,
        store: Storager,
        *,
        ttl_s: float,
        entries_max: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._ttl_s = ttl_s
        self._entries_max = entries_max
        self._clock = clock
        self._known: OrderedDict[tuple[str, int], Loaded] = OrderedDict()
        self._weight = 0
        self._loading: dict[tuple[str, int], trio.Event] = {}
        self._warned: set[str] = set()
        self._directories: LRUCache[str, str] = LRUCache(DIRECTORIES_MAX)

    @property
    def is_conditional(self) -> bool:
        """Whether the store sees to it that no change of another mount is lost."""
        return Call.WRITE in self._store.capabilities.conditions

    def believe_for(self, ttl_s: float) -> None:
        """Believe what is known for another time."""
        self._ttl_s = ttl_s

    # --- reading ------------------------------------------------------------------

    async def all(self, directory: str) -> dict[int, Shard]:
        """Return the shards of an index, as they were at most a time to live ago."""
        loaded: dict[int, Loaded] = {}
        while wanted := missing(_shards(loaded), loaded):
            loads = [partial(self._load, directory, number) for number in wanted]
            found = await run_all(loads, at_once=READS_AT_ONCE)
            loaded |= {each.number: each for each in found}
        return _shards(loaded)

    async def owning(
        self,
        directory: str,
        names: Iterable[str],
        *,
        anew: bool = False,
        may_be_old: bool = False,
    ) -> dict[int, Loaded]:
        """Return the shards that these names belong to, and those on the way.

        What `may_be_old` is replaced only if it is still what the store has.
        """
        load = partial(self._load, directory, anew=anew, may_be_old=may_be_old)
        loaded = {0: await load(number=0)}
        while True:
            known = _shards(loaded)
            wanted = {owner(name, known) for name in names} - loaded.keys()
            if not wanted:
                return loaded
            for number in wanted:
                loaded[number] = await load(number=number)

    async def _load(
        self,
        directory: str,
        number: int,
        *,
        anew: bool = False,
        may_be_old: bool = False,
    ) -> Loaded:
        """Return a shard; whoever wants it while it is read waits for that."""
        at = (directory, number)
        while True:
            known = self._known.get(at)
            is_good = known is not None and (may_be_old or self.is_fresh(known))
            if known is not None and is_good and not anew:
                self._known.move_to_end(at)
                return known
            under_way = self._loading.get(at)
            if under_way is None:
                break
            await under_way.wait()
        done = self._loading[at] = trio.Event()
        try:
            loaded = await self._read(directory, number, known)
        finally:
            del self._loading[at]
            done.set()
        if self._known.get(at) is not known:
            return self._known.get(at, loaded)  # replaced meanwhile, by ourselves
        self._remember(directory, loaded)
        return loaded

    def is_fresh(self, known: Loaded) -> bool:
        """Tell whether a shard is as the store had it a time to live ago, or later."""
        return self._clock() - known.at_s < self._ttl_s

    async def _read(self, directory: str, number: int, known: Loaded | None) -> Loaded:
        key, now_s = shard_key(directory, number), self._clock()
        try:
            if known is not None and known.size > ASKED_FIRST_SIZE:
                found = await self._store.stat(key)
                if _content(found.version) == _content(known.version):
                    known.at_s = now_s
                    return known
            content = await self._store.read(key, 0, BYTES_MAX)
        except BucketNotFound:
            raise
        except NotFound:
            return Loaded(number, None, ABSENT, 0, now_s)
        except PermissionDenied as error:
            self._warn(key, f"cannot be read: {error.reason}")
            return Loaded(number, None, None, 0, now_s, is_foreign=True)
        size = content.object.size or 0
        loaded = Loaded(number, None, content.object.version, size, now_s)
        try:
            loaded.shard = await apart(
                size > ASKED_FIRST_SIZE,
                lambda: decode(directory, number, content.data),
            )
        except UnknownFormat as error:
            loaded.is_foreign = True
            self._warn(key, f"is left alone: {error}")
        except Damaged as error:
            self._warn(key, f"is ignored: {error}")
        return loaded

    async def directories(self, below: str) -> list[str]:
        """Return the directories below a key that have an index, or once had one.

        Costs a listing, and a request for each index that was not seen before.
        """
        keys: list[str] = []
        token: str | None = None
        while True:
            try:
                page = await self._store.list(PREFIX, mode=ListMode.PREFIX, token=token)
            except BucketNotFound:
                raise
            except NotFound:  # a store with directories, and this one is not there
                break
            keys.extend(each.key for each in page.objects if each.key.endswith("/0"))
            if page.token is None:
                break
            token = page.token
        asked = [partial(self._directory_of, key) for key in keys]
        found = await run_all(asked, at_once=READS_AT_ONCE)
        return sorted(each for each in found if each and each.startswith(below))

    async def _directory_of(self, key: str) -> str | None:
        if key not in self._directories:
            try:
                content = await self._store.read(key, 0, BYTES_MAX)
            except BucketNotFound:
                raise
            except NotFound:
                return None
            directory = directory_of(content.data)
            if directory is None or shard_key(directory, 0) != key:
                return None
            self._directories[key] = directory
        return self._directories[key]

    def note_new(self, directory: str) -> None:
        """Note that a directory was just made, and hardly has an index.

        Whoever asks asks the store. Who writes need not: it takes nobody's place.
        """
        if (directory, 0) not in self._known:
            self._remember(directory, Loaded(0, None, ABSENT, 0, float("-inf")))

    # --- writing --------------------------------------------------------------------

    async def replace(self, directory: str, loaded: Loaded, shard: Shard) -> None:
        """Put a shard in the place of one that was read.

        Raises `PreconditionFailed` if it is not there any more, and `UnknownFormat`
        if it is not ours to replace. After any error it is read anew.
        """
        if loaded.is_foreign:
            raise UnknownFormat(shard_key(directory, shard.number))
        data = await apart(
            len(shard.entries) > INLINE_ENTRIES, lambda: encode(directory, shard)
        )
        self._forget(directory, shard.number)
        written = await self._store.write(
            shard_key(directory, shard.number),
            BytesBody(data),
            metadata=self._metadata(),
            condition=self._condition(loaded),
        )
        self._remember(
            directory,
            Loaded(shard.number, shard, written.version, len(data), self._clock()),
        )

    async def divide(self, directory: str) -> None:
        """Double the number of shards.

        The new half of a shard counts when the shard says so; shard 0, which says it
        of all, comes last. A crash in between leaves an index that is right, and a
        half that does not count. Raises `PreconditionFailed` if others change the
        index all the time.
        """
        first = await self._load(directory, 0, anew=True)
        count = first.shard.count if first.shard is not None else 1
        if 2 * count > SHARDS_MAX:
            return
        for number in reversed(range(count)):
            await self._divide(directory, number, count)

    async def _divide(self, directory: str, number: int, count: int) -> None:
        for attempt in range(1, DIVISION_TRIES_MAX + 1):
            # In this order: what others write to the new half, once it counts, is
            # then seen, or makes the write of it fail.
            upper = await self._load(directory, number + count, anew=True)
            lower = await self._load(directory, number, anew=True)
            entries = lower.shard.entries if lower.shard is not None else {}
            if lower.shard is not None and lower.shard.count > count:
                return
            stays, moved = halves(Shard(number, count, entries))
            try:
                await self.replace(directory, upper, moved)
                await self.replace(directory, lower, stays)
            except PreconditionFailed:
                if attempt == DIVISION_TRIES_MAX:
                    raise
            else:
                return

    async def remove(self, directory: str) -> None:
        """Delete the index of a directory that is gone, if it may have one."""
        first = self._known.get((directory, 0))
        if first is not None and first.version is ABSENT and self.is_fresh(first):
            return
        known = [number for key, number in self._known if key == directory]
        for number in known:
            self._forget(directory, number)
        await self._store.delete_many(
            [shard_key(directory, number) for number in sorted({0, *known})]
        )
        if self._store.capabilities.native_dirs:
            await self._store.delete(directory_prefix(directory))

    def _condition(self, loaded: Loaded) -> Condition:
        return loaded.version if self.is_conditional else None

    def _metadata(self) -> Metadata:
        if "content-type" not in self._store.capabilities.pairs:
            return NO_METADATA
        return Metadata(pairs={"content-type": _TYPE})

    # --- memory -----------------------------------------------------------------------

    def _remember(self, directory: str, loaded: Loaded) -> None:
        self._forget(directory, loaded.number)
        self._known[directory, loaded.number] = loaded
        self._weight += loaded.weight
        while self._weight > self._entries_max and len(self._known) > 1:
            _, old = self._known.popitem(last=False)
            self._weight -= old.weight

    def _forget(self, directory: str, number: int) -> None:
        old = self._known.pop((directory, number), None)
        if old is not None:
            self._weight -= old.weight

    def _warn(self, key: str, what: str) -> None:
        """Say once of each shard what is wrong with it."""
        if key not in self._warned and len(self._warned) < WARNINGS_MAX:
            self._warned.add(key)
            log.warning("the attribute index %s %s", key, what)


def _shards(loaded: dict[int, Loaded]) -> dict[int, Shard]:
    return {n: each.shard for n, each in loaded.items() if each.shard is not None}


def _content(version: Version | Absent | None) -> str | None:
    return version.content if isinstance(version, Version) else None


async def apart(is_large: bool, work: Callable[[], T]) -> T:
    """Do some work: at once, or in a thread if it takes long."""
    return await trio.to_thread.run_sync(work) if is_large else work()
