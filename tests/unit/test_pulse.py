"""Which part of a mount does not answer."""

from collections.abc import AsyncIterator
from pathlib import Path
from threading import Event

import pytest
import trio

from mountfs.cache import journal as journal_module
from mountfs.cache.activity import Activity
from mountfs.cache.journal import Journal
from mountfs.cache.journalfile import JournalError
from mountfs.serving.pulse import Pulse

EVERY_S = 0.02
LIMIT_S = 0.2


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    """A journal on the disk."""
    async with await Journal.open(tmp_path / "journal.sqlite") as journal:
        yield journal


async def silent_after_a_while(pulse: Pulse) -> list[str]:
    """Return what has not answered in time."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulse.run, EVERY_S)
        await trio.sleep(2 * LIMIT_S)
        found = list(pulse.silent(LIMIT_S))
        nursery.cancel_scope.cancel()
    return found


async def test_all_answer(journal: Journal, tmp_path: Path) -> None:
    """Nothing is silent in a mount that works, or is not mounted yet."""
    pulse = Pulse(journal, tmp_path, Activity(), is_mounted=lambda: False)

    assert await silent_after_a_while(pulse) == []


async def test_a_stuck_journal(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that does not return from a sync."""
    returns = Event()
    transact = journal_module._transact

    def get_stuck(*arguments: object) -> None:
        returns.wait(10)
        transact(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(journal_module, "_transact", get_stuck)
    pulse = Pulse(journal, tmp_path, Activity(), is_mounted=lambda: False)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulse.run, EVERY_S)
        await trio.sleep(2 * LIMIT_S)
        silent = list(pulse.silent(LIMIT_S))
        returns.set()
        nursery.cancel_scope.cancel()

    assert silent == ["the journal"]


async def test_a_journal_that_fails_answers(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new daemon would not mend its disk."""

    async def fail(_: Journal) -> bool:
        raise JournalError("the journal failed: disk I/O error")

    monkeypatch.setattr(Journal, "answers", fail)
    pulse = Pulse(journal, tmp_path, Activity(), is_mounted=lambda: False)

    assert await silent_after_a_while(pulse) == []


async def test_requests_show_that_the_mount_answers(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While programs have taken all places, the question of the pulse may wait."""
    activity = Activity()
    pulse = Pulse(journal, tmp_path, activity, is_mounted=lambda: True)

    async def wait_in_line(_: Pulse) -> bool:
        await trio.sleep(100)
        return False

    monkeypatch.setattr(Pulse, "_ask_mount", wait_in_line)
    pulse = Pulse(journal, tmp_path, activity, is_mounted=lambda: True)
    quiet = await silent_after_a_while(pulse)
    activity.requests += 1

    assert quiet == ["the mount"]
    assert list(pulse.silent(LIMIT_S)) == []


async def test_a_mount_point_that_was_moved_is_an_answer(
    journal: Journal, tmp_path: Path
) -> None:
    """The kernel said so, and did not need the daemon for that."""
    pulse = Pulse(journal, tmp_path / "gone", Activity(), is_mounted=lambda: True)

    assert await pulse._ask_mount()


async def test_a_part_that_cannot_be_asked_is_silent(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that has no thread left for the question ends no mount by that."""

    async def fail(_: Pulse) -> bool:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Pulse, "_ask_mount", fail)
    pulse = Pulse(journal, tmp_path, Activity(), is_mounted=lambda: True)

    assert await silent_after_a_while(pulse) == ["the mount"]
