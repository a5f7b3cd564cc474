"""Who asks a mount to fetch files before programs want them: the side of the daemon.

One list of directories that are still to be read and one of pieces that are still to be
fetched; some workers take from both. Directories come first while the pieces that wait
are few, so that the size of the whole is soon known, and a tree of any size is never
held in memory as a whole.

Nothing is fetched that has no room beside what is fetched for the same request: to
evict it again at once would help nobody.
"""

import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from mountfs.cache.budget import Budget
from mountfs.configuration.values import format_size
from mountfs.status import Outcome, Progress
from mountfs.storage.errors import NotFound, StoreError, VersionChanged
from mountfs.storage.reason import Reason, because
from mountfs.storage.types import Object, ObjectKind
from mountfs.vfs.filesystem import FileSystem
from mountfs.vfs.inodes import Node

JOBS = 8
JOBS_MAX = 12
"""Programs that wait for a block find a slot all the same."""
PIECE_SIZE = 8 << 20
PIECES_MAX = 4096
"""With so many pieces to fetch nothing more is listed."""
NAMED_MAX = 20


@dataclass(slots=True, eq=False)
class _File:
    """A file that is fetched: how many pieces are missing, and what went wrong."""

    object: Object
    left: int
    error: StoreError | OSError | None = None


@dataclass(slots=True)
class Warming:
    """One request: what is to be done, and how far it is."""

    room: int
    progress: Progress = field(default_factory=Progress)
    directories: list[Node] = field(default_factory=list)
    pieces: deque[tuple[_File, int]] = field(default_factory=deque)
    at_work: int = 0
    listing: int = 0
    changed: trio.Event = field(default_factory=trio.Event)
    planned: int = 0
    without_room: int = 0
    without_room_size: int = 0
    errors: list[tuple[str, StoreError | OSError]] = field(default_factory=list)
    failed: int = 0

    def fail(self, path: str, error: StoreError | OSError) -> None:
        """Note what went wrong."""
        self.failed += 1
        if len(self.errors) < NAMED_MAX:
            self.errors.append((path, error))

    def wake(self) -> None:
        """Let workers look whether there is something to do."""
        self.progress.is_counted = not (self.directories or self.listing)
        self.changed.set()
        self.changed = trio.Event()


