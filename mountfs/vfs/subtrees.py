"""Small trees whose directories were listed, all listed anew by one request.

`git status`, `git fsck`, `diff -r`, `make` go through many small directories, and come
again. When what is known of them is older than the time to live, each directory costs a
question whether it is there and another what is in it, one after the other. A tree that
fits in one page of a listing without delimiter has a cheaper answer: the page tells all
names in all of its directories, of which many were about to be asked for.

As with `mountfs.vfs.neighbours` a listing is believed for what it vouches for: names
that are not in it, objects that are just what they were when all was known of them, and
directories, which a key below them (or their marker) proves. A listing with delimiter
does not prove those: SeaweedFS goes on showing directories whose last key is gone. What
the attribute index keeps of directories is asked for with them.

Only directories that were listed or made here are renewed, and only if several of one
tree are asked for. The largest tree that fits is chosen.
"""

import dataclasses
import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import trio

from mountfs.cache.entries import ancestors_of
from mountfs.cache.knowledge import split_key
from mountfs.cache.listings import ListingInProgress
from mountfs.cache.records import Record
from mountfs.storage.errors import StoreError
from mountfs.storage.foreign_names import named_key
from mountfs.storage.parallel import run_all
from mountfs.storage.types import NO_METADATA, ListMode, Object, ObjectKind
from mountfs.vfs.volume import Volume

log = logging.getLogger(__name__)

NAMES_MAX = 900
"""So many names may a tree have, as far as is known: a page has 1000 keys."""
UNLISTED_NAMES = 8
"""How many names a directory counts for that was never listed."""
ASKED_MIN = 2
ASKED_WITHIN_S = 2.0
"""In so many directories of a tree names must have been asked for, within this time."""
ASKED_MAX = 256
UNFIT_S = 60.0
"""For how long a tree that does not fit in a page is not tried again."""
NOTED_MAX = 1000

Names = dict[str, Object]


