"""What other tools have put into a store is shown as what it is: planted objects."""

import json
import stat
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mountfs.backends import open_store
from mountfs.storage.protocol import Storager
from mountfs.storage.types import Features, Object, ObjectKind
from mountfs.storage.virtual import VirtualStorager
from tests.fakes.dropbox_fixtures import options_of
from tests.fakes.dropbox_server import DropboxServer
from tests.fakes.dropbox_tree import Commit
from tests.fakes.gcs_fixtures import GCS_BUCKET
from tests.fakes.gcs_server import GcsServer
from tests.fakes.s3_servers import S3Server

SECOND_NS = 10**9
MOMENT_NS = 1_700_000_000 * SECOND_NS
ATTRIBUTES = {
    "st_mode": stat.S_IFREG | 0o640,
    "st_uid": 7,
    "st_gid": 8,
    "st_atime": 1700000000.5,
    "st_mtime": 1700000000.25,
    "st_ctime": 1700000000.75,
    "st_size": 0,
}


async def shown(store: Storager, key: str) -> Object:
    """Return an object, the same by a look at it as in the listing."""
    found = await store.stat(key)
    listed = {item.key: item for item in (await store.list("")).objects}
    assert listed[key].kind is found.kind or not store.capabilities.list_metadata
    return found


async def target(store: Storager, key: str) -> str | None:
    """Return what a link leads to."""
    found = await shown(store, key)
    assert found.kind is ObjectKind.LINK
    return found.link_target


@pytest.fixture
async def on_gcs(gcs_server: GcsServer) -> AsyncIterator[Storager]:
    """A bucket of Google Cloud Storage, with all gates open."""
    options = {"endpoint_url": gcs_server.endpoint_url, "no_sign_request": True}
    store = open_store(f"gs://{GCS_BUCKET}/pre", options)
    yield VirtualStorager(store, Features.all())
    await store.close()


def plant(
    server: GcsServer, name: str, content: bytes = b"", **metadata: object
) -> None:
    """Put an object there as another client does."""
    user = {name.replace("_", "-"): text for name, text in metadata.items()}
    server.put(GCS_BUCKET, f"pre/{name}", content, {"metadata": user})


async def test_gcsfuse(gcs_server: GcsServer, on_gcs: Storager) -> None:
    """Times, links of both kinds, markers, and directories without any."""
    user: dict[str, Any] = {"gcsfuse_mtime": "2023-11-14T22:13:20.000000005Z"}
    gcs_server.put(GCS_BUCKET, "pre/file", b"bytes", {"metadata": user})
    old = {"gcsfuse_symlink_target": "../old"}
    gcs_server.put(GCS_BUCKET, "pre/old", b"", {"metadata": old})
    plant(gcs_server, "new", b"../new", goog_reserved_file_is_symlink="true")
    plant(gcs_server, "dir/")
    plant(gcs_server, "implicit/below", b"")

    found = await shown(on_gcs, "file")
    assert found.attributes is not None
    assert found.attributes.mtime_ns == MOMENT_NS + 5
    assert await target(on_gcs, "old") == "../old"
    assert await target(on_gcs, "new") == "../new"
    kinds = {item.key: item.kind for item in (await on_gcs.list("")).objects}
    assert kinds["dir/"] is kinds["implicit/"] is ObjectKind.DIRECTORY


async def test_rclone_on_google_cloud_storage(
    gcs_server: GcsServer, on_gcs: Storager
) -> None:
    """It writes the time twice, in two forms, and links under a name of their own."""
    user = {
        "mtime": "2023-11-14T22:13:20.123456789Z",
        "goog-reserved-file-mtime": "1700000000",
    }
    gcs_server.put(GCS_BUCKET, "pre/file", b"bytes", {"metadata": user})
    gcs_server.put(GCS_BUCKET, "pre/link.rclonelink", b"../t", {"metadata": user})

    found = await shown(on_gcs, "file")
    assert found.attributes is not None
    assert found.attributes.mtime_ns == MOMENT_NS + 123_456_789
    assert await target(on_gcs, "link.rclonelink") == "../t"


async def test_yas3fs(moto_server: S3Server, moto_bucket: str) -> None:
    """Attributes and extended attributes in two texts, and links by their mode."""
    client = moto_server.client()
    words = {"attr": json.dumps(ATTRIBUTES), "xattr": '{"user.word": "test"}'}
    link = {"attr": json.dumps({**ATTRIBUTES, "st_mode": stat.S_IFLNK | 0o755})}
    client.put_object(Bucket=moto_bucket, Key="file", Body=b"bytes", Metadata=words)
    client.put_object(Bucket=moto_bucket, Key="link", Body=b"../t", Metadata=link)
    client.close()
    plain = open_store(
        f"s3://{moto_bucket}", {"endpoint_url": moto_server.endpoint_url}
    )
    store = VirtualStorager(plain, Features.all())

    found = await store.stat("file")
    assert found.attributes is not None
    assert found.attributes.mode == stat.S_IFREG | 0o640
    assert (found.attributes.uid, found.attributes.gid) == (7, 8)
    assert found.attributes.mtime_ns == MOMENT_NS + SECOND_NS // 4
    assert found.attributes.xattrs == {b"user.word": b"test"}
    assert (await store.stat("link")).link_target == "../t"
    assert found.metadata is not None
    await store.set_metadata(found, found.metadata)
    again = await plain.stat("file")
    assert again.metadata is not None
    assert "attr" not in again.metadata.user, "there are two truths"
    assert again.metadata.user["mode"] == str(stat.S_IFREG | 0o640)
    await store.close()


async def test_dbxfs_and_the_desktop_client(dropbox_server: DropboxServer) -> None:
    """Both keep plain files and folders, and the time as Dropbox has it."""
    account = dropbox_server.account
    commit = Commit("/dir/File", client_modified=MOMENT_NS // SECOND_NS)
    with account.lock, account.tree.changed:
        account.tree.write(commit, b"bytes")
    plain = open_store("dropbox:///dir", options_of(dropbox_server))
    store = VirtualStorager(plain, Features.all())

    (found,) = (await store.list("")).objects
    assert found.key == "File"
    assert found.kind is ObjectKind.FILE
    assert found.mtime_ns == MOMENT_NS
    assert (await store.read("File")).data == b"bytes"
    await store.close()
