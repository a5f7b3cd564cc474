"""The process of a mount: started in the background, or run in place.

The starter spawns the same command with `--foreground --ready-fd N` in a session of
its own and reads one line from that pipe: `ready`, or an exit code and a sentence. No
fork without exec takes place, because a forked child would keep /dev/fuse open.

At an automount point the session begins after the mount: until something is mounted
there the kernel lets nobody pass but the process group of who answers for it, systemd.
"""

import faulthandler
import logging
import os
import re
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from mountfs import checks, control, logs, mounts, takeover
from mountfs.configuration.config import MountConfig
from mountfs.errors import DaemonFailed, UsageError, with_exit_code
from mountfs.serving.notify import NOBODY, Manager

START_TIMEOUT_S = 120.0
END_TIMEOUT_S = 10.0
LOG_TAIL_SIZE = 4096
WORD_SIZE_MAX = 8192
EXIT_INTERRUPTED = 130
FILES_WANTED = 65536
"""Each file that is written holds one open, and each connection does."""

logger = logging.getLogger(__name__)


def run_in_place(config: MountConfig, ready_fd: int | None) -> int:
    """Mount in this process; return its exit code once it is unmounted.

    With `ready_fd` this process is the child of `start`, and says there how it went.
    Without, a service manager that waits for this very process is told.
    """
    # A watchdog ends what is stuck with SIGABRT: then stderr tells where it was.
    faulthandler.enable()
    manager = Manager.take_from(os.environ)
    if ready_fd is None:
        logs.set_up(config.log_level, config.log_file, form=config.log_format)
        try:
            return _mount(config, manager, None)
        except UsageError as error:
            manager.tell(STATUS=logs.told(str(error)))
            raise
    os.set_inheritable(ready_fd, False)
    os.chdir("/")  # or the directory it was started in could never be unmounted
    logs.set_up(
        config.log_level,
        log_path(config),
        is_rotated=config.log_file is None,
        form=config.log_format,
    )
    try:
        return _mount(config, NOBODY, ready_fd)
    except UsageError as error:
        logger.error("%s", error)  # noqa: TRY400 - a sentence, no traceback
        _say(ready_fd, f"{error.exit_code} {logs.told(str(error))}")
        return error.exit_code


def _mount(config: MountConfig, manager: Manager, ready_fd: int | None) -> int:
    manager.extend(START_TIMEOUT_S + takeover.END_TIMEOUT_S)
    checks.before_mount(config)
    raise_limit_of_files()
    # Only the daemon itself needs the SDKs and libfuse, which take half a second to
    # load; `mountfs umount` and the starter do without.
    from mountfs import mount

    with control.claimed(config.mount_point):
        return mount.run(config, manager, lambda: _be_ready(ready_fd))


