"""Inode numbers that files keep, over remounts and renames, at little cost.

The number of a file is a hash of its *place*: the number of its directory, its name,
and whether it is a directory. So it is the same in every mount, and nothing
need be kept for it; and what lies below a renamed directory keeps its number, because
the directory does. A file with several names has the place of its group.

What is not so is an exception, and is remembered:

* a renamed file brings its number along to a place that stands for another one;
* a place whose number is taken gets the next one that it stands for. It is taken while
  another file has it, which may have been renamed or replaced there, and when a file of
  this mount had it that was removed. How often that was so is the generation.

Exceptions are noted for whoever keeps them for the next mount. They are bounded: the
oldest goes first, and then, as after a crash, a file merely has another number.

Pure: no I/O.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import NamedTuple, NewType, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")
Place = NewType("Place", int)

KEPT_MAX = 250_000
RETIRED_MAX = 100_000

_SIZE = 8
_MASK = (1 << 63) - 1
_RESERVED = 2
"""0 is no inode, 1 is the root."""


class Number(NamedTuple):
    """An inode number, and how many numbers of its place were taken before it."""

    inode: int
    generation: int


Note = Callable[[Place, Number | None], None]


def place_of(directory: int, name: bytes, *, is_directory: bool) -> Place:
    """Return the place of a name: it stands for the number that is its hash."""
    kind = b"/" if is_directory else b"."
    return Place(_hash(directory.to_bytes(_SIZE) + kind + name))


def place_of_group(id: str) -> Place:
    """Return the place of all names of a group of hard links."""
    return Place(_hash(b"group/" + id.encode("utf-8", "surrogateescape")))


def number_of(place: Place, generation: int) -> int:
    """Return a number that a place stands for."""
    if generation == 0:
        return place
    return _hash(place.to_bytes(_SIZE) + generation.to_bytes(_SIZE))


def kept_numbers(
    kept: Mapping[int, tuple[int, int]],
    note: Callable[[int, tuple[int, int] | None], None],
) -> "Numbers":
    """Return numbers whose exceptions somebody keeps, from mount to mount."""
    known = {Place(place): Number(*number) for place, number in kept.items()}
    return Numbers(known, note=note)


class Numbers:
    """Gives numbers to files. `kept` are the exceptions of earlier mounts."""

    def __init__(
        self,
        kept: Mapping[Place, Number] | None = None,
        *,
        note: Note = lambda place, number: None,
        kept_max: int = KEPT_MAX,
        retired_max: int = RETIRED_MAX,
    ) -> None:
        self._kept = dict(kept or {})
        self._note = note
        self._kept_max = kept_max
        self._retired_max = retired_max
        self._places = {number.inode: place for place, number in self._kept.items()}
        # Dictionaries keep their order: of both the first one is the oldest.
        self._retired: dict[int, None] = {}
        self._last: dict[Place, int] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def assign(self, place: Place, is_used: Callable[[int], bool]) -> Number:
        """Return the number of what is found or made at a place.

        `is_used` tells whether a file in memory has a number: then no other gets it.
        """
        kept = self._kept.get(place)
        if kept is not None and not is_used(kept.inode):
            return kept
        generation = self._last.get(place, 0)
        while self._is_taken(inode := number_of(place, generation), place, is_used):
            generation += 1
        number = Number(inode, generation)
        if kept is not None or generation:
            self.keep(place, number)
        if generation:
            _put_last(self._last, place, generation, self._retired_max)
        return number

    def keep(self, place: Place, number: Number) -> None:
        """Let a place have this number, whatever it stands for."""
        self._drop(place)
        if number == Number(place, 0):
            self._last.pop(place, None)  # its first number is in use once more
            return
        # Where it was before it is no more, or a file would have two places.
        before = self._places.get(number.inode)
        if before is not None:
            self._drop(before)
        self._kept[place] = number
        self._places[number.inode] = place
        self._note(place, number)
        if len(self._kept) > self._kept_max:
            self._drop(next(iter(self._kept)))

    def keep_if_new(self, place: Place, number: Number) -> None:
        """As `keep`, unless the place has a number of its own already."""
        if place not in self._kept:
            self.keep(place, number)

    def move(self, number: Number, old: Place, new: Place) -> None:
        """Let a file that is renamed have its number at its new place."""
        self._drop_if(old, number)
        self.keep(new, number)

    def retire(self, number: Number, place: Place) -> None:
        """Let nobody have the number of a file that was removed."""
        self._drop_if(place, number)
        _put_last(self._retired, number.inode, None, self._retired_max)

    def _is_taken(
        self, inode: int, place: Place, is_used: Callable[[int], bool]
    ) -> bool:
        if inode in self._retired or is_used(inode):
            return True
        return self._places.get(inode, place) != place

    def _drop_if(self, place: Place, number: Number) -> None:
        if self._kept.get(place) == number:
            self._drop(place)

    def _drop(self, place: Place) -> None:
        number = self._kept.pop(place, None)
        if number is not None:
            del self._places[number.inode]
            self._note(place, None)


def _put_last(known: dict[Key, Value], key: Key, value: Value, most: int) -> None:
    """Put an entry at the end, and drop the first one if there are too many."""
    known.pop(key, None)
    known[key] = value
    if len(known) > most:
        del known[next(iter(known))]


def _hash(text: bytes) -> int:
    digest = hashlib.blake2b(text, digest_size=_SIZE).digest()
    return max(int.from_bytes(digest) & _MASK, _RESERVED)
