"""The emulations over real backends: nothing that was left out comes back."""

import base64
import hashlib
from pathlib import Path

import pytest

from mountfs.backends import open_store
from mountfs.storage.body import BytesBody
from mountfs.storage.types import Attributes, Features, Metadata, ObjectKind
from mountfs.storage.virtual import VirtualStorager

OLD = Attributes(mode=0o100640, uid=7, gid=8, atime_ns=1, mtime_ns=2)


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> VirtualStorager:
    if request.param == "memory":
        url = f"memory://{tmp_path.name.replace('_', '-')}"
    else:
        url = tmp_path.as_uri()
    return VirtualStorager(open_store(url), Features.all())


@pytest.mark.parametrize("way", ["write", "multipart", "append"])
async def test_new_bytes_do_not_inherit_what_described_the_old(
    way: str, store: VirtualStorager
) -> None:
    """A checksum, being a link, and times stay behind; foreign names go on."""
    md5 = base64.b64encode(hashlib.md5(b"old").digest()).decode()
    await store.write(
        "a",
        BytesBody(b"old"),
        metadata=Metadata(
            user={"gcsfuse_mtime": "2020-01-01T00:00:00Z", "foreign": "kept"},
            pairs={"content-md5": md5, "content-language": "de"},
            attributes=OLD,
        ),
    )
    old = await store.stat("a")
    new = Metadata(attributes=Attributes(mode=0o100600, mtime_ns=3))
    body = BytesBody(b"new")

    if way == "write":
        await store.write("a", body, metadata=new, inherit=old)
    elif way == "multipart":
        upload = await store.create_multipart("a", metadata=new, inherit=old)
        part = await store.write_part(upload, 0, body)
        await store.complete_multipart(upload, [part], inherit=old)
    else:
        append = await store.create_append("a", base=old, metadata=new)
        await store.commit_append(await store.write_append(append, body))

    content = await store.read("a")
    assert content.data == (b"oldnew" if way == "append" else b"new")
    assert content.object.kind is ObjectKind.FILE
    assert content.object.attributes == Attributes(mode=0o100600, mtime_ns=3, xattrs={})
    assert content.object.metadata is not None
    assert content.object.metadata.user == {"foreign": "kept"}
    assert content.object.metadata.pairs == {"content-language": "de"}
    await store.close()


async def test_append_drops_the_checksum_of_the_old_bytes(
    store: VirtualStorager,
) -> None:
    """An object that has nothing but a checksum loses it when it grows."""
    md5 = base64.b64encode(hashlib.md5(b"old").digest()).decode()
    written = await store.write(
        "a", BytesBody(b"old"), metadata=Metadata(pairs={"content-md5": md5})
    )

    append = await store.create_append("a", base=written)
    await store.commit_append(await store.write_append(append, BytesBody(b"new")))

    assert (await store.read("a")).data == b"oldnew"
    await store.close()
