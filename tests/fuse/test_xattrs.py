"""Extended attributes through the kernel: who may do what, and what programs make."""

import errno
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuse.conftest import GATED, Mounter
from tests.fuse.marks import needs_root
from tests.fuse.mounting import Mount, run
from tests.fuse.stores import Store
from tests.fuse.test_permissions import NOBODY

pytestmark = needs_root

SET_ON_LINK = "os.setxattr(path, 'user.a', b'1', 0, follow_symlinks=False)"
VALUES = {
    "user.text": b"value",
    "user.empty": b"",
    "user.bytes": bytes(range(256)),
    "user.ä\N{SNOWMAN}": b"1",
    "user." + "n" * 250: b"long name",
    "user.large": b"x" * (1 << 16),
    "trusted.t": b"2",
    "security.s": b"3",
}


def xattrs_of(path: Path) -> dict[str, bytes]:
    """Return all extended attributes, of a link itself."""
    names = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


def set_all(path: Path, values: dict[str, bytes]) -> None:
    for name, value in values.items():
        os.setxattr(path, name, value, follow_symlinks=False)


def code_of(program: str, path: Path, user: int = 0) -> str:
    """Run a call as a user; return the name of its errno, or what it returned."""
    done = run(
        sys.executable,
        "-c",
        "import errno, os, sys\n"
        f"if {user}:\n"
        f"    os.setgroups([]); os.setgid({user}); os.setuid({user})\n"
        "try:\n"
        "    print(eval(sys.argv[1], {'os': os, 'path': sys.argv[2]}))\n"
        "except OSError as error:\n"
        "    print(errno.errorcode[error.errno])\n",
        program,
        path.name,
        cwd=path.parent,
    )
    return done.strip()


@pytest.fixture
def things(gated_directory: Path) -> Path:
    """A directory with one thing of each kind, all owned by nobody, all writable."""
    (gated_directory / "file").write_bytes(b"bytes")
    (gated_directory / "directory").mkdir()
    (gated_directory / "link").symlink_to("file")
    os.mkfifo(gated_directory / "fifo")
    (gated_directory / "theirs").write_bytes(b"bytes")
    (gated_directory / "sticky").mkdir()
    for path in gated_directory.iterdir():
        if not path.is_symlink():
            path.chmod(0o777)
        if path.name not in {"theirs", "sticky"}:
            os.lchown(path, NOBODY, NOBODY)
    (gated_directory / "theirs").chmod(0o644)
    (gated_directory / "sticky").chmod(0o1777)
    return gated_directory


def test_values_come_back_as_they_were_set(gated_directory: Path) -> None:
    """Of any bytes, up to the size of the kernel's own limits."""
    path = gated_directory / "file"
    path.write_bytes(b"bytes")

    set_all(path, VALUES)

    assert xattrs_of(path) == VALUES
    for name in VALUES:
        os.removexattr(path, name)
    assert xattrs_of(path) == {}


@pytest.mark.parametrize("store", ["local", "s3"], indirect=True)
def test_attributes_survive_a_remount(mounter: Mounter, store: Store) -> None:
    """Of everything there is, the root too; also those that fill an object."""
    mount = mounter(store, *GATED)
    (mount.path / "file").write_bytes(b"bytes")
    (mount.path / "directory").mkdir()
    (mount.path / "link").symlink_to("file")
    os.mkfifo(mount.path / "fifo")
    without_user = {"trusted.t": b"2", "security.s": b"3"}
    values = {
        "": {"user.root": b"1"},
        "file": VALUES,
        "directory": VALUES,
        "link": without_user,
        "fifo": without_user,
    }
    for name, wanted in values.items():
        set_all(mount.path / name, wanted)
    mount.unmount()

    again = mounter(store, *GATED, at="again").path

    assert {name: xattrs_of(again / name) for name in values} == values
    assert (again / "file").read_bytes() == b"bytes"


