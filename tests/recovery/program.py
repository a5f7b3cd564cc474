"""A program that works in a directory of a mount and enters what it was told.

Each deed is a handful of system calls whose last one acknowledges it. What a deed does
is decided by the seed and by what the program believes to be there.
"""

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.recovery.ledger import DIRECTORY, Effect, File, Ledger, World

MIB = 1 << 20
MODE = 0o644
SMALL_SIZES = (0, 1, 100, 5000, 150_000)
SIZES = (*SMALL_SIZES * 8, 9 * MIB)
"""Now and then one that takes more than one PUT."""

FILES = tuple(f"f{number}" for number in range(6))
DIRECTORIES = ("d0", "d1")
DEEDS = {
    "write": 30,
    "edit": 10,
    "append": 8,
    "cut": 5,
    "sync": 6,
    "rename": 14,
    "remove": 8,
    "chmod": 6,
    "make_directory": 4,
    "rename_directory": 3,
    "remove_directory": 2,
}


class Program:
    """Does one deed after the other in a directory of its own."""

    def __init__(
        self,
        directory: Path,
        ledger: Ledger,
        seed: int,
        sizes: tuple[int, ...] = SIZES,
        *,
        may_fail: bool = False,
    ) -> None:
        self.directory = directory
        self.ledger = ledger
        self._chooser = random.Random(seed)
        self._sizes = sizes
        self.may_fail = may_fail

    def step(self) -> str:
        """Do something at random; return what it was. OSError is passed on."""
        (name,) = self._chooser.choices(list(DEEDS), list(DEEDS.values()))
        getattr(self, name)()
        return name

    # --- deeds ----------------------------------------------------------------

    def write(self, name: str | None = None, size: int | None = None) -> None:
        """Make a file, or write it anew; close acknowledges it."""
        path = name or self._place()
        content = self._bytes(size)

        def act() -> None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            with opened(self.directory / path, flags) as descriptor:
                put(descriptor, content, 0)

        def empty(world: World) -> World | None:
            """The first close is to come: a new file may be there, or not."""
            return None if path in world else with_content(path, b"")(world)

        self.ledger.attempt(act, empty, with_content(path, content))

    def edit(self, name: str | None = None) -> None:
        """Write in the middle of a file, or across its end."""
        path = name or self._file()
        old = self._content(path)
        if path is None or old is None:
            return
        patch = self._bytes()
        offset = self._chooser.randrange(len(old) + 1)

        def act() -> None:
            with opened(self.directory / path, os.O_WRONLY) as descriptor:
                put(descriptor, patch, offset)

        self.ledger.attempt(act, patched(path, patch, offset))

    def append(self, name: str | None = None) -> None:
        """Write at the end through O_APPEND."""
        path = name or self._file()
        if path is None:
            return
        patch = self._bytes(self._chooser.choice(SMALL_SIZES[1:]))

        def act() -> None:
            with opened(self.directory / path, os.O_WRONLY | os.O_APPEND) as descriptor:
                assert os.write(descriptor, patch) == len(patch)

        self.ledger.attempt(act, patched(path, patch, None))

    def cut(self, name: str | None = None) -> None:
        """truncate(2), to less or to more."""
        path = name or self._file()
        old = self._content(path)
        if path is None or old is None:
            return
        size = self._chooser.randrange(len(old) + 1000)
        self.ledger.attempt(
            lambda: os.truncate(self.directory / path, size), resized(path, size)
        )

    def sync(self, name: str | None = None) -> None:
        """Write, fsync(2), which acknowledges that, write and fsync again."""
        path = name or self._place()
        first, second = self._bytes(), self._bytes(5000)
        with ExitStack() as stack:

            def act() -> None:
                where = opened(self.directory / path, os.O_WRONLY | os.O_CREAT)
                descriptors.append(stack.enter_context(where))
                put_and_sync(first)

            def created(world: World) -> World | None:
                return None if path in world else with_content(path, b"")(world)

            def put_and_sync(content: bytes) -> None:
                put(descriptors[0], content, 0)
                os.fsync(descriptors[0])

            descriptors: list[int] = []
            effect = or_new(path, patched(path, first, 0))
            self.ledger.attempt(act, created, effect)
            self.ledger.attempt(lambda: put_and_sync(second), patched(path, second, 0))

    def rename(self, name: str | None = None, target: str | None = None) -> None:
        """Rename a file, perhaps over another."""
        source = name or self._file()
        goal = target or self._place()
        if source is None or source == goal:
            return
        paths = (self.directory / source, self.directory / goal)
        effects = [moved(source, goal)]
        if self.may_fail:
            # An error after the copy: who is told of it finds the file at both names.
            effects.insert(0, copied(source, goal))
        self.ledger.attempt(lambda: os.rename(*paths), *effects)

    def remove(self, name: str | None = None) -> None:
        """unlink(2)."""
        path = name or self._file()
        if path is None:
            return
        self.ledger.attempt(lambda: os.unlink(self.directory / path), without(path))

    def chmod(self, name: str | None = None) -> None:
        """chmod(2)."""
        path = name or self._file()
        if path is None:
            return
        mode = self._chooser.choice((0o600, 0o640, 0o755, 0o644))
        self.ledger.attempt(
            lambda: os.chmod(self.directory / path, mode), with_mode(path, mode)
        )

    def make_directory(self, name: str | None = None) -> None:
        """mkdir(2), where there is none."""
        missing = [each for each in DIRECTORIES if each not in self._world()]
        path = name or (self._chooser.choice(missing) if missing else None)
        if path is None:
            return
        self.ledger.attempt(lambda: os.mkdir(self.directory / path), directory(path))

    def rename_directory(
        self, name: str | None = None, target: str | None = None
    ) -> None:
        """Rename a directory with all that is in it."""
        known = [each for each in DIRECTORIES if each in self._world()]
        missing = [each for each in DIRECTORIES if each not in self._world()]
        if name is None and not (known and missing):
            return
        source = name or self._chooser.choice(known)
        goal = target or self._chooser.choice(missing)
        paths = (self.directory / source, self.directory / goal)
        self.ledger.attempt(lambda: os.rename(*paths), tree_moved(source, goal))

    def remove_directory(self, name: str | None = None) -> None:
        """Remove what is in a directory, and then itself."""
        known = [each for each in DIRECTORIES if each in self._world()]
        if name is None and not known:
            return
        path = name or self._chooser.choice(known)
        for inside in [each for each in self._world() if each.startswith(f"{path}/")]:
            self.remove(inside)
        self.ledger.attempt(lambda: os.rmdir(self.directory / path), without(path))

    # --- choices --------------------------------------------------------------

    def _world(self) -> World:
        """Return what it takes for true."""
        return self.ledger.worlds[-1]

    def _content(self, path: str | None) -> bytes | None:
        file = self._world().get(path) if path is not None else None
        return file.content if file is not None else None

    def _file(self) -> str | None:
        """Return a file that is there."""
        known = sorted(p for p, file in self._world().items() if file is not DIRECTORY)
        return self._chooser.choice(known) if known else None

    def _place(self) -> str:
        """Return a name that a file has or may get."""
        parents = ["", "", *(each for each in DIRECTORIES if each in self._world())]
        return os.path.join(self._chooser.choice(parents), self._chooser.choice(FILES))

    def _bytes(self, size: int | None = None) -> bytes:
        count = size if size is not None else self._chooser.choice(self._sizes)
        return self._chooser.randbytes(count)


