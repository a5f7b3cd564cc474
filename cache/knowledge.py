"""What is known of names, by directory: its form, its age, and the room that it takes.

What a listing told of a name is one small string (`mountfs.cache.packed`), and has the
age of the listing; what was learnt of a name by itself has its own. A directory may be
complete: then what is not in it is not there. Memory is bounded by the number of
entries; the directories that were used least recently go first.

Nothing here has a clock, or knows what is fresh: `MetadataCache`
(mountfs.cache.metadata) does, and decides what takes the place of what.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from mountfs.cache.packed import unpack
from mountfs.cache.shared import shared
from mountfs.storage.types import ABSENT, Absent, Object

Knowledge = Object | Absent

EXPIRED_S = float("-inf")


@dataclass(frozen=True, slots=True)
class Aged:
    """What was learnt of one name by itself; None: there may be something, or not."""

    known: bytes | Absent | None
    at_s: float


UNSURE = Aged(None, EXPIRED_S)
"""There may be something, or not."""

Known = bytes | Aged
"""An object, packed, as old as its directory; or what has an age of its own."""

Place = tuple[bytes, bytes]
"""Where a name comes among others: as a key, or as SeaweedFS has it, `a/` as `a`."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Names that a page of a listing has told, from its first to its last."""

    first: Place
    last: Place | None
    """None: there is nothing behind it."""
    at_s: float

    def vouches_for(self, name: Place) -> bool:
        """Tell whether a name would have been in the page, in whichever order."""
        (first_key, first_name), (key, name_alone) = self.first, name
        if key < first_key or name_alone < first_name:
            return False
        if self.last is None:
            return True
        last_key, last_name = self.last
        return key <= last_key and name_alone <= last_name


@dataclass(slots=True, eq=False)
class Directory:
    """What is known of the names in one directory."""

    at_s: float = EXPIRED_S
    """When it was listed last."""
    is_complete: bool = False
    """Whether what is not here is not there."""
    is_whole: bool = True
    """Whether all that is to be known of the names was learnt, too."""
    names: dict[str, Known] = field(default_factory=dict)
    listed_as: int = 0
    """The number of the listing that told them."""
    stretches: tuple[Stretch, ...] = ()
    """The pages that were listed since, each by itself."""

    def may_have_more(self) -> None:
        """Note that there may be names which are not known."""
        self.is_complete, self.stretches = False, ()

    def age(self, known: Known) -> float:
        """Return since when something is known of a name in it."""
        return known.at_s if isinstance(known, Aged) else self.at_s

    def with_own_age(self, known: Known | None) -> Aged:
        """Return what is known of a name in it, when the rest is to grow newer."""
        if known is None or is_absent(known):
            return UNSURE
        return known if isinstance(known, Aged) else Aged(known, self.at_s)


