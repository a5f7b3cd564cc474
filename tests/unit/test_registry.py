"""URLs, and the stores that they open."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from mountfs.backends import STORES, object_url, open_service, open_store
from mountfs.backends.local import LocalStore, path_of
from mountfs.backends.memory import MemoryStore, forget_store
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import BucketNotFound, InvalidRequest, StoreError


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "no URL"),
        ("bucket", "no URL"),
        ("/some/directory", "file:///directory"),
        ("s3:/bucket", "no URL"),
        ("ftp://host/dir", "choose one of"),
        ("S3://bucket", "choose one of"),
        ("dropbox://folder", "dropbox:///FOLDER"),
        ("dropbox:///a//b", "empty name"),
        ("dropbox:///a/../b", "'..'"),
        ("file://relative/dir", "file:///directory"),
        ("file:///dir?x=y", "%3F"),
        ("file:///dir#part", "%23"),
        ("file:///a%00b", "NUL"),
        ("file://[/x", "no URL"),
        ("memory://a/b", "no name of a memory store"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused(url: str, says: str) -> None:
    """The error is one sentence that says what would be right."""
    with pytest.raises(InvalidRequest) as caught:
        open_store(url)

    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["memory://x", "file:///", "s3://bucket"])
def test_an_unknown_option_is_refused(url: str) -> None:
    """An option that the scheme does not know is named."""
    with pytest.raises(InvalidRequest) as caught:
        open_store(url, {"no_such_option": 1})

    assert "no_such_option" in str(caught.value)


@pytest.mark.parametrize("url", ["file:///dir", "dropbox:///", "memory://name", "x"])
def test_not_every_scheme_has_accounts(url: str) -> None:
    """A URL that names no account opens no service."""
    with pytest.raises(InvalidRequest):
        open_service(url)


def test_every_planned_scheme_is_known() -> None:
    """The table has a line for each scheme, also for those to come."""
    assert set(STORES) == {"s3", "file", "memory", "gs", "dropbox"}


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///dir/sub", "/dir/sub"),
        ("file://localhost/dir", "/dir"),
        ("file:///a%20b%25", "/a b%"),
        ("file:///caf%C3%A9", "/caf\u00e9"),
        ("file:///caf%E9", "/caf\udce9"),
        ("file:///caf\u00e9", "/caf\u00e9"),
        ("file:///a%3Fb%23c", "/a?b#c"),
        ("file:///", "/"),
    ],
)
def test_file_urls_are_decoded(url: str, path: str) -> None:
    """Percent escapes stand for bytes; the path is absolute."""
    assert path_of(url) == Path(path)


@pytest.mark.parametrize(
    ("url", "key", "expected"),
    [
        ("s3://bucket", "d/a b", "s3://bucket/d/a b"),
        ("s3://bucket/prefix/", "d/a%b", "s3://bucket/prefix/d/a%b"),
        ("memory://", "a", "memory://a"),
        ("file:///store", "d/a b?\udcff", "file:///store/d/a%20b%3F%FF"),
        ("file:///store", "", "file:///store"),
    ],
)
def test_url_of_an_object(url: str, key: str, expected: str) -> None:
    """The address that other programs take: escaped only where it is an RFC's URL."""
    assert object_url(url, key) == expected


async def test_a_directory_is_opened(tmp_path: Path) -> None:
    """`file://` opens what the path names, to the byte."""
    root = tmp_path / "a b"
    root.mkdir()
    store = open_store(f"file://{tmp_path}/a%20b")
    await store.write("file", BytesBody(b"bytes"))
    await store.close()

    assert isinstance(store, LocalStore)
    assert (root / "file").read_bytes() == b"bytes"


@pytest.mark.parametrize("name", ["absent", "file"])
def test_a_root_must_be_a_directory(tmp_path: Path, name: str) -> None:
    """An absent root and a file as root are `BucketNotFound`."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(BucketNotFound):
        open_store(f"file://{tmp_path}/{name}")


async def test_one_name_is_one_store_in_a_process() -> None:
    """Two opens of one memory URL see the same objects; another name does not."""
    first = open_store("memory://one-name")
    second = open_store("memory://one-name")
    other = open_store("memory://another-name")
    await first.write("key", BytesBody(b"bytes"))

    assert isinstance(first, MemoryStore)
    assert (await second.read("key")).data == b"bytes"
    assert (await other.list("")).objects == ()
    forget_store("one-name")
    forget_store("another-name")
    assert (await open_store("memory://one-name").list("")).objects == ()
    forget_store("one-name")


async def test_a_service_holds_buckets() -> None:
    """Buckets of the memory service are its named stores."""
    service = open_service("memory://")
    await service.create_bucket("bucket")
    await service.create_bucket("bucket")
    store = open_store("memory://bucket")
    await store.write("key", None)

    assert "bucket" in await service.list_buckets()
    with pytest.raises(StoreError):
        await service.delete_bucket("bucket")
    await store.delete("key")
    await service.delete_bucket("bucket")
    assert "bucket" not in await service.list_buckets()
    with pytest.raises(BucketNotFound):
        await service.delete_bucket("bucket")
    await service.close()


def test_options_are_never_needed() -> None:
    """An empty mapping is the default of both functions."""
    options: Mapping[str, object] = {}

    assert open_store("memory://", options).capabilities.service == "memory"
    forget_store("")