# --- system calls -----------------------------------------------------------------


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """Open a file and close it, also after an error; the error of close counts."""
    descriptor = os.open(path, flags, MODE)
    try:
        yield descriptor
    except BaseException:
        with suppress(OSError):
            os.close(descriptor)
        raise
    os.close(descriptor)


def put(descriptor: int, content: bytes, offset: int) -> None:
    """Write all of it."""
    for start in range(0, len(content), MIB):
        piece = content[start : start + MIB]
        assert os.pwrite(descriptor, piece, offset + start) == len(piece)


# --- effects ----------------------------------------------------------------------


def with_content(path: str, content: bytes) -> Effect:
    """Return the effect of writing a file anew."""

    def effect(world: World) -> World | None:
        if not _has_parent(world, path):
            return None
        old = world.get(path)
        return {**world, path: File(content, old.mode if old is not None else MODE)}

    return effect


def patched(path: str, patch: bytes, offset: int | None) -> Effect:
    """Return the effect of writing some bytes; without an offset at the end."""

    def effect(world: World) -> World | None:
        old = world.get(path)
        if old is None:
            return None
        start = len(old.content) if offset is None else offset
        content = bytearray(old.content)
        if patch:
            content.extend(bytes(max(0, start - len(content))))
        content[start : start + len(patch)] = patch
        return {**world, path: File(bytes(content), old.mode)}

    return effect


def or_new(path: str, then: Effect) -> Effect:
    """Return the effect upon a file that is made if it is not there."""

    def effect(world: World) -> World | None:
        if path in world:
            return then(world)
        made = with_content(path, b"")(world)
        return None if made is None else then(made)

    return effect


def resized(path: str, size: int) -> Effect:
    """Return the effect of truncate(2)."""

    def effect(world: World) -> World | None:
        old = world.get(path)
        if old is None:
            return None
        content = old.content[:size] + bytes(max(0, size - len(old.content)))
        return {**world, path: File(content, old.mode)}

    return effect


def with_mode(path: str, mode: int) -> Effect:
    """Return the effect of chmod(2)."""

    def effect(world: World) -> World | None:
        old = world.get(path)
        return None if old is None else {**world, path: File(old.content, mode)}

    return effect


def moved(source: str, target: str) -> Effect:
    """Return the effect of renaming a file."""

    def effect(world: World) -> World | None:
        if source not in world or not _has_parent(world, target):
            return None
        after = {**world, target: world[source]}
        del after[source]
        return after

    return effect


def copied(source: str, target: str) -> Effect:
    """Return the effect of a file that is at both names."""

    def effect(world: World) -> World | None:
        if source not in world or not _has_parent(world, target):
            return None
        return {**world, target: world[source]}

    return effect


def tree_moved(source: str, target: str) -> Effect:
    """Return the effect of renaming a directory where there is none."""

    def new_name(path: str) -> str:
        is_inside = path == source or path.startswith(f"{source}/")
        return target + path[len(source) :] if is_inside else path

    def effect(world: World) -> World | None:
        if source not in world or target in world:
            return None
        return {new_name(path): entry for path, entry in world.items()}

    return effect


def without(path: str) -> Effect:
    """Return the effect of removing a name."""

    def effect(world: World) -> World | None:
        if path not in world:
            return None
        return {name: entry for name, entry in world.items() if name != path}

    return effect


def directory(path: str) -> Effect:
    """Return the effect of mkdir(2)."""

    def effect(world: World) -> World | None:
        return None if path in world else {**world, path: DIRECTORY}

    return effect


def _has_parent(world: World, path: str) -> bool:
    parent = os.path.dirname(path)
    return not parent or parent in world
