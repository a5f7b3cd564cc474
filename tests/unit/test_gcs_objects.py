"""Copies, metadata and listings of Google Cloud Storage: what is sent, what stays."""

import dataclasses
import os
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountfs.backends import gcs_crc32c, gcs_dialect, open_store
from mountfs.backends.gcs_objects import time_ns
from mountfs.storage import dialects, pace
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import (
    AlreadyExists,
    InvalidRequest,
    MetadataTooLarge,
    StoreError,
    VersionChanged,
)
from mountfs.storage.protocol import Storager
from mountfs.storage.types import (
    ABSENT,
    NO_METADATA,
    Attributes,
    Features,
    ListMode,
    Metadata,
    Object,
    ObjectKind,
)
from mountfs.storage.virtual import VirtualStorager
from tests.fakes.gcs_fixtures import GCS_BUCKET
from tests.fakes.gcs_requests import refusal
from tests.fakes.gcs_server import GcsServer

MIB = 1 << 20


@pytest.fixture
async def store(gcs_server: GcsServer) -> AsyncIterator[Storager]:
    """A store below a prefix."""
    options = {"endpoint_url": gcs_server.endpoint_url, "no_sign_request": True}
    found = open_store(f"gs://{GCS_BUCKET}/pre", options)
    yield found
    await found.close()


def changed(found: Object, **user: str) -> Metadata:
    """Return what is known of an object, with some names changed."""
    known = found.metadata or NO_METADATA
    return Metadata(user={**known.user, **user}, commit_id="c")


@pytest.mark.parametrize("size", [300_000, 9 * MIB])
async def test_bodies_go_piece_by_piece_where_a_limit_wants(
    store: Storager, size: int
) -> None:
    """Both ways, of bytes and of files, and nothing is changed by it."""
    pays: list[int] = []

    class Recording:
        piece = 50_000

        def pay(self, size: int) -> None:
            pays.append(size)

        def note_request(self) -> None:
            pass

    content = os.urandom(size)
    token = pace.keep(Recording())
    try:
        await store.write("a", BytesBody(content))
        sent = sum(pays)
        found = await store.read("a")
    finally:
        pace.leave(token)

    assert found.data == content
    assert max(pays) <= 50_000
    assert sent >= size
    assert sum(pays) - sent >= size


@given(st.lists(st.binary(max_size=300), max_size=40))
def test_the_checksum_of_a_whole_follows_from_its_parts(parts: list[bytes]) -> None:
    """Whatever their number and sizes."""
    sums = [(gcs_crc32c.of_bytes(part), len(part)) for part in parts]

    assert gcs_crc32c.joined(sums) == gcs_crc32c.of_bytes(b"".join(parts))


def test_the_checksum_is_castagnolis() -> None:
    """The value of RFC 3720, B.4, and the way that the service writes it."""
    value = gcs_crc32c.of_bytes(bytes(32))

    assert value == 0x8A9136AA
    assert gcs_crc32c.decoded(gcs_crc32c.encoded(value)) == value
    assert gcs_crc32c.decoded("no sum") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01.500Z", 1_500_000_000),
        ("2026-11-27T02:20:28Z", 1_795_746_028_000_000_000),
        ("soon", None),
        (None, None),
    ],
)
def test_times_are_nanoseconds(text: str | None, expected: int | None) -> None:
    """What is no time is unknown."""
    assert time_ns(text) == expected


async def test_a_copy_takes_as_many_calls_as_the_service_wants() -> None:
    """The token of one call goes with the next."""
    with GcsServer(rewritten_max=MIB) as server:
        server.make_bucket(GCS_BUCKET)
        options = {"endpoint_url": server.endpoint_url, "no_sign_request": True}
        store = open_store(f"gs://{GCS_BUCKET}", options)
        data = os.urandom(3 * MIB + 5)
        await store.write("source", BytesBody(data))
        copied = await store.copy("source", "target", condition=ABSENT)

        assert server.objects(GCS_BUCKET)["target"].data == data
        assert copied.size == len(data)
        calls = server.requests("objects.rewrite")
        assert len(calls) == 4
        assert len({call.query.get("rewriteToken") for call in calls[1:]}) == 1
        await store.close()


