"""Two directories with the same history, one in a mount and one on tmpfs.

`Twins.do` does a deed in both and compares what came of it, then everything that can be
seen. What differs fails with the whole history, printed so that it can be pasted into
a test.
"""

import pickle
import select
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.fuse.mounting import Mount
from tests.fuse.stores import Store
from tests.model import hand
from tests.model.choices import NAMES
from tests.model.hand import Deed, Facts, Outcome

ANSWER_S = 60.0
EXAMPLE_S = 110.0
TTL_S = 0.05
OPTIONS = (f"--ttl={TTL_S}", "--cache-size=256M", "--allow-other", "--virtual=all")

SAME = ({"EACCES", "ENXIO"},)
"""Refusals that stand for the same: a device on a mount that has none."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a store keeps through a remount."""

    can_remount: bool = True
    keeps_directories: bool = True
    """Their mode, owner and times."""
    keeps_links: bool = True
    """The owner and times of symbolic links."""
    keeps_numbers: bool = True
    """Inode numbers, whatever the kernel forgets."""


class HandProcess:
    """A hand in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, hand.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def send(self, deed: Deed) -> None:
        """Tell what to do."""
        assert self._process.stdin is not None
        letter = pickle.dumps(deed)
        self._process.stdin.write(len(letter).to_bytes(4, "big") + letter)
        self._process.stdin.flush()

    def receive(self) -> Outcome:
        """Return what came of it; fail if it takes too long, or killed the process."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], ANSWER_S)
        assert ready, "no answer in time: the mount hangs"
        head = self._process.stdout.read(4)
        assert head, f"the deed killed the process: {self._process.wait(10)}"
        answer = pickle.loads(self._process.stdout.read(int.from_bytes(head, "big")))
        assert isinstance(answer, tuple)
        return answer

    def ask(self, *deed: object) -> Outcome:
        """Do a deed; return what came of it."""
        self.send(deed)
        return self.receive()

    def do(self, *deed: object) -> object:
        """Do what must succeed; return what it gave."""
        outcome = self.ask(*deed)
        assert outcome[0] == "ok", (deed, outcome)
        return outcome[1]

    def end(self) -> None:
        """End the process, even one that a mount holds."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(20)


class Ground:
    """A store, its mount and the two hands; what has died is replaced."""

    def __init__(
        self, store: Store, base: Path, offer: Offer, options: Iterable[str] = ()
    ) -> None:
        self.store = store
        self.offer = offer
        self._base = base
        self._options = (*store.options, *OPTIONS, *options)
        self._at = self._fresh()
        self._mount: Mount | None = None
        self._hands: tuple[HandProcess, HandProcess] | None = None
        self._seen = 0

    @property
    def mount(self) -> Mount:
        """Return the mount, which is there."""
        if self._mount is None:
            self._mount = Mount(
                self.store.url, self._at, self._options, life_s=EXAMPLE_S
            )
            self._seen = 0
        return self._mount

    @property
    def hands(self) -> tuple[HandProcess, HandProcess]:
        """Return the hand in the mount and the one on tmpfs."""
        if self._hands is None:
            self._hands = (HandProcess(), HandProcess())
        return self._hands

    def watch(self) -> None:
        """Give the mount time for what comes next."""
        self.mount.watch(EXAMPLE_S)

    def remount(self, *, is_cold: bool) -> None:
        """Unmount, which must leave nothing behind, and mount again."""
        self.mount.unmount()
        self._mount = None
        if is_cold:
            shutil.rmtree(self._at, ignore_errors=True)
            self._at = self._fresh()
        self.watch()

    def new_log(self) -> str:
        """Return what was logged since the last time."""
        log = self.mount.log() if self._mount is not None else ""
        new, self._seen = log[self._seen :], len(log)
        return new

    def recover(self, *, hangs: bool) -> None:
        """Go on after a failure, with the same mount if that answers."""
        try:
            assert not hangs
            assert self._mount is not None
            assert self._mount.process.poll() is None
            for process in self.hands:
                process.do("leave")
        except (AssertionError, OSError):
            self.discard()

    def check_log(self) -> None:
        """Fail for warnings and tracebacks since the last time."""
        new = self.new_log()
        bad = [
            line
            for line in new.splitlines()
            if any(f" {level} " in line for level in ("WARNING", "ERROR", "CRITICAL"))
            or "Traceback" in line
        ]
        assert not bad, new[-6000:]

    def discard(self) -> None:
        """End what a failure has left in an unknown state."""
        if self._mount is not None:
            self._mount.kill()
            self._mount = None
        for process in self._hands or ():
            process.end()
        self._hands = None
        shutil.rmtree(self._at / "cache", ignore_errors=True)
        self._at = self._fresh()

    def close(self) -> None:
        """Unmount."""
        for process in self._hands or ():
            process.end()
        if self._mount is not None:
            self._mount.watch(EXAMPLE_S)
            self._mount.unmount()

    def _fresh(self) -> Path:
        return self._base / uuid.uuid4().hex[:8]


@dataclass
class Look:
    """How the twins are compared after each deed."""

    is_deep: bool = True
    lookup_first: bool = False


class Twins:
    """The two directories of one example, new and empty."""

    def __init__(self, ground: Ground, plain: Path, look: Look | None = None) -> None:
        self.look = look or Look()
        self.history: list[Deed] = []
        self.known: dict[str, Facts] = {}
        """What tmpfs has now."""
        self.has_failed = False
        self._ground = ground
        self._name = uuid.uuid4().hex[:10]
        self._plain = plain / self._name
        self._inodes: dict[object, object] = {}
        ground.watch()
        self._go("enter")

    def do(self, *deed: object) -> None:
        """Do a deed in both directories and compare."""
        self.history.append(deed)
        with self._failing_readably():
            if not self._ground.offer.keeps_directories:
                self._go_on_without_memory()  # the kernel may have forgotten some
            if deed[0] in ("remount", "remount cold"):
                self._remount(is_cold=deed[0] == "remount cold")
            else:
                self._compare_outcomes(deed, *self._both(deed))
            if deed[0] == "forget":
                self._go_on_without_memory()
            self._compare()

    def finish(self) -> None:
        """Close everything, compare in depth, remove it all; the log must be clean."""
        self.history.append(("finish",))
        with self._failing_readably():
            self._both(("leave",))
            self._go("come_back")
            self.look.is_deep = True
            self._compare()
            self._both(("leave",))
            for process, path in zip(self._ground.hands, self._paths(), strict=True):
                process.do("clear", str(path))
                process.do("rmdir", str(path))
            self._check_nothing_is_left()
            self._ground.check_log()

    def pasteable(self) -> str:
        """Return the history as code."""
        lines = "".join(f"    {deed!r},\n" for deed in self.history)
        return f"{self.look!r}\n[\n{lines}]"

    @contextmanager
    def _failing_readably(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.has_failed = True
            error.add_note(self.pasteable())
            error.add_note(self._ground.new_log()[-4000:])
            self._ground.recover(hangs=not isinstance(error, Exception))
            shutil.rmtree(self._plain, ignore_errors=True)
            raise

    def _paths(self) -> tuple[Path, Path]:
        return self._ground.mount.path / self._name, self._plain

    def _go(self, verb: str) -> None:
        for process, path in zip(self._ground.hands, self._paths(), strict=True):
            process.do(verb, str(path))

    def _both(self, deed: Deed) -> tuple[Outcome, Outcome]:
        there, here = self._ground.hands
        there.send(deed)
        here.send(deed)
        return there.receive(), here.receive()

    def _check_nothing_is_left(self) -> None:
        """No object may stay behind a directory that is gone."""
        if self._ground.store.other_side is not None:
            self._ground.mount.flush()
            below = f"{self._name}/"
            left = [
                key
                for key in self._ground.store.there.listing()
                if key.startswith(below)
            ]
            assert not left, f"left in the store: {left}"

    def _remount(self, *, is_cold: bool) -> None:
        self._both(("leave",))
        self._ground.remount(is_cold=is_cold)
        if is_cold:
            self._inodes.clear()
        self._go("come_back")
        self._go_on_without_memory()

    def _go_on_without_memory(self) -> None:
        """Give the mount back what its store cannot keep, so that it can go on."""
        offer = self._ground.offer
        there, here = self._ground.hands
        is_lost = {
            "directory": not offer.keeps_directories,
            "link": not offer.keeps_links,
        }
        known = _surveyed(("ok", here.do("survey", NAMES, True, False)))
        for path, facts in sorted(known.items()):
            if path.startswith("<") or not is_lost.get(str(facts["type"])):
                continue
            owner, mtime = facts["owner"], facts["mtime"]
            assert isinstance(owner, tuple)
            there.do("chown", path, *owner, False)
            if facts["type"] == "directory":
                there.do("chmod", path, int(str(facts["mode"]), 8))
            xattrs = facts["xattrs"]
            assert isinstance(xattrs, dict)
            for name, value in xattrs.items():
                there.do("setxattr", path, name, value, 0)
            if mtime == "recent":
                there.do("utimens", path, "now", 0, False)
            else:
                there.do("utimens", path, "set", mtime, False)

    # --- comparing --------------------------------------------------------------

    def _compare_outcomes(self, deed: Deed, there: Outcome, here: Outcome) -> None:
        if deed[0] == "list_while":
            here = _with_whole_listing(here)
        if there == here:
            return
        is_same = there[0] == here[0] == "error" and any(
            {there[1], here[1]} <= same for same in SAME
        )
        assert is_same, f"{deed} gave {there} in the mount, {here} on tmpfs"

    def _compare(self) -> None:
        deed = ("survey", NAMES, self.look.is_deep, self.look.lookup_first)
        found, expected = map(_surveyed, self._both(deed))
        self.known = expected
        self._compare_inodes(found, expected)
        _allow_unknown_link_counts(found, expected)
        if _without_inodes(found) != _without_inodes(expected):
            raise AssertionError(_difference(found, expected))

    def _compare_inodes(
        self, found: dict[str, Facts], expected: dict[str, Facts]
    ) -> None:
        """One file has one number for ever, and no two have the same."""
        if not self._ground.offer.keeps_numbers:
            return
        for path in found.keys() & expected.keys():
            here, there = expected[path]["inode"], found[path]["inode"]
            known = self._inodes.setdefault(here, there)
            assert known == there, f"the inode of {path} was {known}, is {there}"
        live = {facts["inode"] for facts in expected.values()}
        self._inodes = {here: self._inodes[here] for here in live & self._inodes.keys()}
        numbers = list(self._inodes.values())
        assert len(set(numbers)) == len(numbers), f"one inode, two files: {found}"


def _with_whole_listing(outcome: Outcome) -> Outcome:
    """Hold the mount to a whole listing; tmpfs itself may say a name twice."""
    if outcome[0] != "ok":
        return outcome
    assert isinstance(outcome[1], tuple)
    return ("ok", (outcome[1][0], []))


def _surveyed(outcome: Outcome) -> dict[str, Facts]:
    assert outcome[0] == "ok", f"looking at everything failed: {outcome}"
    assert isinstance(outcome[1], tuple)
    found, problems = outcome[1]
    assert not problems, problems
    assert isinstance(found, dict)
    return found


def _without_inodes(found: dict[str, Facts]) -> dict[str, Facts]:
    return {
        path: {name: value for name, value in facts.items() if name != "inode"}
        for path, facts in found.items()
    }


def _allow_unknown_link_counts(
    found: dict[str, Facts], expected: dict[str, Facts]
) -> None:
    """A directory may say 1: the number of its directories is not known."""
    for path, facts in found.items():
        if facts["type"] == "directory" and facts["links"] == 1 and path in expected:
            facts["links"] = expected[path]["links"]


def _difference(found: dict[str, Facts], expected: dict[str, Facts]) -> str:
    """Say what differs, a line for each fact."""
    lines = [
        f"{path}: {name} is {there.get(name)} in the mount, {here.get(name)} on tmpfs"
        for path in sorted(found.keys() | expected.keys())
        for there, here in [(found.get(path, {}), expected.get(path, {}))]
        for name in sorted(there.keys() | here.keys())
        if name != "inode" and there.get(name) != here.get(name)
    ]
    return "\n".join(lines)


def replay(twins: Twins, steps: Sequence[Deed]) -> None:
    """Do steps that were printed."""
    for deed in steps:
        twins.do(*deed)
    twins.finish()