def test_size_is_told_and_checked(gated_directory: Path) -> None:
    """A buffer of no bytes asks for the size; one too small is ERANGE."""
    path = gated_directory / "file"
    path.touch()
    os.setxattr(path, "user.a", b"12345")
    program = (
        "import ctypes, sys, os\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "path = sys.argv[1].encode()\n"
        "buffer = ctypes.create_string_buffer(3)\n"
        "print(libc.getxattr(path, b'user.a', None, 0))\n"
        "print(libc.getxattr(path, b'user.a', buffer, 3), ctypes.get_errno())\n"
        "print(libc.listxattr(path, None, 0))\n"
        "print(libc.listxattr(path, buffer, 3), ctypes.get_errno())\n"
    )

    told = run(sys.executable, "-c", program, path).split()

    assert [int(word) for word in told] == [5, -1, errno.ERANGE, 7, -1, errno.ERANGE]


def test_create_and_replace(gated_directory: Path) -> None:
    """XATTR_CREATE is EEXIST for what is there, XATTR_REPLACE ENODATA for the rest."""
    path = gated_directory / "file"
    path.touch()

    with pytest.raises(OSError, match=r"No data|attribute") as missing:
        os.setxattr(path, "user.a", b"1", os.XATTR_REPLACE)
    os.setxattr(path, "user.a", b"2", os.XATTR_CREATE)
    with pytest.raises(FileExistsError):
        os.setxattr(path, "user.a", b"3", os.XATTR_CREATE)
    os.setxattr(path, "user.a", b"4", os.XATTR_REPLACE)

    assert missing.value.errno == errno.ENODATA
    assert os.getxattr(path, "user.a") == b"4"


@pytest.mark.parametrize(
    ("name", "call", "user", "outcome"),
    [
        ("file", "os.setxattr(path, 'user.a', b'1')", NOBODY, "None"),
        ("directory", "os.setxattr(path, 'user.a', b'1')", NOBODY, "None"),
        ("fifo", "os.setxattr(path, 'user.a', b'1')", NOBODY, "EPERM"),
        ("fifo", "os.setxattr(path, 'user.a', b'1')", 0, "EPERM"),
        ("link", SET_ON_LINK, 0, "EPERM"),
        ("fifo", "os.getxattr(path, 'user.a')", 0, "ENODATA"),
        ("theirs", "os.setxattr(path, 'user.a', b'1')", NOBODY, "EACCES"),
        ("theirs", "os.getxattr(path, 'user.absent')", NOBODY, "ENODATA"),
        ("theirs", "os.removexattr(path, 'user.absent')", NOBODY, "EACCES"),
        ("sticky", "os.setxattr(path, 'user.a', b'1')", NOBODY, "EPERM"),
        ("sticky", "os.setxattr(path, 'user.a', b'1')", 0, "None"),
        ("file", "os.setxattr(path, 'trusted.a', b'1')", NOBODY, "EPERM"),
        ("file", "os.getxattr(path, 'trusted.a')", NOBODY, "ENODATA"),
        ("file", "os.setxattr(path, 'trusted.a', b'1')", 0, "None"),
        ("fifo", "os.setxattr(path, 'trusted.a', b'1')", 0, "None"),
        ("file", "os.setxattr(path, 'security.a', b'1')", NOBODY, "EPERM"),
        ("file", "os.removexattr(path, 'security.a')", NOBODY, "EPERM"),
        ("file", "os.setxattr(path, 'security.a', b'1')", 0, "None"),
        ("file", "os.removexattr(path, 'system.posix_acl_access')", 0, "ENOTSUP"),
        ("file", "os.getxattr(path, 'system.posix_acl_access')", NOBODY, "ENOTSUP"),
        ("file", "os.getxattr(path, 'security.selinux')", NOBODY, "ENOTSUP"),
        ("file", "os.setxattr(path, 'system.other', b'1')", 0, "ENOTSUP"),
        ("file", "os.setxattr(path, 'other.a', b'1')", 0, "ENOTSUP"),
        ("file", "os.setxattr(path, 'user.', b'1')", 0, "EINVAL"),
        ("file", "os.setxattr(path, 'user.' + 'n' * 251, b'1')", 0, "ERANGE"),
        ("file", "os.setxattr(path, 'user.a', b'x' * 65537)", 0, "E2BIG"),
        ("file", "os.setxattr(path, 'user.mountfs.key', b'1')", 0, "EPERM"),
        ("file", "os.removexattr(path, 'user.mountfs.key')", 0, "EPERM"),
    ],
)
def test_who_may_do_what(
    things: Path, name: str, call: str, user: int, outcome: str
) -> None:
    """As on ext4, but for access lists and SELinux, which are not offered."""
    if outcome == "ENOTSUP":
        outcome = errno.errorcode[errno.ENOTSUP]

    assert code_of(call, things / name, user) == outcome


