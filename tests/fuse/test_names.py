"""Names: which are possible, that they survive, and what odd keys look like."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.marks import on_s3, on_shared_stores
from tests.fuse.mounting import Mount
from tests.fuse.stores import OtherSide, Store

NAMES = [
    b"plain",
    b"n" * 255,
    "ä\N{SNOWMAN}\N{GRINNING FACE}".encode(),
    "a\u0308 decomposed, and \u00e4 composed".encode(),
    b"not utf-8 \xff\xfe",
    b"new\nline",
    b"carriage\rreturn",
    b"back\\slash",
    b"per%cent",
    b"%2F",
    b"trailing space ",
    b" leading space",
    b"-rf",
    b".hidden",
    b"...",
    b"~",
    b"*?[a-z]",
    b"quotes'\"`$(x)",
    b"a+b&c=d#e",
    b"\x01\x7f",
    b"ends with dot.",
    b"UPPER",
    b"upper",
    b"con",
    b"mountfs%2E",
    b"mountfs-bytes%FF",
]


by_store = pytest.mark.parametrize(
    ("store", "changed"),
    [("local", b""), ("s3", b"back\\slash"), ("moto", b"new\nline")],
    indirect=["store"],
)
"""The stores, and what they cannot keep: SeaweedFS takes `\\` for `/`, moto finds no
handler for a newline. Real S3 keeps both.
"""


def byte_names(directory: Path) -> list[bytes]:
    """Return the names in a directory, sorted."""
    return sorted(os.fsencode(path.name) for path in directory.iterdir())


@by_store
def test_names_survive_a_remount(
    mounter: Mounter, store: Store, remounter: Callable[[Mount], Mount], changed: bytes
) -> None:
    """Every possible name of a file comes back as it was, with its bytes."""
    names = sorted({*NAMES} - {changed})
    mount = mounter(store)
    for name in names:
        Path(os.fsdecode(os.fsencode(mount.path) + b"/" + name)).write_bytes(name)

    again = os.fsencode(remounter(mount).path)

    assert byte_names(Path(os.fsdecode(again))) == names
    for name in names:
        assert Path(os.fsdecode(again + b"/" + name)).read_bytes() == name


@by_store
def test_names_of_directories_survive_a_remount(
    mounter: Mounter, store: Store, remounter: Callable[[Mount], Mount], changed: bytes
) -> None:
    """Every possible name of a directory comes back, with what is in it."""
    names = sorted({*NAMES} - {changed})
    mount = mounter(store)
    for name in names:
        path = Path(os.fsdecode(os.fsencode(mount.path) + b"/" + name))
        path.mkdir()
        (path / "child").write_bytes(name)

    again = os.fsencode(remounter(mount).path)

    assert byte_names(Path(os.fsdecode(again))) == names
    for name in names:
        path = Path(os.fsdecode(again + b"/" + name))
        assert (path / "child").read_bytes() == name


@on_shared_stores
def test_ordinary_names_are_their_keys(directory: Path, there: OtherSide) -> None:
    """A name that is UTF-8 is the last part of its key, unchanged."""
    names = ["per%cent", "ä", "trailing space ", "-rf", "a+b&c=d#e", "%2F"]

    for name in names:
        (directory / name).write_bytes(b"")

    assert {key for key in there.listing() if key} == set(names)


def test_name_of_256_bytes_is_too_long(directory: Path) -> None:
    """A name has at most 255 bytes, whatever is asked of it."""
    name = "n" * 256
    deeds: list[Callable[[], object]] = [
        lambda: (directory / name).write_bytes(b""),
        lambda: (directory / name).mkdir(),
        lambda: (directory / name).symlink_to("x"),
        lambda: (directory / name).lstat(),
        lambda: (directory / "file").rename(directory / name),
    ]
    (directory / "file").touch()

    for deed in deeds:
        with pytest.raises(OSError, match="too long") as caught:
            deed()
        assert caught.value.errno == errno.ENAMETOOLONG


@on_s3
def test_path_beyond_the_longest_key_is_too_long(
    mounter: Mounter, store: Store
) -> None:
    """Where keys have at most 1024 bytes, deeper paths are ENAMETOOLONG."""
    path = mounter(store).path
    for _ in range(3):
        path /= "d" * 250
        path.mkdir()

    path /= "e" * 240
    path.mkdir()
    with pytest.raises(OSError, match="too long"):
        (path / ("f" * 200)).write_bytes(b"x")
    with pytest.raises(OSError, match="too long"):
        (path / ("f" * 200)).mkdir()
    with pytest.raises(OSError, match="too long"):
        (path / ("f" * 200)).symlink_to("x")


@on_s3
def test_file_beside_a_directory_of_its_name(mounter: Mounter, store: Store) -> None:
    """A key `a` beside `a/b`: the directory has the name, the file is shown too."""
    store.there.write("a", b"the file")
    store.there.write("a/b", b"the child")

    path = mounter(store).path

    assert byte_names(path) == [b"a", b"mountfs%=a"]
    assert (path / "a" / "b").read_bytes() == b"the child"
    assert (path / "mountfs%=a").read_bytes() == b"the file"


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("d//x", "d/mountfs%/x"),
        ("d/./x", "d/mountfs%./x"),
        ("d/../x", "d/mountfs%../x"),
        ("d/..", "d/mountfs%.."),
        ("d/.", "d/mountfs%."),
    ],
)
def test_key_that_is_no_path_is_shown_escaped(
    mounter: Mounter, moto_store: Store, key: str, path: str
) -> None:
    """A key with an empty part, `.` or `..` is listed and readable."""
    moto_store.there.write(key, b"odd")
    moto_store.there.write("d/plain", b"plain")

    root = mounter(moto_store).path

    found = [
        str((Path(where) / name).relative_to(root))
        for where, _, names in os.walk(root)
        for name in names
    ]
    assert sorted(found) == sorted([path, "d/plain"])
    assert (root / path).read_bytes() == b"odd"


def test_key_that_is_no_path_can_be_changed_and_deleted(
    mounter: Mounter, moto_store: Store
) -> None:
    """The escaped name stands for its key in every call."""
    moto_store.there.write("d//x", b"odd")
    root = mounter(moto_store).path

    (root / "d/mountfs%/x").write_bytes(b"changed")
    changed = moto_store.there.read("d//x")
    (root / "d/mountfs%/x").rename(root / "even")

    assert changed == b"changed"
    assert moto_store.there.read("even") == b"changed"
    assert "d//x" not in moto_store.there.listing()
