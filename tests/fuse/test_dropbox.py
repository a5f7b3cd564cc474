"""A Dropbox mounted through the kernel, against the fake and the real SDK."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mountfs.backends.dropbox_tokens import Credentials, save
from tests.fakes.dropbox_fixtures import mount_options_of
from tests.fakes.dropbox_server import DropboxServer
from tests.fakes.dropbox_tree import Commit
from tests.fuse.mounting import TEST_S, Mount


@pytest.fixture
def options(dropbox_server: DropboxServer, tmp_path: Path) -> tuple[str, ...]:
    """What leads a mount to the fake, with a refresh token as a user has it."""
    options = mount_options_of(dropbox_server, tmp_path)
    return (*options, "--cache-size=64M", "--virtual=all")


def mounted(options: tuple[str, ...], base: Path) -> Mount:
    """Mount a folder of the fake."""
    return Mount("dropbox:///Projects", base, options, life_s=TEST_S)


def test_a_directory_like_any_other(
    dropbox_server: DropboxServer, options: tuple[str, ...], tmp_path: Path
) -> None:
    """Files, directories, links, modes, times, names and renames; seen from outside,
    and again by the next mount, which asks once for a directory.
    """
    with mounted(options, tmp_path / "first") as mount:
        mount.announce("mkdir: Dropbox has 'dir' there")
        top = mount.path
        (top / "dir").mkdir(0o750)
        with (top / "dir" / "file").open("wb", buffering=0) as file:
            file.write(b"some bytes")
            os.utime(file.fileno(), ns=(1_000_000_001, 2_000_000_003))
        (top / "dir" / "file").chmod(0o640)
        os.symlink("dir/file", top / "link")
        (top / "odd \\ ").write_bytes(b"odd")
        with (top / "log").open("ab") as log:
            log.write(b"one\n")
        with (top / "log").open("ab") as log:
            log.write(b"two\n")
        (top / "old").write_bytes(b"old")
        (top / "new").write_bytes(b"new")
        os.rename(top / "new", top / "old")
        with pytest.raises(FileNotFoundError):
            (top / "LOG").stat()
        with pytest.raises(FileExistsError):
            (top / "DIR").mkdir()
        os.rename(top / "dir", top / "moved")
        (top / "large").write_bytes(b"x" * (9 << 20))
        os.unlink(top / "link")
        os.symlink("moved/file", top / "link")
        assert "ignores conditions" not in mount.log()

    tree = dropbox_server.account.tree
    assert tree.entries["/projects/moved/file"].data == b"some bytes"
    assert tree.entries["/projects/moved/file"].client_modified == 2
    assert tree.entries["/projects/old"].data == b"new"
    assert tree.entries["/projects/log"].data == b"one\ntwo\n"
    assert tree.entries["/projects/large"].data == b"x" * (9 << 20)
    assert "/projects/odd \uff3c\u2420" in tree.entries
    dropbox_server.routes.clear()
    with mounted(options, tmp_path / "second") as mount:
        top = mount.path
        dropbox_server.routes.clear()
        assert sorted(os.listdir(top)) == [
            "large",
            "link",
            "log",
            "moved",
            "odd \\ ",
            "old",
        ]
        with os.scandir(top / "moved") as entries:
            (found,) = [(entry.name, entry.stat()) for entry in entries]
        assert dropbox_server.counts["files/list_folder"] <= 3
        assert dropbox_server.counts["files/get_metadata"] == 0
        assert found[0] == "file"
        assert found[1].st_mode & 0o7777 == 0o640
        assert found[1].st_mtime_ns == 2_000_000_003
        assert os.readlink(top / "link") == "moved/file"
        assert (top / "link").read_bytes() == b"some bytes"
        assert (top / "large").read_bytes() == b"x" * (9 << 20)


def test_another_client_that_is_faster_loses_nothing(
    dropbox_server: DropboxServer, options: tuple[str, ...], tmp_path: Path
) -> None:
    """What it wrote stays, and ours is kept beside it."""
    tree = dropbox_server.account.tree
    with mounted(options, tmp_path) as mount:
        mount.announce("conflict")
        path = mount.path / "file"
        path.write_bytes(b"first")
        with path.open("r+b") as file:
            file.write(b"OURS!")
            theirs = Commit("/Projects/file", mode="overwrite")
            with dropbox_server.account.lock, tree.changed:
                tree.write(theirs, b"theirs")
        contents = {each.data for each in tree.entries.values() if each.data}
        assert contents == {b"OURS!", b"theirs"}
        mount.look()


@pytest.mark.slow
def test_a_storm_of_refusals_fails_nothing(
    dropbox_server: DropboxServer, options: tuple[str, ...], tmp_path: Path
) -> None:
    """Too many requests slow the mount down; an access token that ends is renewed."""
    with mounted(options, tmp_path) as mount:
        dropbox_server.tokens.expire()
        dropbox_server.throttle(times=5)
        for number in range(3):
            (mount.path / f"file-{number}").write_bytes(b"bytes")
        assert len(os.listdir(mount.path)) == 3
    assert dropbox_server.tokens.refreshes >= 2


def eventually(claim: Callable[[], bool]) -> None:
    """Fail unless a claim comes true; it is asked again and again."""
    until = time.monotonic() + 20
    while not claim():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_changes_made_elsewhere_appear(
    dropbox_server: DropboxServer, options: tuple[str, ...], tmp_path: Path
) -> None:
    """New bytes, new names and names that are gone, although what is known would be
    believed for an hour; and our own changes are no news.
    """
    account = dropbox_server.account
    with mounted((*options, "--ttl=3600"), tmp_path) as mount:
        top = mount.path
        (top / "dir").mkdir()
        (top / "dir" / "file").write_bytes(b"ours")
        (top / "dir" / "gone").write_bytes(b"soon")
        assert (top / "dir" / "file").stat().st_size == 4
        assert not (top / "dir" / "new").exists()
        assert sorted(os.listdir(top / "dir")) == ["file", "gone"]
        eventually(lambda: "files/list_folder/longpoll" in dropbox_server.counts)

        with account.lock, account.tree.changed:
            new = Commit("/Projects/dir/file", mode="overwrite")
            account.tree.write(new, b"theirs, and longer")
            account.tree.write(Commit("/Projects/dir/new"), b"new")
            account.tree.delete("/Projects/dir/gone", None)

        eventually(lambda: (top / "dir" / "file").read_bytes() == b"theirs, and longer")
        eventually(lambda: (top / "dir" / "new").exists())
        eventually(lambda: not (top / "dir" / "gone").exists())
        assert sorted(os.listdir(top / "dir")) == ["file", "new"]


def test_statfs_tells_the_space_of_the_account(
    dropbox_server: DropboxServer, options: tuple[str, ...], tmp_path: Path
) -> None:
    """What is used and what is left, asked for once a minute."""
    account = dropbox_server.account
    account.tree.quota = 1 << 30
    with account.lock, account.tree.changed:
        account.tree.write(Commit("/other"), b"x" * (1 << 20))
    with mounted(options, tmp_path) as mount:
        told = [os.statvfs(mount.path) for _ in range(3)][-1]
    assert told.f_blocks * told.f_frsize == 1 << 30
    assert (told.f_blocks - told.f_bavail) * told.f_frsize == 1 << 20
    assert dropbox_server.counts["users/get_space_usage"] == 1


@pytest.mark.parametrize(
    "durability", ["store", pytest.param("journal", marks=pytest.mark.slow)]
)
def test_without_properties_the_index_keeps_attributes(
    dropbox_server: DropboxServer,
    options: tuple[str, ...],
    tmp_path: Path,
    durability: str,
) -> None:
    """An app that sees its own folder alone may keep none: files, links, directories
    and all in a directory that moves have theirs in the index.
    """
    dropbox_server.account.may_have_templates = False
    options = (*options[:-1], "--dropbox-properties=off", f"--durability={durability}")
    with mounted(options, tmp_path / "first") as mount:
        top = mount.path
        (top / "dir").mkdir(0o750)
        (top / "dir" / "file").write_bytes(b"bytes")
        (top / "dir" / "file").chmod(0o604)
        os.utime(top / "dir" / "file", ns=(1_000_000_001, 2_000_000_003))
        (top / "dir" / "link").symlink_to("file")
        (top / "dir" / "log").write_bytes(b"one\n")
        (top / "dir" / "log").chmod(0o600)
        with (top / "dir" / "log").open("ab") as log:
            log.write(b"two\n")
        (top / "dir" / "other").write_bytes(b"ours")
        (top / "dir" / "other").chmod(0o640)
        os.rename(top / "dir", top / "moved")
        os.rename(top / "moved" / "log", top / "moved" / "log.1")
        large = os.open(top / "moved" / "large", os.O_WRONLY | os.O_CREAT, 0o611)
        os.write(large, b"x" * (17 << 20))
        os.close(large)
    tree = dropbox_server.account.tree
    with dropbox_server.account.lock, tree.changed:
        theirs = Commit("/Projects/moved/other", mode="overwrite")
        tree.write(theirs, b"theirs")
    with mounted(options, tmp_path / "second") as mount:
        top = mount.path / "moved"
        assert top.stat().st_mode & 0o7777 == 0o750
        told = {each.name: each.stat(follow_symlinks=False) for each in os.scandir(top)}
        modes = {name: found.st_mode & 0o7777 for name, found in told.items()}
        assert modes.pop("link") == 0o777
        assert modes == {"file": 0o604, "log.1": 0o600, "large": 0o611, "other": 0o644}
        assert told["file"].st_mtime_ns == 2_000_000_003
        assert os.readlink(top / "link") == "file"
        assert (top / "link").read_bytes() == b"bytes"
        assert (top / "log.1").read_bytes() == b"one\ntwo\n"
    assert not dropbox_server.account.templates


def test_a_revoked_token_takes_the_mount_offline_until_there_is_another(
    dropbox_server: DropboxServer, options: tuple[str, ...], tmp_path: Path
) -> None:
    """`status` says what to do, and doing it mends the running mount."""
    with mounted(options, tmp_path) as mount:
        mount.announce("rejects the (token|credentials)")
        (mount.path / "file").write_bytes(b"bytes")
        dropbox_server.tokens.revoke()
        for _ in range(3):
            with pytest.raises(OSError, match=r"Permission denied|I/O error"):
                os.listdir(mount.path / "absent")
        told = mount.look()
        assert "mountfs auth dropbox" in told
        dropbox_server.tokens.refresh_tokens.add("refresh-9")
        save(tmp_path / "dropbox.json", Credentials("fakekey", "refresh-9"))
        eventually(lambda: "ONLINE" in mount.look() or "online" in mount.look())
        assert (mount.path / "file").read_bytes() == b"bytes"


def test_many_small_files_with_a_journal(
    dropbox_server: DropboxServer, options: tuple[str, ...], tmp_path: Path
) -> None:
    """They become visible together; a tree moves by one request, and goes by few."""
    with mounted((*options, "--durability=journal"), tmp_path) as mount:
        (mount.path / "dir").mkdir()
        for number in range(40):
            (mount.path / "dir" / f"{number}").write_bytes(b"x" * number)
        mount.flush()
        tree = dropbox_server.account.tree
        for number in range(40):
            assert tree.entries[f"/projects/dir/{number}"].data == b"x" * number
        counts = dropbox_server.counts
        commits = counts["files/upload_session/finish_batch_v2"]
        assert commits < counts["files/upload_session/start"]
        dropbox_server.routes.clear()
        os.rename(mount.path / "dir", mount.path / "moved")
        mount.flush()
        assert dropbox_server.counts["files/move_v2"] == 1
        dropbox_server.routes.clear()
        shutil.rmtree(mount.path / "moved")
        mount.flush()
        assert dropbox_server.counts["files/delete_batch"] <= 2
        assert "/projects/moved" not in tree.entries


def test_a_large_file_is_sent_while_it_is_written(
    dropbox_server: DropboxServer, options: tuple[str, ...], tmp_path: Path
) -> None:
    """Half of it before its close, although it is larger than the cache; and anew if
    it changes where it was sent.
    """
    appends = "files/upload_session/append_v2"
    content = os.urandom(40 << 20)
    options = (*options, "--cache-size=24M")
    with mounted(options, tmp_path) as mount:
        dropbox_server.routes.clear()  # those of the probe
        with (mount.path / "large").open("wb", buffering=0) as file:
            file.write(content)
            eventually(lambda: dropbox_server.counts[appends] >= 2)
            assert "/projects/large" not in dropbox_server.account.tree.entries
        assert dropbox_server.account.tree.entries["/projects/large"].data == content
        assert dropbox_server.counts["files/upload_session/start"] == 1
        assert dropbox_server.counts[appends] == 6  # five parts, and the close
        with (mount.path / "changed").open("wb", buffering=0) as file:
            file.write(content[: 20 << 20])
            eventually(lambda: dropbox_server.counts[appends] >= 8)
            file.seek(0)
            file.write(b"HEAD")
        expected = b"HEAD" + content[4 : 20 << 20]
        assert dropbox_server.account.tree.entries["/projects/changed"].data == expected


def test_an_upload_that_was_killed_is_gone_on_with(
    dropbox_server: DropboxServer,
    options: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By its session and the parts in the journal, for Dropbox tells of neither."""
    appends = "files/upload_session/append_v2"
    content = os.urandom((40 << 20) + 5)
    # What fills more of the cache is sent while it is written, not after its close.
    options = (*options, "--durability=journal", "--cache-size=512M")
    monkeypatch.setenv("MOUNTFS_TEST_DIE_AT", "part-sent:4")
    killed = mounted(options, tmp_path)
    monkeypatch.delenv("MOUNTFS_TEST_DIE_AT")
    dropbox_server.routes.clear()
    (killed.path / "large").write_bytes(content)
    assert killed.process.wait(60) == -signal.SIGKILL
    before = dropbox_server.counts[appends]
    mount = mounted(options, tmp_path)
    with mount:
        mount.announce("cleaning up")
        assert (mount.path / "large").read_bytes() == content
        mount.flush()
    assert dropbox_server.account.tree.entries["/projects/large"].data == content
    assert dropbox_server.counts["files/upload_session/start"] == 1
    # At least three full parts of five were noted; the last one closes the session.
    assert dropbox_server.counts[appends] - before <= 2 + 1