class Directories:
    """The directories of which anything is known, least recently used first."""

    def __init__(self, entries_max: int) -> None:
        self._entries_max = entries_max
        self._count = 0
        self._kept: OrderedDict[str, Directory] = OrderedDict()
        self._below: dict[str, set[str]] = {}
        """The directories right below one in, or below, which anything is known."""
        self.get: Callable[[str], Directory | None] = self._kept.get
        """Returns what is known of a directory, which is not used for that."""

    @property
    def entries(self) -> int:
        """How many names are known."""
        return self._count

    def used(self, prefix: str) -> Directory | None:
        """Return what is known of a directory, which is used just now."""
        directory = self._kept.get(prefix)
        if directory is not None:
            self._kept.move_to_end(prefix)
        return directory

    def made(self, prefix: str) -> Directory:
        """Return what is known of a directory, or make room for what will be."""
        directory = self.used(prefix)
        if directory is None:
            directory = self._kept[prefix] = Directory()
            self._link(prefix)
        return directory

    def known(self, key: str) -> Known | None:
        """Return what is known of a key, in whose directory it is."""
        parent, name = split_key(key)
        directory = self.used(parent)
        return None if directory is None else directory.names.get(name)

    def put(self, key: str, known: Known) -> None:
        """Take in what is known of a key."""
        parent, name = split_key(key)
        directory = self.made(parent)
        if name not in directory.names:
            self._count += 1
            name = shared(name)
        directory.names[name] = known
        self.make_room()

    def set_names(self, directory: Directory, names: dict[str, Known]) -> None:
        """Let names be all that is known in a directory; `make_room` afterwards."""
        before = directory.names
        self._count += len(names) - len(before)
        if before:
            # With the texts of before, because nodes share them.
            directory.names = {name: names[name] for name in before if name in names}
            directory.names.update(names)
        else:
            directory.names = names

    def add_names(self, directory: Directory, names: Mapping[str, Known]) -> None:
        """Take in what is known of some names; `make_room` afterwards."""
        before = len(directory.names)
        directory.names.update(names)
        self._count += len(directory.names) - before

    def make_room(self) -> None:
        """Drop the directories that were used least recently; of the last one a part.

        Directories without entries count too: their emptiness is known.
        """
        while self._count > self._entries_max and len(self._kept) > 1:
            self._drop(next(iter(self._kept)))
        if self._count > self._entries_max:
            directory = next(iter(self._kept.values()))
            directory.may_have_more()
            for name in list(islice(directory.names, self._count - self._entries_max)):
                del directory.names[name]
            self._count = len(directory.names)
        while len(self._kept) > self._entries_max:
            self._drop(next(iter(self._kept)))

    def tree(self, top: str) -> Iterator[str]:
        """Yield a directory and all below it in, or below, which anything is known."""
        waiting = [top]
        while waiting:
            each = waiting.pop()
            yield each
            waiting.extend(self._below.get(each, ()))

    def drop_below(self, top: str) -> None:
        """Drop a directory and all below it."""
        waiting = [top]
        while waiting:
            each = waiting.pop()
            waiting.extend(self._below.get(each, ()))
            if each in self._kept:
                self._drop(each)

    def keep_at_most(self, entries_max: int) -> None:
        """Keep so many entries from now on, and drop at once what is too much."""
        self._entries_max = entries_max
        self.make_room()

    def _drop(self, prefix: str) -> None:
        self._count -= len(self._kept.pop(prefix).names)
        self._unlink(prefix)

    def _link(self, prefix: str) -> None:
        """Let a directory be found from those above it."""
        while prefix:
            parent, _ = split_key(prefix)
            siblings = self._below.setdefault(parent, set())
            if prefix in siblings:
                return
            siblings.add(prefix)
            prefix = parent

    def _unlink(self, prefix: str) -> None:
        while prefix and prefix not in self._kept and prefix not in self._below:
            parent, _ = split_key(prefix)
            siblings = self._below[parent]
            siblings.discard(prefix)
            if not siblings:
                del self._below[parent]
            prefix = parent


def knowledge_of(key: str, known: Known) -> Knowledge | None:
    """Return what is known of a key, unpacked."""
    packed = known.known if isinstance(known, Aged) else known
    return unpack(key, packed) if isinstance(packed, bytes) else packed


def packed_in(known: Known | None) -> bytes | None:
    """Return the object that is known, packed as it is; None if there is none."""
    if isinstance(known, Aged):
        return known.known if isinstance(known.known, bytes) else None
    return known


def is_absent(known: Known | None) -> bool:
    """Tell whether a name is not there, or not known in a directory that is."""
    return known is None or (isinstance(known, Aged) and known.known is ABSENT)


def children_of(prefix: str, directory: Directory) -> tuple[Object, ...] | None:
    """Return the objects in a directory, unless one is unsure."""
    names = directory.names
    found = [knowledge_of(prefix + name, names[name]) for name in sorted(names)]
    if any(known is None for known in found):
        return None
    return tuple(known for known in found if isinstance(known, Object))


def in_order(objects: Iterable[Object]) -> tuple[Object, ...]:
    """Return objects by their keys."""
    return tuple(sorted(objects, key=lambda object: object.key))


def split_key(key: str) -> tuple[str, str]:
    """Split a key into its directory's key and its last component.

    The component of a directory keeps its slash: `a/b/` is `a/` and `b/`.
    """
    end = len(key) - 1 if key.endswith("/") else len(key)
    cut = key.rfind("/", 0, end) + 1
    return key[:cut], key[cut:]


def place_of(name: str) -> Place:
    """Return where a name comes among others."""
    key = name.encode("utf-8", "surrogateescape")
    return key, key.removesuffix(b"/")
