"""What a small file costs here before its close returns: counts, not seconds."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from mountfs.backends.memory import MemoryStore
from mountfs.cache import journal, ledger, spool
from mountfs.cache.burst import Burst
from mountfs.cache.journalfile import JournalFull
from mountfs.cache.knowledge import Knowledge
from mountfs.cache.metadata import MetadataCache
from mountfs.cache.promised import PromisedFiles
from mountfs.cache.spool import IN_MEMORY_MAX
from mountfs.storage.types import MultipartLimits
from mountfs.vfs.attributes import Change
from mountfs.vfs.filestate import Dirty
from mountfs.vfs.openers import DESCRIPTORS_MAX, FEW, Openers
from tests.fakes import volume
from tests.fakes.cache_stack import open_stack, tiny_store
from tests.fakes.volume import CALLER, Scene, open_scene


@contextmanager
def small_process() -> Iterator[int]:
    """Start a process that has few files open; yield its id."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process.pid
        process.kill()


async def test_a_close_is_one_synced_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transactions: list[int] = []
    transact = journal._transact

    def counted(connection: Any, turns: list[Any]) -> None:
        transactions.append(len(turns))
        transact(connection, turns)

    monkeypatch.setattr(journal, "_transact", counted)
    async with open_scene(tmp_path, journaled=True) as scene:
        scene.ledger.burst = Burst(clock=lambda: 0.0)  # in which nothing is sent
        transactions.clear()
        for number in range(10):
            await scene.make(str(number), b"x" * 10)
        assert transactions == [1] * 10
        assert len(await scene.cache.journal.pending()) == 10


async def test_the_few_files_of_a_program_are_looked_at_without_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hops: list[object] = []

    async def run_sync(call: Any, *_: object, **__: object) -> Any:
        hops.append(call)
        return call()

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)
    openers = Openers()
    openers.device = 1
    inode = 12345
    with small_process() as pid:
        assert not await openers.holds(pid, inode, b"name")
    assert hops == []

    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(FEW)]
    try:
        await openers.holds(os.getpid(), inode, b"name")
    finally:
        for file in files:
            os.close(file)
    assert len(hops) == 1


@pytest.fixture
def oddly_mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system of somebody else, at a mount point whose name is no text."""
    odd = tmp_path / os.fsdecode(b"\xfc\x0c")
    odd.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(odd)], check=True)
    yield odd
    subprocess.run(["umount", str(odd)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a tmpfs")
async def test_an_opener_is_found_whatever_others_call_their_mounts(
    oddly_mounted: Path,
) -> None:
    openers = Openers()
    file = os.open(oddly_mounted / "name", os.O_WRONLY | os.O_CREAT)
    try:
        found = os.fstat(file)
        openers.device = found.st_dev
        assert await openers.holds(os.getpid(), found.st_ino, b"name")
    finally:
        os.close(file)


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What worker threads were asked to do."""
    calls: list[object] = []
    start = trio.lowlevel.start_thread_soon

    def counted(call: Any, *rest: Any) -> None:
        calls.append(call)
        start(call, *rest)

    monkeypatch.setattr(trio.lowlevel, "start_thread_soon", counted)
    return calls


async def test_a_small_file_is_one_hop_to_a_thread(
    tmp_path: Path, hops: list[object]
) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        scene.ledger.burst = Burst(clock=lambda: 0.0)  # in which nothing is sent
        await scene.make("first", b"x" * 10)
        hops.clear()
        await scene.make("second", b"x" * 10)
        assert len(hops) == 1


async def test_pages_here_and_there_are_one_hop_to_a_thread(
    tmp_path: Path, hops: list[object]
) -> None:
    """However large the file is: they are in its row, as those of a small one."""
    async with open_scene(tmp_path, journaled=True) as scene:
        scene.ledger.burst = Burst(clock=lambda: 0.0)  # in which nothing is sent
        page, apart = b"edit" * 1024, 12 * 4096
        await scene.put("large", bytes(20 * apart))
        opened = await scene.open(await scene.lookup("large"), os.O_RDWR)
        hops.clear()
        for number in range(20):
            await scene.fs.files.write(opened, number * apart, page)
        await scene.close(opened)
        assert len(hops) == 1
        content = await scene.see("large")
        assert content == (page + bytes(apart - len(page))) * 20


