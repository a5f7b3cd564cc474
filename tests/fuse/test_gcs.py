"""A mount of Google Cloud Storage's API, through the kernel."""

import contextlib
import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mountfs.backends.gcs_keys import UPLOADS
from tests.fakes.gcs_fixtures import GCS_BUCKET
from tests.fakes.gcs_server import GcsServer
from tests.fakes.http_proxy import Reply
from tests.fakes.pubsub_server import SUBSCRIPTION, PubSubServer
from tests.fuse.mounting import TEST_S, Mount

URL = f"gs://{GCS_BUCKET}/pre"
MIB = 1 << 20


def _mount(server: GcsServer, base: Path, *options: str) -> Mount:
    fixed = (f"--endpoint-url={server.endpoint_url}", "--no-sign-request")
    return Mount(URL, base, (*fixed, "--cache-size=1G", *options), life_s=TEST_S)


@pytest.fixture
def mount(gcs_server: GcsServer, tmp_path: Path) -> Iterator[Mount]:
    """A mount with every gate on that knows what it has listed for long."""
    with _mount(gcs_server, tmp_path / "m", "--virtual=all", "--ttl=1h") as mounted:
        yield mounted
        mounted.check_log()


def _names(server: GcsServer) -> set[str]:
    names = server.objects(GCS_BUCKET)
    return {name for name in names if "/.mountfs" not in name}


def test_files_are_plain_objects(mount: Mount, gcs_server: GcsServer) -> None:
    """What a program does to files is what is in the bucket, under the same names."""
    root = mount.path
    (root / "dir").mkdir()
    (root / "dir" / "file").write_bytes(b"bytes")
    os.symlink("file", root / "dir" / "link")
    (root / "dir" / "file").chmod(0o640)
    os.rename(root / "dir" / "file", root / "moved")
    with (root / "moved").open("ab") as file:
        file.write(b" and more")

    assert _names(gcs_server) == {"pre/dir/", "pre/dir/link", "pre/moved"}
    stored = gcs_server.objects(GCS_BUCKET)["pre/moved"]
    assert stored.data == b"bytes and more"
    assert stat.S_IMODE(int(stored.metadata["mode"])) == 0o640
    assert gcs_server.objects(GCS_BUCKET)["pre/dir/link"].data == b"file"


def test_a_mount_finds_what_another_has_left(
    gcs_server: GcsServer, tmp_path: Path
) -> None:
    """Attributes, links and bytes are there for a mount that has never seen them."""
    with _mount(gcs_server, tmp_path / "one") as first:
        (first.path / "file").write_bytes(b"x" * 3000)
        os.utime(first.path / "file", ns=(1, 1_234_567_890_123_456_789))
        (first.path / "file").chmod(0o600)
        os.symlink("../elsewhere", first.path / "link")
    gcs_server.clear()
    with _mount(gcs_server, tmp_path / "two") as second:
        found = (second.path / "file").stat()

        assert found.st_mtime_ns == 1_234_567_890_123_456_789
        assert stat.S_IMODE(found.st_mode) == 0o600
        assert os.readlink(second.path / "link") == "../elsewhere"
        assert (second.path / "file").read_bytes() == b"x" * 3000


def test_a_listing_tells_all_attributes(gcs_server: GcsServer, tmp_path: Path) -> None:
    """`ls -l` of a cold directory costs the listing alone, directories included."""
    with _mount(gcs_server, tmp_path / "one") as first:
        for number in range(20):
            (first.path / f"{number}").write_bytes(b"x")
            (first.path / f"{number}").chmod(0o600 + number)
        (first.path / "dir").mkdir(mode=0o711)
    with _mount(gcs_server, tmp_path / "two", "--ttl=1h") as second:
        gcs_server.clear()
        modes = {
            entry.name: stat.S_IMODE(entry.stat().st_mode)
            for entry in os.scandir(second.path)
        }

        assert modes == {**{f"{n}": 0o600 + n for n in range(20)}, "dir": 0o711}
        assert set(gcs_server.counts()) == {"objects.list"}
        assert gcs_server.counts()["objects.list"] == 1


def test_a_large_file_goes_in_parts_and_leaves_none(
    mount: Mount, gcs_server: GcsServer
) -> None:
    """Parts are sent at the same time, composed, and gone."""
    content = os.urandom(1 << 16) * (40 * 16)
    (mount.path / "large").write_bytes(content)
    gcs_server.clear()
    with (mount.path / "large").open("ab") as file:
        file.write(b"tail")

    assert gcs_server.objects(GCS_BUCKET)["pre/large"].data == content + b"tail"
    assert _names(gcs_server) == {"pre/large"}
    assert not [n for n in gcs_server.objects(GCS_BUCKET) if "uploads" in n]
    # The tail, the old object and the tail composed, the component removed.
    counts = gcs_server.counts()
    assert counts["objects.insert"] == 1
    assert counts["objects.compose"] == 1
    assert sum(entry.size for entry in gcs_server.requests("objects.insert")) < 4096


def test_a_directory_is_renamed_and_removed(
    mount: Mount, gcs_server: GcsServer
) -> None:
    """Copies by rewrite, and one batch of deletions."""
    (mount.path / "old").mkdir()
    for number in range(30):
        (mount.path / "old" / f"{number}").write_bytes(b"%d" % number)
    gcs_server.clear()
    os.rename(mount.path / "old", mount.path / "new")

    assert _names(gcs_server) == {"pre/new/", *(f"pre/new/{n}" for n in range(30))}
    assert gcs_server.counts()["objects.rewrite"] == 31
    assert gcs_server.counts()["batch"] == 1
    subprocess.run(["rm", "-r", mount.path / "new"], check=True, timeout=60)
    assert _names(gcs_server) == set()


