"""A whole file system over Dropbox, whose folders give all in them new revisions.

Without the kernel, against the fake; the same directory again is the next mount.
"""

import functools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from mountfs.backends import open_store
from mountfs.storage.protocol import Storager
from mountfs.storage.types import Features
from mountfs.vfs.attributes import Change
from mountfs.vfs.rename import EXCHANGE
from tests.fakes.dropbox_fixtures import options_of
from tests.fakes.dropbox_server import DropboxServer
from tests.fakes.dropbox_tree import Commit
from tests.fakes.held import Crash
from tests.fakes.volume import CALLER, Scene, open_scene

open_large = functools.partial(
    open_scene,
    journaled=True,
    size_max=64 << 20,
    block_size=1 << 20,
    part_size=8 << 20,
    put_size_max=8 << 20,
)


@pytest.fixture
async def store(
    dropbox_server: DropboxServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Storager]:
    """The account of the fake."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    opened = open_store("dropbox:///", options_of(dropbox_server))
    yield opened
    await opened.close()


async def make_tree(scene: Scene, *names: str) -> None:
    """Make a directory with files in it, and let the store have them."""
    await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
    for name in names:
        await scene.make(f"d/{name}", name.encode())
    if scene.fs.volume.journaled is not None:
        assert await scene.drain()


async def rename(scene: Scene, old: str, new: str, flags: int = 0) -> None:
    root = scene.root
    await scene.fs.renames.rename((root, old.encode()), (root, new.encode()), flags)


def contents(server: DropboxServer) -> dict[str, bytes]:
    """Return the files of the account."""
    entries = server.account.tree.entries
    return {path: each.data for path, each in entries.items() if each.data is not None}


@pytest.mark.parametrize("journaled", [False, True])
async def test_files_of_a_directory_that_moved_are_no_other_files(
    store: Storager, dropbox_server: DropboxServer, tmp_path: Path, *, journaled: bool
) -> None:
    """They are read from what is cached, edited, described and removed."""
    async with open_scene(
        tmp_path, store=store, ttl_s=60, journaled=journaled
    ) as scene:
        await make_tree(scene, "edited", "removed", "chmodded")
        opened = await scene.open(await scene.lookup("d/edited"))
        await rename(scene, "d", "moved")
        scene.store.asked.clear()
        await scene.fs.files.write(opened, 0, b"E")
        assert await scene.fs.files.read(opened, 0, 9) == b"Edited"
        await scene.close(opened)
        node = await scene.lookup("moved/chmodded")
        await scene.fs.attributes.apply(node, Change(mode=0o600), is_echo=False)
        folder = await scene.lookup("moved")
        await scene.fs.namespace.unlink(folder, b"removed")
        if journaled:
            assert await scene.drain()
        assert scene.store.asked["read"] == 0
        assert not list(scene.fs.volume.incidents)
    found = contents(dropbox_server)
    assert found == {"/moved/edited": b"Edited", "/moved/chmodded": b"chmodded"}


async def test_a_removal_below_a_directory_that_moved_outlives_a_crash(
    store: Storager, dropbox_server: DropboxServer, tmp_path: Path
) -> None:
    """The journal names the revision that the move gave, not the one before.

    An overwrite does, too; both were acknowledged, and neither may be refused.
    """
    async with open_scene(tmp_path, store=store, ttl_s=60, journaled=True) as scene:
        await make_tree(scene, "removed", "edited")
        await rename(scene, "d", "moved")
        for call in ("delete", "delete_many", "write"):
            scene.store.hold(call)  # the crash comes before they are sent
        folder = await scene.lookup("moved")
        await scene.fs.namespace.unlink(folder, b"removed")
        opened = await scene.open(await scene.lookup("moved/edited"))
        await scene.fs.files.write(opened, 0, b"E")
        await scene.close(opened)
        assert len(scene.ledger.table) == 2

    async with open_scene(tmp_path, store=store, ttl_s=60, journaled=True) as scene:
        assert await scene.drain()
        assert not list(scene.fs.volume.incidents)
    assert contents(dropbox_server) == {"/moved/edited": b"Edited"}


@pytest.mark.parametrize("sizes", [(5,), (5, 6, 7), (9 << 20,)])
async def test_an_upload_that_had_arrived_before_a_crash_is_ours(
    store: Storager,
    dropbox_server: DropboxServer,
    tmp_path: Path,
    sizes: tuple[int, ...],
) -> None:
    """One, several that are finished together, and one in a session."""
    files = {f"/f{at}": bytes([at]) * size for at, size in enumerate(sizes)}
    call = "complete_multipart" if sizes[0] > 8 << 20 else "write"
    async with open_large(tmp_path, store=store) as scene:
        holds = [scene.store.hold(call, is_after=True) for _ in files]
        for path, content in files.items():
            await scene.make(path[1:], content)
        for hold in holds:
            await hold.reached.wait()
        assert len(scene.ledger.table) == len(files)
    assert contents(dropbox_server) == files

    async with open_large(tmp_path, store=store) as scene:
        assert await scene.drain()
        assert not list(scene.fs.volume.incidents)
    assert contents(dropbox_server) == files


async def test_what_others_write_while_a_directory_moves_is_not_replaced(
    store: Storager, dropbox_server: DropboxServer, tmp_path: Path
) -> None:
    """Nor are its bytes taken for those that are cached of the file."""
    async with open_scene(tmp_path, store=store) as scene:
        await make_tree(scene, "file")
        opened = await scene.open(await scene.lookup("d/file"))
        await scene.fs.files.write(opened, 0, b"F")
        hold = scene.store.hold("list")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rename, scene, "d", "moved")
            await hold.reached.wait()
            theirs = Commit("/moved/file", mode="overwrite")
            with dropbox_server.account.lock, dropbox_server.account.tree.changed:
                dropbox_server.account.tree.write(theirs, b"them")
            hold.release()
        await scene.close(opened)
    assert set(contents(dropbox_server).values()) == {b"File", b"them"}


async def test_directories_that_change_places_have_their_new_revisions(
    store: Storager, dropbox_server: DropboxServer, tmp_path: Path
) -> None:
    """Each was moved twice, or once."""
    async with open_scene(
        tmp_path, store=store, ttl_s=60, features=Features.all()
    ) as scene:
        await make_tree(scene, "file")
        await scene.fs.namespace.mkdir(scene.root, b"e", 0o755, CALLER)
        await scene.make("e/file", b"other")
        await rename(scene, "d", "e", EXCHANGE)
        for path, first in (("d/file", b"O"), ("e/file", b"F")):
            opened = await scene.open(await scene.lookup(path))
            await scene.fs.files.write(opened, 0, first)
            await scene.close(opened)
    found = contents(dropbox_server)
    assert found["/d/file"] == b"Other"
    assert found["/e/file"] == b"File"


async def test_a_name_whose_append_waits_takes_no_other_file_with_it(
    store: Storager, dropbox_server: DropboxServer, tmp_path: Path
) -> None:
    """Its removal gives up what was not committed, and leaves what others made there.

    Nor does it take a file whose name differs in case alone, which Dropbox has in the
    same place.
    """
    tree = dropbox_server.account.tree
    async with open_scene(tmp_path, store=store, ttl_s=60) as scene:
        for name, theirs in (("log", "/log"), ("Other", "/other")):
            opened = await scene.create(scene.root, name)
            await scene.fs.files.write(opened, 0, b"not committed")
            with dropbox_server.account.lock, tree.changed:
                tree.write(Commit(theirs, mode="overwrite"), b"theirs")
            await scene.fs.namespace.unlink(scene.root, name.encode())
            await scene.close(opened)
    assert contents(dropbox_server) == {"/log": b"theirs", "/other": b"theirs"}


async def test_a_file_named_as_a_folder_in_another_case_is_kept_beside_it(
    store: Storager, dropbox_server: DropboxServer, tmp_path: Path
) -> None:
    """As where a file has that name: nothing waits for ever."""
    async with open_scene(tmp_path, store=store, ttl_s=60) as scene:
        await scene.fs.namespace.mkdir(scene.root, b"name", 0o755, CALLER)
        await scene.make("NAME", b"bytes")
    found = contents(dropbox_server)
    assert list(found.values()) == [b"bytes"]
    assert next(iter(found)).startswith("/name (conflict ")
    assert dropbox_server.account.tree.entries["/name"].is_folder


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("call", ["delete", "move"])
async def test_crash_while_a_folder_takes_the_place_of_an_empty_one(
    store: Storager,
    dropbox_server: DropboxServer,
    tmp_path: Path,
    *,
    call: str,
    is_after: bool,
) -> None:
    """The next mount finishes it: the name that comes has never nothing for good."""
    async with open_scene(tmp_path, store=store) as scene:
        await make_tree(scene, "file")
        await scene.fs.namespace.mkdir(scene.root, b"new", 0o755, CALLER)
        hold = scene.store.hold(call, is_after=is_after)
        hold.error = Crash()
        hold.release()
        with pytest.raises(Crash):
            await rename(scene, "d", "new")

    async with open_scene(tmp_path, store=store) as scene:
        assert set(await scene.nodes("")) == {"new"}
        assert await scene.see("new/file") == b"file"
        assert await scene.cache.journal.renames() == ()
    assert contents(dropbox_server) == {"/new/file": b"file"}


async def test_what_came_to_the_place_of_a_folder_since_a_crash_stays(
    store: Storager, dropbox_server: DropboxServer, tmp_path: Path
) -> None:
    """Then nothing moves: nobody was told that it had."""
    async with open_scene(tmp_path, store=store) as scene:
        await make_tree(scene, "file")
        await scene.fs.namespace.mkdir(scene.root, b"new", 0o755, CALLER)
        await scene.make("new/foreign", b"theirs")
        await scene.cache.journal.begin_rename("d/", "new/")

    async with open_scene(tmp_path, store=store) as scene:
        assert await scene.cache.journal.renames() == ()
    found = contents(dropbox_server)
    assert found == {"/d/file": b"file", "/new/foreign": b"theirs"}
