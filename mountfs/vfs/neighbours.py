"""Names of a directory in which a program makes or removes one after the other.

`tar x`, `cp -r`, `git add` make file after file, `rm -r` removes them: each name is
asked for first, and most of them are new, or known and older than the time to live. To
a question for each name there is a cheaper answer: one page of a listing tells of a
thousand names at once, of those that are not there too.

Only what a listing can vouch for is believed: names that are not in it, and objects
that are just what they were when all was known of them, or when all names of their
directory were learnt. The others are asked for one by one, as before: a listing tells
no attributes, SeaweedFS goes on listing directories whose last key is gone, and foreign
tools keep links under other names.

A page of a large directory is listed if several names of it were asked for, one after
the other; of a few pages all are, as soon as names of several were asked for: then a
program goes through them in an order that is not ours. It is remembered at which name
each began, and by which token it can be had again. Nothing is listed only to find out
where pages begin; each tells where the next one does. A page vouches for the names from
its first to its last, in the order of the keys and in that of the names without the
slash of a directory, by which SeaweedFS goes. What came between two pages is asked for.

The same holds for small directories that were listed, or made, a while ago: one LIST
tells what else a HEAD and a LIST would be asked for, and of the other names besides.
Other directories that programs only look at are not listed: what other clients put
there would be seen later than if each name were asked for. But who looks at many names
of one, in the order of the store, waits for each of them: for that program pages are
listed as it comes to them.
"""

import bisect
import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial

import trio

from mountfs.cache.knowledge import Place, place_of, split_key
from mountfs.cache.listings import ListingInProgress
from mountfs.cache.metadata import MetadataCache
from mountfs.storage.errors import StoreError
from mountfs.storage.foreign_names import named_key
from mountfs.storage.parallel import run_all
from mountfs.storage.types import Object, ObjectKind, Page
from mountfs.vfs.volume import Volume

log = logging.getLogger(__name__)

UNFIT_S = 60.0
"""For how long a directory that cannot be listed so is not tried again."""
SMALL_COUNT = 100
"""To list a directory of so many names costs hardly more than to ask for one."""
ONE_PAGE = 1000
"""So many names may be in one page of a listing."""
ASKED_MIN = 3
ASKED_WITHIN_S = 2.0
"""So many names of one of many pages, asked for within this time, are worth it."""
ALL_MAX = 32
"""Of so many pages all are listed anew, if names of some of them were asked for."""
ALL_PART = 4
"""Namely of one in so many, or of `ASKED_MIN`."""
AT_ONCE = 8
"""So many pages of a directory are listed at the same time."""
SWEEP_MIN = 16
"""So many names in the order of the keys, each asked for, are a program's way through
all of them. A LIST is priced like twelve HEADs."""
PAGES_MAX = 1000
DIRECTORIES_MAX = 64
"""So many pages of so many directories are remembered."""


@dataclass(slots=True, eq=False)
class _Stretch:
    """A page of a directory, and what was asked for since it was listed."""

    token: str | None
    until_s: float = 0.0
    """How long what it told is believed."""
    asked: int = 0
    asked_at_s: float = 0.0
    listed: trio.Event | None = None
    """There while it is being listed, and set then."""

    def note(self, now_s: float) -> None:
        """Note that a name in it is asked for."""
        self.asked = self.asked + 1 if self.is_wanted(now_s) else 1
        self.asked_at_s = now_s

    def is_wanted(self, now_s: float) -> bool:
        """Tell whether a name in it was asked for lately, and nobody lists it."""
        is_late = now_s - self.asked_at_s > ASKED_WITHIN_S
        return self.asked > 0 and not is_late and self.listed is None

    def is_old(self, now_s: float) -> bool:
        """Tell whether what it told is not believed any more, and nobody lists it."""
        return self.until_s <= now_s and self.listed is None


@dataclass(slots=True, eq=False)
class _Sweep:
    """A program that looks at one name after the other, in the order of the keys."""

    last: Place | None = None
    at_s: float = 0.0
    length: int = 0

    def note(self, place: Place, now_s: float, within_s: float) -> None:
        """Note that a name had to be asked for."""
        is_next = self.last is not None and self.last < place
        is_next = is_next and now_s - self.at_s <= within_s
        self.length = self.length + 1 if is_next else 1
        self.last, self.at_s = place, now_s

    @property
    def is_one(self) -> bool:
        """Whether it is worth a listing."""
        return self.length >= SWEEP_MIN


