"""Conditions: every call that changes something, on presence, absence and version."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from mountfs.storage.body import BytesBody
from mountfs.storage.errors import (
    AlreadyExists,
    NotFound,
    PreconditionFailed,
    StoreError,
    Unsupported,
    VersionChanged,
)
from mountfs.storage.protocol import Storager
from mountfs.storage.types import ABSENT, Call, Condition, Metadata, Object, Version
from tests.conformance.steps import can_make_links, get, is_absent, put
from tests.conformance.stores import Quirk, Subject

KEY = "dir/file"
NEVER = Version("0123456789abcdef0123456789abcdef")


async def _write(store: Storager, condition: Condition) -> Object:
    return await store.write(KEY, BytesBody(b"new"), condition=condition)


async def _copy(store: Storager, condition: Condition) -> Object:
    await put(store, "source", b"new")
    return await store.copy("source", KEY, condition=condition)


async def _copy_with_metadata(store: Storager, condition: Condition) -> Object:
    await put(store, "source", b"new")
    changed = Metadata(user={"color": "blue"})
    return await store.copy("source", KEY, metadata=changed, condition=condition)


async def _complete(store: Storager, condition: Condition) -> Object:
    upload = await store.create_multipart(KEY)
    part = await store.write_part(upload, 0, BytesBody(b"new"))
    try:
        return await store.complete_multipart(upload, [part], condition=condition)
    except (AlreadyExists, VersionChanged, Unsupported):
        await store.abort_multipart(upload)
        raise


@dataclass(frozen=True, slots=True)
class Write:
    """A call that puts `new` at the key, under a condition."""

    call: Call
    send: Callable[[Storager, Condition], Awaitable[Object]]


WRITES = {
    "write": Write(Call.WRITE, _write),
    "copy": Write(Call.COPY, _copy),
    "copy-with-metadata": Write(Call.COPY, _copy_with_metadata),
    "complete": Write(Call.COMPLETE, _complete),
}
every_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)


def _lost(
    subject: Subject, write: Write, most_specific: type[StoreError]
) -> tuple[type[StoreError], ...]:
    """Return what a lost condition may raise.

    A copy has conditions on two objects: some services do not say which one was lost,
    and none says which of the two keys is absent.
    """
    if write.call is not Call.COPY:
        return (most_specific,)
    if Quirk.NAMES_NO_CONDITION in subject.quirks:
        return (most_specific, PreconditionFailed, NotFound)
    return (most_specific, NotFound) if subject.quirks else (most_specific,)


async def _is_refused(store: Storager, write: Write, condition: Condition) -> bool:
    """Tell whether the call honours no condition, and check that it says so."""
    if write.call in store.capabilities.conditions:
        return False
    with pytest.raises(Unsupported):
        await write.send(store, condition)
    return True


@every_write
async def test_absence_holds_for_a_new_key(store: Storager, write: Write) -> None:
    """On an absent key the condition of absence lets the call through."""
    if not await _is_refused(store, write, ABSENT):
        await write.send(store, ABSENT)

        assert await get(store, KEY) == b"new"


@every_write
async def test_absence_fails_where_something_is(
    store: Storager, subject: Subject, write: Write
) -> None:
    """On a present key it raises `AlreadyExists` and nothing changes."""
    await put(store, KEY, b"old")
    if not await _is_refused(store, write, ABSENT):
        with pytest.raises(_lost(subject, write, AlreadyExists)):
            await write.send(store, ABSENT)

    assert await get(store, KEY) == b"old"


@every_write
async def test_the_named_version_is_replaced(store: Storager, write: Write) -> None:
    """The version that is there lets the call through."""
    old = await put(store, KEY, b"old")
    if not await _is_refused(store, write, old.version):
        await write.send(store, old.version)

        assert await get(store, KEY) == b"new"


@every_write
async def test_another_version_is_not_replaced(
    store: Storager, subject: Subject, write: Write
) -> None:
    """A version that was replaced meanwhile raises `VersionChanged`."""
    old = await put(store, KEY, b"old")
    await put(store, KEY, b"meanwhile")
    if not await _is_refused(store, write, old.version):
        with pytest.raises(_lost(subject, write, VersionChanged)):
            await write.send(store, old.version)

    assert await get(store, KEY) == b"meanwhile"


@every_write
async def test_a_version_is_not_there_once_deleted(
    store: Storager, subject: Subject, write: Write
) -> None:
    """A version of an absent key raises `VersionChanged`, and nothing appears."""
    old = await put(store, KEY, b"old")
    await store.delete(KEY)
    for condition in (old.version, NEVER):
        if not await _is_refused(store, write, condition):
            with pytest.raises(_lost(subject, write, VersionChanged)):
                await write.send(store, condition)

    assert await is_absent(store, KEY)


@every_write
async def test_the_answer_is_the_next_condition(store: Storager, write: Write) -> None:
    """The version of an answer holds as the condition of the write that follows."""
    first = await put(store, KEY, b"old")
    if await _is_refused(store, write, first.version):
        return
    second = await write.send(store, first.version)
    if Call.WRITE in store.capabilities.conditions:
        await store.write(KEY, BytesBody(b"third"), condition=second.version)

        assert await get(store, KEY) == b"third"


async def test_a_delete_is_conditional(store: Storager, subject: Subject) -> None:
    """Only the named version is deleted; absence is success all the same."""
    old = await put(store, KEY, b"old")
    new = await put(store, KEY, b"newer")
    if Call.DELETE not in store.capabilities.conditions:
        with pytest.raises(Unsupported):
            await store.delete(KEY, condition=new.version)
        assert await get(store, KEY) == b"newer"
        return

    with pytest.raises(VersionChanged):
        await store.delete(KEY, condition=old.version)
    assert await get(store, KEY) == b"newer"
    await store.delete(KEY, condition=new.version)
    assert await is_absent(store, KEY)
    if Quirk.DELETE_NEEDS_OBJECT in subject.quirks:
        with pytest.raises(VersionChanged):
            await store.delete(KEY, condition=new.version)
    else:
        await store.delete(KEY, condition=new.version)


async def test_a_change_of_metadata_is_conditional(
    store: Storager, subject: Subject
) -> None:
    """Metadata are changed only of the named version."""
    old = await put(store, KEY, b"old")
    new = await put(store, KEY, b"newer")
    metadata = Metadata(user={"color": "red"})
    if Call.COPY not in store.capabilities.conditions:
        with pytest.raises(Unsupported):
            await store.set_metadata(new, metadata, condition=new.version)
        return

    change = WRITES["copy-with-metadata"]
    with pytest.raises(_lost(subject, change, VersionChanged)):
        await store.set_metadata(new, metadata, condition=old.version)
    await store.set_metadata(new, metadata, condition=new.version)
    kept = (await store.stat(KEY)).metadata
    assert kept is not None
    assert kept.user["color"] == "red"
    assert await get(store, KEY) == b"newer"


async def test_a_link_is_made_conditionally(store: Storager) -> None:
    """A link can demand that nothing is there, or that the old link still is."""
    has_conditions = Call.WRITE in store.capabilities.conditions
    if not (can_make_links(store) and has_conditions):
        with pytest.raises(Unsupported):
            await store.make_link(KEY, "target", condition=ABSENT)
        return
    made = await store.make_link(KEY, "first", condition=ABSENT)

    with pytest.raises(AlreadyExists):
        await store.make_link(KEY, "second", condition=ABSENT)
    await store.make_link(KEY, "third", condition=made.version)
    with pytest.raises(VersionChanged):
        await store.make_link(KEY, "fourth", condition=made.version)
    assert (await store.stat(KEY)).link_target == "third"
