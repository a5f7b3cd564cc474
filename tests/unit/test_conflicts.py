"""A commit that lost a race: what each policy makes of it."""

from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountfs.backends.memory import MemoryStore
from mountfs.cache.conflicts import NAME_SIZE_MAX, Policy, copy_keys
from mountfs.cache.dirty import DirtyFile
from mountfs.cache.incidents import IncidentKind
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import (
    AlreadyExists,
    KeyTooLong,
    NotFound,
    PreconditionFailed,
    ServiceFailed,
    VersionChanged,
)
from mountfs.storage.types import (
    ABSENT,
    NO_METADATA,
    Attributes,
    Condition,
    Metadata,
    Object,
)
from tests.fakes.cache_stack import Stack, open_stack, tiny_store
from tests.fakes.faulty import Fault, FaultyStore

MOMENT_NS = 1_795_716_303_000_000_000  # 2026-11-26T18:05:03Z
SUFFIX = " (conflict ada 2026-11-26T18-05-03Z)"


class Place:
    """A store in memory, seen from both sides."""

    def __init__(self, directory: Path) -> None:
        self.memory = MemoryStore(capabilities=tiny_store())
        self.store = FaultyStore(self.memory)
        self.directory = directory

    async def put(self, key: str, content: bytes) -> Object:
        return await self.memory.write(key, BytesBody(content))

    def stored(self, key: str) -> bytes:
        return self.memory.bucket.entries[key].data

    def copies(self, key: str) -> list[str]:
        return [
            each for each in self.memory.bucket.entries if each.startswith(f"{key} (")
        ]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def edited(
    stack: Stack, base: Object | None, content: bytes, *, offset: int = 0
) -> Object:
    """Write to a file `a` and commit it."""
    condition: Condition = ABSENT if base is None else base.version
    dirty = stack.writeback.begin("a", base, condition=condition)
    await stack.writeback.write(dirty, offset, content, metadata=lambda: NO_METADATA)
    return await stack.writeback.commit(
        dirty,
        metadata=Metadata(attributes=Attributes(mode=0o600, group="g")),
        inherit=base,
        condition=condition,
    )


# --- names ------------------------------------------------------------------------


def test_a_copy_is_named_after_file_host_and_time() -> None:
    """Later names of the same second carry a number."""
    names = list(islice(copy_keys("d/report.txt", "ada", MOMENT_NS), 3))

    assert names[0] == f"d/report.txt{SUFFIX}"
    assert names[1] == "d/report.txt (conflict ada 2026-11-26T18-05-03Z 2)"
    assert names[2].endswith(" 3)")


@given(st.binary(min_size=1, max_size=255), st.text(max_size=300), st.booleans())
def test_a_name_fits_whatever_the_file_and_the_host_are_called(
    name: bytes, host: str, is_long: bool
) -> None:
    """At most 255 bytes, one component, and no character is cut in two."""
    name = name.replace(b"/", b"x").replace(b"\0", b"x")
    text = name.decode("utf-8", "surrogateescape")
    folder = "d" * (700 if is_long else 3)
    key = next(copy_keys(f"{folder}/{text}", host, MOMENT_NS, 1024))

    folder_of_copy, _, copied = key.rpartition("/")
    encoded = copied.encode("utf-8", "surrogateescape")
    assert folder_of_copy == folder
    assert 0 < len(encoded) <= NAME_SIZE_MAX
    assert len(folder) + 1 + len(encoded) <= 1024
    assert copied.startswith(text[:1])
    stem = copied.rpartition(" (conflict ")[0]
    assert text.startswith(stem)


def test_a_folder_that_fills_the_key_leaves_no_room() -> None:
    """Then there can be no copy, and that is said."""
    with pytest.raises(KeyTooLong):
        next(copy_keys("d" * 1000 + "/name", "ada", MOMENT_NS, 1024))