class Warmer:
    """Carries out `warm` on one file system."""

    def __init__(self, filesystem: FileSystem, budget: Budget) -> None:
        self._fs = filesystem
        self._budget = budget

    async def warm(
        self, paths: Sequence[str], *, jobs: int, progress: Progress
    ) -> Outcome:
        """Fetch files, and all below directories; tell meanwhile how far that is.

        All are tried. What has no room, and what went wrong, is told at the end.
        """
        warming = Warming(self._budget.clean_max, progress)
        with because(Reason.PREFETCH):
            try:
                for path in paths or ("",):
                    await self._begin(warming, path)
                async with trio.open_nursery() as nursery:
                    for _ in range(min(max(jobs or JOBS, 1), JOBS_MAX)):
                        nursery.start_soon(self._work, warming)
            finally:
                for node in warming.directories:
                    self._fs.volume.inodes.release(node)
        return self._outcome(warming)

    # --- what is to be done -------------------------------------------------------

    async def _begin(self, warming: Warming, path: str) -> None:
        try:
            node = await self._fs.hold(os.fsencode(path))
        except (StoreError, OSError) as error:
            warming.fail(path or "/", error)
            return
        if node.is_directory:
            warming.directories.append(node)
            return
        try:
            if node.object is not None and node.kind is ObjectKind.FILE:
                self._plan(warming, node.object, node)
        finally:
            self._fs.volume.inodes.release(node)

    async def _list(self, warming: Warming, directory: Node) -> None:
        """Take in the entries of a directory, which is held until then."""
        inodes = self._fs.volume.inodes
        opened = self._fs.directories.open(directory)
        inodes.release(directory)
        try:
            entries = await self._fs.directories.entries(opened, anew=True)
            for name, what in entries:
                if isinstance(what, Node):
                    continue  # its bytes are here and nowhere else
                if what.kind is ObjectKind.FILE:
                    self._plan(warming, what, directory.children.get(name))
                elif what.kind is ObjectKind.DIRECTORY:
                    node = self._fs.directories.node_of(directory, name, what)
                    if node is not None:
                        inodes.hold(node)
                        warming.directories.append(node)
        except (StoreError, OSError) as error:
            key = "" if directory.is_nameless else directory.key()
            warming.fail(key or "/", error)
        finally:
            self._fs.directories.release(opened.handle)

    def _plan(self, warming: Warming, object: Object, node: Node | None) -> None:
        if node is not None and node.holds_changes:
            return
        if node is not None and node.object is not None and _is_same(node, object):
            object = node.object  # under the name that its bytes are looked for by
        size = object.size or 0
        progress = warming.progress
        if warming.planned + size > warming.room:
            warming.without_room += 1
            warming.without_room_size += size
            return
        warming.planned += size
        progress.files_found += 1
        progress.bytes_found += size
        pieces = -(-size // PIECE_SIZE)
        if not pieces:
            progress.files += 1
        file = _File(object, pieces)
        warming.pieces.extend((file, i * PIECE_SIZE) for i in range(pieces))

    # --- doing it -----------------------------------------------------------------

    async def _work(self, warming: Warming) -> None:
        while True:
            changed = warming.changed
            deed = self._next(warming)
            if deed is None and not warming.at_work:
                warming.wake()
                return
            if deed is None:
                await changed.wait()
                continue
            warming.at_work += 1
            try:
                if isinstance(deed, Node):
                    warming.listing += 1
                    await self._list(warming, deed)
                    warming.listing -= 1
                else:
                    await self._fetch(warming, *deed)
            finally:
                warming.at_work -= 1
                warming.wake()

    def _next(self, warming: Warming) -> Node | tuple[_File, int] | None:
        if warming.directories and len(warming.pieces) < PIECES_MAX:
            return warming.directories.pop()
        if warming.pieces:
            return warming.pieces.popleft()
        return None

    async def _fetch(self, warming: Warming, file: _File, offset: int) -> None:
        progress = warming.progress
        size = min(PIECE_SIZE, (file.object.size or 0) - offset)
        try:
            if file.error is None:
                fetched = await self._fs.volume.blocks.warm(file.object, offset, size)
                progress.bytes += size
                progress.bytes_fetched += fetched
        except (StoreError, OSError) as error:
            file.error = error
            warming.fail(file.object.key, error)
        file.left -= 1
        if file.left == 0 and file.error is None:
            progress.files += 1

    # --- how it ended -------------------------------------------------------------

    def _outcome(self, warming: Warming) -> Outcome:
        lines = [f"{path}: {_reason(error)}" for path, error in warming.errors]
        if warming.failed > len(lines):
            lines.append(f"and {warming.failed - len(lines)} more")
        problems = []
        if warming.failed:
            problems.append(f"{_files(warming.failed)} could not be fetched")
        if warming.without_room:
            problems.append(self._lack(warming))
        return Outcome(
            error="; ".join(problems) or None,
            lines=tuple(lines),
            is_passing=warming.failed > 0
            and not warming.without_room
            and all(_is_passing(error) for _, error in warming.errors),
        )

    def _lack(self, warming: Warming) -> str:
        budget = self._budget
        cause = f"the cache holds {format_size(budget.size_max)}"
        mend = "mount with a larger --cache-size"
        if warming.room < budget.size_max - budget.dirty:
            cause = f"its disk has {format_size(warming.room)} for it beside --min-free"
            mend = "make room there"
        elif budget.dirty:
            cause += f", {format_size(budget.dirty)} of it for what is not stored yet"
        return (
            f"{_files(warming.without_room)} ({format_size(warming.without_room_size)})"
            f" found no room in the cache: {cause}; name less, or {mend}"
        )


def _is_passing(error: StoreError | OSError) -> bool:
    if isinstance(error, NotFound | VersionChanged):
        return True
    return isinstance(error, StoreError) and error.is_retryable


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _is_same(node: Node, object: Object) -> bool:
    known = node.object
    if known is None or known.version is None or object.version is None:
        return False
    return known.version.content == object.version.content and known.size == object.size


def _reason(error: StoreError | OSError) -> str:
    if isinstance(error, NotFound | VersionChanged):
        return "changed by somebody else meanwhile"
    if isinstance(error, StoreError):
        return error.reason
    return error.strerror or str(error)
