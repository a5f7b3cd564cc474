"""The gates of extended attributes, hard links and special files, each by itself."""

import dataclasses
import stat

import pytest

from mountfs.storage.body import BytesBody
from mountfs.storage.errors import MetadataTooLarge, Unsupported
from mountfs.storage.types import (
    NO_METADATA,
    Attributes,
    Features,
    Metadata,
    Object,
    ObjectKind,
)
from mountfs.storage.virtual import VirtualStorager
from mountfs.storage.xattrs import TOTAL_SIZE_MAX
from tests.fakes.flat_store import KEY_STORE, FlatStore

XATTRS = {b"user.a": b"\0\xff", b"trusted.b": b""}
PAIR = "%7B%22trusted.b%22%3A%22%22%2C%22user.a%22%3A%22AP8%3D%22%7D"
FIFO = stat.S_IFIFO | 0o640
ALL = Attributes(mode=0o100640, uid=7, xattrs=XATTRS, group="g1")


@pytest.fixture
def flat() -> FlatStore:
    return FlatStore()


def user_of(object: Object) -> dict[str, str]:
    assert object.metadata is not None
    return dict(object.metadata.user)


GATES = {
    "virtual_object_metadata": (Attributes(mode=0o100640, uid=7), {"uid": "7"}),
    "virtual_xattr": (Attributes(xattrs=XATTRS), {"xattr": PAIR}),
    "virtual_hard_link": (Attributes(group="g1"), {"mountfs-link": "g1"}),
}
WIRE = {"mode": "33184", "uid": "7", "xattr": PAIR, "mountfs-link": "g1"}


@pytest.mark.parametrize("gate", GATES)
async def test_each_gate_keeps_its_field_and_leaves_the_others(
    flat: FlatStore, gate: str
) -> None:
    """With one gate its field is read and written; the other pairs are foreign."""
    kept, pairs = GATES[gate]
    store = VirtualStorager(flat, Features(**{gate: True}))
    flat.put("a", metadata=Metadata(user=WIRE))

    found = await store.stat("a")

    attributes = found.attributes
    assert attributes is not None
    assert store.capabilities.kept(ALL) == kept
    assert store.capabilities.kept(attributes) == attributes
    assert dataclasses.replace(attributes, xattrs=attributes.xattrs or None) == kept
    assert pairs.items() <= WIRE.items()
    assert not set(pairs) & set(user_of(found))
    assert set(user_of(found)) >= set(WIRE) - set(pairs) - {"mode"}

    await store.write("b", BytesBody(b"x"), metadata=NO_METADATA.with_attributes(kept))
    await store.set_metadata(found, Metadata(user={"new": "pair"}))

    assert pairs.items() <= flat.objects["b"].metadata.user.items()
    assert dict(flat.objects["a"].metadata.user) == {**WIRE, "new": "pair"}


@pytest.mark.parametrize("gate", GATES)
async def test_field_of_a_gate_that_is_off_is_refused_or_dropped(
    flat: FlatStore, gate: str
) -> None:
    """What no gate keeps is refused; loose_operation drops it and keeps the rest."""
    kept, _ = GATES[gate]
    others = {name: True for name in GATES if name != gate}
    metadata = NO_METADATA.with_attributes(ALL)

    with pytest.raises(Unsupported):
        await VirtualStorager(flat, Features(**others)).write(
            "a", None, metadata=metadata
        )
    loose = VirtualStorager(flat, Features(**others, loose_operation=True))
    written = await loose.write("a", None, metadata=metadata)

    assert written.attributes is not None
    assert loose.capabilities.kept(kept) is None
    assert written.attributes != kept


async def test_gates_add_nothing_where_no_metadata_are_kept() -> None:
    """A store without user metadata keeps no field, whatever the gates say."""
    flat = FlatStore(dataclasses.replace(KEY_STORE, metadata=False))
    store = VirtualStorager(
        flat, dataclasses.replace(Features.all(), loose_operation=False)
    )

    able = store.capabilities
    assert (able.xattrs, able.groups, able.specials) == (False, False, False)
    for attributes in (Attributes(xattrs=XATTRS), Attributes(group="g1")):
        with pytest.raises(Unsupported):
            await store.write(
                "a", None, metadata=NO_METADATA.with_attributes(attributes)
            )


async def test_edit_that_names_no_attributes_keeps_them(flat: FlatStore) -> None:
    """New bytes keep extended attributes and group of what they replace."""
    store = VirtualStorager(flat, Features.all())
    old = await store.write("a", None, metadata=NO_METADATA.with_attributes(ALL))

    edited = await store.write("a", BytesBody(b"new"), inherit=old)
    copied = await store.copy("a", "b", metadata=Metadata(user={"k": "v"}))

    for found in (edited, copied, await store.stat("a")):
        assert found.attributes is not None
        assert (found.attributes.xattrs, found.attributes.group) == (XATTRS, "g1")


