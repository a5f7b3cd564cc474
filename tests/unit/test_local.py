"""The local store beyond the contract: what it makes of a real directory."""

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mountfs.backends import local
from mountfs.backends.local import LocalStore
from mountfs.backends.local_errors import store_error, translated
from mountfs.backends.local_objects import XATTR
from mountfs.backends.local_paths import RESERVED
from mountfs.storage import errors
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import (
    BodyTooShort,
    DirectoryNotEmpty,
    InvalidRequest,
    KeyTooLong,
    NotFound,
    Unsupported,
    VersionChanged,
    WrongKind,
)
from mountfs.storage.types import ABSENT, ListMode, Metadata, ObjectKind

TEMP = os.fsdecode(RESERVED)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directory that is the store."""
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
async def store(root: Path) -> AsyncIterator[LocalStore]:
    """The store."""
    opened = LocalStore(root)
    yield opened
    await opened.close()


async def test_objects_are_plain_files(store: LocalStore, root: Path) -> None:
    """Any program finds the bytes under the key, and nothing else in the directory."""
    await store.write("dir/file", BytesBody(b"bytes"))
    upload = await store.create_multipart("other")
    part = await store.write_part(upload, 0, BytesBody(b"part"))
    await store.complete_multipart(upload, [part])
    await store.make_link("link", "dir/file")

    assert (root / "dir/file").read_bytes() == b"bytes"
    assert (root / "link").read_bytes() == b"bytes"
    assert sorted(os.listdir(root)) == ["dir", "link", "other"]
    assert os.listdir(root / "dir") == ["file"]


async def test_changes_of_others_are_seen_at_once(
    store: LocalStore, root: Path
) -> None:
    """Files that other programs make, change and remove are objects like ours."""
    (root / "file").write_bytes(b"foreign")
    first = await store.stat("file")
    assert (await store.read("file")).data == b"foreign"
    with (root / "file").open("ab") as file:
        file.write(b" and more")

    second = await store.stat("file")
    assert first.version != second.version
    with pytest.raises(VersionChanged):
        await store.read("file", version=first.version)
    (root / "file").unlink()
    with pytest.raises(NotFound):
        await store.stat("file")


@pytest.mark.parametrize("key", ["out/secret", "out/new", "deep/out/secret"])
async def test_no_key_leads_outside(
    store: LocalStore, root: Path, tmp_path: Path, key: str
) -> None:
    """Links that someone planted are never followed, in no place of a key."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "deep").mkdir()
    (root / "out").symlink_to(outside)
    (root / "deep/out").symlink_to("../../outside")

    with pytest.raises(NotFound):
        await store.read(key)
    with pytest.raises(WrongKind):
        await store.write(key, BytesBody(b"bytes"))
    with pytest.raises(WrongKind):
        await store.make_dir(f"{key}/")
    await store.delete(key)
    with pytest.raises(NotFound):
        await store.list("out/")
    keys = [found.key for found in (await store.list("", mode=ListMode.PREFIX)).objects]
    assert keys == ["deep/", "deep/out", "out"]
    assert os.listdir(outside) == ["secret"]


async def test_a_link_is_not_read_through(store: LocalStore, root: Path) -> None:
    """The bytes behind a link are those of another key."""
    (root / "file").write_bytes(b"bytes")
    (root / "link").symlink_to("file")

    with pytest.raises(WrongKind):
        await store.read("link")
    with pytest.raises(Unsupported):
        await store.set_metadata(await store.stat("link"), Metadata(user={"a": "b"}))


async def test_special_files_are_no_objects(store: LocalStore, root: Path) -> None:
    """Pipes and sockets are never opened, never listed, never replaced."""
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
    for name in ("pipe", "socket"):
        with pytest.raises(WrongKind):
            await store.stat(name)
        with pytest.raises(WrongKind):
            await store.read(name)
        with pytest.raises(WrongKind):
            await store.write(name, BytesBody(b"bytes"))

    for mode in ListMode:
        assert (await store.list("", mode=mode)).objects == ()


@pytest.mark.parametrize(
    "key", [f"{TEMP}x", f"dir/{TEMP}x", f"{TEMP}uploads/x", "a\0b"]
)
async def test_reserved_names_are_refused(store: LocalStore, key: str) -> None:
    """No key names what is being written, or holds a NUL byte."""
    with pytest.raises(InvalidRequest):
        await store.write(key, BytesBody(b"bytes"))
    with pytest.raises(InvalidRequest):
        await store.stat(key)


