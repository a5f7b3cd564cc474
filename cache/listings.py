"""Listings that have begun, and what has happened since: what makes answers old.

A listing takes many requests, and a directory may be changed, moved or removed by us
meanwhile; an answer to one request may come late, too. So listings and removals are
counted, and a listing that runs is told of each name that changes in its directory.

What is done with an answer that is too old is up to `MetadataCache`
(mountfs.cache.metadata).
"""

from collections import deque
from dataclasses import dataclass, field

from mountfs.cache.knowledge import Known, split_key
from mountfs.storage.types import Object

FORGOTTEN_MAX = 100
"""So many directories that moved are remembered, for answers that come late."""


@dataclass(slots=True, eq=False)
class ListingInProgress:
    """A listing that has begun: what it told so far, and the names we changed since.

    `is_overtaken` if what it lists was moved, or removed, since.
    """

    prefix: str
    number: int = 0
    is_overtaken: bool = False
    changed: set[str] = field(default_factory=set)
    outdated: dict[str, bool] = field(default_factory=dict)
    """Names of which it may tell what was, and whether they were said to be there."""
    found: list[Object] = field(default_factory=list)
    names: dict[str, Known] = field(default_factory=dict)

    def has_changed(self, object: Object) -> bool:
        """Tell whether we have changed an object's name since."""
        return split_key(object.key)[1] in self.changed


class Listings:
    """The listings in progress, and the directories that were forgotten lately."""

    def __init__(self) -> None:
        self.number = 0
        """Counts what makes answers old: listings, and directories that moved."""
        self._running: dict[str, list[ListingInProgress]] = {}
        self._forgotten: deque[tuple[int, str]] = deque()
        """What was forgotten lately, and when."""
        self._forgotten_at = 0
        """Since when all of that is known."""

    def begin(self, prefix: str) -> ListingInProgress:
        """Note that a listing of a directory begins."""
        self.number += 1
        listing = ListingInProgress(prefix, self.number)
        self._running.setdefault(prefix, []).append(listing)
        return listing

    def end(self, begun: ListingInProgress) -> None:
        """Note that a listing has ended; once is enough, and more does no harm."""
        running = self._running.get(begun.prefix, [])
        if begun in running:
            running.remove(begun)
        if not running:
            self._running.pop(begun.prefix, None)

    def note_change(self, key: str) -> None:
        """Note that we have changed a name."""
        parent, name = split_key(key)
        for listing in self._running.get(parent, ()):
            listing.changed.add(name)
            listing.outdated.pop(name, None)

    def note_outdated(self, key: str, *, is_there: bool) -> None:
        """Note that something has happened to a name that nobody here can tell."""
        parent, name = split_key(key)
        for listing in self._running.get(parent, ()):
            listing.outdated[name] = is_there

    def note_forgotten(self, prefix: str) -> None:
        """Note that a directory, and all below it, was moved or removed."""
        self.number += 1
        self._forgotten.append((self.number, prefix))
        if len(self._forgotten) > FORGOTTEN_MAX:
            self._forgotten_at, _ = self._forgotten.popleft()
        for running, listings in self._running.items():
            if running.startswith(prefix):
                for listing in listings:
                    listing.is_overtaken = True

    def have_overtaken(self, key: str, number: int, listed_as: int) -> bool:
        """Tell whether a name may have gone since it was asked for.

        It was after `number`; `listed_as` is the last listing of its directory.
        """
        if number < max(listed_as, self._forgotten_at):
            return True
        return any(
            number < forgotten_at and key.startswith(prefix)
            for forgotten_at, prefix in reversed(self._forgotten)
        )