def raise_limit_of_files() -> None:
    """Let this process open as many files as it may, if it wants so many.

    The soft limit that a login gives is 1024, for programs that use select(2). A daemon
    that has reached it can store nothing any more, nor hear who asks it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    may = FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, FILES_WANTED)
    if soft != resource.RLIM_INFINITY and soft < may:
        resource.setrlimit(resource.RLIMIT_NOFILE, (may, hard))


def _be_ready(ready_fd: int | None) -> None:
    if ready_fd is not None and os.getsid(0) != os.getpid():
        os.setsid()
    _say(ready_fd, "ready")


def _say(ready_fd: int | None, word: str) -> None:
    if ready_fd is None:
        return
    try:
        os.write(ready_fd, os.fsencode(" ".join(word.split()))[:WORD_SIZE_MAX] + b"\n")
        os.close(ready_fd)
    except OSError:
        # The starter is gone (or has been told already): there is nobody to tell.
        logger.debug("nobody waits for %r", word)


def start(config: MountConfig, arguments: Sequence[str]) -> int:
    """Start the daemon in the background; return when its mount answers.

    `arguments` are those of this command after `mount`. Raises `UsageError` with what
    the daemon said, `DaemonFailed` if it ended or hung without a word.
    """
    checks.before_mount(config)
    log = log_path(config)
    try:
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        errors = os.open(
            log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
    except OSError as error:
        raise UsageError(
            f"the log file {log} cannot be written ({error.strerror}): name another"
            " with --log-file"
        ) from error
    log_size = os.fstat(errors).st_size
    reading, writing = os.pipe2(os.O_CLOEXEC)
    release = _hold_interrupts()
    try:
        # -P: the directory we happen to stand in must not be imported from.
        command = [sys.executable, "-P", "-m", "mountfs", "mount", "--foreground"]
        child = subprocess.Popen(  # noqa: S603 - our own program, our own arguments
            [*command, f"--ready-fd={writing}", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            pass_fds=[writing],
            start_new_session=not mounts.is_automount(config.mount_point),
        )
    except BaseException:
        os.close(reading)
        release()
        raise
    finally:
        os.close(writing)
        os.close(errors)
    return _wait(child, reading, config, log, log_size, release)


def _hold_interrupts() -> Callable[[], None]:
    """Let Ctrl-C wait until the returned function is called.

    A child must be known before it can be ended.
    """
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))

    def release() -> None:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)

    return release


def _wait(
    child: "subprocess.Popen[bytes]",
    reading: int,
    config: MountConfig,
    log: Path,
    log_size: int,
    release: Callable[[], None],
) -> int:
    try:
        release()
        word = _read_word(reading, time.monotonic() + START_TIMEOUT_S)
    except KeyboardInterrupt:
        _end(child, config.mount_point)
        return EXIT_INTERRUPTED
    except TimeoutError:
        _end(child, config.mount_point)
        raise DaemonFailed(
            f"the mount did not answer within {START_TIMEOUT_S:.0f} s and was given"
            f" up: {log} may say why"
        ) from None
    finally:
        os.close(reading)
    if word == "ready":
        child.returncode = 0  # it lives on, and nobody here will wait for it
        return os.EX_OK
    code, _, sentence = word.partition(" ")
    if sentence:
        child.wait()
        raise with_exit_code(int(code), sentence)
    raise DaemonFailed(_death(child, config.mount_point, log, log_size))


def _read_word(reading: int, deadline: float) -> str:
    """Return the line that the daemon says; nothing if it ends without one."""
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    word = b""
    while b"\n" not in word:
        rest_s = deadline - time.monotonic()
        if rest_s <= 0 or not poll.poll(rest_s * 1000):
            raise TimeoutError
        chunk = os.read(reading, WORD_SIZE_MAX)
        if not chunk:
            break
        word += chunk
    return os.fsdecode(word).strip()


def _death(
    child: "subprocess.Popen[bytes]", mount_point: Path, log: Path, log_size: int
) -> str:
    """Return the sentence about a daemon that died without a word."""
    _end(child, mount_point)
    code = child.returncode
    how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with {code}"
    tail = _last_line(log, log_size)
    said = f" (its last words: {tail})" if tail else ""
    return f"the daemon {how} before the mount answered{said}: see {log}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_line(log: Path, log_size: int) -> str:
    try:
        with log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(log_size if log_size <= end else 0, end - LOG_TAIL_SIZE))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    told = [line.strip() for line in lines if line.strip()]
    return logs.redact(told[-1].split(" | ")[-1])[-300:] if told else ""


def _end(child: "subprocess.Popen[bytes]", mount_point: Path) -> None:
    """End the daemon, by force if need be, and leave no dead mount of it."""
    if child.poll() is None:
        child.terminate()
    try:
        child.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    entry = mounts.mount_at(mount_point)
    path = control.socket_path(mount_point)
    if (
        entry is not None
        and entry.fstype == mounts.FSTYPE
        and not control.is_alive(path)
    ):
        mounts.unmount(mount_point, is_lazy=True)


def log_path(config: MountConfig) -> Path:
    """Return where the log of a mount in the background lies."""
    if config.log_file is not None:
        return config.log_file
    text = str(config.mount_point)
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-")[-80:]
    digest = sha256(os.fsencode(text)).hexdigest()[:8]
    return config.state_dir / "logs" / f"{readable}-{digest}.log"