def test_trusted_names_are_shown_to_root_alone(things: Path) -> None:
    """Others see the rest."""
    set_all(things / "file", {"user.u": b"1", "trusted.t": b"2", "security.s": b"3"})
    call = "sorted(os.listxattr(path))"

    assert code_of(call, things / "file") == "['security.s', 'trusted.t', 'user.u']"
    assert code_of(call, things / "file", NOBODY) == "['security.s', 'user.u']"


def test_too_many_names_are_refused_at_once(gated_directory: Path) -> None:
    """What a list of 64 KiB could not hold is ENOSPC when it is set."""
    path = gated_directory / "file"
    with path.open("wb"):  # so that they travel with one commit
        with pytest.raises(OSError, match="No space") as caught:
            set_all(path, {f"user.{n:03}{'n' * 245}": b"" for n in range(300)})
        assert caught.value.errno == errno.ENOSPC

        assert len(os.listxattr(path)) == (1 << 16) // 254


def test_mode_is_set_by_programs_that_try_access_lists(gated_directory: Path) -> None:
    """cp -p and mv set a mode through an access list if they can, else by chmod(2)."""
    (gated_directory / "old").touch(0o600)
    (gated_directory / "old").chmod(0o751)

    run("cp", "-p", gated_directory / "old", gated_directory / "new")

    assert stat.S_IMODE((gated_directory / "new").stat().st_mode) == 0o751


@pytest.mark.parametrize(
    "deed", ["echo >> prog", "chown 1:1 prog", "truncate -s 9 prog", ": > prog"]
)
def test_capabilities_go_with_a_change_of_the_program(
    gated_directory: Path, deed: str
) -> None:
    """Whoever changes a program must not inherit what it was allowed."""
    program = gated_directory / "prog"
    shutil.copy(shutil.which("true") or "/bin/true", program)
    run("setcap", "cap_net_raw+ep", program)
    before = run("getcap", program)

    run("sh", "-c", deed, cwd=gated_directory)

    assert "cap_net_raw" in before
    assert run("getcap", program) == ""


def test_copies_keep_attributes(gated_directory: Path, tmp_path: Path) -> None:
    """cp -a, rsync -aX and tar --xattrs carry them in, within, and out again."""
    source = tmp_path / "source"
    source.mkdir()
    values = {"user.a": b"1", "user.b": bytes(range(200)), "trusted.t": b"2"}
    (source / "file").write_bytes(b"bytes")
    (source / "link").symlink_to("file")
    set_all(source / "file", values)
    archive = gated_directory / "archive.tar"
    taken = gated_directory / "tar"
    taken.mkdir()

    run("cp", "-a", source, gated_directory / "cp")
    run("rsync", "-aX", f"{gated_directory}/cp/", gated_directory / "rsync")
    run("tar", "--xattrs", "--xattrs-include=*", "-cf", archive, "-C", source, ".")
    run("tar", "--xattrs", "--xattrs-include=*", "-xf", archive, "-C", taken)
    run("rsync", "-aX", f"{gated_directory}/tar/", tmp_path / "out")
    again = run("rsync", "-aXi", f"{gated_directory}/tar/", tmp_path / "out")

    copies = [gated_directory / name for name in ("cp", "rsync", "tar")]
    for copy in [*copies, tmp_path / "out"]:
        assert xattrs_of(copy / "file") == values, copy
        assert (copy / "file").read_bytes() == b"bytes"
    assert again == ""


def test_attributes_belong_to_the_file(gated_directory: Path) -> None:
    """Every name of it shows them, they follow a rename, and new bytes keep them."""
    one, two = gated_directory / "one", gated_directory / "two"
    one.write_bytes(b"bytes")
    os.link(one, two)

    os.setxattr(one, "user.a", b"1")
    os.setxattr(two, "user.b", b"2")
    one.rename(gated_directory / "moved")
    two.write_bytes(b"other bytes")

    expected = {"user.a": b"1", "user.b": b"2"}
    assert xattrs_of(gated_directory / "moved") == expected
    assert xattrs_of(two) == expected


