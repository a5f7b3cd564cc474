"""What mount(8) and umount(8) are told when nothing was mounted."""

from pathlib import Path

import pytest

from mountfs import mount_helper, umount_helper


@pytest.fixture(autouse=True)
def _own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep cache, state and sockets of these calls to themselves."""
    monkeypatch.setenv("MOUNTFS_CONFIG", "/dev/null")
    monkeypatch.setenv("MOUNTFS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("MOUNTFS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("MOUNTFS_CACHE_SIZE", "64M")
    (tmp_path / "mnt").mkdir()
    monkeypatch.chdir(tmp_path)


def mount(*arguments: str) -> int:
    """Run the helper as mount(8) does."""
    return mount_helper.main(["memory://", "mnt", *arguments])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("-o", "rw,no-such-word"), "no-such-word is not an option"),
        (("-o", "ttl=soon"), "ttl cannot be 'soon'"),
        (("-o", "secret_key=x"), "every user of this host can read"),
        (("-o", "config=/no/such/file"), "/no/such/file"),
        (("-t", "ext4"), "ext4 is not a type of mountfs"),
        (("-N", "/proc/1/ns/mnt"), "nsenter"),
        (("-z",), "-z is no option"),
    ],
)
def test_a_wrong_call_is_1(
    arguments: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """mount(8) calls that incorrect invocation; one sentence says what is wrong."""
    assert mount(*arguments) == 1

    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1


def test_credentials_in_the_url_are_not_repeated(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What must not stand in fstab is not written to a log either."""
    code = mount_helper.main(["s3://me:hidden@bucket", "mnt", "-o", "rw"])

    said = capsys.readouterr().err
    assert code == 1
    assert "must not carry credentials" in said
    assert "hidden" not in said


def test_a_mount_that_fails_is_32(capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong with this host, and not with the call."""
    assert mount_helper.main(["memory://", "missing", "-o", "rw"]) == 32
    assert "does not exist: create it" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [("-f",), ("-s", "-f", "-n", "-v")])
def test_a_fake_mount_checks_and_mounts_nothing(
    flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """`mount -f` says what would be in the way; -v says what was done."""
    options = "rw,no-such-word" if "-s" in flags else "rw"

    assert mount(*flags, "-t", "fuse.mountfs", "-o", options) == 0

    said = capsys.readouterr()
    assert said.err == ""
    assert ("nothing is in the way of memory:// at" in said.out) == ("-v" in flags)
    assert not Path("mnt").is_mount()


def test_what_is_not_mounted_cannot_be_remounted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The kernel is not asked for a mount that is not ours."""
    assert mount("-o", "remount,ro") == 32
    assert "is not mounted by mountfs" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("-z",), ("-t", "ext4"), ()])
def test_a_wrong_call_of_the_umount_helper_is_1(arguments: tuple[str, ...]) -> None:
    """umount(8) has the same codes."""
    directory = () if not arguments else ("mnt",)
    assert umount_helper.main([*directory, *arguments]) == 1


def test_what_is_not_ours_is_left_to_umount(capfd: pytest.CaptureFixture[str]) -> None:
    """A note about a mount that is gone must not keep another from its unmount."""
    directory = str(Path("mnt").absolute())

    code = umount_helper.main([directory])

    assert code in (1, 32)
    assert f"{directory}: not mounted" in capfd.readouterr().err
