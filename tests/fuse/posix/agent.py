"""The process that makes the calls of a table, as the users that they name.

It runs as root in the file system under test, reads tables as lines of JSON and answers
with lines of JSON. It becomes another user by its effective ids, which leaves it none
of root's capabilities until it returns. It imports nothing of ours.
"""

import ctypes
import errno
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

Identity = tuple[int, int, tuple[int, ...]]

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_SYMLINK_FOLLOW = 0x400
UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2
BAD_ADDRESS = ctypes.c_void_p(1)
CLOCK_REALTIME_COARSE = 5
OLD_S = 1_000_000_000

DEVICES = {"chr": (stat.S_IFCHR, os.makedev(1, 7)), "blk": (stat.S_IFBLK, 0x0702)}
FORMATS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "chr",
    stat.S_IFBLK: "blk",
}

libc = ctypes.CDLL(None, use_errno=True)
held: dict[str, int] = {}
children: list["subprocess.Popen[bytes]"] = []


def libc_call(name: str, *args: object) -> None:
    if getattr(libc, name)(*args) == -1:
        raise OSError(ctypes.get_errno(), name)


# --- making things ----------------------------------------------------------------


def create(path: str, mode: int = 0o644) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, mode))


def fill(path: str, text: str) -> None:
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def mknod(path: str, kind: str, mode: int = 0o644) -> None:
    format_bits, device = DEVICES[kind]
    os.mknod(path, format_bits | mode, device)


def bind(path: str, mode: int = 0o644) -> None:
    """Make a socket; bind(2) takes its mode from the umask alone."""
    with socket.socket(socket.AF_UNIX) as listener:
        before = os.umask(0o777 & ~mode)
        try:
            listener.bind(path)
        finally:
            os.umask(before)


def make(kind: str, path: str, mode: int | None = None) -> None:
    """Make a file of any kind, with exactly this mode."""
    before = os.umask(0)
    try:
        match kind:
            case "file":
                create(path, mode if mode is not None else 0o644)
            case "dir":
                os.mkdir(path, mode if mode is not None else 0o755)
            case "link":
                os.symlink("target", path)
            case "fifo":
                os.mkfifo(path, mode if mode is not None else 0o644)
            case "socket":
                bind(path, mode if mode is not None else 0o644)
            case _:
                mknod(path, kind, mode if mode is not None else 0o644)
    finally:
        os.umask(before)


def link(old: str, new: str, follow: int = 0) -> None:
    flags = AT_SYMLINK_FOLLOW if follow else 0
    names = (os.fsencode(old), os.fsencode(new))
    libc_call("linkat", AT_FDCWD, names[0], AT_FDCWD, names[1], flags)


def chain(path: str, depth: int) -> None:
    """Make directories one in the other: `path`, `path/path` and so on."""
    for count in range(1, depth + 1):
        os.mkdir("/".join([path] * count))


# --- changing things --------------------------------------------------------------


def rename(old: str, new: str, flags: int = 0) -> None:
    names = (os.fsencode(old), os.fsencode(new))
    libc_call("renameat2", AT_FDCWD, names[0], AT_FDCWD, names[1], flags)


def lchmod(path: str, mode: int) -> None:
    libc_call("fchmodat", AT_FDCWD, os.fsencode(path), mode, AT_SYMLINK_NOFOLLOW)


def utimens(path: str, atime: str, mtime: str, follow: int = 1) -> None:
    """Set times; each is `now`, `omit` or SECONDS.NANOSECONDS."""
    times = (ctypes.c_long * 4)(*timespec(atime), *timespec(mtime))
    flags = 0 if follow else AT_SYMLINK_NOFOLLOW
    libc_call("utimensat", AT_FDCWD, os.fsencode(path), times, flags)


def touch(path: str) -> None:
    """Set both times to now, with a null pointer."""
    libc_call("utimensat", AT_FDCWD, os.fsencode(path), None, 0)


def timespec(text: str) -> tuple[int, int]:
    match text:
        case "now":
            return 0, UTIME_NOW
        case "omit":
            return 0, UTIME_OMIT
        case _:
            pass
    seconds, _, nanoseconds = text.partition(".")
    return int(seconds), int(nanoseconds.ljust(9, "0"))