def test_attributes_follow_a_renamed_directory(gated_directory: Path) -> None:
    """Its own, and those of everything below, also where they need an object."""
    (gated_directory / "d" / "below").mkdir(parents=True)
    (gated_directory / "d" / "below" / "file").write_bytes(b"bytes")
    set_all(gated_directory / "d" / "below" / "file", VALUES)
    os.setxattr(gated_directory / "d", "user.a", b"1")

    (gated_directory / "d").rename(gated_directory / "e")

    assert xattrs_of(gated_directory / "e") == {"user.a": b"1"}
    assert xattrs_of(gated_directory / "e" / "below" / "file") == VALUES


def test_replaced_file_takes_its_attributes_along(gated_directory: Path) -> None:
    """A file that is renamed over another has its own attributes and no others."""
    old, new = gated_directory / "old", gated_directory / "new"
    old.write_bytes(b"old")
    os.setxattr(old, "user.old", b"1")
    with new.open("wb") as file:
        file.write(b"new")
        os.setxattr(new, "user.new", b"2")
        new.rename(old)

    assert xattrs_of(old) == {"user.new": b"2"}


def test_open_file_without_a_name_has_attributes(gated_directory: Path) -> None:
    """Until its last close, like everything else of it."""
    path = gated_directory / "file"
    path.write_bytes(b"bytes")
    os.setxattr(path, "user.a", b"1")
    with path.open("rb") as file:
        path.unlink()

        os.setxattr(file.fileno(), "user.b", b"2")
        assert os.getxattr(file.fileno(), "user.a") == b"1"
        assert sorted(os.listxattr(file.fileno())) == ["user.a", "user.b"]

    assert os.listdir(gated_directory) == []


def test_getfattr_and_setfattr_agree(gated_directory: Path) -> None:
    """A dump of one file restores another."""
    for name in ("one", "two"):
        (gated_directory / name).touch()
    run("setfattr", "-n", "user.a", "-v", "0x00ff", gated_directory / "one")
    run("setfattr", "-n", "user.b", "-v", "text", gated_directory / "one")
    dump = run("getfattr", "-d", "-m", "-", "one", cwd=gated_directory)

    subprocess.run(
        ["setfattr", "--restore=-"],
        input=dump.replace("one", "two").encode(),
        cwd=gated_directory,
        check=True,
        timeout=60,
    )

    assert xattrs_of(gated_directory / "two") == xattrs_of(gated_directory / "one")
    assert "user.mountfs" not in dump


def test_facts_are_read_by_name(gated_mount: Mount, gated_directory: Path) -> None:
    """user.mountfs.* tells where a file is in the store and how it is there."""
    path = gated_directory / "file"
    path.write_bytes(b"bytes")
    key = str(path.relative_to(gated_mount.path))

    def told(name: str) -> str:
        return os.getxattr(path, f"user.mountfs.{name}").decode()

    base = gated_mount.url.rstrip("/") + "/"
    url = f"{gated_mount.url}{key}" if base == "memory:/" else f"{base}{key}"
    assert (told("key"), told("url"), told("state")) == (key, url, "clean")
    assert told("etag")
    assert os.listxattr(path) == []
    with path.open("ab", buffering=0) as file:
        file.write(b"more")
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert told("state") in {"clean", "dirty"}
    assert told("state") == "clean"


def test_without_the_gate_there_are_none(directory: Path) -> None:
    """EOPNOTSUPP for every call, and the kernel asks no more."""
    path = directory / "file"
    path.write_bytes(b"bytes")

    for call in (
        "os.setxattr(path, 'user.a', b'1')",
        "os.getxattr(path, 'user.a')",
        "os.listxattr(path)",
        "os.removexattr(path, 'user.a')",
        "os.getxattr(path, 'user.mountfs.key')",
    ):
        assert code_of(call, path) in {"EOPNOTSUPP", "ENOTSUP", "[]"}