async def test_attributes_that_are_named_replace_what_was_there(
    flat: FlatStore,
) -> None:
    """A change that names attributes replaces them: none is none; None leaves them."""
    store = VirtualStorager(flat, Features.all())
    old = await store.write("a", None, metadata=NO_METADATA.with_attributes(ALL))
    left = Attributes(mode=0o100600)
    none = Attributes(mode=0o100600, xattrs={})

    kept = await store.set_metadata(old, NO_METADATA.with_attributes(left))
    assert kept.attributes == dataclasses.replace(left, xattrs=XATTRS)

    gone = await store.set_metadata(kept, NO_METADATA.with_attributes(none))
    assert gone.attributes == none
    assert dict(flat.objects["a"].metadata.user) == {"mode": "33152"}

    written = await store.write(
        "a", None, metadata=NO_METADATA.with_attributes(none), inherit=old
    )
    assert written.attributes == none


async def test_too_many_extended_attributes_are_refused(flat: FlatStore) -> None:
    """More than a mebibyte is refused before anything is sent."""
    store = VirtualStorager(flat, Features.all())
    large = Attributes(xattrs={b"user.a": bytes(TOTAL_SIZE_MAX)})

    with pytest.raises(MetadataTooLarge):
        await store.write("a", None, metadata=NO_METADATA.with_attributes(large))

    assert flat.requests == []


async def test_directory_keeps_extended_attributes(flat: FlatStore) -> None:
    """A marker is asked for them although modes are not kept."""
    store = VirtualStorager(flat, Features(virtual_dir=True, virtual_xattr=True))
    known = Attributes(xattrs=XATTRS)

    await store.make_dir("d/", metadata=NO_METADATA.with_attributes(known))

    found = await store.stat("d/", kind=ObjectKind.DIRECTORY)
    assert found.attributes == known


# Special files.


@pytest.mark.parametrize("posix", [True, False])
async def test_special_file_is_an_empty_object(flat: FlatStore, posix: bool) -> None:
    """One write of nothing makes it; type and device survive without the other gate."""
    features = Features(virtual_special=True, virtual_object_metadata=posix)
    store = VirtualStorager(flat, features)
    device = Attributes(mode=stat.S_IFCHR | 0o600, rdev=1281)

    made = await store.write("null", None, metadata=NO_METADATA.with_attributes(device))

    assert flat.requests == ["write"]
    assert dict(flat.objects["null"].metadata.user) == {"mode": "8576", "rdev": "1281"}
    for found in (made, await store.stat("null")):
        assert found.kind is ObjectKind.SPECIAL
        assert found.attributes == device


@pytest.mark.parametrize("posix", [True, False])
async def test_special_file_stays_one(flat: FlatStore, posix: bool) -> None:
    """A change of its mode does not change its type, and keeps what is foreign."""
    features = Features(virtual_special=True, virtual_object_metadata=posix)
    store = VirtualStorager(flat, features)
    flat.put("fifo", metadata=Metadata(user={"mode": str(FIFO), "k": "v"}))

    change = Attributes(mode=stat.S_IFIFO | 0o600)
    changed = await store.set_metadata(
        await store.stat("fifo"), NO_METADATA.with_attributes(change)
    )
    foreign = await store.set_metadata(changed, Metadata(user={"l": "w"}))

    assert changed.attributes == change
    assert (changed.kind, foreign.kind) == (ObjectKind.SPECIAL, ObjectKind.SPECIAL)
    assert flat.objects["fifo"].metadata.user["k"] == "v"


@pytest.mark.parametrize(
    ("features", "data"),
    [
        pytest.param(Features.for_mounts(), b"", id="gate-off"),
        pytest.param(Features.all(), b"bytes", id="with-bytes"),
    ],
)
async def test_object_that_calls_itself_special_is_a_file(
    flat: FlatStore, features: Features, data: bytes
) -> None:
    """Without the gate, or with bytes that would be hidden, it is a regular file."""
    flat.put("fifo", data, Metadata(user={"mode": str(FIFO)}))

    found = await VirtualStorager(flat, features).stat("fifo")

    assert found.kind is ObjectKind.FILE


async def test_bytes_in_place_of_a_special_file_are_a_file(flat: FlatStore) -> None:
    """Even no bytes: the type does not go on to what replaces it."""
    for features in (Features.all(), Features()):
        store = VirtualStorager(flat, features)
        flat.put("fifo", metadata=Metadata(user={"mode": str(FIFO)}))

        await store.write("fifo", None, inherit=await store.stat("fifo"))

        found = await VirtualStorager(flat, Features.all()).stat("fifo")
        assert found.kind is ObjectKind.FILE


async def test_link_stays_a_link_when_its_mode_is_not_named(flat: FlatStore) -> None:
    """A change that names an owner alone leaves the type that makes it a link."""
    store = VirtualStorager(flat, Features.for_mounts())
    link = await store.make_link("l", "target")

    changed = await store.set_metadata(
        link, NO_METADATA.with_attributes(Attributes(uid=5))
    )

    assert (changed.kind, changed.link_target) == (ObjectKind.LINK, "target")
