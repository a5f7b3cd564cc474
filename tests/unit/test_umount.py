"""Waiting for a drain: what is shown, and which exit code it ends with."""

import dataclasses
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mountfs import mounts
from mountfs.actions import umount
from mountfs.control import State, Status
from mountfs.status import LateError


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say yes."""
        return True


def status(state: State, files: int, *waiting: str) -> Status:
    """Return a status with so many files of 1 MiB each."""
    return Status(
        url="s3://bucket",
        mount_point="/mnt/x",
        pid=77,
        state=state,
        pending_files=files,
        pending_bytes=files << 20,
        waiting=waiting,
    )


FIRST = status(State.MOUNTED, 4)


def test_a_drain_that_ends_with_nothing_left_is_0() -> None:
    """Only the daemon's last word makes the code 0."""
    out = io.StringIO()
    heard = [status(State.DRAINING, 2), status(State.DONE, 0)]

    assert umount._watch(FIRST, iter(heard), out) == 0
    assert out.getvalue() == ""


def test_what_stays_here_is_told_and_is_no_trouble() -> None:
    """Whoever clears the host away afterwards should know of local-only files."""
    out = io.StringIO()
    last = dataclasses.replace(
        status(State.DONE, 0), local_only_files=2, local_only_bytes=3 << 20
    )

    assert umount._watch(FIRST, iter([last]), out) == 0
    assert out.getvalue() == (
        "mountfs: 2 local-only files, 3 MiB, not sent: the next mount of s3://bucket"
        " with the same patterns has them\n"
    )


def test_a_drain_that_leaves_something_is_75_and_names_it() -> None:
    """What could not be sent is named, up to a number."""
    out = io.StringIO()
    last = status(State.DONE, 3, "a", "b/c")

    assert umount._watch(FIRST, iter([last]), out) == 75
    assert out.getvalue() == (
        "mountfs: 3 files, 3 MiB could not be sent yet: a, b/c, 1 more; the next mount"
        " of s3://bucket goes on with it\n"
    )


def test_a_daemon_that_dies_while_draining_is_75() -> None:
    """Without a last word nobody knows, so it is not 0."""
    out = io.StringIO()

    assert umount._watch(FIRST, iter([status(State.DRAINING, 0)]), out) == 75
    assert "the daemon (77) died before it had finished" in out.getvalue()


def test_a_daemon_that_falls_silent_is_75() -> None:
    """A daemon that hangs does not keep the command for ever."""

    def silent() -> Iterator[Status]:
        yield status(State.DRAINING, 1)
        raise TimeoutError

    out = io.StringIO()

    assert umount._watch(FIRST, silent(), out) == 75
    assert "does not answer any more" in out.getvalue()


def hanging(_: Path) -> Iterator[Status]:
    """Converse with a daemon that does not answer."""
    return map(_time_out, [FIRST])


def _time_out(_: Status) -> Status:
    raise TimeoutError


@pytest.mark.parametrize(
    ("is_lazy", "code", "taken", "told"),
    [
        (False, 1, [], "nothing was done"),
        (True, 75, [Path("/mnt/x")], "unmounted /mnt/x"),
    ],
)
def test_the_mount_of_a_daemon_that_hangs_is_taken_only_if_nobody_waits(
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_lazy: bool,
    code: int,
    taken: list[Path],
    told: str,
) -> None:
    """Both say so in one line; neither is a traceback."""
    entry = mounts.MountEntry(Path("/mnt/x"), mounts.FSTYPE, "s3://bucket", "0:9", 0)
    unmounted: list[Path] = []

    def unmount(mount_point: Path, *, is_lazy: bool) -> None:
        assert is_lazy
        unmounted.append(mount_point)

    monkeypatch.setattr("mountfs.actions.umount.find", lambda _: entry)
    monkeypatch.setattr("mountfs.abort.release", lambda _: None)
    monkeypatch.setattr("mountfs.control.follow", hanging)
    monkeypatch.setattr("mountfs.mounts.unmount", unmount)
    out = io.StringIO()

    assert umount.umount("/mnt/x", is_lazy=is_lazy, out=out) == code
    assert unmounted == taken
    assert told in out.getvalue()
    assert "nobody can tell what it has still to send" in out.getvalue()