# --- copy -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 500])
async def test_the_loser_becomes_a_copy(
    place: Place, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    """The other's bytes stay; ours lie beside, with their attributes, are logged and
    noted; and the file goes on as the copy.
    """
    content = bytes(range(250)) * 2
    async with open_stack(place.store, place.directory, conflict=Policy.COPY) as stack:
        await place.put("a", b"theirs")
        copy = await edited(stack, None, content[:size])
        incidents = list(stack.writeback.incidents)

        assert stack.writeback.pending() == ()
    assert place.stored("a") == b"theirs"
    assert place.copies("a") == [copy.key]
    assert place.stored(copy.key) == content[:size]
    found = await place.memory.stat(copy.key)
    assert found.attributes is not None
    assert found.attributes.mode == 0o600
    assert found.attributes.group is None
    assert await place.memory.list_uploads() == ()
    assert [(each.kind, each.key, each.kept_as) for each in incidents] == [
        (IncidentKind.CONFLICT, "a", copy.key)
    ]
    assert copy.key in caplog.text


@pytest.mark.parametrize("size", [20, 600])
async def test_an_edit_of_cached_bytes_becomes_a_whole_copy(
    place: Place, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    """What was not written here comes from the cache, not from the other's object."""
    base = await place.put("a", bytes(size))
    async with open_stack(place.store, place.directory, conflict=Policy.COPY) as stack:
        await stack.blocks.read(base, 0, size)
        await place.put("a", b"theirs" * 200)
        copy = await edited(stack, base, b"ours", offset=7)

    assert place.stored(copy.key) == bytes(7) + b"ours" + bytes(size - 11)
    assert place.stored("a") == b"theirs" * 200


async def test_what_cannot_be_made_whole_is_kept_here(place: Place) -> None:
    """If nobody has the rest of the old version, no torn copy is stored."""
    base = await place.put("a", bytes(600))
    async with open_stack(place.store, place.directory, conflict=Policy.COPY) as stack:
        await place.put("a", b"theirs" * 200)
        with pytest.raises(VersionChanged):
            await edited(stack, base, b"ours", offset=300)

        assert [each.key for each in stack.writeback.pending()] == ["a"]
    assert place.copies("a") == []
    assert await place.memory.list_uploads() == ()


async def test_a_file_that_was_deleted_is_made_anew(place: Place) -> None:
    """Nobody's bytes are lost by that, so there is no copy."""
    base = await place.put("a", bytes(40))
    async with open_stack(place.store, place.directory, conflict=Policy.COPY) as stack:
        await stack.blocks.read(base, 0, 40)
        await place.memory.delete("a")
        made = await edited(stack, base, b"ours")

        assert made.key == "a"
        assert list(stack.writeback.incidents) == []
    assert place.stored("a") == b"ours" + bytes(36)


async def test_a_file_that_comes_back_meanwhile_gets_a_copy(
    place: Place,
) -> None:
    """Deleted when we look, there again when we store: nothing is overwritten."""
    base = await place.put("a", b"old")
    place.store.script.append(Fault("stat", NotFound(key="a")))
    async with open_stack(place.store, place.directory, conflict=Policy.COPY) as stack:
        await stack.blocks.read(base, 0, 3)
        await place.put("a", b"theirs")
        copy = await edited(stack, base, b"ours")

    assert place.stored("a") == b"theirs"
    assert place.stored(copy.key) == b"ours"


async def test_a_copy_whose_name_is_taken_gets_a_number(place: Place) -> None:
    """A copy never takes the place of another one."""
    async with open_stack(place.store, place.directory, conflict=Policy.COPY) as stack:
        await place.put("a", b"theirs")
        taken = AlreadyExists("taken")
        place.store.script += [
            Fault("write", taken, nth=2),
            Fault("write", taken, nth=3),
        ]
        copy = await edited(stack, None, b"ours")

    assert copy.key.endswith(" 3)")


async def test_a_copy_that_fails_can_be_tried_again(place: Place) -> None:
    """The file has its own key meanwhile, and the next commit makes the copy."""
    async with open_stack(place.store, place.directory, conflict=Policy.COPY) as stack:
        await place.put("a", b"theirs")
        dirty = stack.writeback.begin("a", None, condition=ABSENT)
        await stack.writeback.write(dirty, 0, b"ours", metadata=lambda: NO_METADATA)
        place.store.script.append(Fault("write", ServiceFailed("no"), nth=2))
        with pytest.raises(ServiceFailed):
            await commit(stack, dirty)
        assert dirty.key == "a"

        copy = await commit(stack, dirty)
        assert place.stored(copy.key) == b"ours"
        assert dirty.key == copy.key


async def commit(stack: Stack, dirty: DirtyFile) -> Object:
    """Commit a new file."""
    return await stack.writeback.commit(
        dirty,
        metadata=NO_METADATA,
        inherit=None,
        condition=ABSENT,
    )


async def test_a_file_that_is_partly_in_an_upload_takes_the_name(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """Its upload cannot have another key: it is theirs that is copied beside."""
    content = bytes(range(250)) * 2
    async with open_stack(place.store, place.directory, conflict=Policy.COPY) as stack:
        dirty = stack.writeback.begin("a", None, condition=ABSENT)
        for offset in range(0, len(content), 20):
            piece = content[offset : offset + 20]
            await stack.writeback.write(
                dirty, offset, piece, metadata=lambda: NO_METADATA
            )
        assert dirty.stream is not None
        await dirty.stream.settle()
        assert await stack.writeback.reclaim(100)
        await place.put("a", b"theirs")
        stored = await commit(stack, dirty)
        (incident,) = stack.writeback.incidents

    assert stored.key == "a"
    assert place.stored("a") == content
    (aside,) = place.copies("a")
    assert place.stored(aside) == b"theirs"
    assert incident.kept_as == aside
    assert aside in caplog.text


# --- fail and overwrite -------------------------------------------------------------


async def test_fail_stores_nothing(place: Place) -> None:
    """The error is raised, and the bytes stay here."""
    async with open_stack(place.store, place.directory, conflict=Policy.FAIL) as stack:
        await place.put("a", b"theirs")
        with pytest.raises(PreconditionFailed):
            await edited(stack, None, b"ours")

        assert [each.key for each in stack.writeback.pending()] == ["a"]
    assert set(place.memory.bucket.entries) == {"a"}


@pytest.mark.parametrize("size", [10, 500])
async def test_overwrite_takes_the_name(place: Place, size: int) -> None:
    """Also of an edit, if the old bytes are known here."""
    base = await place.put("a", bytes(size))
    async with open_stack(
        place.store, place.directory, conflict=Policy.OVERWRITE
    ) as stack:
        await stack.blocks.read(base, 0, size)
        await place.put("a", b"theirs" * 100)
        stored = await edited(stack, base, b"ours")

    assert stored.key == "a"
    assert place.stored("a") == b"ours" + bytes(size - 4)


# --- later --------------------------------------------------------------------------


async def test_a_kept_file_becomes_a_copy_at_the_next_mount(place: Place) -> None:
    """What `fail` has kept a mount with `copy` stores beside, and forgets."""
    async with open_stack(place.store, place.directory) as stack:
        await place.put("a", b"theirs")
        dirty = stack.writeback.begin("a", None, condition=ABSENT)
        await stack.writeback.write(dirty, 0, b"ours", metadata=lambda: NO_METADATA)
        with pytest.raises(AlreadyExists) as lost:
            await commit(stack, dirty)
        await stack.writeback.keep_failed(dirty, lost.value, NO_METADATA)
        noted = stack.writeback.incidents.last("a")
        assert noted is not None
        assert noted.kind is IncidentKind.FAILED

    async with open_stack(place.store, place.directory, conflict=Policy.COPY) as stack:
        (found,) = await stack.writeback.recover()
        assert found.key == "a"
        assert found.object is not None
        assert stack.writeback.pending() == ()
    assert place.stored(found.object.key) == b"ours"
    assert place.stored("a") == b"theirs"


async def test_what_failed_goes_with_its_name(place: Place) -> None:
    """Who removes or replaces the name gives up what was kept for it."""
    async with open_stack(place.store, place.directory) as stack:
        dirty = stack.writeback.begin("a", None, condition=ABSENT)
        await stack.writeback.write(dirty, 0, b"ours", metadata=lambda: NO_METADATA)
        await stack.writeback.keep_failed(dirty, ServiceFailed("no"), NO_METADATA)
        assert stack.writeback.leave_failed(dirty)

        await stack.writeback.forget_failed("a")
        assert stack.writeback.pending() == ()
        assert stack.budget.dirty == 0
        assert await stack.journal.failed() == ()


async def test_who_has_it_open_goes_on_with_what_failed(place: Place) -> None:
    """When its name goes no later mount stores it; it can be read until its close."""
    async with open_stack(place.store, place.directory) as stack:
        dirty = stack.writeback.begin("a", None, condition=ABSENT)
        await stack.writeback.write(dirty, 0, b"ours", metadata=lambda: NO_METADATA)
        await stack.writeback.keep_failed(dirty, ServiceFailed("no"), NO_METADATA)

        await stack.writeback.forget_failed("a")
        assert await stack.journal.failed() == ()
        assert [each.key for each in stack.writeback.pending()] == ["a"]
        assert not stack.writeback.leave_failed(dirty), "nobody keeps it"
        await stack.writeback.discard(dirty)
        assert stack.writeback.pending() == ()
        assert stack.budget.dirty == 0
