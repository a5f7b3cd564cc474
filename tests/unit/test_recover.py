"""`mountfs recover`: what is left is told, exported, saved, and given up if told."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import trio

from mountfs import cli
from mountfs.backends.local import LocalStore
from mountfs.cache import salvage
from mountfs.cache.directory import DirectoryLock
from mountfs.cache.journal import Journal
from mountfs.cache.journalfile import FORMAT, JournalError
from mountfs.configuration import config
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import Unreachable
from mountfs.storage.types import Metadata
from mountfs.storage.virtual import VirtualStorager
from tests.fakes.cache_stack import open_stack

BASE = bytes(range(200))
EDITED = BASE[:50] + b"x" * 20 + BASE[70:]


class Scene:
    """A state directory in which a mount has left two files."""

    def __init__(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = place / "store"
        self.root.mkdir()
        self.url = f"file://{self.root}"
        self.states = place / "states"
        self.state = place / "states" / "x"
        self._capsys = capsys

    async def leave(self) -> None:
        """Leave a new file, and one that was edited in the middle."""
        store = VirtualStorager(LocalStore(self.root), LocalStore(self.root).features)
        known = await store.write("d/edited", BytesBody(BASE))
        async with open_stack(store, self.state.parent / "stack") as stack:
            new = stack.writeback.begin("new", None)
            await stack.writeback.write(new, 0, b"new bytes", metadata=Metadata)
            edited = stack.writeback.begin("d/edited", known)
            await stack.writeback.write(edited, 50, b"x" * 20, metadata=Metadata)
            for dirty in (new, edited):
                error = Unreachable("no route")
                await stack.writeback.keep_failed(dirty, error, Metadata())
        (self.state.parent / "stack" / "state").rename(self.state)
        await store.close()

    def __call__(self, *arguments: str | Path) -> tuple[int, str]:
        """Run the command; return its exit code and what it said."""
        code = cli.main(["recover", *map(str, arguments)])
        said = self._capsys.readouterr()
        return code, said.out + said.err

    def damage(self, how: str) -> None:
        """Harm the journal."""
        place = self.state / "journal.sqlite"
        match how:
            case "newer":
                with closing(sqlite3.connect(place)) as journal:
                    journal.execute(f"PRAGMA user_version = {FORMAT + 1}")
            case "page":
                content = bytearray(place.read_bytes())
                size = int.from_bytes(content[16:18])
                for page in range(1, len(content) // size):
                    if b"no route" not in content[page * size : (page + 1) * size]:
                        content[page * size : (page + 1) * size] = b"\xee" * size
                place.write_bytes(content)
            case "header":
                place.write_bytes(b"this is no journal at all" * 100)
            case _:
                place.unlink()


@pytest.fixture
def scene(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Scene:
    made = Scene(tmp_path, capsys)
    made.states.mkdir()
    trio.run(made.leave)
    return made


def names(scene: Scene) -> dict[str, str]:
    """Return what is kept: names by keys."""
    return {kept.key: kept.name for kept in salvage.look(scene.state).kept}


def contents(directory: Path) -> dict[str, bytes]:
    """Return the files below a directory."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_what_is_left_is_told_and_nothing_is_changed(scene: Scene) -> None:
    """Name, size and reason of each; the directory is as before."""
    before = contents(scene.state)

    code, said = scene(scene.states)

    assert code == 1
    assert f"failed-{names(scene)['new'].removeprefix('failed-')}  new" in said
    assert "bytes that could not be stored, 9 B: no route" in said
    assert "d/edited" in said
    assert "The next mount of this store sends what it can" in said
    after = contents(scene.state)
    after.pop("lock", None)
    before.pop("lock", None)
    assert after == before


def test_files_are_exported_with_the_bytes_of_the_store(
    scene: Scene, tmp_path: Path
) -> None:
    """With the URL the untouched part of an edited file comes from the store."""
    settings_dir = scene.states / identity(scene.url)
    scene.state.rename(settings_dir)

    code, said = scene(
        scene.url, "--state-dir", scene.states, "--export", tmp_path / "out"
    )

    assert code == 0, said
    assert contents(tmp_path / "out") == {"new": b"new bytes", "d/edited": EDITED}


@pytest.mark.parametrize("why", ["no store", "changed"])
def test_an_export_says_which_bytes_are_missing(
    scene: Scene, tmp_path: Path, why: str
) -> None:
    """Bytes that only the store has, or had, are zeros and are named."""
    place: str | Path = scene.states
    more: tuple[str | Path, ...] = ()
    if why == "changed":
        (scene.root / "d" / "edited").write_bytes(b"theirs")
        scene.state.rename(scene.states / identity(scene.url))
        place, more = scene.url, ("--state-dir", scene.states)

    code, said = scene(place, *more, "--export", tmp_path / "out")

    assert code == 1
    assert "bytes 0 to 50 are missing (zeros): they are those of version" in said
    assert "bytes 70 to 200 are missing" in said
    expected = bytes(50) + b"x" * 20 + bytes(130)
    assert contents(tmp_path / "out") == {"new": b"new bytes", "d/edited": expected}