def write_to(path: str, text: str, flags: int = 0) -> None:
    fd = os.open(path, os.O_WRONLY | flags)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


# --- asking -----------------------------------------------------------------------


def look(path: str, fields: str, follow: int = 0) -> str:
    """Return fields of stat(2), as words."""
    found = os.stat(path, follow_symlinks=bool(follow))
    return " ".join(field_of(found, field) for field in fields.split())


def field_of(found: os.stat_result, field: str) -> str:
    match field:
        case "kind":
            return FORMATS[stat.S_IFMT(found.st_mode)]
        case "mode":
            return f"{stat.S_IMODE(found.st_mode):04o}"
        case "rdev":
            return f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
        case "atime" | "mtime" | "ctime":
            whole, rest = divmod(getattr(found, f"st_{field}_ns"), 10**9)
            return f"{whole}.{rest:09d}"
        case _:
            pass
    return str(getattr(found, f"st_{field}"))


def is_same(first: str, second: str) -> str:
    same = os.path.samestat(os.lstat(first), os.lstat(second))
    return "same" if same else "different"


def content(path: str) -> str:
    fd = os.open(path, os.O_RDONLY)
    try:
        return repr(os.read(fd, 1 << 20))[2:-1]
    finally:
        os.close(fd)


def listing(path: str) -> str:
    return " ".join(sorted(os.listdir(path)))


def try_open(path: str, flags: int, mode: int = 0o644) -> None:
    os.close(os.open(path, flags, mode))


def enter(path: str) -> None:
    """Change into a directory and come back."""
    here = os.open(".", os.O_PATH)
    try:
        os.chdir(path)
    finally:
        os.fchdir(here)
        os.close(here)


def born(name: str, path: str, *args: Any) -> str:
    """Make something and tell whether all its times are those of its making."""
    before_ns = time.clock_gettime_ns(CLOCK_REALTIME_COARSE)
    CALLS[name](path, *args) if name != "symlink" else os.symlink("target", path)
    found = os.lstat(path)
    times = (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns)
    is_now = all(before_ns <= each <= time.time_ns() for each in times)
    return "now" if is_now else f"{before_ns} {times}"


def changes(watched: str, name: str, *args: Any) -> str:
    """Make a call and tell which times of which paths it changed.

    `watched` are paths; a path that the call takes away is named `OLD>NEW`, or
    `PATH>` if it is not looked at afterwards. The answer reads like `f:mc d:`.
    """
    pairs = [each.partition(">")[::2] for each in watched.split()]
    for path, _ in pairs:
        utimens(path, f"{OLD_S}.5", f"{OLD_S}.5", 0)
    before = {path: os.lstat(path) for path, _ in pairs}
    wait_for_a_tick(max(found.st_ctime_ns for found in before.values()))
    CALLS[name](*args)
    told = []
    for path, now in pairs:
        after = os.lstat(now or path)
        fields = [
            field[0]
            for field in ("atime", "mtime", "ctime")
            if field_of(before[path], field) != field_of(after, field)
        ]
        told.append(f"{now or path}:{''.join(fields)}")
    return " ".join(told)


def wait_for_a_tick(after_ns: int) -> None:
    """Return when the clock that file systems read has moved on (some ms)."""
    while time.clock_gettime_ns(CLOCK_REALTIME_COARSE) <= after_ns:
        os.sched_yield()


# --- what is open -----------------------------------------------------------------


def hold(label: str, path: str, flags: int, mode: int = 0o644) -> None:
    held[label] = os.open(path, flags, mode)


def let_go(label: str) -> None:
    os.close(held.pop(label))