class Subtrees:
    """Renews what is known of all directories of a tree at once."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._asked: OrderedDict[str, float] = OrderedDict()
        self._running: dict[str, trio.Event] = {}
        self._renewed_until_s: dict[str, float] = {}
        self._unfit_until_s: dict[str, float] = {}

    async def renew(self, prefix: str) -> bool:
        """List a directory with others around it; tell if it was listed."""
        metadata, able = self._volume.metadata, self._volume.store.capabilities
        if not metadata.ttl_s or able.native_dirs:
            return False
        self._note(prefix)
        if metadata.count_listed(prefix) is None:
            return False
        top = self._top_around(prefix)
        if top is None:
            return False
        if (running := self._running.get(top)) is not None:
            await running.wait()
            return metadata.is_renewed(prefix)
        done = self._running[top] = trio.Event()
        try:
            is_listed = await self._list(top)
        finally:
            del self._running[top]
            done.set()
        if is_listed:
            self._note_until(self._renewed_until_s, top, metadata.ttl_s)
        else:
            self._note_until(self._unfit_until_s, top, UNFIT_S)
        return is_listed and metadata.is_renewed(prefix)

    def _note(self, prefix: str) -> None:
        self._asked[prefix] = self._volume.metadata.now_s()
        self._asked.move_to_end(prefix)
        while len(self._asked) > ASKED_MAX:
            self._asked.popitem(last=False)

    def _top_around(self, prefix: str) -> str | None:
        """Return the largest tree around a directory that is worth a listing."""
        now_s = self._volume.metadata.now_s()
        lately = [
            each for each, at_s in self._asked.items() if now_s - at_s < ASKED_WITHIN_S
        ]
        # Not the root: what is ours lies below it, too.
        for top in reversed([prefix, *ancestors_of(prefix)]):
            if self._renewed_until_s.get(top, 0.0) > now_s:
                return None  # it was listed with all below it, and left this open
            if not top or self._unfit_until_s.get(top, 0.0) > now_s:
                continue
            if sum(each.startswith(top) for each in lately) < ASKED_MIN:
                continue
            if self._volume.metadata.fits_below(top, NAMES_MAX, UNLISTED_NAMES):
                return top
        return None

    def _note_until(self, until_s: dict[str, float], top: str, time_s: float) -> None:
        if len(until_s) >= NOTED_MAX:
            until_s.clear()
        until_s[top] = self._volume.metadata.now_s() + time_s

    async def _list(self, top: str) -> bool:
        metadata = self._volume.metadata
        begun = {
            each: metadata.begin_listing(each) for each in metadata.listed_below(top)
        }
        try:
            page = await self._volume.store.list(top, mode=ListMode.PREFIX)
            if page.token is not None:
                return False
            found = _by_directory(top, page.objects)
            await self._describe(found, begun)
            self._take_in(found, begun)
        except StoreError as error:
            # The names themselves are asked for then, and tell what is wrong.
            log.debug("the tree %r cannot be listed: %s", top, error)
            return False
        finally:
            for each in begun.values():
                metadata.drop_listing(each)  # does nothing if it was taken in
        return True

    async def _describe(self, found: Mapping[str, Names], begun: Iterable[str]) -> None:
        """Learn what the index tells of the directories, if it keeps attributes."""
        index = self._volume.index
        if index is None or ObjectKind.DIRECTORY not in index.kinds:
            return

        async def describe(parent: str, names: Names) -> None:
            records = await index.records(parent)
            for name, object in names.items():
                if _is_bare_directory(object):
                    names[name] = self._described(object, records.get(name))

        deeds = [
            partial(describe, parent, found[parent])
            for parent in begun
            if any(map(_is_bare_directory, found.get(parent, {}).values()))
        ]
        await run_all(deeds, at_once=self._volume.requests_max)

    def _described(self, directory: Object, record: Record | None) -> Object:
        """Return a directory with what the index keeps of it, as a HEAD would."""
        able = self._volume.store.capabilities
        kept = None
        if record is not None and record.kind is ObjectKind.DIRECTORY:
            kept = record.attributes and able.kept(record.attributes)
        if kept is not None and able.xattrs and kept.xattrs is None:
            kept = dataclasses.replace(kept, xattrs={})
        metadata = NO_METADATA.with_attributes(kept)
        return dataclasses.replace(directory, metadata=metadata)

    def _take_in(
        self, found: Mapping[str, Names], begun: Mapping[str, ListingInProgress]
    ) -> None:
        for prefix, listing in begun.items():
            names = found.get(prefix)
            if names is None:
                continue  # it is gone: the listing of what it was in tells that
            if any(named_key(each.key) is not None for each in names.values()):
                continue  # a foreign tool may keep it under another name
            self._volume.metadata.put_listing(
                listing, map(self._completed, names.values()), is_sure=self._is_sure
            )

    def _completed(self, object: Object) -> Object:
        """Return a directory that has no marker with the metadata that it has not."""
        is_unmarked = _is_bare_directory(object) and object.version is None
        if not is_unmarked or not self._volume.store.capabilities.dir_metadata:
            return object
        return dataclasses.replace(object, metadata=NO_METADATA)

    def _is_sure(self, object: Object) -> bool:
        """Tell whether an object, with all that is known of it, needs no question."""
        if object.is_described:
            return True
        is_directory = object.kind is ObjectKind.DIRECTORY
        return is_directory and not self._volume.store.capabilities.dir_metadata


def _by_directory(top: str, objects: Iterable[Object]) -> dict[str, Names]:
    """Return what lies in each directory of a tree, by name."""
    found: dict[str, Names] = {top: {}}
    for object in objects:
        if object.key == top:
            continue
        parent, name = split_key(object.key)
        found.setdefault(parent, {})[name] = object
        if name.endswith("/"):
            found.setdefault(object.key, {})
        for directory in _steps(parent, top):
            above, name = split_key(directory)
            known = found.setdefault(above, {})
            if name in known:
                break
            known[name] = Object(key=directory, kind=ObjectKind.DIRECTORY)
    return found


def _steps(directory: str, top: str) -> Iterator[str]:
    """Yield a directory and those above it, up to the one below the top."""
    while directory != top:
        yield directory
        directory, _ = split_key(directory)


def _is_bare_directory(object: Object) -> bool:
    return object.kind is ObjectKind.DIRECTORY and object.metadata is None
