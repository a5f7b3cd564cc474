"""The gates: what each emulates, and that without it nothing is emulated."""

import base64
import dataclasses
import hashlib

import pytest

from mountfs.storage.body import BytesBody
from mountfs.storage.errors import (
    AlreadyExists,
    Corrupt,
    InvalidRequest,
    NotFound,
    Unsupported,
    VersionChanged,
)
from mountfs.storage.protocol import Storager
from mountfs.storage.translate import has_md5
from mountfs.storage.types import (
    ABSENT,
    NO_METADATA,
    Attributes,
    Capabilities,
    Condition,
    Features,
    ListMode,
    Metadata,
    Object,
    ObjectKind,
    Page,
    Version,
)
from mountfs.storage.virtual import VirtualStorager
from tests.fakes.flat_store import KEY_STORE, FlatStore

MOUNT = Features.for_mounts()
OFF = Features()
SOME = Attributes(mode=0o100640, uid=7, gid=8, mtime_ns=1_500_000_001, ctime_ns=5)
ENCODED = {
    "mode": str(0o100640),
    "uid": "7",
    "gid": "8",
    "mtime": "1.500000001",
    "ctime": "0.000000005",
}
LINK = Metadata(user={"mode": str(0o120777)})


def flat_store(**capabilities: object) -> FlatStore:
    return FlatStore(dataclasses.replace(KEY_STORE, **capabilities))  # type: ignore[arg-type]


@pytest.fixture
def flat() -> FlatStore:
    return FlatStore()


@pytest.fixture
def store(flat: FlatStore) -> VirtualStorager:
    return VirtualStorager(flat, MOUNT)


def known(object: Object) -> Metadata:
    assert object.metadata is not None
    return object.metadata


def test_wrapper_is_a_storager(store: VirtualStorager) -> None:
    """The wrapper has the shape of the contract."""
    whole: Storager = store

    assert whole.features is MOUNT


def test_capabilities_tell_what_is_emulated(flat: FlatStore) -> None:
    """What a gate adds is a capability above it, and only above it."""
    everything = VirtualStorager(flat, Features.all()).capabilities
    nothing = VirtualStorager(flat, OFF).capabilities

    assert (everything.attributes, everything.move, everything.append) == (True,) * 3
    assert "content-language" in everything.pairs
    assert nothing == flat.capabilities


# Directories.


