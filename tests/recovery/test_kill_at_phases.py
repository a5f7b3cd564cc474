"""SIGKILL between each two durable steps: at every phase that the code names.

The phases are read from the code, so that a new one is tried without a word here. The
daemon ends itself when it reaches one for the n-th time; then the next mount finishes
what was left, and the store is read as it is and by a mount that has nothing else.
"""

import os
import re
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fakes.cutting_proxy import answer
from tests.fuse.conftest import Mounter
from tests.fuse.mounting import UNMOUNT_S, Mount, run_command
from tests.fuse.stores import Store
from tests.fuse.streaming import SIZE, content, open_new, unfinished_uploads, write
from tests.recovery.ledger import Ledger, files_in, tree_of
from tests.recovery.outages import Outages, outages
from tests.recovery.program import MIB, SMALL_SIZES, Program, opened, put

__all__ = ["outages"]

CHECKOUT = Path(__file__).resolve().parents[2]
VARIABLE = "MOUNTFS_TEST_DIE_AT"
NAMED = re.compile(r"""\breached\(\s*"([^"]+)"\s*\)""")
AT_LENGTH = "AT_LENGTH" in os.environ
TIMES = (1, 2, 5, 11, 23) if AT_LENGTH else (3,)
"""At which visit it dies."""
STEPS_MAX = 400
LARGE_FILES = 24 if AT_LENGTH else 4
ANY_WARNING = r"^\S+ \S+ (WARNING|ERROR) "
IN_STORE_MODE = ("file-move.",)
"""These come only where each rename goes to the store at once."""
OF_UPLOADS = ("upload-", "part-", "parts-")
"""These take a file that is sent in parts."""
IN_A_RACE = ("conflict-copied", "drain.kept")
"""These come only when somebody else has changed the object."""
WHEN_LINKED = ("later-link.begun", "later-link.moved")
"""These come only when a file that waits for the store is given a second name."""
AFTER_FAILURES = ("conflict-set-aside", "failed-copied")
"""These come only to a file whose bytes are in an upload alone, or that has failed."""
OF_LOCAL_ONLY = ("local-only.released", "local-only.moved")
"""These come only to files whose names say that they stay here."""
pytestmark = [pytest.mark.fuse, pytest.mark.timeout(300)]


def phases() -> list[str]:
    """Return all that the code names."""
    folders = (CHECKOUT / "cache", CHECKOUT / "mountfs")
    texts = (path.read_text() for each in folders for path in each.rglob("*.py"))
    return sorted({name for text in texts for name in NAMED.findall(text)})


SPECIAL = {*IN_A_RACE, *WHEN_LINKED, *AFTER_FAILURES, *OF_LOCAL_ONLY}
SAMPLED = ("drain.", "queue.")
"""Those of the others are the same at length: `make proof` tries them."""
ALONE = [
    pytest.param(name, marks=() if name.startswith(SAMPLED) else pytest.mark.slow)
    for name in phases()
    if name not in SPECIAL
]


def test_the_code_has_phases() -> None:
    """The names are still found, and none that is special here has gone."""
    assert len(phases()) > 10
    assert set(phases()) >= SPECIAL