async def test_a_copy_keeps_class_and_metadata_in_one_request(
    store: Storager, gcs_server: GcsServer
) -> None:
    """What was listed is known; a rewrite alone would give the bucket's class."""
    gcs_server.put(
        GCS_BUCKET,
        "pre/source",
        b"bytes",
        {
            "storageClass": "NEARLINE",
            "metadata": {"Their": "own"},
            "customTime": "2020-01-01T00:00:00Z",
            "cacheControl": "no-store",
        },
    )
    await store.list("")
    gcs_server.clear()
    await store.copy("source", "target")

    assert gcs_server.counts() == {"objects.rewrite": 1}
    stored = gcs_server.objects(GCS_BUCKET)["pre/target"]
    assert stored.storage_class == "NEARLINE"
    assert stored.metadata == {"Their": "own"}
    assert stored.properties["customTime"] == "2020-01-01T00:00:00Z"
    assert stored.properties["cacheControl"] == "no-store"


async def test_old_knowledge_costs_a_refusal_and_no_more(
    store: Storager, gcs_server: GcsServer
) -> None:
    """What changed since it was listed is asked for, bytes and metadata alike."""
    await store.write("source", BytesBody(b"old"), metadata=Metadata(user={"a": "1"}))
    gcs_server.put(GCS_BUCKET, "pre/source", b"new", {"metadata": {"a": "2"}})
    gcs_server.clear()
    await store.copy("source", "target")

    stored = gcs_server.objects(GCS_BUCKET)["pre/target"]
    assert (stored.data, stored.metadata) == (b"new", {"a": "2"})
    assert gcs_server.counts() == {"objects.rewrite": 2, "objects.get": 1}


async def test_a_copy_tells_which_condition_was_lost(
    store: Storager, gcs_server: GcsServer
) -> None:
    """That on the source, or that on the target, although the answer is the same."""
    old = await store.write("source", BytesBody(b"old"))
    await store.write("target", BytesBody(b"there"))

    with pytest.raises(AlreadyExists):
        await store.copy(
            "source", "target", source_version=old.version, condition=ABSENT
        )
    gcs_server.put(GCS_BUCKET, "pre/source", b"new")
    with pytest.raises(VersionChanged) as caught:
        await store.copy("source", "new", source_version=old.version, condition=ABSENT)
    assert caught.value.key == "source"


async def test_a_change_of_metadata_is_one_patch_of_what_differs(
    store: Storager, gcs_server: GcsServer
) -> None:
    """The generation stays, and so does what others have added meanwhile."""
    old = await store.write(
        "file", BytesBody(b"bytes"), metadata=Metadata(user={"a": "1", "b": "1"})
    )
    gcs_server.clear()
    new = await store.set_metadata(old, changed(old, a="2"), condition=old.version)
    assert gcs_server.counts() == {"objects.patch": 1}
    assert new.version is not None
    assert old.version is not None
    assert new.version.content == old.version.content
    assert new.version.attributes != old.version.attributes

    stored = gcs_server.objects(GCS_BUCKET)["pre/file"]
    stored.metadata["theirs"] = "x"
    stored.metadata["b"] = "3"
    stored.metageneration += 1
    gcs_server.clear()
    await store.set_metadata(new, changed(new, a="4"), condition=new.version)

    assert gcs_server.counts() == {"objects.patch": 2, "objects.get": 1}
    assert stored.metadata["theirs"] == "x"
    assert stored.metadata["a"] == "4"
    assert stored.data == b"bytes"