def through(label: str, name: str, *args: Any) -> str | None:
    """Make a call on what is held open."""
    fd = held[label]
    match name:
        case "read":
            return repr(os.read(fd, 1 << 20))[2:-1]
        case "write":
            os.write(fd, str(args[0]).encode())
        case "seek":
            os.lseek(fd, args[0], os.SEEK_SET)
        case "truncate":
            libc_call("ftruncate", fd, ctypes.c_long(args[0]))
        case "allocate":
            os.posix_fallocate(fd, *args)
        case "look":
            found = os.fstat(fd)
            return " ".join(field_of(found, field) for field in args[0].split())
        case "link":
            own = f"/proc/self/fd/{fd}"
            libc_call("linkat", AT_FDCWD, own.encode(), AT_FDCWD, args[0].encode(), 0)
        case _:
            getattr(os, f"f{name}")(fd, *args)
    return None


def run(path: str, *args: str) -> None:
    """Start a program and leave it running until the case ends."""
    children.append(subprocess.Popen([path, *args], stdin=subprocess.DEVNULL))


def copy_program(path: str) -> None:
    """Put a program here, to be run."""
    with open("/bin/sleep", "rb") as source:
        program = source.read()
    fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o755)
    with open(fd, "wb") as target:
        target.write(program)


def bad_address(name: str, *args: int) -> None:
    """Make a call with a pointer that leads nowhere in place of each path."""
    paths = {"rename": 2, "link": 2, "symlink": 2}.get(name, 1)
    libc_call(name, *[BAD_ADDRESS] * paths, *args)


def half_bad_address(name: str, path: str) -> None:
    """Make a call of two paths, of which the second leads nowhere."""
    libc_call(name, os.fsencode(path), BAD_ADDRESS)


CALLS: dict[str, Callable[..., object]] = {
    "bad_address": bad_address,
    "bind": bind,
    "born": born,
    "chain": chain,
    "changes": changes,
    "chmod": os.chmod,
    "chown": os.chown,
    "content": content,
    "copy_program": copy_program,
    "create": create,
    "enter": enter,
    "fill": fill,
    "half_bad_address": half_bad_address,
    "hold": hold,
    "is_same": is_same,
    "lchmod": lchmod,
    "lchown": os.lchown,
    "let_go": let_go,
    "link": link,
    "list": listing,
    "look": look,
    "make": make,
    "mkdir": os.mkdir,
    "mkfifo": os.mkfifo,
    "mknod": mknod,
    "open": try_open,
    "readlink": os.readlink,
    "rename": rename,
    "rmdir": os.rmdir,
    "run": run,
    "symlink": os.symlink,
    "through": through,
    "touch": touch,
    "truncate": os.truncate,
    "umask": os.umask,
    "unlink": os.unlink,
    "utimens": utimens,
    "write_to": write_to,
}


# --- being someone ----------------------------------------------------------------


class Self:
    """Who this process is right now."""

    def __init__(self) -> None:
        self._who: Identity = (0, 0, ())
        self.become(self._who, anew=True)

    def become(self, who: Identity, *, anew: bool = False) -> None:
        if who == self._who and not anew:
            return
        uid, gid, groups = who
        os.setresuid(0, 0, 0)
        os.setgroups(groups)
        os.setresgid(gid, gid, 0)
        os.setresuid(uid, uid, 0)
        self._who = who


def answer_of(name: str, args: Iterable[Any]) -> str:
    try:
        answer = CALLS[name](*args)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return answer if isinstance(answer, str) else "ok"


@contextmanager
def at_work_in(name: str) -> Iterator[None]:
    with suppress(OSError):  # it is there, or must be, since nothing can be made
        os.mkdir(name)
    os.chdir(name)
    try:
        yield
    finally:
        for fd in held.values():
            with suppress(OSError):
                os.close(fd)
        held.clear()
        for child in children:
            child.send_signal(signal.SIGKILL)
            child.wait()
        children.clear()
        os.umask(0o022)
        os.chdir("..")


def main() -> None:
    me = Self()
    os.umask(0o022)
    for line in sys.stdin:
        request = json.loads(line)
        answers = []
        for number, steps in enumerate(request["cases"]):
            with at_work_in(request["at"] or f"{request['name']}-{number}"):
                told = []
                for (uid, gid, groups), name, args in steps:
                    me.become((uid, gid, tuple(groups)))
                    told.append(answer_of(name, args))
                me.become((0, 0, ()))
            answers.append(told)
        sys.stdout.write(json.dumps(answers) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