def durability_for(phase: str) -> str:
    """Return the mode in which a phase is reached."""
    return "store" if phase.startswith(IN_STORE_MODE) else "journal"


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("phase", ALONE)
@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_daemon_dies_at_a_phase(
    mounter: Mounter,
    store: Store,
    phase: str,
    times: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One program at work; its names end old or new, whole, and new if it was told."""
    option = f"--durability={durability_for(phase)}"
    # A mount itself passes through those of the journal.
    visit = times + 20 if phase.startswith("journal.") else times
    monkeypatch.setenv(VARIABLE, f"{phase}:{visit}")
    mount = mounter(store, option)
    monkeypatch.delenv(VARIABLE)
    ledger = Ledger({})

    with suppress(OSError):
        (mount.path / "d").mkdir()
        program = Program(mount.path / "d", ledger, times, SMALL_SIZES)
        for number in range(LARGE_FILES if phase.startswith(OF_UPLOADS) else 0):
            program.write(f"large-{number}", 18 * MIB)
            run_command("flush", str(mount.path))
            # An edit of what is stored is sent in parts when it is closed.
            program.edit(f"large-{number}")
            run_command("flush", str(mount.path))
        for number in range(times if phase.startswith("drain.") else 0):
            # What the store has already is moved and removed there, not only here.
            program.write(f"moved-{number}", 100)
            run_command("flush", str(mount.path))
            program.rename(f"moved-{number}", f"gone-{number}")
            run_command("flush", str(mount.path))
            program.remove(f"gone-{number}")
            run_command("flush", str(mount.path))
        for _ in range(STEPS_MAX):
            program.step()
    assert ended(mount) == -signal.SIGKILL, f"{phase} was not reached"
    again = mounter(store, option)
    again.announce("cleaning up")
    again.unmount()

    ledger.check_files(files_in(store.below("d")), "in the store")
    fresh = mounter(store, at="fresh")
    ledger.check(tree_of(fresh.path / "d"), "by a fresh mount")


@pytest.mark.parametrize("phase", IN_A_RACE)
@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_daemon_dies_while_it_settles_a_race(
    mounter: Mounter,
    store: Store,
    phase: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The foreign bytes keep the name; ours, if they were acknowledged, are beside it
    or kept for whoever asks.
    """
    is_kept = phase == "drain.kept"
    options = (
        f"--durability={'journal' if is_kept else 'store'}",
        f"--conflict={'fail' if is_kept else 'copy'}",
    )
    store.there.write("file", b"first")
    monkeypatch.setenv(VARIABLE, phase)
    mount = mounter(store, *options)
    monkeypatch.delenv(VARIABLE)

    with suppress(OSError), opened(mount.path / "file", os.O_RDWR) as descriptor:
        put(descriptor, b"ours!", 0)
        store.there.write("file", b"their own")
    assert ended(mount) == -signal.SIGKILL, f"{phase} was not reached"
    again = mounter(store, *options)
    again.announce(ANY_WARNING)
    done = run_command("umount", str(again.path))
    again.process.wait(UNMOUNT_S)

    assert store.there.read("file") == b"their own"
    beside = [key for key in store.there.listing() if " (conflict " in key]
    if is_kept:
        assert done.returncode == os.EX_TEMPFAIL, "it was acknowledged and is silent"
        assert "file" in done.stdout + done.stderr
    else:
        assert {store.there.read(key) for key in beside} <= {b"ours!"}


@pytest.mark.slow
@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_daemon_dies_when_it_has_set_their_bytes_aside(
    mounter: Mounter, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large file was acknowledged, a part of it lies in an upload alone, and somebody
    else was there first: ours takes the name, and theirs is beside, once or twice.
    """
    options = ("--durability=journal", "--cache-size=32M")
    monkeypatch.setenv(VARIABLE, "conflict-set-aside")
    mount = mounter(store, *options)
    monkeypatch.delenv(VARIABLE)

    descriptor = open_new(mount.path / "file")
    write(descriptor, 0, SIZE)
    store.there.write("file", b"their own")
    os.close(descriptor)
    assert ended(mount) == -signal.SIGKILL, "it was not reached"
    again = mounter(store, *options)
    again.announce(ANY_WARNING)
    again.look()
    run_command("umount", str(again.path))
    again.process.wait(UNMOUNT_S)

    assert store.there.read("file") == content()
    beside = [key for key in store.there.listing() if " (conflict " in key]
    assert {store.there.read(key) for key in beside} == {b"their own"}
    assert unfinished_uploads(store) == 0


def test_daemon_dies_when_it_has_copied_what_failed(
    mounter: Mounter, outages: Outages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that could not be stored is written again: it is kept as it had failed."""
    monkeypatch.setenv(VARIABLE, "failed-copied")
    mount = mounter(outages.store)
    monkeypatch.delenv(VARIABLE)
    outages.proxy.fail("PutObject", answer(403, "AccessDenied"), is_lasting=True)

    with pytest.raises(PermissionError):
        (mount.path / "file").write_bytes(b"ours, as it was")
    with suppress(OSError), opened(mount.path / "file", os.O_RDWR) as descriptor:
        put(descriptor, b"news", 0)
    assert ended(mount) == -signal.SIGKILL, "it was not reached"
    outages.end()
    again = mounter(outages.store)
    again.announce(ANY_WARNING)
    again.unmount()

    assert outages.there.read("file") == b"ours, as it was"
    assert not list(again.state_dir.rglob("*.spool"))


@pytest.mark.parametrize("phase", WHEN_LINKED)
@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_daemon_dies_while_a_second_name_waits(
    mounter: Mounter,
    store: Store,
    phase: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever was told of a name finds it; whoever was told that it went does not."""
    options = ("--durability=journal", "--virtual=all")
    monkeypatch.setenv(VARIABLE, f"{phase}:3")
    mount = mounter(store, *options)
    monkeypatch.delenv(VARIABLE)
    told: dict[str, set[str]] = {"written": set(), "linked": set(), "removed": set()}

    with suppress(OSError):
        for number in map(str, range(STEPS_MAX)):
            first = mount.path / f"first-{number}"
            first.write_bytes(number.encode())
            told["written"].add(number)
            os.link(first, mount.path / f"second-{number}")
            told["linked"].add(number)
            first.unlink()
            told["removed"].add(number)
    assert ended(mount) == -signal.SIGKILL, f"{phase} was not reached"
    again = mounter(store, *options)
    seen = {path.name: path.read_bytes() for path in again.path.iterdir()}
    again.announce("cleaning up")
    again.unmount()

    there = {key for key in store.there.listing() if not key.startswith(".mountfs/")}
    assert there == set(seen)
    for number in told["written"]:
        names = {f"first-{number}", f"second-{number}"} & set(seen)
        assert {seen[name] for name in names} == {number.encode()}
        assert number not in told["linked"] or f"second-{number}" in names
        assert number not in told["removed"] or f"first-{number}" not in names


@pytest.mark.parametrize(
    ("phase", "store"),
    [(OF_LOCAL_ONLY[0], "s3"), (OF_LOCAL_ONLY[1], "local")],
    indirect=["store"],
)
def test_daemon_dies_while_local_only_files_are_sent_or_follow(
    mounter: Mounter, store: Store, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second name has one sent, or a directory that the store moves takes them with
    it. Each is there afterwards, in one place, and the others were not sent.
    """
    options = ("--durability=journal", "--virtual=all", "--local-only=*.tmp")
    monkeypatch.setenv(VARIABLE, f"{phase}:3")
    mount = mounter(store, *options)
    monkeypatch.delenv(VARIABLE)
    written: set[str] = set()

    with suppress(OSError):
        (mount.path / "d-0").mkdir()
        for number in range(STEPS_MAX):
            directory = mount.path / f"d-{number}"
            for name in (f"{number}.tmp", f"other-{number}.tmp"):
                (directory / name).write_bytes(name.encode())
                written.add(name)
            if phase == "local-only.released":
                os.link(directory / f"{number}.tmp", directory / f"{number}")
                run_command("flush", str(mount.path))
            directory.rename(mount.path / f"d-{number + 1}")
    assert ended(mount) == -signal.SIGKILL, f"{phase} was not reached"
    again = mounter(store, *options)
    again.announce("cleaning up")
    (directory,) = again.path.iterdir()
    seen = {path.name: path.read_bytes() for path in directory.glob("*.tmp")}
    again.unmount()

    assert seen == {name: name.encode() for name in written}
    there = {key.rpartition("/")[2] for key in store.there.listing()}
    assert there.isdisjoint(name for name in written if name.startswith("other"))


def ended(mount: Mount) -> int:
    """Return how a daemon ended that was to die, after it had a chance to drain."""
    if mount.process.poll() is None:
        run_command("umount", str(mount.path))
    return mount.process.wait(UNMOUNT_S)