async def test_names_that_are_taken_away_are_gone(
    store: Storager, gcs_server: GcsServer
) -> None:
    """A change replaces what was known as a whole."""
    old = await store.write(
        "file", BytesBody(b"bytes"), metadata=Metadata(user={"a": "1", "b": "2"})
    )
    await store.set_metadata(old, Metadata(user={"b": "2"}))

    assert gcs_server.objects(GCS_BUCKET)["pre/file"].metadata == {"b": "2"}


async def test_the_last_extended_attribute_goes(
    store: Storager, gcs_server: GcsServer
) -> None:
    """Attributes that are not named go, although those above call them by no name."""
    stack = VirtualStorager(store, Features.all())
    some = Attributes(mode=0o644, mtime_ns=5, xattrs={b"user.a": b"1"}, group="g")
    made = await stack.write(
        "file", BytesBody(b"bytes"), metadata=NO_METADATA.with_attributes(some)
    )
    none = Attributes(mode=0o644, mtime_ns=5, xattrs={})
    await stack.set_metadata(
        made, NO_METADATA.with_attributes(none), condition=made.version
    )

    names = set(gcs_server.objects(GCS_BUCKET)["pre/file"].metadata)
    assert names == {"mode", "mtime", "gcsfuse_mtime"}
    found = (await stack.stat("file")).attributes
    assert found is not None
    assert found.xattrs == {}
    assert found.group is None


async def test_attributes_of_other_tools_are_replaced(
    store: Storager, gcs_server: GcsServer
) -> None:
    """Else they would stay, and be read first."""
    theirs = {"goog-reserved-posix-mode": "600", "goog-reserved-file-mtime": "1"}
    gcs_server.put(GCS_BUCKET, "pre/file", b"", {"metadata": {**theirs, "x": "y"}})
    stack = VirtualStorager(store, Features.for_mounts())
    found = await stack.stat("file")
    assert found.attributes == Attributes(mode=0o600, mtime_ns=10**9)
    new = Attributes(mode=0o644, mtime_ns=10**9)
    await stack.set_metadata(found, NO_METADATA.with_attributes(new))

    stored = gcs_server.objects(GCS_BUCKET)["pre/file"].metadata
    assert set(stored) == {"mode", "mtime", "gcsfuse_mtime", "x"}


async def test_gcsfuse_reads_links_and_times(
    store: Storager, gcs_server: GcsServer
) -> None:
    """Its names stand beside ours, and are nobody's metadata."""
    stack = VirtualStorager(store, Features.for_mounts())
    when = NO_METADATA.with_attributes(Attributes(mtime_ns=1_500_000_000_120_000_000))
    await stack.make_link("link", "../target", metadata=when)
    await stack.write("file", BytesBody(b"bytes"), metadata=when)

    link = gcs_server.objects(GCS_BUCKET)["pre/link"]
    assert link.data == b"../target"
    assert link.metadata["goog-reserved-file-is-symlink"] == "true"
    file = gcs_server.objects(GCS_BUCKET)["pre/file"]
    assert file.metadata["gcsfuse_mtime"] == "2017-07-14T02:40:00.12Z"
    found = await stack.stat("file")
    assert found.metadata is not None
    assert found.metadata.user == {}
    assert found.attributes == when.attributes


async def test_a_time_that_gcsfuse_has_set_since_is_the_newer_one(
    store: Storager, gcs_server: GcsServer
) -> None:
    """It is read first, and the next change of ours is told to gcsfuse."""
    stack = VirtualStorager(store, Features.for_mounts())
    when = NO_METADATA.with_attributes(Attributes(mode=0o644, mtime_ns=5))
    await stack.write("file", BytesBody(b"bytes"), metadata=when)
    stored = gcs_server.objects(GCS_BUCKET)["pre/file"]
    stored.metadata["gcsfuse_mtime"] = "2024-05-06T07:08:09Z"
    stored.metageneration += 1

    found = await stack.stat("file")
    assert found.attributes is not None
    assert found.attributes.mtime_ns == 1_714_979_289_000_000_000
    known = dataclasses.replace(found.attributes, mode=0o600, mtime_ns=7)
    await stack.set_metadata(found, NO_METADATA.with_attributes(known))
    assert stored.metadata["gcsfuse_mtime"] == "1970-01-01T00:00:00.000000007Z"
    assert stored.metadata["mtime"] == "0.000000007"