async def test_a_failed_write_leaves_nothing(store: LocalStore, root: Path) -> None:
    """Neither a short body nor a lost condition leaves a file of ours."""
    await store.write("file", BytesBody(b"bytes"))
    with pytest.raises(BodyTooShort):
        await store.write("file", BytesBody(b"12"), size=3)
    with pytest.raises(errors.AlreadyExists):
        await store.write("file", BytesBody(b"12"), condition=ABSENT)
    with pytest.raises(errors.AlreadyExists):
        await store.make_link("file", "target", condition=ABSENT)

    assert os.listdir(root) == ["file"]


async def test_what_dead_writers_left_is_harmless(
    store: LocalStore, root: Path
) -> None:
    """Left-overs are not listed, and go with their directory; not what is locked by a
    writer that lives, nor a link before it is old.
    """
    await store.make_dir("dir/")
    left = root / "dir" / f"{TEMP}0123"
    link = root / "dir" / f"{TEMP}4567"
    link.symlink_to("target")
    with left.open("wb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        assert (await store.list("dir/")).objects == ()
        with pytest.raises(DirectoryNotEmpty):
            await store.delete("dir/")
        assert left.exists()
    with pytest.raises(DirectoryNotEmpty):
        await store.delete("dir/")
    assert not left.exists()
    old = time.time() - 3600
    os.utime(link, (old, old), follow_symlinks=False)

    await store.delete("dir/")
    assert os.listdir(root) == []


async def test_file_that_was_cleared_away_is_made_again(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file may be taken for a dead writer's in the moment before it is locked."""
    lock = fcntl.flock
    cleared: list[str] = []

    def clear_first(fd: int, operation: int) -> None:
        for path in () if cleared else root.glob(f"{TEMP}*"):
            path.unlink()
            cleared.append(path.name)
        lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", clear_first)
    await store.write("file", BytesBody(b"bytes"))

    assert len(cleared) == 1
    assert (root / "file").read_bytes() == b"bytes"
    assert os.listdir(root) == ["file"]


async def test_what_others_gave_a_file_survives(store: LocalStore, root: Path) -> None:
    """Mode and foreign attributes are there after a write, a copy and a change."""
    path = root / "file"
    path.write_bytes(b"old")
    path.chmod(0o604)
    os.setxattr(path, "user.foreign", b"value")
    old = await store.stat("file")
    await store.set_metadata(old, Metadata(user={"a": "b"}))
    await store.write("file", BytesBody(b"new"), inherit=await store.stat("file"))
    await store.copy("file", "copy")

    for name in ("file", "copy"):
        assert stat.S_IMODE((root / name).stat().st_mode) == 0o604
        assert os.getxattr(root / name, "user.foreign") == b"value"
        assert (await store.stat(name)).metadata == Metadata(user={"a": "b"})


@pytest.mark.parametrize("value", [b"not json", b"[1]", b'{"user": 5}', b""])
async def test_foreign_values_in_our_attribute_count_as_none(
    store: LocalStore, root: Path, value: bytes
) -> None:
    """An attribute of our name that we cannot read is no metadata, and no failure."""
    (root / "file").write_bytes(b"bytes")
    os.setxattr(root / "file", XATTR, value)

    assert (await store.stat("file")).metadata == Metadata()


async def test_without_attributes_no_metadata_are_promised(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system without extended attributes the capabilities say so."""
    monkeypatch.setattr(local, "has_xattrs", lambda _: False)
    store = LocalStore(root)
    written = await store.write("a", None, metadata=Metadata(commit_id="id1"))

    known = store.capabilities
    promises = (known.metadata, known.set_metadata, known.dir_metadata)
    assert promises == (False, False, False)
    assert written.metadata == Metadata()
    with pytest.raises(Unsupported):
        await store.write("b", None, metadata=Metadata(user={"a": "b"}))
    with pytest.raises(Unsupported):
        await store.set_metadata(written, Metadata())
    assert os.listdir(root) == ["a"]
    await store.close()


async def test_opening_writes_nothing(root: Path) -> None:
    """Finding out what the file system can do leaves no trace."""
    before = os.stat(root)
    await LocalStore(root).close()

    assert os.listdir(root) == []
    assert os.stat(root).st_ctime_ns == before.st_ctime_ns


async def test_a_name_that_is_too_long_is_refused(store: LocalStore) -> None:
    """Each name in a key has 255 bytes at most."""
    with pytest.raises(KeyTooLong):
        await store.write(f"dir/{'n' * 256}", BytesBody(b"bytes"))


async def test_two_names_of_one_file_can_replace_each_other(
    store: LocalStore, root: Path
) -> None:
    """Moving a file onto its own hard link leaves the target alone."""
    (root / "a").write_bytes(b"bytes")
    os.link(root / "a", root / "b")
    await store.move("a", "b")

    assert os.listdir(root) == ["b"]
    assert (await store.read("b")).data == b"bytes"


async def test_directories_do_not_replace_files_or_full_directories(
    store: LocalStore, root: Path
) -> None:
    """A directory moves onto an empty one alone, and never into itself."""
    for key in ("one/a", "two/b", "file"):
        await store.write(key, BytesBody(b"bytes"))
    await store.make_dir("empty/")
    with pytest.raises(DirectoryNotEmpty):
        await store.move("one/", "two/")
    with pytest.raises(WrongKind):
        await store.move("one/", "file/")
    with pytest.raises(WrongKind):
        await store.move("file", "two")
    with pytest.raises(WrongKind):
        await store.move("one", "three")
    with pytest.raises(InvalidRequest):
        await store.move("one/", "one/below/")
    with pytest.raises(InvalidRequest):
        await store.move("file", "other/")
    with pytest.raises(NotFound):
        await store.move("absent/", "other/")

    await store.move("one/", "empty/")
    assert (root / "empty/a").read_bytes() == b"bytes"


async def test_metadata_of_the_root_and_of_directories(store: LocalStore) -> None:
    """A directory keeps metadata in its own attribute, the root too."""
    await store.make_dir("dir/")
    for key in ("", "dir/"):
        known = await store.stat(key, kind=ObjectKind.DIRECTORY)
        changed = await store.set_metadata(known, Metadata(user={"a": "b"}))

        again = await store.stat(key, kind=ObjectKind.DIRECTORY)
        assert changed.metadata == again.metadata == Metadata(user={"a": "b"})


async def test_deleting_an_upload_folder_aborts_it(
    store: LocalStore, root: Path
) -> None:
    """Someone may clear the reserved names away; the upload is then unknown."""
    upload = await store.create_multipart("file")
    for path in (root / f"{TEMP}uploads" / upload.id).iterdir():
        path.unlink()

    with pytest.raises(errors.UploadNotFound):
        await store.write_part(upload, 0, BytesBody(b"bytes"))
    assert await store.list_uploads() == ()


async def test_a_directory_is_deleted_after_what_is_in_it(
    store: LocalStore, root: Path
) -> None:
    """`delete_many` of a whole prefix listing empties the tree in one call."""
    for key in ("d/a", "d/e/f", "d/e/g"):
        await store.write(key, BytesBody(b"bytes"))
    page = await store.list("d/", mode=ListMode.PREFIX)

    assert await store.delete_many([found.key for found in page.objects]) == {}
    assert os.listdir(root) == []


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOENT, errors.NotFound),
        (errno.EACCES, errors.PermissionDenied),
        (errno.EPERM, errors.PermissionDenied),
        (errno.EROFS, errors.ReadOnlyStore),
        (errno.ENOSPC, errors.QuotaExceeded),
        (errno.EDQUOT, errors.QuotaExceeded),
        (errno.ENAMETOOLONG, errors.KeyTooLong),
        (errno.EISDIR, errors.WrongKind),
        (errno.ENOTDIR, errors.WrongKind),
        (errno.ENOTEMPTY, errors.DirectoryNotEmpty),
        (errno.EFBIG, errors.ObjectTooLarge),
        (errno.EMFILE, errors.Throttled),
        (errno.EIO, errors.ServiceFailed),
        (errno.ETIMEDOUT, errors.TimedOut),
        (errno.EDOM, errors.StoreError),
    ],
)
def test_errors_of_the_system_are_translated(
    number: int, expected: type[errors.StoreError]
) -> None:
    """Each errno has its place in the tree, with its name and the key."""
    with pytest.raises(errors.StoreError) as caught, translated("key"):
        raise OSError(number, os.strerror(number))

    assert type(caught.value) is expected
    assert caught.value.key == "key"
    assert caught.value.code == errno.errorcode[number]


def test_an_error_without_number_is_an_error_of_ours() -> None:
    """Even an `OSError` that says nothing becomes a `StoreError`."""
    assert isinstance(store_error(OSError("odd"), None), errors.StoreError)


async def test_an_upload_begins_while_the_last_one_ends(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder goes when it was just seen to be there: that is no object which has
    the key already, and no race that was lost.
    """
    await store.create_multipart("one")
    is_dir, gone = Path.is_dir, list[Path]()

    def vanish(path: Path) -> bool:
        if not gone and path.name == f"{TEMP}uploads":
            gone.append(path)
            return False
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", vanish)
    upload = await store.create_multipart("two")

    assert (len(gone), upload.key) == (1, "two")
