"""The real rclone and the real s3fs, to write and read what mountfs reads and writes.

An s3fs mount is a mount like any other: programs that wait for one that hangs cannot be
killed. So it has a watchdog that aborts its connection, and is unmounted at the end.
"""

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from mountfs import mounts
from tests.fakes.s3_servers import ACCESS_KEY, SECRET_KEY, aws_environment, program
from tests.fuse.mounting import TEST_S, Connection, Watchdog
from tests.fuse.stores import S3Objects

READY_S = 30.0


def rclone(there: S3Objects, *arguments: str | Path) -> str:
    """Run rclone; `s3:` in an argument stands for the root of the store."""
    remote = f":s3:{there.bucket}/{there.prefix}"
    words = [str(each).replace("s3:", remote, 1) for each in arguments]
    command = [
        *(
            program("rclone"),
            "--config",
            os.devnull,
            "--s3-provider=Other",
            "--s3-env-auth",
        ),
        f"--s3-endpoint={there.client.meta.endpoint_url}",
        *("--s3-force-path-style", "--s3-no-check-bucket", *words),
    ]
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **aws_environment()},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def s3fs(there: S3Objects, base: Path) -> Iterator[Path]:
    """Mount the store with s3fs, extended attributes included."""
    path, password = base / "s3fs", base / "passwd-s3fs"
    path.mkdir(parents=True)
    password.touch(mode=0o600)
    password.write_text(f"{ACCESS_KEY}:{SECRET_KEY}")
    # It mounts a prefix only if there is a directory object.
    there.write("", b"")
    options = (
        f"url={there.client.meta.endpoint_url}",
        *("use_path_request_style", f"passwd_file={password}", "use_xattr"),
    )
    with (base / "s3fs.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *("s3fs", f"{there.bucket}:/{there.prefix.rstrip('/')}", str(path)),
                *("-f", "-o", ",".join(options)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    connection: list[Connection] = []

    def abort() -> None:
        for each in connection:
            each.abort()
        process.kill()

    watchdog = Watchdog(abort)
    watchdog.arm(TEST_S)
    try:
        entry = _mounted(path, process)
        connection.append(Connection(entry))
        yield path
    finally:
        if mounts.mount_at(path) is not None and mounts.unmount(path) is not None:
            mounts.unmount(path, is_lazy=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        watchdog.disarm()
        if process.poll() is None:
            abort()
            process.wait(10)
    assert not watchdog.has_struck, "s3fs hung"


def _mounted(path: Path, process: "subprocess.Popen[bytes]") -> mounts.MountEntry:
    until = time.monotonic() + READY_S
    with mounts.MOUNTINFO.open() as table:
        changes = select.poll()
        changes.register(table, select.POLLPRI)
        while time.monotonic() < until:
            entry = mounts.mount_at(path)
            if entry is not None:
                return entry
            log = (path.parent / "s3fs.log").read_text()
            assert process.poll() is None, f"s3fs ended: {log}"
            changes.poll(500)  # the kernel tells of every mount
    raise AssertionError("s3fs does not mount")