def test_a_drain_that_hangs_from_the_start_is_75(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The mount is gone; that it was never one would be the wrong word."""

    monkeypatch.setattr("mountfs.actions.umount.find", lambda _: None)
    monkeypatch.setattr("mountfs.control.follow", hanging)
    out = io.StringIO()

    assert umount.umount("/mnt/x", is_lazy=False, out=out) == 75
    assert "its daemon does not answer" in out.getvalue()


def test_a_terminal_shows_how_far_it_is() -> None:
    """The bar has files and bytes to go, and is gone at the end."""
    out = Terminal()
    heard = [
        status(State.DRAINING, 4),
        status(State.DRAINING, 1),
        status(State.DONE, 0),
    ]

    assert umount._watch(FIRST, iter(heard), out) == 0
    shown = out.getvalue().split("\r\033[K")
    assert shown == [
        "",
        "[........................] 4 files, 4 MiB to go",
        "[##################......] 1 file, 1 MiB to go",
        "",
    ]


def test_a_pipe_shows_no_bar() -> None:
    """Progress is for people."""
    out = io.StringIO()

    umount._watch(FIRST, iter([status(State.DRAINING, 2), status(State.DONE, 0)]), out)

    assert out.getvalue() == ""


@pytest.mark.parametrize(("files", "code"), [(0, 0), (1, 75)])
def test_lazy_tells_what_was_pending(files: int, code: int) -> None:
    """Without waiting, the code says whether something was on its way."""
    out = io.StringIO()

    assert umount._last_word(status(State.MOUNTED, files), out) == code
    assert ("process 77 goes on with it" in out.getvalue()) == bool(files)
    assert "the next mount" not in out.getvalue()


def test_a_holder_that_cannot_be_seen_is_said_to_be_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who waits in close(2) has no descriptor any more that root could see."""
    monkeypatch.setattr("mountfs.mounts.holders", lambda _: [])
    out = io.StringIO()

    assert umount._explain(Path("/mnt/x"), "target is busy", out) == 1
    assert "it may wait in close(2) for the store" in out.getvalue()


@pytest.mark.parametrize(("failures", "expected"), [(2, None), (9, "target is busy")])
def test_a_mount_that_is_busy_without_a_holder_is_tried_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failures: int,
    expected: str | None,
) -> None:
    """A close that is still being answered passes; what stays busy is reported."""
    count = tmp_path / "count"
    program = tmp_path / ("umount" if os.geteuid() == 0 else "fusermount3")
    program.write_text(
        f"#!/bin/sh\necho >> {count}\n"
        f"[ $(wc -l < {count}) -gt {failures} ] && exit 0\n"
        "echo target is busy >&2; exit 32\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(umount, "BUSY_DELAY_S", 0.001)
    monkeypatch.setattr(umount, "BUSY_DELAY_MAX_S", 0.005)

    assert umount._detach(tmp_path, is_lazy=False) == expected


@pytest.mark.parametrize(("files", "code"), [(0, 74), (1, 75)])
def test_late_errors_that_nobody_saw_make_it_74(files: int, code: int) -> None:
    """What went wrong unseen is told at the end; what is pending counts for more."""
    out = io.StringIO()
    incident = LateError(
        kind="conflict", path="a\x1b", text="lost a race", time_ns=1, kept_as="a (c)"
    )
    news = dataclasses.replace(incident, path="b\x1b", is_new=True)
    last = dataclasses.replace(
        status(State.DONE, files), unseen=1, incidents=(incident, news, incident)
    )

    assert umount._watch(FIRST, iter([last]), out) == code
    told = "1 late errors of /mnt/x:\n  b\\x1b: lost a race; kept as a (c)\n"
    assert out.getvalue().startswith(f"mountfs: {told}")
    assert "  a\\x1b" not in out.getvalue()


def test_late_errors_that_were_seen_are_not_told_again() -> None:
    """Once shown by `mountfs status`, they are no reason to fail."""
    out = io.StringIO()
    incident = LateError(kind="failed", path="a", text="no route", time_ns=1)
    last = dataclasses.replace(status(State.DONE, 0), incidents=(incident,))

    assert umount._watch(FIRST, iter([last]), out) == 0
    assert out.getvalue() == ""
