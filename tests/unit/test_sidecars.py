"""Extended attributes that metadata have no room for lie in an object of their own."""

import dataclasses
import hashlib
import logging

import pytest

from mountfs.storage import xattrs
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import MetadataTooLarge, StoreError, Unreachable
from mountfs.storage.types import (
    NO_METADATA,
    Attributes,
    Features,
    ListMode,
    Metadata,
    Object,
    ObjectKind,
)
from mountfs.storage.virtual import VirtualStorager
from tests.fakes.faulty import Fault, FaultyStore
from tests.fakes.flat_store import KEY_STORE, FlatStore

LARGE = {b"user.large": bytes(range(256)) * 64, b"user.\xff": b"x"}
NAME = hashlib.sha256(xattrs.to_json(LARGE)).hexdigest()
KEY = f".mountfs/xattr/{NAME}"
KNOWN = Attributes(mode=0o100600, xattrs=LARGE)
METADATA = NO_METADATA.with_attributes(KNOWN)
STRICT = dataclasses.replace(Features.all(), loose_operation=False)


@pytest.fixture
def flat() -> FlatStore:
    return FlatStore(dataclasses.replace(KEY_STORE, metadata_size_max=2048))


@pytest.fixture
def store(flat: FlatStore) -> VirtualStorager:
    return VirtualStorager(flat, STRICT)


def anew(flat: FlatStore) -> VirtualStorager:
    """The store as another process sees it."""
    return VirtualStorager(flat, STRICT)


def user_of(flat: FlatStore, key: str) -> dict[str, str]:
    return dict(flat.objects[key].metadata.user)


