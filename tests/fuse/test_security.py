"""What others on this host can see of a mount, and what it lets programs become."""

import errno
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from mountfs import control
from tests.fakes.hostile_server import Asked, HostileServer, answer, entry, listing
from tests.fuse.conftest import Mounter
from tests.fuse.mounting import TEST_S, Mount, run_command
from tests.fuse.stores import Store


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """A mount under the worst umask, with directories that others may enter."""
    base = tmp_path_factory.mktemp("open")
    for name in ("cache", "state", "mnt"):
        (base / name).mkdir()
    before = os.umask(0)
    try:
        options = ["--durability=journal"]
        made = Mount("memory://", base, options, life_s=TEST_S, is_anew=True)
    finally:
        os.umask(before)
    with made as mount:
        yield mount


def test_nothing_of_a_mount_is_open_to_others(shared: Mount) -> None:
    """Whatever the umask, and in directories that others may enter."""
    mount = shared
    (mount.path / "file").write_bytes(b"bytes")
    socket = control.socket_path(mount.path)

    open_to_others = [
        path
        for top in (mount.state_dir, mount.cache_dir)
        for path in top.iterdir()
        if path.stat().st_mode & 0o077
    ]
    assert open_to_others == []
    assert socket.stat().st_mode & 0o777 == 0o600
    assert socket.parent.stat().st_mode & 0o022 == 0


def test_what_others_see_of_a_mount(shared: Mount) -> None:
    """No secrets of the daemon; and nobody becomes another user by what is in it.

    The kernel honours neither set-user-ID bits nor device nodes of a store. The command
    line has no secret, and the environment only what was given.
    """
    mount = shared
    process = Path(f"/proc/{mount.process.pid}")

    line = next(
        each
        for each in Path("/proc/self/mountinfo").read_text().splitlines()
        if f" {mount.path} " in each
    )
    flags = set(line.split(" ")[5].split(","))
    assert {"nosuid", "nodev"} <= flags

    words = (process / "cmdline").read_bytes().decode().split("\0")
    secrets = [word for word in words if "secret" in word.lower() or "token" in word]
    given = {name.encode() for name in os.environ} | {b"COLUMNS", b"LINES"}
    # (The last two readline sets in this process, behind the back of Python.)
    found = (process / "environ").read_bytes().split(b"\0")
    assert secrets == []
    assert {each.partition(b"=")[0] for each in found if each} <= given


ODD = ("..", ".", "%00nul", "a%1B[2Jb", "new%0Aline", "x" * 900)
"""Components of keys, encoded as in a listing."""


def lies(asked: Asked) -> Iterator[bytes]:
    """Answer by the rules, with names and links that lead elsewhere."""
    query = parse_qs(urlsplit(asked.target).query, keep_blank_values=True)
    prefix = query.get("prefix", [""])[0]
    if "list-type" in query and prefix == "pre/":
        rows = [entry(f"pre/{name}") for name in (*ODD, "link", "file")]
        rows += [
            f"<CommonPrefixes><Prefix>pre/{name}/</Prefix></CommonPrefixes>"
            for name in ("..", "round", "deep")
        ]
        yield listing(*rows)
    elif "list-type" in query and prefix == "pre/round/":
        yield listing(entry("pre/round/a"), token="again")
    elif "list-type" in query:
        yield listing(entry("pre/deep/%FF") if "deep" in prefix else "")
    elif asked.target.endswith("/link"):
        yield answer(b"/etc/passwd", 'ETag: "0"', "x-amz-meta-mode: 41471")
    else:
        yield answer(b"b", 'ETag: "0"')


@pytest.mark.usefixtures("s3_credentials")
def test_a_store_of_lies_stays_in_its_mount(mounter: Mounter) -> None:
    """Names are names, links are texts, and what leads on for ever is an error."""
    with HostileServer() as server:
        server.attack = lies
        options = (f"--endpoint-url={server.url}", "--addressing-style=path")
        mount = mounter(Store("s3://bucket/pre"), "--read-only", *options)
        mount.announce("listing|listed|OFFLINE|DEGRADED|answer")
        root = os.fsencode(mount.path)

        names = os.listdir(root)
        kept_out = {name: os.lstat(root + b"/" + name).st_ino for name in names}
        with ThreadPoolExecutor() as pool:  # each is tried some times
            below = [root + b"/round", root + b"/deep"]
            refused = list(pool.map(errno_of_listing, below))
        explained = run_command("explain", str(mount.path / "file")).stdout

        assert refused == [errno.EIO, errno.EIO]
        assert len(names) == len(ODD) + 5
        assert all(0 < len(name) <= 255 for name in names)
        assert not any(b"/" in name or b"\0" in name for name in names)
        assert not {b".", b".."} & set(names)
        assert len(set(kept_out.values())) == len(names)
        assert os.readlink(root + b"/link") == b"/etc/passwd"
        assert sorted(os.listdir(root)) == sorted(names), "it still answers"
        for text in (explained, mount.log()):
            assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
        mount.unmount()


def errno_of_listing(directory: bytes) -> int | None:
    """Return the error that a program is told, or None."""
    try:
        os.listdir(directory)
    except OSError as error:
        return error.errno
    return None
