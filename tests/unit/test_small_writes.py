"""What a small file costs here before its close returns: counts, not seconds."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from mountfs.cache import journal
from mountfs.cache.burst import Burst
from mountfs.vfs.openers import FEW, Openers
from tests.fakes.volume import open_scene


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
        scene.queue.burst = Burst(clock=lambda: 0.0)  # in which nothing is sent
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
        assert not await openers.holds(pid, inode)
    assert hops == []

    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(FEW)]
    try:
        await openers.holds(os.getpid(), inode)
    finally:
        for file in files:
            os.close(file)
    assert len(hops) == 1
