"""Starting in the background: what the starter makes of what its child does.

The child is a small script in the place of Python: it gets the arguments that the
daemon would get, and says what the test wants said.
"""

import os
import resource
import signal
import sys
from pathlib import Path

import pytest

from mountfs import checks, daemon, logs
from mountfs.configuration import config
from mountfs.configuration.config import MountConfig
from mountfs.configuration.settings import Setting
from mountfs.errors import DaemonFailed, UsageError

FIND_PIPE = "for each; do case $each in --ready-fd=*) fd=${each#*=};; esac; done\n"


@pytest.fixture
def wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MountConfig:
    """The configuration of a mount that could start."""
    monkeypatch.setattr(checks, "FUSE_DEVICE", Path("/dev/null"))
    (tmp_path / "mnt").mkdir()
    options = {"cache_dir": tmp_path / "cache", "state_dir": tmp_path / "state"}
    return config.mount_config(
        "memory://",
        str(tmp_path / "mnt"),
        {name: Setting(str(path), name) for name, path in options.items()},
        config_file=None,
        environ={"MOUNTFS_CONFIG": "/dev/null"},
    )


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The script that stands in for the daemon."""
    script = tmp_path / "python"
    script.touch(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    return script


def test_ready_is_success(wanted: MountConfig, child: Path, tmp_path: Path) -> None:
    """The starter returns 0 once the daemon says so, and leaves it running."""
    child.write_text(
        f'#!/bin/bash\n{FIND_PIPE}echo ready >&$fd; echo "$@" > {tmp_path}/arguments\n'
    )

    assert daemon.start(wanted, ["--ttl", "1", "memory://", "mnt"]) == 0


def test_the_daemon_gets_the_same_arguments(
    wanted: MountConfig, child: Path, tmp_path: Path
) -> None:
    """What the user wrote is what the daemon reads."""
    child.write_text(
        f'#!/bin/bash\n{FIND_PIPE}echo "$@" > {tmp_path}/arguments\necho ready >&$fd\n'
    )

    daemon.start(wanted, ["--ttl", "1", "memory://", "mnt"])

    told = (tmp_path / "arguments").read_text()
    assert told.startswith("-P -m mountfs mount --foreground --ready-fd=")
    assert told.endswith(" --ttl 1 memory:// mnt\n")


def test_a_sentence_of_the_daemon_is_passed_on(
    wanted: MountConfig, child: Path
) -> None:
    """What the user must mend comes back as it was said."""
    child.write_text(f"#!/bin/bash\n{FIND_PIPE}echo '2 no such bucket' >&$fd; exit 2\n")

    with pytest.raises(UsageError, match=r"^no such bucket$") as caught:
        daemon.start(wanted, [])

    assert caught.value.exit_code == 2


def test_other_failures_have_another_code(wanted: MountConfig, child: Path) -> None:
    """What the user cannot mend ends with 1."""
    child.write_text(f"#!/bin/bash\n{FIND_PIPE}echo '1 it broke' >&$fd; exit 1\n")

    with pytest.raises(DaemonFailed, match=r"^it broke$") as caught:
        daemon.start(wanted, [])

    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("exit 3", "the daemon ended with 3 before the mount answered: see"),
        ("kill -9 $$", "the daemon was killed by SIGKILL before"),
        ("echo 'it hurts' >&2; exit 1", r"\(its last words: it hurts\)"),
    ],
)
def test_a_death_without_a_word_names_the_log(
    wanted: MountConfig, child: Path, script: str, expected: str
) -> None:
    """How it ended, what it said last, and where there is more."""
    child.write_text(f"#!/bin/bash\n{script}\n")

    with pytest.raises(DaemonFailed, match=expected) as caught:
        daemon.start(wanted, [])

    assert str(daemon.log_path(wanted)) in str(caught.value)


def test_last_words_of_an_earlier_daemon_are_not_repeated(
    wanted: MountConfig, child: Path
) -> None:
    """Only what this daemon said is told."""
    log = daemon.log_path(wanted)
    log.parent.mkdir(parents=True)
    log.write_text("an old story\n")
    child.write_text("#!/bin/bash\nexit 1\n")

    with pytest.raises(DaemonFailed) as caught:
        daemon.start(wanted, [])

    assert "old story" not in str(caught.value)


def test_a_daemon_that_says_nothing_is_given_up(
    wanted: MountConfig, child: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The starter waits for a bounded time, and ends what it started."""
    monkeypatch.setattr(daemon, "START_TIMEOUT_S", 0.2)
    child.write_text("#!/bin/bash\nexec sleep 60\n")

    with pytest.raises(DaemonFailed, match="did not answer within"):
        daemon.start(wanted, [])


def test_a_daemon_that_will_not_end_is_killed(
    wanted: MountConfig, child: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that ignores SIGTERM does not keep the starter."""
    monkeypatch.setattr(daemon, "START_TIMEOUT_S", 0.5)
    monkeypatch.setattr(daemon, "END_TIMEOUT_S", 0.2)
    child.write_text("#!/bin/bash\ntrap '' TERM\nwhile :; do read -t 60 < <(:); done\n")

    with pytest.raises(DaemonFailed, match="did not answer within"):
        daemon.start(wanted, [])


def test_an_interrupt_while_waiting_ends_the_child(
    wanted: MountConfig, child: Path
) -> None:
    """Ctrl-C gives up the mount and leaves no daemon."""
    child.write_text(f"#!/bin/bash\nkill -INT {os.getpid()}\nexec sleep 60\n")
    # Tests that a shell started in the background have inherited SIG_IGN.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        assert daemon.start(wanted, []) == 130
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_stands_in_the_way_is_told_before_anything_starts(
    wanted: MountConfig, child: Path, tmp_path: Path
) -> None:
    """The starter checks what it can, and no child is needed to say so."""
    child.write_text(f"#!/bin/bash\ntouch {tmp_path}/was-started\n")
    (tmp_path / "mnt" / "file").touch()

    with pytest.raises(UsageError, match="is not empty"):
        daemon.start(wanted, [])

    assert not (tmp_path / "was-started").exists()


def test_a_log_that_cannot_be_written(wanted: MountConfig, tmp_path: Path) -> None:
    """The sentence names the option."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "logs").touch()

    with pytest.raises(UsageError, match="name another with --log-file"):
        daemon.start(wanted, [])


def test_a_sentence_over_the_pipe_is_one_line() -> None:
    """Line breaks in an error do not cut it."""
    reading, writing = os.pipe()

    daemon._say(writing, "2 a\nb\nsecret_key=hush")

    with os.fdopen(reading) as pipe:
        assert pipe.read() == "2 a b secret_key=hush\n"


def test_a_starter_that_is_gone_does_not_hurt_the_daemon() -> None:
    """The daemon lives on if nobody waits for its word."""
    reading, writing = os.pipe()
    os.close(reading)

    daemon._say(writing, "ready")


def test_logs_of_different_mounts_have_different_names(wanted: MountConfig) -> None:
    """The name can be read, and tells the mount."""
    path = daemon.log_path(wanted)

    assert path.parent == wanted.state_dir / "logs"
    assert path.name.endswith(".log")
    assert "mnt" in path.name
    assert logs.redact(str(path)) == str(path)


def test_a_daemon_opens_as_many_files_as_it_may() -> None:
    """Programs that write many files soon reach a login's soft limit of 1024."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        daemon.raise_limit_of_files()
        raised, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

    assert most == before[1]
    assert raised == daemon.FILES_WANTED or raised == most < daemon.FILES_WANTED
