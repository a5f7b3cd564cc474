"""One row over one mounted file system: what a row is given, and what guards it."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import contents
from bench.bare import BareClient, Refused
from bench.contents import Sizes
from bench.link import Carried
from bench.systems import Failed, System

POLL_S = 0.05
STORED_S = 120.0

Measured = dict[str, float]
"""Seconds by what was timed."""


class Wrong(Failed):
    """A file system returned, or stored, other bytes than were written."""


@dataclass(slots=True)
class Run:
    """A row's view of a mounted system."""

    system: System
    sizes: Sizes
    local: Path
    """A directory on the local disk, with the tree and the tar file."""
    times: Measured = field(default_factory=dict)
    number: int = 0
    before: list[Carried] = field(default_factory=list)
    """What the link carried while nothing was timed."""

    @property
    def root(self) -> Path:
        """Return the mount point."""
        return self.system.root

    @property
    def store(self) -> BareClient:
        """Return the bucket as seen from beside, at once."""
        return self.system.store

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Take the time of a block."""
        start = time.perf_counter()
        yield
        self.times[what] = time.perf_counter() - start

    @contextmanager
    def untimed(self) -> Iterator[None]:
        """Do what only prepares without the delay of the link."""
        link = self.system.place.link
        start = link.carried()
        with link.without_delay():
            yield
        self.before.append(link.carried() - start)

    def fresh(self, row: str) -> Path:
        """Make a directory for this run of a row."""
        path = self.root / f"{row}-{self.number}"
        with self.untimed():
            path.mkdir()
        return path

    def remount(self) -> None:
        """Unmount, drop what was cached, and mount again."""
        with self.untimed():
            self.system.unmount()
            self.system.mount()

    def key(self, path: Path) -> str:
        """Return the key of a path."""
        return str(path.relative_to(self.root))

    # --- what is in the bucket ------------------------------------------------

    def await_stored(
        self, what: str, start: float, is_there: Callable[[], bool]
    ) -> None:
        """Take the time from `start` until the bucket has it, by looking there."""
        if not self.system.is_plain:
            return
        deadline = time.perf_counter() + STORED_S

        def has_come() -> bool:
            try:
                return is_there()
            except Refused:  # the key is not there yet
                return False

        while not has_come():
            if time.perf_counter() > deadline:
                raise Failed(f"not in the bucket after {STORED_S:.0f} s")
            time.sleep(POLL_S)
        self.times[what] = time.perf_counter() - start

    def has_files(self, path: Path, wanted: Mapping[str, int]) -> Callable[[], bool]:
        """Return a question: are files of these names and sizes below a path?"""
        prefix = self.key(path) + "/"

        def is_there() -> bool:
            found = self.store.keys(prefix)
            return all(found.get(prefix + name) == wanted[name] for name in wanted)

        return is_there

    def has_none(self, path: Path) -> Callable[[], bool]:
        """Return a question: is nothing below a path any more?"""
        return lambda: not self.store.keys(self.key(path) + "/")

    def content(self, path: Path) -> bytes:
        """Return a file as the bucket has it, or the mount, if blocks are opaque."""
        if not self.system.is_plain:
            return path.read_bytes()
        return self.store.get(self.key(path))

    # --- that it is right -----------------------------------------------------

    def check(self, path: Path, wanted: bytes) -> None:
        """Compare a file with what it must hold."""
        try:
            found = self.content(path)
        except Refused as error:
            raise Wrong(f"{path} is not in the bucket: {error}") from error
        if found != wanted:
            raise Wrong(f"{path} has {len(found)} bytes, and not what was written")

    def check_small(self, directory: Path, names: list[str]) -> None:
        """Compare small files with what they must hold."""
        with self.untimed():
            self.store.each(
                names,
                lambda name: self.check(directory / name, contents.small_content(name)),
                8,
            )

    def check_big(self, found: bytes | bytearray) -> None:
        """Compare a big file with what it must hold."""
        digest = hashlib.sha256(found).hexdigest()
        if digest != contents.big_digest(self.sizes.big):
            raise Wrong(f"the big file came back otherwise ({len(found)} bytes)")


@contextmanager
def guarded(system: System, seconds: float) -> Iterator[None]:
    """Abort the mount if the block takes longer; then it fails, and does not hang."""
    has_struck = threading.Event()

    def strike() -> None:
        has_struck.set()
        system.abort()

    timer = threading.Timer(seconds, strike)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception as error:
        if has_struck.is_set():
            raise Failed(f"took longer than {seconds:.0f} s") from error
        raise
    finally:
        timer.cancel()
