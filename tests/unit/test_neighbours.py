"""Names of a directory in which many are made or removed."""

import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mountfs.backends.memory import MemoryStore
from mountfs.cache.knowledge import place_of
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import InvalidRequest
from mountfs.storage.types import ListMode, Object, Page
from mountfs.vfs.busy import CHANGES_MIN
from mountfs.vfs.neighbours import SWEEP_MIN, _Pages
from tests.fakes.cache_stack import tiny_store
from tests.fakes.clocks import Clock
from tests.fakes.volume import CALLER, Scene, open_scene

TTL_S = 1.0
TERSE = tiny_store(move=False, attributes=False, list_metadata=False)
COUNT = 40
MANY = tuple(f"many-{number}" for number in range(CHANGES_MIN))


@asynccontextmanager
async def clocked(
    path: Path, *, journaled: bool = False, page: int = 1000
) -> AsyncIterator[tuple[Scene, Clock]]:
    """Mount a store whose listings carry no metadata; time passes on demand."""
    able = replace(TERSE, list_page_max=page)
    clock, there = Clock(), MemoryStore(capabilities=able)
    async with open_scene(path, there=there, ttl_s=TTL_S, journaled=journaled) as scene:
        scene.fs.volume.metadata._clock = clock
        yield scene, clock


async def busy(scene: Scene, *names: str) -> None:
    """Remove files of `d`, so that it is a directory in which much is changed."""
    directory = await scene.lookup("d")
    for name in names:
        await scene.fs.namespace.unlink(directory, name.encode())


def questions(scene: Scene) -> int:
    return scene.store.asked["stat"] + scene.store.asked["list"]


@pytest.mark.parametrize("journaled", [False, True])
async def test_new_names_do_not_cost_a_question_each(
    tmp_path: Path, journaled: bool
) -> None:
    """However long it takes: a listing a TTL tells of all that are not there."""
    async with clocked(tmp_path, journaled=journaled) as (scene, clock):
        directory = await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        scene.store.asked.clear()
        for number in range(COUNT):
            opened = await scene.create(directory, f"{number:03}", b"bytes")
            await scene.close(opened)
            clock.now_s += TTL_S / 4

        # Before the first listing each name costs a HEAD and a LIST.
        assert questions(scene) <= 2 * CHANGES_MIN + COUNT / 4 + 1


@pytest.mark.parametrize("journaled", [False, True])
async def test_known_names_do_not_cost_a_question_each(
    tmp_path: Path, journaled: bool
) -> None:
    """As `rm -r` of files that were made a while ago."""
    async with clocked(tmp_path, journaled=journaled) as (scene, clock):
        directory = await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        for number in range(COUNT):
            await scene.close(await scene.create(directory, f"{number:03}", b"bytes"))
        if journaled:
            assert await scene.drain()
        clock.now_s += 10 * TTL_S
        scene.store.asked.clear()
        for number in range(COUNT):
            await scene.fs.namespace.unlink(directory, f"{number:03}".encode())
            clock.now_s += TTL_S / 4

        assert questions(scene) <= 2 * CHANGES_MIN + COUNT / 4 + 1


async def test_what_another_program_changed_is_asked_for(tmp_path: Path) -> None:
    """A listing tells that it is another, not what it is."""
    async with clocked(tmp_path) as (scene, clock):
        directory = await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        for name in (*MANY, "x", "d", "e"):
            await scene.close(await scene.create(directory, name, b"bytes"))
        clock.now_s += 10 * TTL_S
        await scene.there.write("d/d", BytesBody(b"other bytes"))
        await scene.there.write("d/f", BytesBody(b"new"))
        await scene.there.delete("d/e")
        await busy(scene, *MANY)

        assert await scene.see("d/d") == b"other bytes"
        assert await scene.see("d/f") == b"new"
        assert await scene.fs.namespace.lookup(directory, b"e") is None


async def test_listing_after_it_is_complete(tmp_path: Path) -> None:
    """What was listed for the sake of names is not mistaken for what `ls` needs."""
    async with clocked(tmp_path) as (scene, clock):
        directory = await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        await scene.there.write("d/foreign", BytesBody(b"bytes"))
        clock.now_s += 10 * TTL_S
        for name in MANY:
            await scene.fs.namespace.symlink(directory, name.encode(), b"to", CALLER)
        clock.now_s += 10 * TTL_S
        assert await scene.fs.namespace.lookup(directory, b"none") is None

        assert set(await scene.nodes("d")) == {*MANY, "foreign"}
        assert scene.store.asked["stat"] >= 1, "its attributes are learnt"


