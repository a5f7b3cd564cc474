"""What stands in the way of a mount: each thing has a sentence."""

import os
from pathlib import Path

import pytest

from mountfs import checks, mounts
from mountfs.configuration import config
from mountfs.configuration.config import MountConfig
from mountfs.configuration.settings import Setting
from mountfs.errors import UsageError

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="looks at root's own rights")


def configured(tmp_path: Path, url: str = "memory://", **options: str) -> MountConfig:
    """Return the configuration of a mount whose directories lie in `tmp_path`."""
    options.setdefault("cache_dir", str(tmp_path / "cache"))
    options.setdefault("state_dir", str(tmp_path / "state"))
    given = {name: Setting(text, f"--{name}") for name, text in options.items()}
    mount_point = tmp_path / "mnt"
    mount_point.mkdir(exist_ok=True)
    return config.mount_config(
        url,
        str(mount_point),
        given,
        config_file=None,
        environ={"MOUNTFS_CONFIG": "/dev/null"},
    )


def test_a_good_place_passes_and_has_its_directories(tmp_path: Path) -> None:
    """The directories are made, for their owner alone."""
    wanted = configured(tmp_path)

    checks.check_mount_point(wanted.mount_point)
    checks.check_nesting(wanted)
    checks.check_writable(wanted.cache_dir, "cache")
    checks.check_cache_size(wanted)

    assert wanted.cache_dir.stat().st_mode & 0o777 == 0o700


def test_no_fuse_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /dev/fuse the sentence says how to get it."""
    monkeypatch.setattr(checks, "FUSE_DEVICE", tmp_path / "fuse")

    with pytest.raises(UsageError, match="modprobe fuse"):
        checks.check_fuse(allow_other=False)


def test_a_fuse_device_that_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device without access is told from a missing one."""
    monkeypatch.setattr(checks, "FUSE_DEVICE", tmp_path)

    with pytest.raises(UsageError, match="cannot be opened"):
        checks.check_fuse(allow_other=False)


