"""What a program was told, kept outside the mount, and what may be true after a crash.

A world is a tree as a mapping of relative paths: files with bytes and mode, directories
as `DIRECTORY`. A ledger holds every world that what was acknowledged leaves possible.
As long as all deeds are acknowledged that is one. A deed that is under way, or that
failed, may have come about or not; nothing in between is possible.
"""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.fuse.stores import OtherSide


@dataclass(frozen=True, slots=True)
class File:
    """A regular file."""

    content: bytes
    mode: int

    def __repr__(self) -> str:
        """Return something to tell files apart by."""
        return (
            f"File({len(self.content)} bytes {self.content[:8].hex()}, {self.mode:o})"
        )


DIRECTORY = None
UNFINISHED = ".mountfs-tmp-"
World = dict[str, File | None]
Effect = Callable[[World], World | None]
"""What a deed makes of a world; None if it cannot succeed there."""


class Ledger:
    """The worlds that are possible in one directory."""

    def __init__(self, world: World) -> None:
        self.worlds = [world]
        self.acknowledged = 0
        self.failed: list[str] = []

    def attempt(self, act: Callable[[], object], *effects: Effect) -> None:
        """Act. Success means the last of the effects; an OSError, or a crash, that none
        or any of them came about.
        """
        before = self.worlds
        after = [world for effect in effects for world in _through(effect, before)]
        self.worlds = _unique([*before, *after])
        act()
        self.worlds = _unique(_through(effects[-1], before))
        self.acknowledged += 1
        assert self.worlds, "something succeeded that was impossible"

    def check(self, found: World, where: str) -> None:
        """Fail if what was found is none of the possible worlds."""
        if found in self.worlds:
            return
        told = "\n  or ".join(difference(found, world) for world in self.worlds)
        raise AssertionError(f"{where}, found and possible:\n     {told}")

    def check_files(self, found: dict[str, bytes], where: str) -> None:
        """As `check`, for who sees neither modes nor directories."""
        possible = [contents(world) for world in self.worlds]
        if found in possible:
            return
        seen: World = {path: File(content, 0) for path, content in found.items()}
        told = "\n  or ".join(
            difference(seen, {path: File(content, 0) for path, content in each.items()})
            for each in possible
        )
        raise AssertionError(f"{where}, found and possible:\n     {told}")

    def settle(self, found: World) -> None:
        """Go on from what was found."""
        self.worlds = [found]


def contents(world: World) -> dict[str, bytes]:
    """Return the bytes of the files."""
    return {path: file.content for path, file in world.items() if file is not DIRECTORY}


def difference(found: World, expected: World) -> str:
    """Return where two worlds differ, for people."""
    paths = sorted(found.keys() | expected.keys())
    missing = "(nothing)"
    return "; ".join(
        f"{path}: {found.get(path, missing)} and {expected.get(path, missing)}"
        for path in paths
        if found.get(path, missing) != expected.get(path, missing)
    )


def tree_of(directory: Path) -> World:
    """Return what a directory holds, as a program sees it. OSError is passed on."""
    world: World = {}
    for name in sorted(os.listdir(directory)):
        path = directory / name
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            inside = tree_of(path)
            world[name] = DIRECTORY
            world |= {f"{name}/{below}": entry for below, entry in inside.items()}
        else:
            world[name] = File(path.read_bytes(), stat.S_IMODE(status.st_mode))
    return world


def files_in(there: OtherSide) -> dict[str, bytes]:
    """Return the files of a store as somebody sees them who knows nothing of mounts.

    A crash of a writer leaves unfinished ones in a plain directory, under names that
    are reserved and that nobody is shown.
    """
    keys = [key for key in there.listing() if not key.endswith("/")]
    return {key: there.read(key) for key in keys if UNFINISHED not in key}


def _through(effect: Effect, worlds: list[World]) -> list[World]:
    return [after for world in worlds if (after := effect(world)) is not None]


def _unique(worlds: list[World]) -> list[World]:
    found: list[World] = []
    for world in worlds:
        if world not in found:
            found.append(world)
    return found