async def fill(scene: Scene, count: int) -> None:
    """Have another program write files into `d`, and see them."""
    for number in range(count):
        await scene.there.write(f"d/{number:04}", BytesBody(b"bytes"))
    assert len(await scene.nodes("d")) == count


@pytest.mark.parametrize("journaled", [False, True])
async def test_removing_what_others_made_costs_no_question_each(
    tmp_path: Path, journaled: bool
) -> None:
    """As `rm -r` of files of which only a listing, and a sample, ever told."""
    async with clocked(tmp_path, journaled=journaled) as (scene, clock):
        await fill(scene, COUNT)
        clock.now_s += 10 * TTL_S
        directory = await scene.lookup("d")
        scene.store.asked.clear()
        for number in range(COUNT):
            name = f"{number:04}".encode()
            assert await scene.fs.namespace.lookup(directory, name) is not None
            await scene.fs.namespace.unlink(directory, name)
            clock.now_s += TTL_S / 4

        assert questions(scene) <= 2 * CHANGES_MIN + COUNT / 4 + 1


@pytest.mark.parametrize("order", ["names", "backwards", "any"])
@pytest.mark.parametrize("journaled", [False, True])
async def test_large_directory_is_listed_page_by_page(
    tmp_path: Path, journaled: bool, order: str
) -> None:
    """Whichever way a program goes through it, a page tells of many names."""
    count, page = 500, 100
    async with clocked(tmp_path, journaled=journaled, page=page) as (scene, clock):
        await fill(scene, count)
        clock.now_s += 10 * TTL_S
        directory = await scene.lookup("d")
        names = [f"{number:04}".encode() for number in range(count)]
        if order == "backwards":
            names.reverse()
        elif order == "any":
            random.Random(5).shuffle(names)
        scene.store.asked.clear()
        for name in names:
            assert await scene.fs.namespace.lookup(directory, name) is not None
            await scene.fs.namespace.unlink(directory, name)
            clock.now_s += TTL_S / 100

        # In five seconds: a few names of each page, and the page. How many pages there
        # are depends on how much was removed from the store meanwhile.
        assert questions(scene) <= count / 4, "and not one a name"


async def test_pages_are_not_listed_for_who_jumps_about(tmp_path: Path) -> None:
    """A page costs as much as many names: `rm` goes by the numbers of inodes."""
    count, page = 800, 20
    async with clocked(tmp_path, page=page) as (scene, clock):
        await fill(scene, count)
        clock.now_s += 10 * TTL_S
        directory = await scene.lookup("d")
        names = [f"{number:04}".encode() for number in range(count)]
        # So that it is known where all pages begin.
        for name in names[::5]:
            await scene.fs.namespace.unlink(directory, name)
            clock.now_s += TTL_S / 100
        rest = [name for number, name in enumerate(names) if number % 5]
        random.Random(5).shuffle(rest)
        clock.now_s += 10 * TTL_S
        scene.store.asked.clear()
        for name in rest:
            assert await scene.fs.namespace.lookup(directory, name) is not None
            await scene.fs.namespace.unlink(directory, name)
            clock.now_s += TTL_S / 100

        assert scene.store.asked["list"] <= 5


async def test_pages_do_not_multiply_as_names_go(tmp_path: Path) -> None:
    """Each reaches further then: what it has gone past is no page of its own."""
    count, page = 400, 20
    async with clocked(tmp_path, page=page) as (scene, clock):
        await fill(scene, count)
        clock.now_s += 10 * TTL_S
        directory = await scene.lookup("d")
        names = [f"{number:04}".encode() for number in range(count)]
        random.Random(5).shuffle(names)
        pages = scene.fs.resolver._neighbours._directories
        most = 0
        for name in names:
            assert await scene.fs.namespace.lookup(directory, name) is not None
            await scene.fs.namespace.unlink(directory, name)
            clock.now_s += TTL_S / 40
            if "d/" in pages:
                assert len(pages["d/"].stretches) == len(pages["d/"].behind)
                assert pages["d/"].behind == sorted(pages["d/"].behind)
                most = max(most, len(pages["d/"].stretches))

        assert count / page / 2 < most <= count / page + 1


async def test_page_that_began_elsewhere_tells_no_place() -> None:
    """Another has gone past its beginning while it was on its way."""
    pages = _Pages()
    first = pages.stretches[0]
    pages.take(first, Page((Object(key="m"),), "m"))
    second = pages.stretches[1]
    pages.take(first, Page((Object(key="x"),), "x"))
    pages.take(second, Page((Object(key="p"),), "p"))

    assert pages.stretches == [first, second]
    assert pages.behind == [place_of(""), place_of("x")]
    assert pages.around("q") is first


