"""Two mounts of one bucket and other programs on it, against a pure model.

The time to live is 0, so what another has done must be seen by the next call.
"""

import itertools
import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    get_state_machine_test,
    initialize,
    rule,
)

from tests.fuse.conftest import make_store as make_store
from tests.fuse.mounting import Mount
from tests.fuse.stores import OtherSide, PlainFiles, S3Objects, Store
from tests.model.bucket_model import DEFAULT_MODE, NEW_MODE, Bucket, Refused, Side
from tests.model.hand import Deed, Outcome
from tests.model.search import TIME_S, search, seeds
from tests.model.twins import EXAMPLE_S, HandProcess

KEYS = frozenset(("a", "b", "d/a", "d/b"))
RELEASE_S = 2.0
XATTR = "user.mountfs.meta"
SIDES = (0, 1)
SLOTS = 2
EXAMPLES = 6
STEPS = 25
OPTIONS = (
    "--cache-size=256M",
    "--allow-other",
    "--virtual=all",
    "--ttl=0",
    "--conflict=fail",
)
EXPECTED = r"is not in the store|is not stored|replaced|ESTALE"

keys = st.sampled_from(sorted(KEYS))
sides = st.sampled_from(SIDES)
slots = st.integers(0, SLOTS - 1)
sizes = st.sampled_from((1, 10, 5000, 140_000))
offsets = st.sampled_from((0, 5, 4096, 10_000))
foreign_modes = st.sampled_from((0o600, 0o755, 0o644))
open_flags = st.sampled_from(
    (
        os.O_RDONLY,
        os.O_RDWR,
        os.O_RDWR | os.O_CREAT,
        os.O_RDWR | os.O_CREAT | os.O_TRUNC,
        os.O_RDWR | os.O_CREAT | os.O_EXCL,
        os.O_WRONLY | os.O_TRUNC,
    )
)


class Place:
    """Two mounts of one store, the hands in them, and the other side."""

    def __init__(self, store: Store, base: Path) -> None:
        self.store = store
        self._base = base
        self.mounts: list[Mount] = []
        self.hands: list[HandProcess] = []

    def enter(self, name: str) -> OtherSide:
        """Go into a new directory of the store; return its other side."""
        if not self.mounts:
            options = (*self.store.options, *OPTIONS)
            for _ in SIDES:
                at = self._base / uuid.uuid4().hex[:8]
                mount = Mount(self.store.url, at, options, life_s=EXAMPLE_S)
                self.mounts.append(mount)
                self.hands.append(HandProcess())
                mount.announce(EXPECTED)
        for mount, hand in zip(self.mounts, self.hands, strict=True):
            mount.watch(EXAMPLE_S)
            hand.do("enter", str(mount.path / name))
        self.hands[0].do("mkdir", "d", 0o777)
        return self.store.below(name)

    def close(self) -> None:
        """End everything."""
        for hand in self.hands:
            hand.end()
        for mount in self.mounts:
            mount.kill()
            shutil.rmtree(mount.cache_dir, ignore_errors=True)
        self.mounts.clear()
        self.hands.clear()