async def test_directory_exists_by_its_marker_or_a_child(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """A marker, or any key below, makes a directory; one LIST tells."""
    flat.put("marked/")
    flat.put("implicit/child")

    for key in ("marked/", "implicit/", "implicit"):
        found = await store.stat(key, kind=ObjectKind.DIRECTORY)
        assert found.kind is ObjectKind.DIRECTORY
    with pytest.raises(NotFound):
        await store.stat("implici/", kind=ObjectKind.DIRECTORY)


async def test_root_always_exists(store: VirtualStorager) -> None:
    """The root of an empty store is a directory."""
    assert (await store.stat("", kind=ObjectKind.DIRECTORY)).key == ""


async def test_implicit_directory_exists_without_the_gate(flat: FlatStore) -> None:
    """Prefixes are directories whether or not markers may be written."""
    flat.put("implicit/child")
    store = VirtualStorager(flat, OFF)

    found = await store.stat("implicit/", kind=ObjectKind.DIRECTORY)

    assert found.kind is ObjectKind.DIRECTORY


class _PagesBegunEmpty(FlatStore):
    """Answers with an empty page first, as real services may."""

    async def list(
        self,
        prefix: str,
        *,
        mode: ListMode = ListMode.DIRECTORY,
        token: str | None = None,
        limit: int | None = None,
    ) -> Page:
        if token is None:
            return Page((), "begin")
        real = None if token == "begin" else token
        return await super().list(prefix, mode=mode, token=real, limit=limit)


async def test_empty_page_is_not_the_end_of_a_directory() -> None:
    """A directory behind an empty page is found."""
    flat = _PagesBegunEmpty()
    flat.put("dir/child")

    found = await VirtualStorager(flat, MOUNT).stat("dir/", kind=ObjectKind.DIRECTORY)

    assert found.key == "dir/"


async def test_marker_keeps_the_attributes_of_its_directory(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """mkdir is one PUT; a later stat is a LIST and the marker's HEAD."""
    made = await store.make_dir("d/", metadata=Metadata(attributes=SOME))
    assert flat.requests == ["write"]
    flat.requests.clear()

    found = await store.stat("d/", kind=ObjectKind.DIRECTORY)

    assert flat.requests == ["list", "stat"]
    assert found.attributes == made.attributes == SOME
    assert known(found).pairs == {"content-type": "application/x-directory"}


@pytest.mark.parametrize(
    ("capabilities", "features"),
    [
        pytest.param({"dir_metadata": False}, MOUNT, id="store-keeps-none"),
        pytest.param({}, Features(virtual_dir=True), id="gate-off"),
    ],
)
async def test_marker_is_not_asked_in_vain(
    capabilities: dict[str, object], features: Features
) -> None:
    """Where a marker keeps no attributes, a directory costs the LIST alone."""
    flat = flat_store(**capabilities)
    flat.put("d/")

    await VirtualStorager(flat, features).stat("d/", kind=ObjectKind.DIRECTORY)

    assert flat.requests == ["list"]


async def test_marker_that_keeps_nothing_is_made_all_the_same() -> None:
    """mkdir with a mode works where the mode cannot be kept."""
    flat = flat_store(dir_metadata=False)
    store = VirtualStorager(flat, MOUNT)

    made = await store.make_dir("d/", metadata=Metadata(attributes=SOME))

    assert made.kind is ObjectKind.DIRECTORY
    assert made.attributes is None


async def test_marker_deleted_after_the_listing_is_a_plain_directory(
    flat: FlatStore,
) -> None:
    """A marker that goes between LIST and HEAD is no error."""

    class Vanishing(FlatStore):
        async def stat(self, key: str, *, kind: ObjectKind | None = None) -> Object:
            raise NotFound(key=key)

    vanishing = Vanishing()
    vanishing.put("d/")

    found = await VirtualStorager(vanishing, MOUNT).stat(
        "d/", kind=ObjectKind.DIRECTORY
    )

    assert found.metadata == NO_METADATA


async def test_existing_directory_keeps_its_attributes(
    store: VirtualStorager,
) -> None:
    """Making a directory that is there is success and changes nothing."""
    await store.make_dir("d/", metadata=Metadata(attributes=SOME))

    again = await store.make_dir("d/", metadata=Metadata(attributes=Attributes(uid=1)))

    assert again.attributes == SOME


async def test_marker_is_written_where_no_condition_is_honoured() -> None:
    """A store without conditions gets its marker by a plain write."""
    flat = flat_store(conditions=frozenset())

    await VirtualStorager(flat, MOUNT).make_dir("d/")

    assert "d/" in flat.objects


@pytest.mark.parametrize("stays", [True, False])
async def test_children_do_not_pass_for_a_marker(*, stays: bool) -> None:
    """Where a store refuses a marker because of its children, it is written anyway.

    Be the last of them gone when it is looked at.
    """

    class Confused(FlatStore):
        def _check_target(self, key: str, condition: Condition) -> None:
            if condition is ABSENT and any(
                name.startswith(key) for name in self.objects
            ):
                if not stays:
                    self.bucket.remove("d/child")
                raise AlreadyExists(key=key)

    flat = Confused()
    flat.put("d/child")

    made = await VirtualStorager(flat, MOUNT).make_dir(
        "d/", metadata=Metadata(attributes=SOME)
    )

    assert "d/" in flat.objects
    assert made.attributes is not None


async def test_marker_needs_no_type() -> None:
    """A store without content types gets a plain empty marker."""
    flat = flat_store(pairs=frozenset())

    made = await VirtualStorager(flat, MOUNT).make_dir("d/")

    assert known(made).pairs == {}


async def test_directory_key_without_slash_is_refused(store: VirtualStorager) -> None:
    """A directory's key ends in a slash."""
    with pytest.raises(InvalidRequest):
        await store.make_dir("d")


async def test_native_directories_are_left_to_the_store() -> None:
    """A store with directories of its own makes and finds them itself."""
    flat = flat_store(native_dirs=True)
    store = VirtualStorager(flat, OFF)

    await store.make_dir("d/")
    await store.stat("d/", kind=ObjectKind.DIRECTORY)

    assert flat.requests == ["make_dir", "stat"]


async def test_marker_is_no_child_of_itself(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """A listing of a directory leaves its marker out; a flat one has it."""

    class Sloppy(FlatStore):
        async def list(
            self,
            prefix: str,
            *,
            mode: ListMode = ListMode.DIRECTORY,
            token: str | None = None,
            limit: int | None = None,
        ) -> Page:
            return Page((await self.stat("d/"), await self.stat("d/a")), None)

    sloppy = Sloppy()
    sloppy.put("d/")
    sloppy.put("d/a")
    store = VirtualStorager(sloppy, MOUNT)

    children = await store.list("d/")
    everything = await store.list("d/", mode=ListMode.PREFIX)

    assert [child.key for child in children.objects] == ["d/a"]
    assert [entry.kind for entry in everything.objects] == [
        ObjectKind.DIRECTORY,
        ObjectKind.FILE,
    ]


@pytest.mark.parametrize("content", [b"", b"bytes"])
async def test_object_that_calls_itself_a_directory_is_a_file(
    content: bytes, flat: FlatStore, store: VirtualStorager
) -> None:
    """Only a slash makes a directory: bytes are never hidden by a mode."""
    flat.put("a", content, Metadata(user={"mode": str(0o040755)}))

    assert (await store.stat("a")).kind is ObjectKind.FILE


async def test_marker_as_it_stands_is_a_directory(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """Without a kind the key with its slash is the marker."""
    flat.put("d/")

    assert (await store.stat("d/")).kind is ObjectKind.DIRECTORY


# Links.


@pytest.mark.parametrize("target", ["../a b", "/abs/ümlaut", "raw\udcff", "x" * 4095])
@pytest.mark.parametrize(
    "features", [MOUNT, Features(virtual_link=True)], ids=["mount", "link-alone"]
)
async def test_target_is_kept_verbatim(
    target: str, features: Features, flat: FlatStore
) -> None:
    """A link is one PUT, and its target comes back byte for byte."""
    store = VirtualStorager(flat, features)
    made = await store.make_link("l", target, condition=ABSENT)
    assert flat.requests == ["write"]

    found = await store.stat("l")

    assert found.kind is made.kind is ObjectKind.LINK
    assert found.link_target == made.link_target == target
    assert flat.objects["l"].data == target.encode("utf-8", "surrogateescape")
    assert flat.objects["l"].metadata.user["mode"] == str(0o120777)


async def test_link_costs_one_more_read_and_a_file_none(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """Only a link's body is fetched by stat."""
    flat.put("l", b"target", LINK)
    flat.put("f", b"bytes")

    await store.stat("l")
    await store.stat("f")

    assert flat.requests == ["stat", "read", "stat"]


async def test_target_in_the_metadata_costs_no_read(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """A dialect that keeps the target in metadata needs no body."""
    flat.put("l", b"", Metadata(user={"gcsfuse_symlink_target": "t"}))

    assert (await store.stat("l")).link_target == "t"
    assert flat.requests == ["stat"]


@pytest.mark.parametrize("body", [b"", b"x" * 4096, b"a\0b"])
async def test_body_that_is_no_target_stays_readable_as_a_file(
    body: bytes, flat: FlatStore, store: VirtualStorager
) -> None:
    """A link whose body cannot be a target shows as a regular file."""
    flat.put("l", body, LINK)

    assert (await store.stat("l")).kind is ObjectKind.FILE


async def test_link_replaced_while_it_is_looked_at(flat: FlatStore) -> None:
    """A link that changes between HEAD and GET is looked up again."""

    class Changing(FlatStore):
        changes = 1

        async def stat(self, key: str, *, kind: ObjectKind | None = None) -> Object:
            found = await super().stat(key, kind=kind)
            if self.changes:
                self.changes -= 1
                self.put(key, b"new%d" % self.changes, LINK)
            return found

    changing = Changing()
    changing.put("l", b"old", LINK)
    store = VirtualStorager(changing, MOUNT)

    assert (await store.stat("l")).link_target == "new0"
    changing.changes = 99
    with pytest.raises(VersionChanged):
        await store.stat("l")


async def test_reading_a_whole_link_tells_its_target(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """A read that brought the body anyway needs no other for the target."""
    flat.put("l", b"target", LINK)

    content = await store.read("l")

    assert content.object.link_target == "target"
    assert flat.requests == ["read"]


async def test_part_of_a_link_does_not_tell_its_target(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """A range of a link's body is not taken for the target."""
    flat.put("l", b"target", LINK)

    assert (await store.read("l", 1)).object.link_target is None


async def test_listing_with_metadata_shows_links() -> None:
    """Where a listing carries metadata it tells links from files."""
    flat = flat_store(list_metadata=True)
    flat.put("l", b"target", LINK)

    (entry,) = (await VirtualStorager(flat, MOUNT).list("")).objects

    assert (entry.kind, entry.link_target) == (ObjectKind.LINK, None)


async def test_existing_link_is_replaced(store: VirtualStorager) -> None:
    """Making a link over a link sets the new target."""
    await store.make_link("l", "one")
    await store.make_link("l", "two")

    assert (await store.stat("l")).link_target == "two"


async def test_link_keeps_its_attributes(store: VirtualStorager) -> None:
    """Owner and times go with a link; its mode says that it is one."""
    made = await store.make_link("l", "t", metadata=Metadata(attributes=SOME))

    assert made.attributes == dataclasses.replace(SOME, mode=0o120640)
    changed = await store.set_metadata(
        made, Metadata(attributes=Attributes(uid=9, mode=0o777))
    )
    assert (changed.kind, changed.link_target) == (ObjectKind.LINK, "t")
    assert (await store.stat("l")).kind is ObjectKind.LINK


@pytest.mark.parametrize("target", ["", "a\0b", "x" * 4096])
async def test_impossible_target_is_refused(
    target: str, store: VirtualStorager
) -> None:
    """A target that no link can have is refused before anything is sent."""
    with pytest.raises(InvalidRequest):
        await store.make_link("l", target)


async def test_native_link_is_left_to_the_store() -> None:
    """A store with links of its own makes them itself."""
    flat = flat_store(native_links=True)

    made = await VirtualStorager(flat, OFF).make_link("l", "t")

    assert (made.kind, made.link_target) == (ObjectKind.LINK, "t")
    assert flat.requests == ["make_link"]


async def test_native_link_without_metadata_is_made_all_the_same() -> None:
    """symlink works where a link's owner cannot be kept; chown of it is refused."""
    flat = flat_store(native_links=True, link_metadata=False)
    store = VirtualStorager(flat, MOUNT)

    made = await store.make_link("l", "t", metadata=Metadata(attributes=SOME))

    assert made.attributes is None
    with pytest.raises(Unsupported):
        await store.set_metadata(made, Metadata(attributes=SOME))


async def test_link_needs_metadata_to_be_marked_by() -> None:
    """A store that keeps nothing beside the bytes has no links."""
    flat = flat_store(metadata=False)

    with pytest.raises(Unsupported):
        await VirtualStorager(flat, Features.all()).make_link("l", "t")


async def test_store_with_attributes_marks_a_link_in_its_mode() -> None:
    """Where attributes are native, the mode that says link is too."""
    flat = flat_store(attributes=True, metadata=False)
    store = VirtualStorager(flat, MOUNT)

    await store.make_link("l", "t")

    assert flat.objects["l"].metadata.attributes == Attributes(mode=0o120777)
    assert (await store.stat("l")).link_target == "t"


# Attributes.


async def test_attributes_ride_in_the_same_put(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """A write with attributes is one request, and its answer carries them."""
    written = await store.write(
        "a", BytesBody(b"x"), metadata=Metadata(attributes=SOME, user={"k": "v"})
    )

    assert flat.requests == ["write"]
    assert flat.objects["a"].metadata.user == {**ENCODED, "k": "v"}
    assert written.attributes == SOME
    assert known(written).user == {"k": "v"}
    assert (await store.stat("a")).attributes == SOME
    assert (await store.read("a")).object.attributes == SOME


async def test_listing_with_metadata_carries_attributes() -> None:
    """Where a listing carries metadata it carries the attributes."""
    flat = flat_store(list_metadata=True)
    flat.put("a", b"", Metadata(user=ENCODED))

    (entry,) = (await VirtualStorager(flat, MOUNT).list("")).objects

    assert entry.attributes == SOME


async def test_native_attributes_are_left_to_the_store() -> None:
    """A store that keeps attributes itself gets them as they are."""
    flat = flat_store(attributes=True)
    store = VirtualStorager(flat, OFF)

    await store.write("a", None, metadata=Metadata(attributes=SOME))

    assert flat.objects["a"].metadata.attributes == SOME
    assert (await store.stat("a")).attributes == SOME


async def test_multipart_object_carries_the_attributes(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """The answer to a completion has the attributes the upload began with."""
    upload = await store.create_multipart("a", metadata=Metadata(attributes=SOME))
    part = await store.write_part(upload, 0, BytesBody(b"x"))

    completed = await store.complete_multipart(upload, [part])

    assert completed.attributes == SOME
    assert flat.objects["a"].metadata.user == ENCODED


class _Terse(FlatStore):
    """Answers writes without metadata, as S3 does."""

    def _put(
        self, key: str, data: bytes, metadata: Metadata, condition: Condition
    ) -> Object:
        answer = super()._put(key, data, metadata, condition)
        return dataclasses.replace(answer, metadata=None)


async def test_terse_answers_are_completed_with_what_was_sent() -> None:
    """A service that answers a write without metadata costs no HEAD."""
    flat = _Terse()
    store = VirtualStorager(flat, MOUNT)
    metadata = Metadata(attributes=SOME)

    written = await store.write("a", None, metadata=metadata)
    upload = await store.create_multipart("b", metadata=metadata)
    part = await store.write_part(upload, 0, BytesBody(b"x"))
    completed = await store.complete_multipart(upload, [part])
    aborted = await store.create_multipart("b", metadata=metadata)
    await store.abort_multipart(aborted)

    assert written.attributes == completed.attributes == SOME
    assert "stat" not in flat.requests


async def test_uploads_that_nobody_ends_are_forgotten(
    flat: FlatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is remembered of open uploads is bounded."""
    monkeypatch.setattr("mountfs.storage.virtual._UPLOADS_KNOWN_MAX", 1)
    store = VirtualStorager(_Terse(), MOUNT)
    first = await store.create_multipart("a", metadata=Metadata(attributes=SOME))
    part = await store.write_part(first, 0, BytesBody(b"x"))
    await store.create_multipart("b")

    assert (await store.complete_multipart(first, [part])).metadata is None


async def test_chmod_keeps_what_is_not_ours(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """A change of attributes is one request and keeps foreign names and pairs."""
    flat.put(
        "a",
        b"x",
        Metadata(user={**ENCODED, "k": "v"}, pairs={"content-type": "text/plain"}),
    )
    before = await store.stat("a")
    flat.requests.clear()

    after = await store.set_metadata(
        before, Metadata(attributes=dataclasses.replace(SOME, mode=0o600))
    )

    assert flat.requests == ["set_metadata"]
    assert after.attributes == dataclasses.replace(SOME, mode=0o100600)
    assert known(after).user == {"k": "v"}
    assert known(after).pairs == {"content-type": "text/plain"}


async def test_unknown_metadata_are_asked_for_before_they_are_replaced(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """An object from a listing is looked up first, so nothing of it is lost."""
    flat.put("a", b"x", Metadata(user={**ENCODED, "k": "v"}))
    (listed,) = (await store.list("")).objects

    after = await store.set_metadata(listed, Metadata(user={"new": "1"}))

    assert known(after).user == {"k": "v", "new": "1"}
    assert after.attributes == SOME


async def test_metadata_told_in_part_are_asked_for_before_they_are_replaced(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """Whoever knows the attributes alone does not take all else away by a change."""
    put = flat.put("a", b"x", Metadata(user={"foreign": "kept"}, pairs={}))
    told = Metadata(attributes=SOME, is_whole=False)

    changed = await store.set_metadata(
        dataclasses.replace(put, metadata=told), Metadata(attributes=SOME)
    )
    rewritten = await store.write(
        "a",
        BytesBody(b"new"),
        metadata=Metadata(attributes=SOME),
        inherit=dataclasses.replace(changed, metadata=told),
    )

    assert known(changed).user == {"foreign": "kept"}
    assert known(rewritten).user == {"foreign": "kept"}
    assert flat.objects["a"].metadata.user == {"foreign": "kept", **ENCODED}


async def test_link_target_in_metadata_survives_a_change(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """A link of another dialect stays a link when its owner changes."""
    flat.put("l", b"", Metadata(user={"gcsfuse_symlink_target": "t"}))

    await store.set_metadata(
        await store.stat("l"), Metadata(attributes=Attributes(uid=1))
    )

    assert (await store.stat("l")).link_target == "t"


async def test_implicit_directory_gets_a_marker_for_its_attributes(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """chmod of a directory without marker writes one."""
    flat.put("d/child")
    (listed,) = (await store.list("")).objects

    await store.set_metadata(listed, Metadata(attributes=SOME))

    found = await store.stat("d/", kind=ObjectKind.DIRECTORY)
    assert found.attributes is not None
    assert found.attributes.uid == 7


async def test_metadata_of_nothing_is_not_found(store: VirtualStorager) -> None:
    """An object that is gone has no metadata to change."""
    with pytest.raises(NotFound):
        await store.set_metadata(Object(key="gone"), Metadata(attributes=SOME))


@pytest.mark.parametrize(
    ("key", "capabilities"),
    [("a", {"set_metadata": False}), ("d/", {"dir_metadata": False})],
)
async def test_what_cannot_be_changed_is_refused_or_dropped(
    key: str, capabilities: dict[str, object]
) -> None:
    """Without loose_operation the refusal is told; with it the change is dropped."""
    flat = flat_store(**capabilities)
    strict, loose = VirtualStorager(flat, MOUNT), VirtualStorager(flat, Features.all())
    flat.put(key)
    found = await strict.stat(key)

    with pytest.raises(Unsupported):
        await strict.set_metadata(found, Metadata(attributes=SOME))
    assert await loose.set_metadata(found, Metadata(attributes=SOME)) is found


async def test_edit_keeps_what_is_not_ours(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """New bytes keep foreign names, pairs, owner and permissions, but no times."""
    flat.put(
        "a",
        b"x",
        Metadata(
            user={**ENCODED, "k": "v", "gcsfuse_symlink_target": "t"},
            pairs={"cache-control": "no-store"},
        ),
    )
    (listed,) = (await store.list("")).objects

    for written in (
        await store.write("a", BytesBody(b"y"), inherit=listed),
        await store.complete_multipart(
            upload := await store.create_multipart("a", inherit=listed),
            [await store.write_part(upload, 0, BytesBody(b"y"))],
            inherit=listed,
        ),
    ):
        assert known(written).user == {"k": "v"}
        assert known(written).pairs == {"cache-control": "no-store"}
        assert written.attributes == Attributes(mode=0o100640, uid=7, gid=8)
        assert written.kind is ObjectKind.FILE


async def test_named_metadata_win_over_inherited_ones(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """What the caller names takes the place of what was there."""
    old = flat.put("a", b"x", Metadata(user={"k": "old"}))

    written = await store.write(
        "a",
        BytesBody(b"y"),
        metadata=Metadata(user={"k": "new"}, attributes=SOME),
        inherit=old,
    )

    assert known(written).user == {"k": "new"}
    assert written.attributes == SOME


async def test_nothing_is_inherited_from_what_is_gone(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """An object that vanished leaves nothing, and that is no error."""
    gone = Object(key="gone")

    written = await store.write("a", None, inherit=gone)

    assert known(written).user == {}


async def test_commit_id_is_not_carried_on(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """A commit id marks one commit: an edit and a chmod drop the old one."""
    flat.put("a", b"x", Metadata(user={"mountfs-commit": "c1"}))
    old = await store.stat("a")
    assert (known(old).commit_id, known(old).user) == ("c1", {})

    written = await store.write("a", None, metadata=known(old), inherit=old)
    changed = await store.set_metadata(old, known(old).with_attributes(SOME))

    assert known(written).commit_id is None
    assert known(changed).commit_id is None


async def test_without_the_gate_attributes_are_foreign_names(flat: FlatStore) -> None:
    """Off means that nobody has thought of attributes: they are just metadata."""
    flat.put("a", b"x", Metadata(user=ENCODED))
    store = VirtualStorager(flat, OFF)

    found = await store.stat("a")
    written = await store.write("a", BytesBody(b"y"), inherit=found)

    assert (found.attributes, known(found).user) == (None, ENCODED)
    assert known(written).user == ENCODED
    with pytest.raises(Unsupported):
        await store.write("a", None, metadata=Metadata(attributes=SOME))


# Copies and moves.


async def test_copy_takes_everything_along(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """A copy without metadata is one request."""
    flat.put("a", b"x", Metadata(user={**ENCODED, "k": "v"}))

    copied = await store.copy("a", "b")

    assert flat.requests == ["copy"]
    assert copied.attributes == SOME
    assert known(copied).user == {"k": "v"}


async def test_copy_with_metadata_keeps_what_they_do_not_name(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """Metadata given with a copy are put over the source's own."""
    flat.put("a", b"x", Metadata(user={**ENCODED, "k": "v"}))

    copied = await store.copy(
        "a",
        "b",
        source_version=flat.put("a", b"x", flat.objects["a"].metadata).version,
        metadata=Metadata(user={"n": "1"}),
    )

    assert known(copied).user == {"k": "v", "n": "1"}
    assert copied.attributes == SOME


async def test_copy_of_another_version_is_refused(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """A pinned copy with metadata notices that the source changed."""
    old = flat.put("a", b"old")
    flat.put("a", b"new")

    with pytest.raises(VersionChanged):
        await store.copy(
            "a", "b", source_version=old.version, metadata=Metadata(user={"n": "1"})
        )
    assert "b" not in flat.objects


async def test_move_copies_and_then_deletes(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """The target is whole before the source goes."""
    flat.put("a", b"x", Metadata(user=ENCODED))

    moved = await store.move("a", "b")

    assert (moved.key, moved.attributes) == ("b", SOME)
    assert flat.requests == ["stat", "copy", "delete"]
    assert set(flat.objects) == {"b"}


async def test_move_on_a_store_without_conditions_costs_two_requests() -> None:
    """Where deletes cannot be pinned, nothing is asked first."""
    flat = flat_store(conditions=frozenset())
    flat.put("a", b"x")

    await VirtualStorager(flat, MOUNT).move("a", "b")

    assert flat.requests == ["copy", "delete"]


async def test_move_never_deletes_a_newer_source(flat: FlatStore) -> None:
    """A source that changes during the move stays, beside the copy."""

    class Changing(FlatStore):
        async def copy(self, source: str, target: str, **options: object) -> Object:
            copied = await super().copy(source, target)
            self.put(source, b"newer")
            return copied

    changing = Changing()
    changing.put("a", b"x")

    with pytest.raises(VersionChanged):
        await VirtualStorager(changing, MOUNT).move("a", "b")
    assert changing.objects["a"].data == b"newer"
    assert changing.objects["b"].data == b"x"


async def test_move_onto_itself_changes_nothing(
    flat: FlatStore, store: VirtualStorager
) -> None:
    """An object is never copied onto itself and then deleted."""
    flat.put("a", b"x")

    assert (await store.move("a", "a")).key == "a"
    assert "a" in flat.objects


async def test_move_of_nothing_is_not_found(store: VirtualStorager) -> None:
    """A source that is not there cannot be moved."""
    with pytest.raises(NotFound):
        await store.move("a", "b")


async def test_native_move_is_left_to_the_store() -> None:
    """A store that moves gets one request, also without the gate."""
    flat = flat_store(move=True)
    flat.put("a", b"x")

    await VirtualStorager(flat, OFF).move("a", "b")

    assert flat.requests == ["move"]


# Pairs, and what cannot be kept.


async def test_virtual_pair_is_kept_in_metadata() -> None:
    """A pair without a place of its own comes back as a pair."""
    flat = flat_store(pairs=frozenset())
    store = VirtualStorager(flat, Features(virtual_pair=True))

    written = await store.write(
        "a", None, metadata=Metadata(pairs={"content-type": "text/plain"})
    )

    assert flat.objects["a"].metadata.user == {
        "mountfs-pair-content-type": "text/plain"
    }
    assert known(written) == Metadata(pairs={"content-type": "text/plain"})
    changed = await store.set_metadata(written, Metadata(user={"k": "v"}))
    assert known(changed).pairs == {"content-type": "text/plain"}


async def test_md5_is_checked_when_all_is_read() -> None:
    """Bytes that do not match their virtual content-md5 are `Corrupt`."""
    flat = flat_store(pairs=frozenset())
    store = VirtualStorager(flat, Features(virtual_pair=True))
    content = bytes(1 << 20) + b"x"
    for key, body in (("small", b"x"), ("large", content)):
        md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
        await store.write(
            key, BytesBody(body), metadata=Metadata(pairs={"content-md5": md5})
        )

    assert (await store.read("small")).data == b"x"
    assert (await store.read("large")).data == content
    flat.put("small", b"y", flat.objects["small"].metadata)
    with pytest.raises(Corrupt):
        await store.read("small")
    assert (await store.read("small", 0, 0)).data == b""


async def test_md5_of_the_old_bytes_is_not_inherited() -> None:
    """An edit does not carry on a checksum that is no longer true."""
    flat = flat_store(pairs=frozenset())
    store = VirtualStorager(flat, Features(virtual_pair=True))
    old = await store.write("a", None, metadata=Metadata(pairs={"content-md5": "x"}))

    written = await store.write("a", BytesBody(b"y"), inherit=old)

    assert known(written).pairs == {}


@pytest.mark.parametrize("md5", ["not base64!", "c2hvcnQ="])
def test_text_that_is_no_md5_is_no_reason_to_refuse_bytes(md5: str) -> None:
    """Garbage in the pair never makes an object unreadable."""
    assert has_md5(b"x", md5)


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param(Metadata(pairs={"content-language": "de"}), id="pair"),
        pytest.param(Metadata(user={"k": "v"}), id="user"),
        pytest.param(Metadata(attributes=SOME), id="attributes"),
    ],
)
async def test_what_cannot_be_kept_is_refused_or_dropped(metadata: Metadata) -> None:
    """Without loose_operation nothing is lost in silence; with it, it is dropped."""
    flat = FlatStore(Capabilities(service="bare"))

    with pytest.raises(Unsupported):
        await VirtualStorager(flat, MOUNT).write("a", None, metadata=metadata)
    loose = VirtualStorager(flat, Features.all())
    await loose.write("a", None, metadata=metadata)

    assert flat.objects["a"].metadata == NO_METADATA


async def test_change_that_would_be_dropped_is_not_sent(flat: FlatStore) -> None:
    """A dropped chmod costs no request."""
    store = VirtualStorager(flat, Features(loose_operation=True))
    found = flat.put("a")

    assert await store.set_metadata(found, Metadata(attributes=SOME)) is found
    assert flat.requests == []


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(lambda store: store.make_dir("d/"), id="virtual_dir"),
        pytest.param(lambda store: store.make_link("l", "t"), id="virtual_link"),
        pytest.param(lambda store: store.move("a", "b"), id="virtual_move"),
        pytest.param(lambda store: store.move("d/", "e/"), id="directory"),
        pytest.param(lambda store: store.create_append("a"), id="virtual_append"),
    ],
)
async def test_without_its_gate_an_operation_is_unsupported(
    step: object, flat: FlatStore
) -> None:
    """Off means that nothing is sent and the caller is told."""
    flat.put("a", b"x")
    with pytest.raises(Unsupported):
        await step(VirtualStorager(flat, OFF))  # type: ignore[operator]

    assert flat.requests == []


async def test_stored_link_is_a_file_without_the_gate(flat: FlatStore) -> None:
    """Off means that a link of someone else is the object it is."""
    flat.put("l", b"target", LINK)

    found = await VirtualStorager(flat, OFF).stat("l")

    assert (found.kind, found.link_target) == (ObjectKind.FILE, None)


async def test_conditions_pass_through(flat: FlatStore, store: VirtualStorager) -> None:
    """A condition on a write reaches the store."""
    flat.put("a", b"x")

    with pytest.raises(AlreadyExists):
        await store.write("a", None, condition=ABSENT)
    with pytest.raises(VersionChanged):
        await store.make_link("a", "t", condition=Version("other"))