async def test_directory_that_keeps_children_needs_no_marker(tmp_path: Path) -> None:
    """Whichever way its names go: only the last one costs one."""
    async with clocked(tmp_path) as (scene, clock):
        await fill(scene, 200)
        clock.now_s += 10 * TTL_S
        directory = await scene.lookup("d")
        await busy(scene, *(f"{number:04}" for number in range(CHANGES_MIN)))
        marked = scene.store.asked["make_dir"]
        for number in (*range(5, 100), *range(199, 100, -1)):
            await scene.fs.namespace.unlink(directory, f"{number:04}".encode())
        assert scene.store.asked["make_dir"] == marked

        await scene.fs.namespace.unlink(directory, b"0100")
        assert scene.store.asked["make_dir"] + scene.store.asked["write"] == marked + 1


async def test_new_names_of_a_large_directory_cost_no_question_each(
    tmp_path: Path,
) -> None:
    """As `tar x` of thousands of files into one directory."""
    count, page = 300, 50
    async with clocked(tmp_path, page=page) as (scene, clock):
        directory = await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        numbers = list(range(count))
        random.Random(3).shuffle(numbers)
        scene.store.asked.clear()
        for number in numbers:
            opened = await scene.create(directory, f"{number:03}", b"bytes")
            await scene.close(opened)
            clock.now_s += TTL_S / 50

        # Six times to live: three names of any page, two questions each; the pages.
        assert questions(scene) <= 2 * CHANGES_MIN + 6 * (3 * 2 + count / page + 3)
        assert len(await scene.nodes("d")) == count


async def test_changes_of_others_in_a_large_directory_are_seen(tmp_path: Path) -> None:
    """A page tells that an object is another, or new, or gone."""
    count, page = 300, 50
    async with clocked(tmp_path, page=page) as (scene, clock):
        await fill(scene, count)
        clock.now_s += 10 * TTL_S
        await busy(scene, *(f"{number:04}" for number in range(100, 120)))
        await scene.there.write("d/0130", BytesBody(b"other bytes"))
        await scene.there.write("d/0131-new", BytesBody(b"new"))
        await scene.there.delete("d/0132")
        clock.now_s += TTL_S
        directory = await scene.lookup("d")
        for number in range(120, 125):
            name = f"{number:04}".encode()
            assert await scene.fs.namespace.lookup(directory, name) is not None

        assert await scene.see("d/0130") == b"other bytes"
        assert await scene.see("d/0131-new") == b"new"
        assert await scene.fs.namespace.lookup(directory, b"0132") is None
        assert await scene.fs.namespace.lookup(directory, b"0131") is not None


async def look(scene: Scene, clock: Clock, names: Iterable[int]) -> None:
    """Look at files of `d`, one after the other, as `os.stat` of a list of them."""
    directory = await scene.lookup("d")
    for number in names:
        name = f"{number:04}".encode()
        assert await scene.fs.namespace.lookup(directory, name) is not None
        clock.now_s += TTL_S / 100


async def test_looking_at_all_names_in_their_order_is_a_listing(tmp_path: Path) -> None:
    """Long after `ls`, and however many there are: a page tells of a hundred."""
    count, page = 500, 100
    async with clocked(tmp_path, page=page) as (scene, clock):
        await fill(scene, count)
        clock.now_s += 10 * TTL_S
        await scene.there.delete("d/0499")
        scene.store.asked.clear()
        await look(scene, clock, range(count - 1))

        assert scene.store.asked["list"] <= 2 * count / page
        assert questions(scene) <= 2 * SWEEP_MIN + 2 * count / page
        directory = await scene.lookup("d")
        assert await scene.fs.namespace.lookup(directory, b"0499") is None


@pytest.mark.parametrize("order", ["any", "backwards"])
async def test_nothing_is_listed_for_who_looks_in_another_order(
    tmp_path: Path, order: str
) -> None:
    """A page is dearer than a few names of it."""
    async with clocked(tmp_path, page=100) as (scene, clock):
        await fill(scene, 500)
        clock.now_s += 10 * TTL_S
        numbers = list(range(499, -1, -1))
        if order == "any":
            random.Random(5).shuffle(numbers)
        scene.store.asked.clear()
        await look(scene, clock, numbers[:200])

        assert scene.store.asked["list"] <= 1, "of the directory itself"


async def test_way_to_a_page_far_on_is_not_hurried(tmp_path: Path) -> None:
    """Where pages begin is found out by listing those before."""
    async with clocked(tmp_path, page=100) as (scene, clock):
        await fill(scene, 500)
        clock.now_s += 10 * TTL_S
        scene.store.asked.clear()
        await look(scene, clock, range(450, 490))

        assert scene.store.asked["list"] <= 1 + 40 / SWEEP_MIN


