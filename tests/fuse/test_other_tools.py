"""Buckets of other tools, object by object as they write them, seen through a mount."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.other_tools import BUCKETS, Shown
from tests.fuse.conftest import Mounter
from tests.fuse.mounting import TEST_S, Mount
from tests.fuse.stores import S3Objects, Store

OURS = {
    *("mode", "uid", "gid", "rdev", "mtime", "atime", "ctime", "xattr"),
    *("gcsfuse_mtime", "goog-reserved-file-mtime", "goog-reserved-file-atime"),
    *("goog-reserved-posix-mode", "goog-reserved-posix-uid"),
    *("goog-reserved-posix-gid", "mountfs-commit"),
}
"""The names that a change of bytes and attributes writes, or replaces."""


@pytest.fixture(scope="module")
def tools_store(make_store: Callable[[str], Store]) -> Store:
    """The buckets of all tools in one store, each in a directory of its own."""
    return filled(make_store("moto"))


@pytest.fixture(scope="module")
def tools_mount(
    tools_store: Store, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mount]:
    """A mount of that store, for tests that only look."""
    base = tmp_path_factory.mktemp("tools")
    options = (*tools_store.options, "--virtual=all")
    with Mount(tools_store.url, base, options, life_s=TEST_S) as mount:
        yield mount


def filled(store: Store) -> Store:
    """Put the objects of every tool where a mount will find them."""
    there = _objects(store)
    for tool, bucket in BUCKETS.items():
        for each in bucket.stored:
            there.client.put_object(
                Bucket=there.bucket,
                Key=f"{there.prefix}{tool}/{each.key}",
                Body=each.body,
                Metadata=dict(each.user),
                ContentType=each.content_type,
            )
    return store


def head(store: Store, key: str) -> tuple[dict[str, str], str]:
    """Return the user metadata and the content type of an object."""
    there = _objects(store)
    found = there.client.head_object(Bucket=there.bucket, Key=there.prefix + key)
    return dict(found["Metadata"]), found["ContentType"]


def _objects(store: Store) -> S3Objects:
    assert isinstance(store.there, S3Objects)
    return store.there


def paths_below(top: Path) -> Iterator[str]:
    """Yield every path that listings lead to."""
    for directory, folders, files in os.walk(top):
        for name in (*folders, *files):
            yield str((Path(directory) / name).relative_to(top))


def check(path: Path, wanted: Shown) -> None:
    """Compare what stat(2) and its relatives say with what there should be."""
    found = path.lstat()
    told = {
        "kind": stat.S_IFMT(found.st_mode),
        "mode": stat.S_IMODE(found.st_mode),
        "uid": found.st_uid,
        "gid": found.st_gid,
        "mtime_ns": found.st_mtime_ns,
        "atime_ns": found.st_atime_ns,
        "rdev": found.st_rdev,
    }
    expected = {name: getattr(wanted, name) for name in told}
    assert {
        name: told[name] for name, value in expected.items() if value is not None
    } == {name: value for name, value in expected.items() if value is not None}
    if wanted.content is not None:
        assert path.read_bytes() == wanted.content
    if wanted.target is not None:
        assert os.readlink(os.fsencode(path)) == wanted.target
    if wanted.kind in (stat.S_IFREG, stat.S_IFDIR):
        named = {name: os.getxattr(path, name) for name in os.listxattr(path)}
        assert named == dict(wanted.xattrs)


@pytest.mark.parametrize("tool", BUCKETS)
def test_everything_is_shown_as_what_it_is(tools_mount: Mount, tool: str) -> None:
    """Names, kinds, modes, owners, times, targets and extended attributes are right."""
    tools_mount.watch()
    wanted = BUCKETS[tool].shown
    top = tools_mount.path / tool

    assert sorted(paths_below(top)) == sorted(wanted)
    for path, shown in wanted.items():
        check(top / path, shown)


def test_looking_changes_nothing(tools_mount: Mount, tools_store: Store) -> None:
    """A mount that only reads leaves every object as its tool wrote it."""
    for path in paths_below(tools_mount.path):
        (tools_mount.path / path).lstat()
    keys = {
        f"{tool}/{each.key}": each
        for tool, bucket in BUCKETS.items()
        for each in bucket.stored
    }

    found = tools_store.there.listing()
    # The index is ours: what was learnt goes there in the background.
    assert {key for key in found if not key.startswith(".mountfs/")} == set(keys)
    for key, each in keys.items():
        assert head(tools_store, key) == (dict(each.user), each.content_type)


def test_a_path_alone_leads_there(tools_store: Store, mounter: Mounter) -> None:
    """Nothing needs to be listed first, but what is under another key than its name."""
    mount = mounter(tools_store, "--virtual=all")

    for tool, bucket in BUCKETS.items():
        keys = {each.key.rstrip("/") for each in bucket.stored}
        for path in sorted(keys & set(bucket.shown)):
            check(mount.path / tool / path, bucket.shown[path])


def test_changes_keep_what_the_tool_wrote_besides(
    make_store: Callable[[str], Store], mounter: Mounter
) -> None:
    """New bytes and a new mode leave foreign pairs, owner and the type of content."""
    store = filled(make_store("moto"))
    files = {
        f"{tool}/{each.key}": each
        for tool, bucket in BUCKETS.items()
        for each in bucket.stored
        if each.key in bucket.shown and bucket.shown[each.key].kind == stat.S_IFREG
    }
    mount = mounter(store, "--virtual=all")
    before = {path: (mount.path / path).stat() for path in files}
    for path in files:
        with (mount.path / path).open("ab") as file:
            file.write(b"+")
        (mount.path / path).chmod(0o604)
    mount.unmount()

    for key, each in files.items():
        user, content_type = head(store, key)
        foreign = {name: text for name, text in each.user.items() if name not in OURS}
        assert store.there.read(key) == each.body + b"+"
        assert content_type == each.content_type
        assert user["mode"] == str(0o100604)
        assert user["uid"] == str(before[key].st_uid)
        assert {
            name: text for name, text in user.items() if name not in OURS
        } == foreign