def test_the_emulator_of_the_environment_is_asked(
    gcs_server: GcsServer, tmp_path: Path
) -> None:
    """STORAGE_EMULATOR_HOST is where a command looks, without credentials."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "mountfs", "features", "--json", URL],
        env={
            **os.environ,
            "STORAGE_EMULATOR_HOST": gcs_server.endpoint_url,
            "MOUNTFS_CONFIG": os.devnull,
        },
        check=True,
        capture_output=True,
        timeout=60,
    )

    assert json.loads(done.stdout)["service"] == "gs"


def test_what_gcsfuse_has_left_is_read(mount: Mount, gcs_server: GcsServer) -> None:
    """Markers, both kinds of links, and times."""
    put = gcs_server.put
    put(GCS_BUCKET, "pre/dir/", b"")
    put(
        GCS_BUCKET,
        "pre/dir/file",
        b"bytes",
        {"metadata": {"gcsfuse_mtime": "2024-05-06T07:08:09.123456789Z"}},
    )
    new = {"metadata": {"goog-reserved-file-is-symlink": "true"}}
    put(GCS_BUCKET, "pre/dir/new", b"../target", new)
    old = {"metadata": {"gcsfuse_symlink_target": "file"}}
    put(GCS_BUCKET, "pre/dir/old", b"", old)

    found = {entry.name: entry.is_symlink() for entry in os.scandir(mount.path / "dir")}
    assert found == {"file": False, "new": True, "old": True}
    assert os.readlink(mount.path / "dir" / "new") == "../target"
    assert os.readlink(mount.path / "dir" / "old") == "file"
    moment = (mount.path / "dir" / "file").stat().st_mtime_ns
    assert moment == 1_714_979_289_123_456_789
    assert (mount.path / "dir" / "old").read_bytes() == b"bytes"


def test_changes_of_one_object_are_gathered(tmp_path: Path) -> None:
    """Where an object takes a change a second, lines of a log do not wait for it."""
    with GcsServer(rate_s=1.0) as server:
        server.make_bucket(GCS_BUCKET)
        with _mount(server, tmp_path / "m", "--durability=journal") as mounted:
            for number in range(100):
                with (mounted.path / "log").open("a") as file:
                    file.write(f"{number}\n")
            mounted.unmount()

        stored = server.objects(GCS_BUCKET)["pre/log"].data
        assert stored == b"".join(b"%d\n" % number for number in range(100))
        changes = server.requests("objects.insert") + server.requests("objects.patch")
        made = [e for e in changes if e.status == 200 and e.key == "pre/log"]
        assert len(made) <= 20


def test_a_program_that_is_too_fast_waits(tmp_path: Path) -> None:
    """With `durability=store` each change is made, and none fails."""
    with GcsServer(rate_s=1.0) as server:
        server.make_bucket(GCS_BUCKET)
        with _mount(server, tmp_path / "m") as mounted:
            for number in range(6):
                with (mounted.path / "log").open("a") as file:
                    file.write(f"{number}\n")

        assert server.objects(GCS_BUCKET)["pre/log"].data == b"0\n1\n2\n3\n4\n5\n"
        assert 429 in {entry.status for entry in server.requests()}


@pytest.mark.parametrize("where", ["amid the parts", "after the compose"])
def test_a_crash_leaves_no_parts(
    gcs_server: GcsServer, tmp_path: Path, where: str
) -> None:
    """The next mount goes on with the upload, or removes what is left of it."""
    with _mount(gcs_server, tmp_path / "m") as first:
        reached = threading.Event()
        operation = "batch" if where == "after the compose" else "objects.insert"
        writer = threading.Thread(target=_write_large, args=(first.path / "file",))

        def hold(asked: str, _: object) -> Reply | None:
            name = f"pre/{UPLOADS}"
            parts = [n for n in gcs_server.objects(GCS_BUCKET) if n.startswith(name)]
            if asked != operation or len(parts) < 3:
                return None
            reached.set()
            return Reply(500, cut_after=-1)

        gcs_server.fault = hold
        writer.start()
        assert reached.wait(30)
        first.kill()
        writer.join()
    gcs_server.fault = None
    left = [n for n in gcs_server.objects(GCS_BUCKET) if UPLOADS in n]
    assert len(left) >= 3

    with _mount(gcs_server, tmp_path / "m") as second:
        second.announce("cleaning up|kept by an earlier mount")
        (second.path / "small").write_bytes(b"bytes")

    assert not [n for n in gcs_server.objects(GCS_BUCKET) if UPLOADS in n]
    if where == "after the compose":
        assert gcs_server.objects(GCS_BUCKET)["pre/file"].data == bytes(40 * MIB)


def _write_large(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.write_bytes(bytes(40 * MIB))


def test_what_others_change_is_seen_at_once(
    gcs_server: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket that tells of changes needs no time to live."""
    with contextlib.closing(PubSubServer()) as pubsub:
        gcs_server.notify = pubsub.publish
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub.host)
        options = (f"--events={SUBSCRIPTION}", "--ttl=1h")
        with _mount(gcs_server, tmp_path / "m", *options) as mounted:
            path = mounted.path / "file"
            path.write_bytes(b"ours")
            assert not (mounted.path / "new").exists()
            assert path.read_bytes() == b"ours"
            gcs_server.put(GCS_BUCKET, "pre/file", b"their bytes")
            gcs_server.put(GCS_BUCKET, "pre/new", b"new")

            _wait_for(lambda: path.read_bytes() == b"their bytes")
            _wait_for(lambda: (mounted.path / "new").exists())
            gcs_server.remove(GCS_BUCKET, "pre/new")
            _wait_for(lambda: not (mounted.path / "new").exists())


def _wait_for(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)