async def test_page_that_cannot_be_had_leaves_the_names_to_be_asked(
    tmp_path: Path,
) -> None:
    """What a token was worth once it need not be for ever."""
    async with clocked(tmp_path, page=50) as (scene, clock):
        await fill(scene, 200)
        clock.now_s += 10 * TTL_S
        await busy(scene, *(f"{number:04}" for number in range(80)))
        scene.store.refused["list"] = InvalidRequest("what token?")
        directory = await scene.lookup("d")
        for number in range(80, 120):
            clock.now_s += TTL_S
            name = f"{number:04}".encode()
            assert await scene.fs.namespace.lookup(directory, name) is not None
            await scene.fs.namespace.unlink(directory, name)


async def test_directory_that_hadoop_keeps_is_not_absent(tmp_path: Path) -> None:
    """The key of its object may be in the page behind that of its name."""
    async with clocked(tmp_path, page=4) as (scene, clock):
        await scene.there.write("d/x_$folder$", BytesBody(b""))
        for name in ("a", "x!", "x0", "x1", "x2", "x3", "z"):
            await scene.there.write(f"d/{name}", BytesBody(b"bytes"))
        assert "x" in await scene.nodes("d")
        directory = await scene.lookup("d")
        for name in MANY:
            await scene.close(await scene.create(directory, name, b"bytes"))
        clock.now_s += 10 * TTL_S
        scene.fs.volume.metadata.forget_below("d/")
        for number in range(5):
            new = f"x0{number}".encode()
            assert await scene.fs.namespace.lookup(directory, new) is None

        assert await scene.fs.namespace.lookup(directory, b"x") is not None


class Shuffled(MemoryStore):
    """A store that lists in an order of its own, as directory buckets of S3 do."""

    async def list(
        self,
        prefix: str,
        *,
        mode: ListMode = ListMode.DIRECTORY,
        token: str | None = None,
        limit: int | None = None,
    ) -> Page:
        """Return a page of some of the objects, in the order of their keys."""
        found = list((await super().list(prefix, mode=mode)).objects)
        random.Random(1).shuffle(found)
        start, size = int(token or 0), limit or 20
        end = start + size
        page = tuple(sorted(found[start:end], key=lambda each: each.key))
        return Page(page, str(end) if end < len(found) else None)


async def test_pages_without_an_order_tell_of_no_absence(tmp_path: Path) -> None:
    """What is between two names of a page may be in another one."""
    there = Shuffled(capabilities=replace(TERSE, ordered_pages=False))
    async with open_scene(tmp_path, there=there, ttl_s=TTL_S) as scene:
        clock = scene.fs.volume.metadata._clock = Clock()
        names = [f"{number:04}" for number in range(100)]
        for name in names:
            await there.write(f"d/{name}", BytesBody(b"bytes"))
        directory = await scene.lookup("d")
        for number in range(CHANGES_MIN):
            await scene.close(await scene.create(directory, f"new-{number}", b"bytes"))
        clock.now_s += 10 * TTL_S
        for name in names:
            found = await scene.fs.namespace.lookup(directory, name.encode())
            assert found is not None, name


async def test_directory_that_is_only_looked_at_is_not_listed(tmp_path: Path) -> None:
    """What others put there is seen as soon as it is asked for."""
    async with clocked(tmp_path) as (scene, clock):
        await scene.there.write("d/file", BytesBody(b"bytes"))
        directory = await scene.lookup("d")
        clock.now_s += 10 * TTL_S
        for number in range(COUNT):
            await scene.there.write(f"d/{number}", BytesBody(b"bytes"))
            name = f"{number}".encode()
            assert await scene.fs.namespace.lookup(directory, name) is not None


async def test_small_directory_that_was_listed_is_listed_again(tmp_path: Path) -> None:
    """As `git` does: it looks for many names that are not there, again and again."""
    async with clocked(tmp_path) as (scene, clock):
        directory = await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        await scene.close(await scene.create(directory, "file", b"bytes"))
        clock.now_s += 10 * TTL_S
        scene.store.asked.clear()
        for number in range(COUNT):
            name = f"{number}".encode()
            assert await scene.fs.namespace.lookup(directory, name) is None

        assert questions(scene) == 1


async def test_known_directory_is_asked_for_by_itself(tmp_path: Path) -> None:
    """A listing of what it is in would tell that it is there, and not what it is."""
    async with clocked(tmp_path) as (scene, clock):
        directory = await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        await scene.fs.namespace.mkdir(directory, b"sub", 0o755, CALLER)
        clock.now_s += 10 * TTL_S
        scene.store.asked.clear()
        assert await scene.fs.namespace.lookup(directory, b"sub") is not None

        assert questions(scene) == 2, "a LIST of its keys, and a HEAD of its marker"