@given(st.dictionaries(st.sampled_from(["mode", "mtime", "x"]), st.text(max_size=12)))
def test_what_is_added_for_gcsfuse_comes_off_again(user: dict[str, str]) -> None:
    """Whatever the metadata are."""
    assert gcs_dialect.removed({**user, **gcs_dialect.added(user)}) == user


async def test_only_the_class_takes_a_copy(
    store: Storager, gcs_server: GcsServer
) -> None:
    """The service changes it by rewriting alone."""
    old = await store.write("file", BytesBody(b"bytes"))
    wanted = Metadata(pairs={"storage-class": "COLDLINE"})
    await store.set_metadata(old, wanted, condition=old.version)

    stored = gcs_server.objects(GCS_BUCKET)["pre/file"]
    assert (stored.storage_class, stored.data) == ("COLDLINE", b"bytes")


async def test_a_new_class_for_new_objects_alone(gcs_server: GcsServer) -> None:
    """Also for what is sent in parts; others keep theirs."""
    gcs_server.put(GCS_BUCKET, "old", b"bytes", {"storageClass": "ARCHIVE"})
    options = {"endpoint_url": gcs_server.endpoint_url, "no_sign_request": True}
    store = open_store(f"gs://{GCS_BUCKET}", {**options, "storage_class": "nearline"})
    await store.write("new", BytesBody(b"bytes"))
    upload = await store.create_multipart("parts")
    part = await store.write_part(upload, 0, BytesBody(b"part"))
    await store.complete_multipart(upload, [part])
    old = await store.stat("old")
    append = await store.create_append("old", base=old)
    await store.commit_append(await store.write_append(append, BytesBody(b"+")))

    found = gcs_server.objects(GCS_BUCKET)
    classes = {name: each.storage_class for name, each in found.items()}
    assert classes == {"new": "NEARLINE", "parts": "NEARLINE", "old": "ARCHIVE"}
    await store.close()


async def test_a_directory_is_listed_with_what_its_marker_keeps(
    store: Storager, gcs_server: GcsServer
) -> None:
    """Once, whatever the size of the pages, and without a request of its own."""
    for name in ("a/", "a/file", "b/file", "c/", "d"):
        gcs_server.put(GCS_BUCKET, f"pre/{name}", b"", {"metadata": {"n": name}})
    for limit in (None, 1, 2, 3):
        found: list[Object] = []
        token = None
        while True:
            page = await store.list("", token=token, limit=limit)
            found.extend(page.objects)
            token = page.token
            if token is None:
                break

        assert [each.key for each in found] == ["a/", "b/", "c/", "d"]
        told = [each.metadata.user["n"] for each in found if each.metadata]
        assert told == ["a/", "c/", "d"]
        assert found[0].kind is ObjectKind.DIRECTORY


async def test_a_read_tells_metadata_if_that_state_is_known(
    store: Storager, gcs_server: GcsServer
) -> None:
    """The answer has none; of another state nothing is said."""
    await store.write("file", BytesBody(b"bytes"), metadata=Metadata(user={"a": "1"}))
    known = (await store.read("file")).object
    assert known.metadata is not None
    stored = gcs_server.objects(GCS_BUCKET)["pre/file"]
    stored.metageneration += 1
    unknown = (await store.read("file", 1, 2)).object

    assert unknown.metadata is None
    assert unknown.size == 5
    assert unknown.version != known.version