def test_users_need_fusermount(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Who is not root is told which package is missing."""
    monkeypatch.setattr(checks, "FUSE_DEVICE", Path("/dev/null"))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(UsageError, match="install the package fuse3"):
        checks.check_fuse(allow_other=False)


def test_users_need_leave_to_let_others_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`--allow-other` names the line that is missing, and works once it is there."""
    monkeypatch.setattr(checks, "FUSE_DEVICE", Path("/dev/null"))
    monkeypatch.setattr(checks, "FUSE_CONF", tmp_path / "fuse.conf")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    (tmp_path / "fusermount3").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(UsageError, match="user_allow_other"):
        checks.check_fuse(allow_other=True)
    (tmp_path / "fuse.conf").write_text("#user_allow_other\n")
    with pytest.raises(UsageError, match="user_allow_other"):
        checks.check_fuse(allow_other=True)
    (tmp_path / "fuse.conf").write_text("mount_max = 1000\n user_allow_other\n")
    checks.check_fuse(allow_other=True)


def test_a_missing_mount_point(tmp_path: Path) -> None:
    """The sentence says how to make it."""
    with pytest.raises(UsageError, match=r"does not exist: create it with `mkdir -p"):
        checks.check_mount_point(tmp_path / "missing")


def test_a_mount_point_that_is_a_file(tmp_path: Path) -> None:
    """A file cannot be mounted on."""
    path = tmp_path / "file"
    path.touch()

    with pytest.raises(UsageError, match="is not a directory"):
        checks.check_mount_point(path)


def test_a_mount_point_that_is_not_empty(tmp_path: Path) -> None:
    """A mount would hide what is there."""
    (tmp_path / "file").touch()

    with pytest.raises(UsageError, match="is not empty"):
        checks.check_mount_point(tmp_path)


def test_a_live_mount_of_ours_is_not_mounted_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence names what is mounted there and how to end it."""
    listing = tmp_path / "mountinfo"
    listing.write_text(f"1 0 0:1 / {tmp_path} rw - fuse.mountfs s3://b rw,user_id=0\n")
    monkeypatch.setattr(mounts, "MOUNTINFO", listing)

    with pytest.raises(UsageError, match=r"is mounted already, with s3://b: .* umount"):
        checks.clear_dead_mount(tmp_path)


@pytest.mark.parametrize("name", ["cache", "state"])
def test_directories_of_ours_inside_the_mount(tmp_path: Path, name: str) -> None:
    """A cache inside the mount would wait for itself."""
    inside = {f"{name}_dir": str(tmp_path / "mnt" / "deep" / "dir")}

    with pytest.raises(UsageError, match=f"the {name} directory .* inside the mount"):
        checks.check_nesting(configured(tmp_path, **inside))


def test_a_log_file_inside_the_mount(tmp_path: Path) -> None:
    """A log inside the mount would wait for itself."""
    wanted = configured(tmp_path, log_file=str(tmp_path / "mnt" / "log"))

    with pytest.raises(UsageError, match="inside the mount"):
        checks.check_nesting(wanted)


def test_a_mount_point_inside_the_cache(tmp_path: Path) -> None:
    """The cache may be deleted at any time, the mount point may not."""
    with pytest.raises(UsageError, match="lies inside the cache directory"):
        checks.check_nesting(configured(tmp_path, cache_dir=str(tmp_path)))


@pytest.mark.parametrize("below", ["", "mnt", "mnt/deep"])
def test_a_directory_mounted_into_itself(tmp_path: Path, below: str) -> None:
    """A directory cannot be mounted inside itself, nor a child over its parent."""
    wanted = configured(tmp_path, url=f"file://{tmp_path / below}")

    with pytest.raises(UsageError, match="lie inside each other"):
        checks.check_nesting(wanted)


@pytest.mark.parametrize("below", ["", "state"])
def test_a_state_directory_in_the_cache(tmp_path: Path, below: str) -> None:
    """Who deletes the cache is not to delete what exists nowhere else."""
    wanted = configured(
        tmp_path,
        cache_dir=str(tmp_path / "both"),
        state_dir=str(tmp_path / "both" / below),
    )

    with pytest.raises(UsageError, match=r"lies in the cache directory .* --state-dir"):
        checks.check_nesting(wanted)


@pytest.mark.parametrize("name", ["cache", "state"])
def test_directories_of_ours_inside_the_store(tmp_path: Path, name: str) -> None:
    """Programs would see the journal as a file, and could change it."""
    inside = {f"{name}_dir": str(tmp_path / "store" / "deep")}
    wanted = configured(tmp_path, url=f"file://{tmp_path}/store", **inside)

    with pytest.raises(UsageError, match=f"lies in file://.*: .* --{name}-dir"):
        checks.check_nesting(wanted)


def test_a_host_in_a_file_url_hides_no_nesting(tmp_path: Path) -> None:
    """`file://localhost/x` is the directory `/x`."""
    wanted = configured(tmp_path, url=f"file://localhost{tmp_path}")

    with pytest.raises(UsageError, match="lie inside each other"):
        checks.check_nesting(wanted)


def test_neighbours_with_a_common_beginning_are_no_nesting(tmp_path: Path) -> None:
    """`/x/mnt2` does not lie inside `/x/mnt`."""
    (tmp_path / "mnt2").mkdir()
    wanted = configured(
        tmp_path, url=f"file://{tmp_path}/mnt2", cache_dir=str(tmp_path / "mnt3")
    )

    checks.check_nesting(wanted)


@pytest.mark.parametrize("name", ["cache", "state"])
def test_a_directory_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    """The sentence names the option that chooses another."""
    (tmp_path / "file").touch()

    with pytest.raises(UsageError, match=f"name another with --{name}-dir"):
        checks.check_writable(tmp_path / "file" / "dir", name)


@only_root
def test_a_read_only_disk_is_noticed(tmp_path: Path) -> None:
    """Root too cannot write where nobody can."""
    with pytest.raises(UsageError, match="cannot be written"):
        checks.check_writable(Path("/proc/mountfs"), "cache")


def test_a_cache_larger_than_the_disk(tmp_path: Path) -> None:
    """A size that can never be reached is a slip."""
    wanted = configured(tmp_path, cache_size="900000T")
    checks.check_writable(wanted.cache_dir, "cache")

    with pytest.raises(UsageError, match="is more than the disk"):
        checks.check_cache_size(wanted)


@pytest.mark.parametrize("fstype", ["tmpfs", "ext4"])
def test_volatile_state_is_refused_where_it_breaks_a_promise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fstype: str
) -> None:
    """What is acknowledged before the store has it must survive a power cut."""
    number = tmp_path.stat().st_dev
    listing = tmp_path / "mountinfo"
    device = f"{os.major(number)}:{os.minor(number)}"
    listing.write_text(f"1 0 {device} / / rw - {fstype} none rw\n")
    monkeypatch.setattr(mounts, "MOUNTINFO", listing)

    if fstype == "tmpfs":
        with pytest.raises(UsageError, match="is on tmpfs, which a power cut empties"):
            checks.refuse_tmpfs_state(tmp_path)
    else:
        checks.refuse_tmpfs_state(tmp_path)


def test_volatile_state_is_only_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A state directory in memory works, and the log says what that means."""
    number = tmp_path.stat().st_dev
    listing = tmp_path / "mountinfo"
    device = f"{os.major(number)}:{os.minor(number)}"
    listing.write_text(f"1 0 {device} / / rw - tmpfs none rw\n")
    monkeypatch.setattr(mounts, "MOUNTINFO", listing)

    checks.warn_of_volatile_state(tmp_path)

    assert "will not survive" in caplog.text
