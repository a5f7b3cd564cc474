"""Programs that work in one mount at the same time, and a kill at a random moment."""

import random
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mountfs.errors import EXIT_TROUBLE
from tests.fuse.mounting import UNMOUNT_S, Mount, run_command
from tests.fuse.stores import Store
from tests.recovery.ledger import Ledger, files_in, tree_of
from tests.recovery.program import SIZES, Program

DURABILITIES = ("store", "journal")
"""What `--durability` may be; all of the proof runs with each."""

PROGRAMS = 4
DEATH_S = 15
STEPS_MAX = 100_000


class Load:
    """Some programs, each in its directory, and what they were told."""

    def __init__(self, count: int = PROGRAMS, sizes: tuple[int, ...] = SIZES) -> None:
        self._names = [f"p{number}" for number in range(count)]
        self._sizes = sizes
        self.ledgers = {name: Ledger({}) for name in self._names}
        self.deeds = 0
        self._is_ending = False
        self._lock = threading.Lock()
        self._wanted = 0
        self._enough = threading.Event()

    def prepare(self, root: Path) -> None:
        """Make the directories of the programs."""
        for name in self._names:
            (root / name).mkdir()

    def run_until(
        self, root: Path, seed: int, deeds: int, end: Callable[[], object]
    ) -> None:
        """Run all programs; call `end` when so many deeds were acknowledged, which
        must make every later one fail.

        An error before `end` was called is a failure of its own.
        """
        self._is_ending, self._wanted = False, self.deeds + deeds
        self._enough.clear()
        with ThreadPoolExecutor(len(self._names)) as pool:
            running = [
                pool.submit(self._work, root / name, seed * 100 + number)
                for number, name in enumerate(self._names)
            ]
            assert self._enough.wait(60), "the programs do not get on"
            self._is_ending = True
            end()
            for each in running:
                each.result(60)

    def run(self, root: Path, seed: int, deeds: int) -> None:
        """Let each program do so many deeds, none of which may fail."""
        with ThreadPoolExecutor(len(self._names)) as pool:
            running = [
                pool.submit(self._steps, root / name, seed * 100 + number, deeds)
                for number, name in enumerate(self._names)
            ]
            for each in running:
                each.result(100)

    def check_mount(self, mount: Mount, *, settle: bool = True) -> None:
        """Compare what a mount shows, and go on from there."""
        for name, ledger in self.ledgers.items():
            found = tree_of(mount.path / name)
            ledger.check(found, f"in {name} of {mount.path}")
            if settle:
                ledger.settle(found)

    def check_store(self, store: Store) -> None:
        """Compare what the store itself has."""
        for name, ledger in self.ledgers.items():
            ledger.check_files(files_in(store.below(name)), f"in {name}, in the store")

    def _steps(self, directory: Path, seed: int, deeds: int) -> None:
        program = self._program(directory, seed)
        for _ in range(deeds):
            program.step()

    def _work(self, directory: Path, seed: int) -> None:
        program = self._program(directory, seed)
        try:
            for _ in range(STEPS_MAX):
                program.step()
                self._count()
        except OSError:
            if not self._is_ending:
                raise
        except BaseException:
            self._enough.set()
            raise

    def _program(self, directory: Path, seed: int) -> Program:
        return Program(directory, self.ledgers[directory.name], seed, self._sizes)

    def _count(self) -> None:
        with self._lock:
            self.deeds += 1
            if self.deeds >= self._wanted:
                self._enough.set()


def kill(mount: Mount) -> None:
    """End the daemon as a crash would.

    A thread of it that tells the kernel of changes made elsewhere may wait for a
    directory that a program holds, which waits for the daemon: only an abort ends it.
    """
    mount.process.send_signal(signal.SIGKILL)
    try:
        mount.process.wait(DEATH_S)
    except subprocess.TimeoutExpired:
        mount.abort()
        mount.process.wait(UNMOUNT_S)


def leave(mount: Mount) -> int:
    """Unmount and wait, whatever is left behind; return the exit code of umount.

    It has more to tell than that of the daemon: of errors that no call could carry.
    """
    mount.watch()
    done = run_command("umount", str(mount.path))
    code = mount.process.wait(UNMOUNT_S)
    told = f"{done.returncode} {code} {done.stderr}\n{mount.log()}"
    assert done.returncode == code or (done.returncode, code) == (EXIT_TROUBLE, 0), told
    assert "Traceback" not in mount.log(), told
    return done.returncode


def moments(seed: int, count: int) -> Iterator[tuple[int, int]]:
    """Give seeds, and after how many deeds to strike."""
    chooser = random.Random(seed)
    for number in range(count):
        yield seed * 10_000 + number, chooser.randrange(1, 120)


def pending_changes(state_dir: Path) -> int:
    """Return how many acknowledged changes a dead daemon still had to carry out."""
    (path,) = state_dir.glob("*/journal.sqlite")
    # Reading it in place would roll its log in; the next mount is to find it as it is.
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as journal:
        (count,) = journal.execute("SELECT count(*) FROM pending").fetchone()
    journal.close()
    return int(count)