async def test_deletions_go_in_batches(store: Storager, gcs_server: GcsServer) -> None:
    """A hundred each; what is absent is success, what is refused is told."""
    for number in range(150):
        gcs_server.put(GCS_BUCKET, f"pre/ü {number}", b"")
    gcs_server.clear()
    names = [f"ü {number}" for number in range(151)]
    failed = await store.delete_many([*names, "a\nb"])

    assert set(failed) == {"a\nb"}
    assert isinstance(failed["a\nb"], InvalidRequest)
    assert gcs_server.objects(GCS_BUCKET) == {}
    assert gcs_server.counts()["batch"] == 2

    gcs_server.put(GCS_BUCKET, "pre/held", b"")
    gcs_server.fault = lambda operation, _: (
        refusal(403, "objectUnderActiveHold") if operation == "objects.delete" else None
    )
    failed = await store.delete_many(["held"])
    assert isinstance(failed["held"], StoreError)
    assert failed["held"].key == "held"


async def test_metadata_over_the_limit_are_refused_here(store: Storager) -> None:
    """Nothing is sent."""
    with pytest.raises(MetadataTooLarge):
        await store.write("file", None, metadata=Metadata(user={"a": "x" * 9000}))


async def test_a_deletion_of_what_somebody_else_deleted_is_success(
    store: Storager, gcs_server: GcsServer
) -> None:
    """The service calls it a lost condition."""
    old = await store.write("file", BytesBody(b"bytes"))
    gcs_server.remove(GCS_BUCKET, "pre/file")
    await store.delete("file", condition=old.version)
    new = await store.write("file", BytesBody(b"bytes"))

    with pytest.raises(VersionChanged):
        await store.delete("file", condition=old.version)
    await store.delete("file", condition=new.version)
    page = await store.list("", mode=ListMode.PREFIX)
    assert page.objects == ()


async def test_what_is_unknown_of_the_old_object_is_asked_for(
    store: Storager, gcs_server: GcsServer
) -> None:
    """New bytes keep what their object had."""
    gcs_server.put(GCS_BUCKET, "pre/file", b"old", {"contentLanguage": "de"})
    old = dataclasses.replace(await store.stat("file"), metadata=None)
    await store.write("file", BytesBody(b"new"), inherit=old, condition=old.version)

    stored = gcs_server.objects(GCS_BUCKET)["pre/file"]
    assert stored.properties["contentLanguage"] == "de"


@given(
    st.integers(-(10**19), 10**20),
    st.integers(-(10**19), 10**20) | st.integers(-2, 2),
    st.sampled_from(["Z", "z", "+01:00", ""]),
)
def test_what_gcsfuse_has_changed_since_stays(
    ours: int, theirs: int, zone: str
) -> None:
    """Its time, unless it is the one that we have written, in whatever form."""
    theirs = ours + theirs if abs(theirs) < 3 else theirs
    user = {"mtime": dialects.format_seconds(ours)}
    text = gcs_dialect.added({"mtime": dialects.format_seconds(theirs)}).get(
        gcs_dialect.MTIME, "garbage"
    )
    text = text.removesuffix("Z") + zone
    is_same = dialects.parse_rfc3339(text) == dialects.parse_seconds(user["mtime"])
    stays = {} if is_same else {gcs_dialect.MTIME: text}

    assert gcs_dialect.removed({**user, gcs_dialect.MTIME: text}) == {**user, **stays}
    assert gcs_dialect.removed({gcs_dialect.MTIME: text}) == {gcs_dialect.MTIME: text}


async def test_a_rename_guesses_the_type_anew(store: Storager) -> None:
    """Editors and rsync write beside and rename; a type that was chosen stays."""
    beside = await store.write(".page.html.Xy12", BytesBody(b"<p>"))
    copied = await store.copy(
        ".page.html.Xy12", "page.html", source_version=beside.version
    )
    chosen = await store.write(
        "a.tmp", BytesBody(b""), metadata=Metadata(pairs={"content-type": "x/y"})
    )
    kept = await store.copy("a.tmp", "a.html", source_version=chosen.version)

    for found, wanted in ((copied, "text/html"), (kept, "x/y")):
        assert found.metadata is not None
        assert found.metadata.pairs["content-type"] == wanted