class Writers(RuleBasedStateMachine):
    """Draws what the mounts and the others do, and compares."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.bucket = Bucket()
        self.sides = [Side(self.bucket) for _ in SIDES]
        self.serials = itertools.count(1)
        self.history: list[tuple[object, ...]] = []
        self.has_failed = False

    @initialize()
    def begin(self) -> None:
        """Enter a new directory."""
        self.there = self.place.enter(uuid.uuid4().hex[:10])

    def teardown(self) -> None:
        """Leave; nothing of it matters to the next example."""
        if self.has_failed:
            self.place.close()
            return
        for hand in self.place.hands:
            hand.do("leave")
        for mount in self.place.mounts:
            mount.check_log()

    def content(self, size: int) -> bytes:
        """Return bytes that nobody has written before."""
        serial = next(self.serials)
        return (b"%d." % serial).ljust(size, bytes([32 + serial % 200]))

    def check(self, *event: object) -> None:
        """Compare what both mounts show with the model."""
        if event:
            self.history.append(event)
        try:
            for number in SIDES:
                self._check_side(number)
        except BaseException as error:
            self._note(error)
            raise

    def _note(self, error: BaseException) -> None:
        self.has_failed = True
        error.add_note("\n".join(map(repr, self.history)))
        for mount in self.place.mounts:
            error.add_note(mount.log()[-3000:])

    def _check_side(self, number: int) -> None:
        side, hand = self.sides[number], self.place.hands[number]
        disputed = {key for key in KEYS if side.is_disputed(key)}
        listed = {
            f"{prefix}{name}"
            for directory, prefix in ((".", ""), ("d", "d/"))
            for name in self._listed(hand, directory)
        }
        expected = {"d"} | {key for key in KEYS if side.shown(key) is not None}
        assert listed - disputed == expected - disputed, (
            f"mount {number} lists {sorted(listed)}"
        )
        for key in sorted(KEYS - disputed):
            self._check_key(number, key)

    def _check_key(self, number: int, key: str) -> None:
        side, hand = self.sides[number], self.place.hands[number]
        item = side.shown(key)
        found = hand.ask("peek", key, not side.is_changed(key))
        if item is None:
            assert found == ("error", "ENOENT"), f"mount {number}: {key}: {found}"
            return
        assert found[0] == "ok", f"mount {number}: {key}: {found}"
        assert isinstance(found[1], tuple)
        mode, size, content = found[1]
        assert size == len(item.content), f"mount {number}: {key}: {found}"
        assert content in (None, item.content), f"mount {number}: {key}: {found}"
        if item.mode is not None:
            assert mode == item.mode, f"mount {number}: {key}: mode {mode:o}"

    def _listed(self, hand: HandProcess, directory: str) -> list[str]:
        found = hand.do("listdir", directory)
        assert isinstance(found, list)
        return found

    def deed(self, number: int, *deed: object) -> Outcome:
        """Do a deed in one mount, and say what came of it."""
        outcome = self.place.hands[number].ask(*deed)
        self.history.append((number, deed, outcome if len(str(outcome)) < 99 else "…"))
        return outcome

    def expect(self, number: int, deed: Deed, refused: Refused | None) -> None:
        """Do a deed that must succeed, or be refused as the model was."""
        outcome = self.deed(number, *deed)
        expected = ("error", refused.name) if refused is not None else ("ok",)
        try:
            assert outcome[: len(expected)] == expected, (deed, outcome, expected)
        except AssertionError as error:
            self._note(error)
            raise

    # --- others -----------------------------------------------------------------

    @rule(key=keys, size=sizes)
    def another_puts(self, key: str, size: int) -> None:
        content = self.content(size)
        self.there.write(key, content)
        self.bucket.put(key, content, DEFAULT_MODE)
        self.check("put", key, size)

    @rule(key=keys)
    def another_deletes(self, key: str) -> None:
        if key in self.bucket.items:
            self.there.delete(key)
            del self.bucket.items[key]
            self.check("delete", key)

    @rule(source=keys, key=keys)
    def another_copies(self, source: str, key: str) -> None:
        item = self.bucket.items.get(source)
        if item is None or source == key or self._is_ambiguous(key, item.content):
            return
        copy(self.there, source, key)
        self.bucket.put(key, item.content, item.mode)
        self.check("copy", source, key)

    @rule(key=keys, mode=foreign_modes)
    def another_changes_metadata(self, key: str, mode: int) -> None:
        item = self.bucket.items.get(key)
        if item is None:
            return
        set_mode(self.there, key, mode)
        self.sides[0].chmod(key, mode)
        self.check("metadata", key, oct(mode))

    def _is_ambiguous(self, key: str, content: bytes) -> bool:
        """Equal bytes may or may not be the same version, by the store."""
        there = self.bucket.items.get(key)
        files = [file for side in self.sides for file in side.files]
        return (there is not None and there.content == content) or any(
            file.key == key and file.content == content for file in files
        )

    # --- the mounts -------------------------------------------------------------

    @rule(number=sides, slot=slots, key=keys, flags=open_flags)
    def open(self, number: int, slot: int, key: str, flags: int) -> None:
        side = self.sides[number]
        if slot in side.slots or side.is_disputed(key):
            return
        refused = None
        try:
            side.open(slot, key, flags)
        except Refused as error:
            refused = error
        self.expect(number, ("open", slot, key, flags, NEW_MODE), refused)
        self.check()

    @rule(number=sides, slot=slots, offset=offsets, size=sizes)
    def write(self, number: int, slot: int, offset: int, size: int) -> None:
        side = self.sides[number]
        if slot not in side.slots or side.slots[slot][1] & os.O_ACCMODE == os.O_RDONLY:
            return
        content = self.content(size)
        outcome = self.deed(number, "put", slot, offset, content)
        if outcome[0] == "ok":
            side.write(slot, offset, content)
        else:
            file = side.slots[slot][0]
            assert outcome == ("error", "ESTALE"), outcome
            assert side.is_stale(file), outcome
        self.check()

    @rule(number=sides, slot=slots)
    def read(self, number: int, slot: int) -> None:
        side = self.sides[number]
        if slot not in side.slots or side.slots[slot][1] & os.O_ACCMODE == os.O_WRONLY:
            return
        file, _ = side.slots[slot]
        outcome = self.deed(number, "get", slot)
        if file.is_doomed:
            return
        if outcome[0] == "ok":
            assert outcome[1] == file.content, "bytes of another version"
        else:
            assert outcome == ("error", "ESTALE"), outcome
            assert side.is_stale(file), outcome

    @rule(number=sides, slot=slots)
    def fsync(self, number: int, slot: int) -> None:
        side = self.sides[number]
        if slot not in side.slots or side.slots[slot][0].is_doomed:
            return
        refused = None
        try:
            side.store(side.slots[slot][0])
        except Refused as error:
            refused = error
        self.expect(number, ("fsync", slot), refused)
        self.check()

    @rule(number=sides, slot=slots)
    def close(self, number: int, slot: int) -> None:
        side = self.sides[number]
        if slot not in side.slots:
            return
        file, _ = side.slots[slot]
        if file.is_doomed:
            self._close_doomed(number, slot)
            return
        refused = None
        try:
            side.close(slot)
        except Refused as error:
            refused = error
        self.expect(number, ("close", slot), refused)
        self.check()
        if side.kept:
            self._check_kept(number, side.kept.pop())

    def _check_kept(self, number: int, content: bytes) -> None:
        """The state directory has the bytes, a moment after the close."""
        directory = self.place.mounts[number].state_dir
        ends_at = time.monotonic() + RELEASE_S
        while not any(content in found for found in contents_below(directory)):
            assert time.monotonic() < ends_at, f"not kept: {content[:20]!r}"

    def _close_doomed(self, number: int, slot: int) -> None:
        """One of the closes of a file that was replaced under it must say so."""
        side = self.sides[number]
        file, _ = side.slots[slot]
        outcome = self.deed(number, "close", slot)
        side.close(slot)
        file.is_told = file.is_told or outcome[0] == "error"
        if file.writers == 0:
            assert file.is_told, "bytes were lost silently"
        self.check()

    @rule(number=sides, key=keys)
    def unlink(self, number: int, key: str) -> None:
        side = self.sides[number]
        if side.is_changed(key):
            return
        refused = None
        try:
            side.unlink(key)
        except Refused as error:
            refused = error
        self.expect(number, ("unlink", key), refused)
        self.check()

    @rule(number=sides, source=keys, key=keys)
    def rename(self, number: int, source: str, key: str) -> None:
        side = self.sides[number]
        item = self.bucket.items.get(source)
        if side.is_changed(source) or side.is_changed(key):
            return
        if item is not None and source != key and self._is_ambiguous(key, item.content):
            return
        refused = None
        try:
            side.rename(source, key)
        except Refused as error:
            refused = error
        self.expect(number, ("rename", source, key, 0), refused)
        self.check()

    @rule(number=sides, key=keys, mode=foreign_modes)
    def chmod(self, number: int, key: str, mode: int) -> None:
        side = self.sides[number]
        if side.is_changed(key):
            return
        refused = None
        try:
            side.chmod(key, mode)
        except Refused as error:
            refused = error
        self.expect(number, ("chmod", key, mode), refused)
        self.check()


def contents_below(directory: Path) -> Iterator[bytes]:
    """Yield the bytes of all files that stay there while they are read."""
    for path in directory.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file():
                yield path.read_bytes()


def copy(there: OtherSide, source: str, key: str) -> None:
    """Copy an object with its mode, as another program does."""
    if isinstance(there, S3Objects):
        there.client.copy_object(
            Bucket=there.bucket,
            Key=there.prefix + key,
            CopySource={"Bucket": there.bucket, "Key": there.prefix + source},
        )
        return
    assert isinstance(there, PlainFiles)
    beside = there.root / f"{key}.new"
    shutil.copy2(there.root / source, beside)
    beside.rename(there.root / key)


def set_mode(there: OtherSide, key: str, mode: int) -> None:
    """Change the mode and nothing else: on S3 that leaves the ETag as it was."""
    if isinstance(there, S3Objects):
        there.client.copy_object(
            Bucket=there.bucket,
            Key=there.prefix + key,
            CopySource={"Bucket": there.bucket, "Key": there.prefix + key},
            Metadata={"mode": str(0o100000 | mode)},
            MetadataDirective="REPLACE",
        )
        return
    assert isinstance(there, PlainFiles)
    path, known = there.root / key, "{}"
    with suppress(OSError):
        known = os.getxattr(path, XATTR).decode()
    metadata = json.loads(known)
    metadata.setdefault("user", {})["mode"] = str(0o100000 | mode)
    os.setxattr(path, XATTR, json.dumps(metadata).encode())


@pytest.fixture(params=("local", "s3"))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Two mounts of one store."""
    make = request.getfixturevalue("make_store")
    with closing(Place(make(request.param), tmp_path)) as place:
        yield place


@pytest.mark.timeout(TIME_S)
def test_what_others_write_is_seen_and_nothing_is_lost(place: Place) -> None:
    """Names, bytes and modes by the next call; a close that loses says so."""

    def machine() -> Writers:
        return Writers(place)

    for seed in seeds():
        sys.stdout.write(f"seed {seed}\n")
        test = get_state_machine_test(machine, settings=search(EXAMPLES, STEPS))  # type: ignore[arg-type]
        hypothesis.seed(seed)(test)()