async def test_what_is_too_large_lies_beside(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """The object names the sum of the text, the sidecar is that text; two PUTs."""
    written = await store.write("a", BytesBody(b"x"), metadata=METADATA)

    assert written.attributes == KNOWN
    assert flat.requests == ["write", "write"]
    assert user_of(flat, "a") == {"mode": "33152", "mountfs-xattr": NAME}
    assert flat.objects[KEY].data == xattrs.to_json(LARGE)
    assert flat.objects[KEY].metadata.pairs == {"content-type": "application/json"}


async def test_reading_it_costs_one_read_once(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """The first stat of another process asks for the sidecar, no later one does."""
    await store.write("a", None, metadata=METADATA)
    await store.copy("a", "b")
    other = anew(flat)
    flat.requests.clear()

    found = [await other.stat("a"), await other.stat("a"), await other.stat("b")]

    assert flat.requests == ["stat", "read", "stat", "stat"]
    assert [object.attributes for object in found] == [KNOWN] * 3
    assert all(object.metadata and not object.metadata.user for object in found)


async def test_listing_leaves_it_to_stat() -> None:
    """A listing with metadata shows what is known here; unknown is not none."""
    flat = FlatStore(
        dataclasses.replace(KEY_STORE, metadata_size_max=2048, list_metadata=True)
    )
    store = anew(flat)
    await store.write("a", None, metadata=METADATA)

    (known,) = (await store.list("")).objects[-1:]
    (unknown,) = (await anew(flat).list("")).objects[-1:]

    assert known.attributes == KNOWN
    assert unknown.attributes == Attributes(mode=0o100600, xattrs=None)


@pytest.mark.parametrize("way", ["write", "copy", "set", "multipart", "append", "link"])
async def test_every_way_to_store_metadata_makes_room(
    flat: FlatStore, store: VirtualStorager, way: str
) -> None:
    """Whatever the request, its extended attributes are kept."""
    old = await store.write("old", BytesBody(b"old"))
    if way == "write":
        await store.write("a", None, metadata=METADATA)
    elif way == "copy":
        await store.copy("old", "a", metadata=METADATA)
    elif way == "set":
        await store.copy("old", "a")
        await store.set_metadata(await store.stat("a"), METADATA)
    elif way == "multipart":
        upload = await store.create_multipart("a", metadata=METADATA)
        part = await store.write_part(upload, 0, BytesBody(b"new"))
        await store.complete_multipart(upload, [part])
    elif way == "append":
        append = await store.create_append("a", base=None, metadata=METADATA)
        await store.commit_append(append)
    else:
        await store.make_link("a", "target", metadata=METADATA)
    assert old.key in flat.objects

    found = (await anew(flat).stat("a")).attributes
    assert found is not None
    assert found.xattrs == LARGE


async def test_directory_makes_room(flat: FlatStore, store: VirtualStorager) -> None:
    """A marker names a sidecar as any object does."""
    await store.make_dir("d/", metadata=METADATA)

    found = await anew(flat).stat("d/", kind=ObjectKind.DIRECTORY)

    assert found.attributes is not None
    assert found.attributes.xattrs == LARGE


async def test_native_requests_make_room() -> None:
    """Directories, links and appends of the store's own do so too."""
    flat = FlatStore(
        dataclasses.replace(
            KEY_STORE,
            metadata_size_max=2048,
            native_dirs=True,
            native_links=True,
            append=True,
        )
    )
    store = anew(flat)
    only = NO_METADATA.with_attributes(Attributes(xattrs=LARGE))
    await store.make_dir("d/", metadata=only)
    await store.make_link("l", "target", metadata=only)
    append = await store.create_append("f", metadata=only)
    await store.commit_append(append)

    for key in ("d/", "l", "f"):
        assert user_of(flat, key) == {"mountfs-xattr": NAME}


async def test_limit_that_only_the_store_knows(flat: FlatStore) -> None:
    """A refusal as too large is answered with a sidecar where no limit is known."""

    class Strict(FlatStore):
        async def write(self, key: str, *args: object, **options: object) -> Object:
            metadata = options["metadata"]
            assert isinstance(metadata, Metadata)
            if sum(map(len, metadata.user.values())) > 1000:
                raise MetadataTooLarge(key=key)
            return await super().write(key, *args, **options)  # type: ignore[arg-type]

    strict = Strict()
    store = anew(strict)

    written = await store.write("a", None, metadata=METADATA)

    assert written.attributes == KNOWN
    assert user_of(strict, "a")["mountfs-xattr"] == NAME
    with pytest.raises(MetadataTooLarge):
        await store.write("b", None, metadata=Metadata(user={"k": "v" * 1001}))


async def test_sidecar_is_shared_and_put_back(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """One text is stored once; if somebody took it away, the next write stores it."""
    await store.write("a", None, metadata=METADATA)
    await store.write("b", None, metadata=METADATA)
    await anew(flat).write("c", None, metadata=METADATA)
    await flat.delete(KEY)
    await store.write("d", None, metadata=METADATA)

    found = (await anew(flat).stat("a")).attributes
    assert found is not None
    assert found.xattrs == LARGE


async def test_sidecar_needs_neither_conditions_nor_types() -> None:
    """A store without either takes it all the same."""
    flat = FlatStore(
        dataclasses.replace(
            KEY_STORE, metadata_size_max=2048, conditions=frozenset(), pairs=frozenset()
        )
    )

    await anew(flat).write("a", None, metadata=METADATA)

    assert KEY in flat.objects


async def test_smaller_attributes_move_back(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """What fits again rides in the metadata, and nothing names the sidecar."""
    old = await store.write("a", None, metadata=METADATA)
    small = NO_METADATA.with_attributes(Attributes(xattrs={b"user.k": b"v"}))

    await store.set_metadata(old, small)

    assert set(user_of(flat, "a")) == {"xattr"}
    assert KEY in flat.objects


async def test_foreign_addition_is_the_newer_one(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """s3fs, which knows no sidecars, adds its own pair: both together are all."""
    await store.write("a", None, metadata=METADATA)
    added = {"xattr": xattrs.to_header({b"user.new": b"n", b"user.\xff": b"y"})}
    flat.put("a", b"", Metadata(user={**user_of(flat, "a"), **added}))

    found = await anew(flat).stat("a")

    assert found.attributes is not None
    assert found.attributes.xattrs == {**LARGE, b"user.new": b"n", b"user.\xff": b"y"}
    assert found.metadata is not None
    assert found.metadata.user == {}


async def test_foreign_garbage_beside_a_sidecar_is_kept(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """A pair that is not understood neither hides the sidecar nor gets lost."""
    await store.write("a", None, metadata=METADATA)
    flat.put("a", b"", Metadata(user={**user_of(flat, "a"), "xattr": "garbage"}))

    found = await anew(flat).stat("a")

    assert found.attributes == KNOWN
    assert found.metadata is not None
    assert found.metadata.user == {"xattr": "garbage"}


# A sidecar that cannot be read.


@pytest.fixture
def lost(flat: FlatStore) -> FlatStore:
    """A store where an object names a sidecar that is not there."""
    flat.put("a", b"old", Metadata(user={"mode": "33152", "mountfs-xattr": NAME}))
    return flat


@pytest.mark.parametrize(
    "data", [None, b"other bytes", b"x" * (3 * xattrs.TOTAL_SIZE_MAX)]
)
async def test_lost_sidecar_leaves_the_object_readable(
    lost: FlatStore, data: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Size and mode are told, the attributes are unknown, and the log says so once."""
    if data is not None:
        lost.put(KEY, data)
    store = anew(lost)

    with caplog.at_level(logging.WARNING):
        found = [await store.stat("a") for _ in range(3)]
    (warning,) = caplog.messages
    caplog.clear()

    assert KEY in warning
    assert {object.size for object in found} == {3}
    assert found[0].attributes == Attributes(mode=0o100600, xattrs=None)
    assert (await store.read("a")).data == b"old"


async def test_sidecar_with_the_right_sum_and_no_attributes_is_lost(
    flat: FlatStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A text that is none of attributes does not become one by its name."""
    name = hashlib.sha256(b"garbage").hexdigest()
    flat.put(f".mountfs/xattr/{name}", b"garbage")
    flat.put("a", b"", Metadata(user={"mountfs-xattr": name}))

    with caplog.at_level(logging.WARNING):
        found = await anew(flat).stat("a")
    caplog.clear()

    assert found.attributes == Attributes(xattrs=None)


@pytest.mark.parametrize("way", ["chmod", "edit", "copy"])
async def test_change_keeps_what_is_unknown(
    lost: FlatStore, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A change of other things does not make unknown attributes none."""
    store = anew(lost)
    with caplog.at_level(logging.WARNING):
        old = await store.stat("a")
    caplog.clear()
    change = NO_METADATA.with_attributes(Attributes(mode=0o100640))

    if way == "chmod":
        await store.set_metadata(old, change)
    elif way == "edit":
        await store.write("a", BytesBody(b"new"), metadata=change, inherit=old)
    else:
        await store.copy("a", "a", metadata=change)

    assert user_of(lost, "a") == {"mode": "33184", "mountfs-xattr": NAME}


async def test_attributes_that_are_named_replace_the_unknown(
    lost: FlatStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Who says what there is, or that there is none, needs no sidecar."""
    store = anew(lost)
    with caplog.at_level(logging.WARNING):
        old = await store.stat("a")
    caplog.clear()

    none = NO_METADATA.with_attributes(Attributes(xattrs={}))
    await store.write("a", BytesBody(b"new"), metadata=none, inherit=old)

    assert user_of(lost, "a") == {}


async def test_too_large_for_other_reasons_is_refused(flat: FlatStore) -> None:
    """Unknown attributes with an addition are not taken for all of them."""
    added = xattrs.to_header({b"user.new": bytes(1400)})
    flat.put("a", b"", Metadata(user={"xattr": added, "mountfs-xattr": NAME}))
    listed = (await flat.list("", mode=ListMode.PREFIX)).objects[0]

    with pytest.raises(MetadataTooLarge):
        await anew(flat).set_metadata(
            listed,
            Metadata(user={"xattr": added, "k": "v" * 300, "mountfs-xattr": NAME}),
        )

    assert user_of(flat, "a") == {"xattr": added, "mountfs-xattr": NAME}


@pytest.mark.parametrize("error", [Unreachable(), StoreError()])
async def test_failure_is_asked_again(
    flat: FlatStore,
    store: VirtualStorager,
    error: StoreError,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A sidecar that could not be read once is read at the next stat."""
    await store.write("a", None, metadata=METADATA)
    faulty = VirtualStorager(FaultyStore(flat, Fault("read", error)), STRICT)

    with caplog.at_level(logging.WARNING):
        first = await faulty.stat("a")
    caplog.clear()
    second = await faulty.stat("a")

    assert first.attributes == Attributes(mode=0o100600, xattrs=None)
    assert second.attributes == KNOWN


async def test_without_the_gate_the_name_is_a_foreign_pair(lost: FlatStore) -> None:
    """Closed, the pair is left alone, and no sidecar is asked for."""
    store = VirtualStorager(lost, Features.for_mounts())

    found = await store.stat("a")

    assert lost.requests == ["stat"]
    assert found.metadata is not None
    assert found.metadata.user == {"mountfs-xattr": NAME}