@pytest.mark.parametrize(("size", "count"), [(10, 1), (3 * IN_MEMORY_MAX // 2, 2)])
async def test_hops_to_a_thread_of_an_append(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    hops: list[object],
    size: int,
    count: int,
) -> None:
    """The bytes of a small file are in its row; a large one is synced before."""
    roomy = partial(open_stack, put_size_max=MIB, part_size=MIB, block_size=MIB)
    monkeypatch.setattr(volume, "open_stack", roomy)
    async with open_scene(tmp_path, journaled=True, capabilities=ROOMY) as scene:
        scene.ledger.burst = Burst(clock=lambda: 0.0)  # in which nothing is sent
        await scene.make("log", bytes(size))
        await append(scene, "log", PIECE)
        hops.clear()
        await append(scene, "log", PIECE)
        assert len(hops) == count


async def test_an_append_to_what_only_the_store_has_makes_no_file(
    tmp_path: Path, hops: list[object]
) -> None:
    """However large that is: what waits of it are the few bytes of each append."""
    async with open_scene(tmp_path, journaled=True) as scene:
        scene.ledger.burst = Burst(clock=lambda: 0.0)  # in which nothing is sent
        await scene.put("log", bytes(2 * IN_MEMORY_MAX))
        await append(scene, "log", PIECE)
        hops.clear()
        await append(scene, "log", PIECE)
        assert len(hops) == 1
        assert await scene.see("log") == bytes(2 * IN_MEMORY_MAX) + 2 * PIECE


async def test_only_a_second_close_is_worth_a_look_for_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the store is waited for, each of them is; also if nobody has written yet:
    so shells close their first copy of a descriptor.
    """
    looks: list[bytes] = []

    async def holds(self: Openers, pid: int, inode: int, name: bytes) -> bool:
        looks.append(name)
        return False

    monkeypatch.setattr(Openers, "holds", holds)
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.make("file", b"x" * 10)
        assert looks == []

        opened = await scene.create(scene.root, "empty")
        await scene.fs.files.flush(opened)
        assert looks == [b"empty"]

        await scene.fs.files.write(opened, 0, b"x")
        await scene.close(opened)
        assert looks == [b"empty"] * 2

    looks.clear()
    async with open_scene(tmp_path / "stored") as scene:
        await scene.make("stored", b"x" * 10)
    assert looks == [b"stored"]


async def test_what_was_just_looked_up_is_made_with_few_looks_at_what_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before create(2) the kernel has asked for the name: there is none."""
    looks: list[str] = []
    lookup = MetadataCache.lookup

    def counted(self: MetadataCache, key: str) -> Knowledge | None:
        looks.append(key)
        return lookup(self, key)

    async with open_scene(tmp_path, journaled=True, ttl_s=3600) as scene:
        directory = await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        monkeypatch.setattr(MetadataCache, "lookup", counted)
        assert await scene.fs.namespace.lookup(directory, b"f") is None
        await scene.make("d/f", b"x")

    assert [each for each in looks if each.startswith("d/f")] == 2 * [
        "d/f",
        "d/f/",
        "d/f.rclonelink",
    ]


# --- appending to what waits for the store -------------------------------------------

MIB = 1 << 20
LARGE = 3 * IN_MEMORY_MAX // 2
PIECE = bytes(range(100))


ROOMY = tiny_store(
    move=False,
    attributes=False,
    multipart=MultipartLimits(part_size_min=1, part_size_max=1 << 30, parts_max=1000),
)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files be stored whole: parts of a few bytes are for other tests."""
    roomy = partial(open_stack, put_size_max=MIB, part_size=MIB, block_size=MIB)
    monkeypatch.setattr(volume, "open_stack", roomy)


async def append(scene: Scene, name: str, piece: bytes) -> None:
    """Open, append, close."""
    opened = await scene.open(await scene.lookup(name), os.O_WRONLY | os.O_APPEND)
    try:
        await scene.fs.files.write(opened, opened.file.size, piece)
    finally:
        await scene.close(opened)


@pytest.mark.usefixtures("limits")
async def test_an_append_copies_nothing_of_what_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    write = spool.Spool.write

    async def counted(
        self: spool.Spool, offset: int, data: bytes, *, and_sync: bool = False
    ) -> None:
        written.append(len(data))
        await write(self, offset, data, and_sync=and_sync)

    content = os.urandom(LARGE)
    async with open_scene(tmp_path, journaled=True, capabilities=ROOMY) as scene:
        scene.ledger.burst = Burst(clock=lambda: 0.0)  # in which nothing is sent
        await scene.make("log", content)
        monkeypatch.setattr(spool.Spool, "write", counted)
        for _ in range(20):
            await append(scene, "log", PIECE)
        assert sum(written) == 2 * 20 * len(PIECE)  # as written, and where it stays
        assert len(scene.ledger.table) == 1
        assert len(list((tmp_path / "state" / "spool").glob("*.spool"))) == 1
        assert await scene.drain()
        assert await scene.content("log") == content + 20 * PIECE
        assert scene.cache.budget.dirty == 0


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize("size", [10, LARGE])
async def test_an_append_that_the_journal_refuses_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    content = os.urandom(size)
    async with open_scene(tmp_path, journaled=True, capabilities=ROOMY) as scene:
        scene.ledger.burst = Burst(clock=lambda: 0.0)
        await scene.make("log", content)
        opened = await scene.open(await scene.lookup("log"))
        await scene.fs.files.write(opened, size, PIECE)
        with monkeypatch.context() as patch:
            patch.setattr(scene.cache.journal, "change_pending", refuse)
            with pytest.raises(JournalFull):
                await scene.fs.files.fsync_open(opened)
        # What was taken back is not there when the file grows beyond it.
        await scene.fs.attributes.apply(opened.node, Change(size=size), is_echo=False)
        await scene.fs.files.write(opened, size + 50, b"end")
        assert await scene.fs.files.read(opened, size, 100) == bytes(50) + b"end"
        await scene.close(opened)
        assert await scene.drain()
        assert await scene.content("log") == content + bytes(50) + b"end"
        assert scene.cache.budget.dirty == 0


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize("size", [10, LARGE])
async def test_an_append_that_was_refused_harms_nothing_after_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    content = os.urandom(size)
    async with open_scene(tmp_path, journaled=True, capabilities=ROOMY) as scene:
        scene.ledger.burst = Burst(clock=lambda: 0.0)
        await scene.make("log", content)
        opened = await scene.open(await scene.lookup("log"))
        await scene.fs.files.write(opened, size, PIECE)
        with monkeypatch.context() as patch:
            patch.setattr(scene.cache.journal, "change_pending", refuse)
            with pytest.raises(JournalFull):
                await scene.fs.files.fsync_open(opened)
        shutil.copytree(tmp_path / "state", tmp_path / "crashed" / "state")
        await scene.close(opened)
    async with open_scene(
        tmp_path / "crashed", there=MemoryStore(capabilities=ROOMY), journaled=True
    ) as scene:
        assert await scene.see("log") == content
        await append(scene, "log", b"more")
        assert await scene.drain()
        assert await scene.content("log") == content + b"more"


async def refuse(*_: object, **__: object) -> None:
    raise JournalFull("there is no room")


@pytest.mark.usefixtures("limits")
async def test_who_reads_the_state_before_an_append_reads_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its spool goes over to the newer state while it is read piece by piece."""
    is_given = trio.Event()
    read, hand_over = spool.Spool.read, PromisedFiles.hand_over

    async def slow(self: spool.Spool, offset: int, size: int) -> bytes:
        piece = await read(self, offset, size)
        if size == 3:
            await is_given.wait()
        return piece

    async def told(self: PromisedFiles, older: Any, newer: Any) -> None:
        await hand_over(self, older, newer)
        if older:
            is_given.set()

    monkeypatch.setattr(spool.Spool, "read", slow)
    monkeypatch.setattr(PromisedFiles, "hand_over", told)
    async with open_scene(tmp_path, journaled=True, capabilities=ROOMY) as scene:
        scene.ledger.burst = Burst(clock=lambda: 0.0)
        opened = await scene.create(scene.root, "log", b"abc")
        await scene.fs.files.write(opened, 10, b"defg")
        assert isinstance(opened.file.state, Dirty)
        older = opened.file.state.file
        monkeypatch.setattr(ledger, "content_of", nothing)  # reads the pieces, too
        await scene.close(opened)
        found: list[bytes] = []

        async def look() -> None:
            found.append(await scene.cache.writeback.read(older, 0, 14))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await trio.testing.wait_all_tasks_blocked()
            await append(scene, "log", PIECE)
        assert found == [b"abc" + bytes(7) + b"defg"]


async def nothing(_: object) -> None:
    """Take no bytes into a row."""


async def test_the_files_of_a_busy_server_are_not_even_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may have a million; each close of one would hold up everybody."""
    listed: list[object] = []
    monkeypatch.setattr(os, "listdir", listed.append)
    openers = Openers()
    openers.device = 1
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(DESCRIPTORS_MAX)]
    try:
        assert not await openers.holds(os.getpid(), 12345, b"name")
    finally:
        for file in files:
            os.close(file)

    assert listed == []