@dataclass(slots=True, eq=False)
class _Pages:
    """Where the pages of a directory begin: behind which key, and with which token."""

    behind: list[Place] = field(default_factory=lambda: [place_of("")])
    stretches: list[_Stretch] = field(default_factory=lambda: [_Stretch(None)])
    unfit_until_s: float = 0.0
    last: _Stretch | None = None
    in_a_row: int = 0
    """The page that was asked for last, and how often in a row."""
    sweep: _Sweep = field(default_factory=_Sweep)

    def around(self, key: str) -> _Stretch:
        """Return the page that a key is in, as far as is known."""
        return self.stretches[bisect.bisect_left(self.behind, place_of(key), lo=1) - 1]

    def note(self, stretch: _Stretch, now_s: float) -> None:
        """Note that a name of a page is asked for."""
        stretch.note(now_s)
        self.in_a_row = self.in_a_row + 1 if stretch is self.last else 1
        self.last = stretch

    def worked_in(self, count: int | None) -> _Stretch | None:
        """Return the page that a program works in, if it is one.

        `count` is how many names the directory had when it was listed, if it was.
        """
        if len(self.stretches) > 1:
            return self.last if self.in_a_row >= ASKED_MIN else None
        return None if count is None or count > ONE_PAGE else self.stretches[0]

    def worth_listing(self, stretch: _Stretch, now_s: float) -> list[_Stretch]:
        """Return the pages to list when a name of one was asked for, that one first."""
        if len(self.stretches) == 1:
            return [stretch]
        if len(self.stretches) > ALL_MAX:
            # In another order than ours few names of a page are asked for in its time.
            return [stretch] if self.in_a_row >= ASKED_MIN else []
        wanted = [each for each in self.stretches if each.is_wanted(now_s)]
        if len(wanted) >= max(ASKED_MIN, len(self.stretches) // ALL_PART):
            # The program goes by another order than ours: all will be asked for.
            wanted = [each for each in self.stretches if each.is_old(now_s)]
        elif stretch.asked < ASKED_MIN:
            return []
        return [stretch, *(each for each in wanted if each is not stretch)]

    def take(self, stretch: _Stretch, page: Page) -> None:
        """Note where the page behind this one begins, or that there is none."""
        if stretch not in self.stretches:
            return  # what was listed at the same time ended before it
        if page.token is None:
            end = self.stretches.index(stretch) + 1
            del self.behind[end:], self.stretches[end:]
        elif not page.objects:
            stretch.token = page.token  # there is nothing in it
        else:
            start = self.stretches.index(stretch) + 1
            behind = place_of(page.objects[-1].key)
            if behind > self.behind[start - 1]:  # or it begins elsewhere by now
                self._begin_next(start, behind, page.token)

    def _begin_next(self, start: int, behind: Place, token: str) -> None:
        """Let the page at `start` begin behind a key.

        Where names were removed a page reaches further than the last time. What it has
        gone past is no page of its own any more: there would be more and more of them,
        each as long as any.
        """
        end = bisect.bisect_right(self.behind, behind, lo=start)
        if end > start:
            del self.behind[start : end - 1], self.stretches[start : end - 1]
            self.behind[start], self.stretches[start].token = behind, token
        elif len(self.behind) < PAGES_MAX:
            self.behind.insert(start, behind)
            self.stretches.insert(start, _Stretch(token))


class Neighbours:
    """Renews what is known of many names of a directory at once."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._directories: OrderedDict[str, _Pages] = OrderedDict()

    async def renew(self, key: str) -> bool:
        """List what is around a key, if that is worth it; tell if it was listed."""
        prefix, _ = split_key(key)
        is_busy = self._is_worth_it(prefix)
        if not self._metadata.ttl_s or not (is_busy or self._was_listed(prefix)):
            return False
        pages, now_s = self._pages(prefix), self._metadata.now_s()
        stretch = pages.around(key)
        if self._volume.courses.leads(prefix, now_s):
            return False  # names are asked for ahead, one by one: that is cheaper there
        if now_s < max(pages.unfit_until_s, stretch.until_s):
            return False  # it was just listed, and left this open
        if stretch.listed is not None:
            await stretch.listed.wait()
            return True
        if not is_busy:
            return await self._renew_for_sweep(key, pages, stretch)
        pages.note(stretch, now_s)
        wanted = pages.worth_listing(stretch, now_s)
        return bool(wanted) and await self._list_all(prefix, pages, wanted)

    async def _renew_for_sweep(
        self, key: str, pages: _Pages, stretch: _Stretch
    ) -> bool:
        """List a page for who goes through a directory; tell if that was done."""
        sweep, metadata = pages.sweep, self._metadata
        within_s = ASKED_WITHIN_S + metadata.ttl_s
        sweep.note(place_of(key), metadata.now_s(), within_s)
        if not sweep.is_one:
            return False
        done = await self._list_all(split_key(key)[0], pages, [stretch])
        if pages.around(key) is not stretch:
            sweep.length = 0  # it is further on: the way to its page is not hurried
        return done

    async def renew_ahead(self, prefix: str, time_s: float) -> None:
        """List again what programs ask for, unless it is good for so long.

        That is a directory of one page that was listed or made here, or the page of
        which names were asked for last, if several were.
        """
        pages, now_s = self._pages(prefix), self._metadata.now_s()
        stretch = pages.worked_in(self._metadata.count_listed(prefix))
        if stretch is None or stretch.listed is not None:
            return
        if self._volume.courses.leads(prefix, now_s):
            return
        if stretch.until_s > now_s + time_s or self._metadata.is_renewed(
            prefix, time_s
        ):
            return
        if now_s >= pages.unfit_until_s:
            await self._list_all(prefix, pages, [stretch])

    @property
    def _metadata(self) -> MetadataCache:
        return self._volume.metadata

    def _is_worth_it(self, prefix: str) -> bool:
        if prefix in self._volume.busy:
            return True
        count = self._metadata.count_listed(prefix)
        return count is not None and count <= SMALL_COUNT

    def _was_listed(self, prefix: str) -> bool:
        return self._metadata.count_listed(prefix) is not None

    def _pages(self, prefix: str) -> _Pages:
        pages = self._directories.setdefault(prefix, _Pages())
        self._directories.move_to_end(prefix)
        if len(self._directories) > DIRECTORIES_MAX:
            self._directories.popitem(last=False)
        return pages

    async def _list_all(
        self, prefix: str, pages: _Pages, wanted: list[_Stretch]
    ) -> bool:
        """List some pages; tell if the first of them was."""
        done = trio.Event()
        for each in wanted:
            each.listed = done
        try:
            deeds = [partial(self._list, prefix, pages, each) for each in wanted]
            return (await run_all(deeds, at_once=AT_ONCE))[0]
        finally:
            for each in wanted:
                each.listed = None
            done.set()

    async def _list(self, prefix: str, pages: _Pages, stretch: _Stretch) -> bool:
        begun = self._metadata.begin_listing(prefix)
        try:
            page = await self._volume.store.list(prefix, token=stretch.token)
        except StoreError as error:
            # The names themselves are asked for then, and tell what is wrong.
            log.debug("a page of %r cannot be listed: %s", prefix, error)
            self._metadata.drop_listing(begun)
            pages.unfit_until_s = self._metadata.now_s() + UNFIT_S
            return False
        except BaseException:
            self._metadata.drop_listing(begun)
            raise
        if not self._is_fit(stretch, page):
            self._metadata.drop_listing(begun)
            pages.unfit_until_s = self._metadata.now_s() + UNFIT_S
            return False
        self._take_in(begun, stretch, page)
        stretch.asked = 0
        stretch.until_s = self._metadata.now_s() + self._metadata.ttl_s
        pages.take(stretch, page)
        return True

    def _is_fit(self, stretch: _Stretch, page: Page) -> bool:
        """Tell whether a page tells all names in its range, each by its own key."""
        if any(named_key(object.key) is not None for object in page.objects):
            return False
        is_all = stretch.token is None and page.token is None
        return is_all or self._volume.store.capabilities.ordered_pages

    def _take_in(self, begun: ListingInProgress, stretch: _Stretch, page: Page) -> None:
        is_first, is_last = stretch.token is None, page.token is None
        if is_first and is_last:
            self._metadata.put_listing(begun, page.objects, is_sure=self._is_sure)
        elif not page.objects:
            self._metadata.drop_listing(begun)  # it vouches for nothing
        else:
            self._metadata.put_stretch(
                begun,
                page.objects,
                first="" if is_first else page.objects[0].key,
                last=None if is_last else page.objects[-1].key,
                is_sure=self._is_sure,
            )

    def _is_sure(self, object: Object) -> bool:
        """Tell whether a listed object, with all that is known, needs no question."""
        if object.kind is ObjectKind.DIRECTORY:
            return False
        return object.is_described or self._metadata.was_known_as(object)