def test_an_export_replaces_no_file_and_stays_in_its_directory(
    scene: Scene, tmp_path: Path
) -> None:
    """What is there already keeps its name, and no key leads outside."""
    with closing(sqlite3.connect(scene.state / "journal.sqlite")) as journal, journal:
        journal.execute("UPDATE failed SET key = ? WHERE key = ?", (b"../new", b"new"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "new").write_bytes(b"there before")

    scene(scene.states, "--export", tmp_path / "out")

    found = contents(tmp_path / "out")
    assert (found["new"], found["new (2)"]) == (b"there before", b"new bytes")
    assert not (tmp_path / "new").exists()


def test_one_is_given_up_only_when_that_is_agreed(scene: Scene) -> None:
    """Without --yes it is explained; with it row and bytes are gone, others stay."""
    name = names(scene)["new"]

    code, said = scene(scene.states, "--drop", name)
    assert code == 1
    assert "is given up for good" in said
    assert names(scene).keys() == {"new", "d/edited"}

    code, said = scene(scene.states, "--drop", name, "--yes")
    assert code == 0
    assert names(scene).keys() == {"d/edited"}
    assert len(list((scene.state / "spool").glob("*.spool"))) == 1
    assert scene(scene.states, "--drop", name, "--yes")[0] == 2


@pytest.mark.parametrize("how", ["newer", "page", "header"])
def test_a_journal_that_no_mount_takes_names_the_command(
    scene: Scene, how: str
) -> None:
    """The refusal is one sentence that says what to do, and changes nothing."""
    scene.damage(how)
    before = (scene.state / "journal.sqlite").read_bytes()

    with pytest.raises(JournalError, match=f"`mountfs recover {scene.state}`"):
        trio.run(Journal.open, scene.state / "journal.sqlite")

    assert (scene.state / "journal.sqlite").read_bytes() == before


@pytest.mark.parametrize("how", ["newer", "page", "header", "missing"])
def test_a_rescue_loses_no_byte(scene: Scene, tmp_path: Path, how: str) -> None:
    """What can be read goes into a new journal, files without an entry are set apart,
    the old journal stays, and the next mount goes on.
    """
    scene.damage(how)
    old = scene.state / "journal.sqlite"
    before = old.read_bytes() if old.exists() else None
    is_readable = how in ("newer", "page")

    code, said = scene(scene.states, "--rescue")
    assert code == 1
    assert "say --yes" in said
    assert (old.read_bytes() if old.exists() else None) == before

    code, said = scene(scene.states, "--rescue", "--yes")
    assert code == 0, said
    kept = list(scene.state.glob("journal.sqlite.damaged-*"))
    assert [each.read_bytes() for each in kept] == ([before] if before else [])
    assert trio.run(failed_keys, old) == ({"new", "d/edited"} if is_readable else set())
    where = "spool" if is_readable else salvage.ORPHANS
    bytes_ = sorted(path.read_bytes() for path in (scene.state / where).glob("*.spool"))
    assert len(bytes_) == 2
    assert b"new bytes" in bytes_

    scene(scene.states, "--export", tmp_path / "out")
    exported = contents(tmp_path / "out").values()
    assert b"new bytes" in exported
    assert any(b"x" * 20 in each for each in exported)


@pytest.mark.parametrize("phase", ["link", "unlink", "replace"])
def test_a_rescue_that_is_cut_short_begins_anew(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    """Wherever it stops, bytes are where they were or set apart, and it can go on."""
    scene.damage("header")

    def fail(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    owner = {"link": os, "unlink": Path, "replace": Path}[phase]
    with monkeypatch.context() as patch:
        salvage_unlink = Path.unlink
        if phase == "unlink":
            # The first removes what an earlier attempt left.
            calls: list[Path] = []

            def second(path: Path, missing_ok: bool = False) -> None:
                calls.append(path)
                if path.name.endswith("-wal"):
                    raise KeyboardInterrupt
                salvage_unlink(path, missing_ok=missing_ok)

            patch.setattr(Path, "unlink", second)
        else:
            patch.setattr(owner, phase, fail)
        with pytest.raises(KeyboardInterrupt):
            salvage.rescue(scene.state, "first")

    left = salvage.look(scene.state)
    assert left.damage is not None
    assert len(left.kept) == 2
    salvage.rescue(scene.state, "second")
    assert salvage.look(scene.state).damage is None
    assert len(salvage.look(scene.state).kept) == 2


def test_a_missing_journal_is_not_taken_for_an_empty_one(scene: Scene) -> None:
    """Bytes that no journal explains any more are lost only if somebody says so."""
    assert not salvage.is_lost(scene.state)
    scene.damage("missing")
    assert salvage.is_lost(scene.state)


def test_a_directory_in_use_is_left_alone(scene: Scene) -> None:
    """A live mount is not disturbed."""
    with DirectoryLock(scene.state):
        code, said = scene(scene.states)

    assert code == 2
    assert "is in use by process" in said


def test_a_directory_without_state_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not a state directory is not taken for an empty one."""
    assert cli.main(["recover", str(tmp_path)]) == 2
    assert "holds no state of a mount" in capsys.readouterr().err


def test_a_store_that_left_nothing_is_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A URL that was never mounted has nothing to recover."""
    arguments = ["recover", "memory://", "--state-dir", str(tmp_path)]
    assert cli.main(arguments) == 0
    assert "Nothing is left" in capsys.readouterr().out


async def failed_keys(path: Path) -> set[str]:
    """Return the keys of the failed files that a journal has."""
    async with await Journal.open(path) as journal:
        return {row.key for row in await journal.failed()}


def identity(url: str) -> str:
    """Return the name of a store's state directory."""
    settings = config.mount_config(
        url, "/", {}, config_file=Path("/dev/null"), environ={}
    )
    return config.identity_of(settings)
