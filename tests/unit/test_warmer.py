"""`mountfs warm`: what is fetched, what has no room, and what it tells of both."""

import io
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from mountfs.actions.warming import Bar, read_jobs
from mountfs.configuration.values import format_size
from mountfs.errors import UsageError
from mountfs.serving.warmer import Warmer
from mountfs.status import Outcome, Progress
from mountfs.storage.errors import PermissionDenied, StoreError, Unreachable
from tests.fakes.cache_stack import BLOCK_SIZE, settled
from tests.fakes.clocks import TickingClock
from tests.fakes.volume import Scene, open_scene

ROOM = 1000 * BLOCK_SIZE


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """A file system with room for a megabyte."""
    async with open_scene(tmp_path, ttl_s=60, size_max=ROOM) as scene:
        yield scene


async def warm(scene: Scene, *paths: str) -> tuple[Outcome, Progress]:
    progress = Progress()
    warmer = Warmer(scene.fs, scene.cache.budget)
    outcome = await warmer.warm(paths, jobs=4, progress=progress)
    await settled()  # what was fetched is on the disk
    return outcome, progress


async def test_a_tree_is_fetched_once_and_read_without_the_store(scene: Scene) -> None:
    """A request a file and a listing a directory; after that nothing, warm or read."""
    keys = ["t/a", "t/d/b", "t/d/e/c"]
    for key in keys:
        await scene.put(key, key.encode() * 2)
    await scene.put("other", b"not asked for")
    await scene.lookup("t")
    scene.store.asked.clear()

    outcome, progress = await warm(scene, "t")
    asked = dict(scene.store.asked)
    again, progress_again = await warm(scene, "t")

    assert outcome == again == Outcome()
    assert (progress.files, progress.files_found, progress.is_counted) == (3, 3, True)
    assert progress.bytes == progress.bytes_found == progress.bytes_fetched
    assert (progress_again.bytes, progress_again.bytes_fetched) == (progress.bytes, 0)
    assert (asked["list"], asked["read"]) == (3, 3)
    assert scene.store.asked == asked
    for key in keys:
        known = (await scene.lookup(key)).object
        assert known is not None
        read = await scene.cache.blocks.read(known, 0, 1 << 20)
        assert read == key.encode() * 2
    assert scene.store.asked["read"] == 3


async def test_a_large_file_is_fetched_in_large_requests(scene: Scene) -> None:
    """Every block is here, each was asked for once."""
    content = bytes(range(10 * BLOCK_SIZE + 4))
    await scene.put("large", content)

    outcome, progress = await warm(scene, "large")

    assert outcome == Outcome()
    assert progress.bytes_fetched == len(content)
    assert scene.store.asked["read"] == 3  # four blocks at once, as everywhere
    object = (await scene.lookup("large")).object
    assert object is not None
    assert scene.cache.blocks.is_cached(object, 0, len(content))


async def test_what_is_not_stored_yet_is_here_already(scene: Scene) -> None:
    """Dirty bytes are neither asked for nor counted."""
    opened = await scene.create(scene.root, "new", b"12345")

    outcome, progress = await warm(scene, "new", "")

    assert outcome == Outcome()
    assert (progress.files_found, scene.store.asked["read"]) == (0, 0)
    await scene.close(opened)


async def test_what_has_no_room_is_not_fetched(scene: Scene) -> None:
    """As much as fits comes; the rest is told in a sentence and costs no request."""
    for name in "abc":
        await scene.put(f"t/{name}", bytes(ROOM * 2 // 5))

    outcome, progress = await warm(scene, "t")

    assert (progress.files, progress.files_found) == (2, 2)
    assert scene.cache.budget.clean <= ROOM
    assert outcome.error is not None
    assert outcome.error.startswith(
        f"1 file ({format_size(ROOM * 2 // 5)}) found no room in the cache"
    )
    assert f"the cache holds {format_size(ROOM)}" in outcome.error
    assert "--cache-size" in outcome.error
    assert not outcome.is_passing


async def test_what_is_here_already_stays_when_there_is_no_room(scene: Scene) -> None:
    """Old blocks that were asked for again do not give way to new ones."""
    await scene.put("t/a", bytes(ROOM // 2))
    await warm(scene, "t")
    await scene.put("u", bytes(ROOM // 2))
    await warm(scene, "u")

    _, progress = await warm(scene, "t")
    await scene.put("v", bytes(ROOM // 4))
    await warm(scene, "v")
    _, last = await warm(scene, "t")

    assert (progress.bytes_fetched, last.bytes_fetched) == (0, 0)


@pytest.mark.parametrize(
    ("error", "is_passing"),
    [(Unreachable("no route"), True), (PermissionDenied("not you"), False)],
)
async def test_errors_are_told_by_file(
    scene: Scene, error: StoreError, *, is_passing: bool
) -> None:
    """The others are fetched; the outcome names what is missing, and why."""
    await scene.put("t/a", b"1")
    await scene.put("t/b", b"")
    scene.store.refused["read"] = error

    outcome, progress = await warm(scene, "t")

    assert outcome.lines == (f"t/a: {error.reason}",)
    assert outcome.error == "1 file could not be fetched"
    assert outcome.is_passing is is_passing
    assert (progress.files, progress.files_found) == (1, 2)


async def test_a_path_that_is_not_there_is_told_and_the_rest_is_fetched(
    scene: Scene,
) -> None:
    """All paths are tried."""
    await scene.put("a", b"1")

    outcome, progress = await warm(scene, "gone", "a")

    assert outcome.lines == ("gone: No such file or directory",)
    assert (progress.files, outcome.is_passing) == (1, False)


async def test_no_directory_is_held_when_it_is_over(scene: Scene) -> None:
    """Every node that was made for the walk is forgotten."""
    for number in range(20):
        await scene.put(f"t/{number}/{number}/f", b"1")
    before = len(scene.fs.volume.inodes)

    _, progress = await warm(scene, "")

    assert progress.files == 20
    assert len(scene.fs.volume.inodes) == before


# --- what is shown -------------------------------------------------------------------


def test_the_bar_tells_how_far_it_is() -> None:
    """While more is found nobody knows how long it takes."""
    half = Progress(
        files=1,
        files_found=2,
        bytes=1 << 20,
        bytes_fetched=1 << 20,
        bytes_found=1 << 21,
    )
    bar = Bar(io.StringIO(), TickingClock(2))

    assert bar.line(half).startswith(
        "[############............] 1/2+ files, 1 MiB of 2"
    )
    assert "to go" not in bar.line(half)
    half.is_counted = True
    assert bar.line(half).endswith("KiB/s, 12 s to go")


def test_nothing_to_do_is_no_division_by_zero() -> None:
    """An empty directory is warm at once."""
    bar = Bar(io.StringIO(), TickingClock(2))
    bar.show(Progress(is_counted=True))

    assert bar.summary().startswith("0 files, 0 B in the cache; 0 B of that fetched")
    assert "[....." in bar.line(Progress())


@pytest.mark.parametrize("text", ["0", "13", "-1", "x", "²", ""])
def test_jobs_are_bounded(text: str) -> None:
    """Readers find a slot while files are warmed."""
    with pytest.raises(UsageError, match="from 1 to 12"):
        read_jobs(text)


def test_jobs_are_a_number_or_the_default() -> None:
    """Nothing means: as many as is usual."""
    told: Sequence[str | None] = (None, "1", "12")

    assert [read_jobs(each) for each in told] == [0, 1, 12]
