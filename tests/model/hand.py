"""A process that works in one directory: it does what it is told and says what it saw.

Two of them work side by side, one in a mount and one on tmpfs. A process of its own
because a memory map over a failing mount kills by SIGBUS, and because a hung mount must
not freeze the test run. It speaks pickles over a pipe, each with its length before it,
and uses the standard library alone: it is started as a script.

A deed is a tuple: a verb and plain arguments. Files that are open are called by the
number of a slot. Paths are relative to the directory.
"""

import ctypes
import errno
import hashlib
import itertools
import mmap
import os
import pickle
import re
import stat
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

Deed = tuple[object, ...]
Outcome = tuple[object, ...]
Facts = dict[str, object]

SHOWN_RUNS_MAX = 40
RECENT_S = range(1_700_000_000, 3_000_000_000)
"""Times in here came from a clock; tests set others."""

_libc = ctypes.CDLL(None, use_errno=True)
_SYS_GETDENTS64 = 217 if os.uname().machine == "x86_64" else 61
_RUNS = re.compile(rb"(.)\1*", re.DOTALL)
_AT_FDCWD = -100


def runs_of(content: bytes) -> object:
    """Return content as runs of equal bytes, short enough to be printed."""
    runs = [
        (len(run.group()), run.group()[:1])
        for run in itertools.islice(_RUNS.finditer(content), SHOWN_RUNS_MAX + 1)
    ]
    if len(runs) <= SHOWN_RUNS_MAX:
        return runs
    return (len(content), hashlib.sha256(content).hexdigest(), runs[:SHOWN_RUNS_MAX])


def moment(time_ns: int) -> object:
    """Return a time that was set, or that it came from a clock."""
    return "recent" if time_ns // 10**9 in RECENT_S else time_ns


class _Slots(dict[int, int]):
    """Descriptors by slot; an empty slot is EBADF, so that histories can be cut."""

    def __missing__(self, slot: int) -> int:
        raise OSError(errno.EBADF, f"slot {slot} is empty")


class Hand:
    """Does the deeds."""

    def __init__(self) -> None:
        self.slots = _Slots()

    def do(self, deed: Deed) -> Outcome:
        """Do one deed; a refusal of the system is an outcome."""
        verb, *arguments = deed
        try:
            done: Outcome = ("ok", getattr(self, f"do_{verb}")(*arguments))
        except OSError as error:
            code = error.errno or 0
            return ("error", errno.errorcode.get(code, str(code)))
        return done

    # --- the frame --------------------------------------------------------------

    def do_enter(self, directory: str) -> None:
        """Go into the directory of this example; nothing is open."""
        self.do_leave()
        Path(directory).mkdir(parents=True, exist_ok=True)
        os.chmod(directory, 0o777)
        os.chdir(directory)

    def do_come_back(self, directory: str) -> None:
        """Go into the directory again, after a remount."""
        os.chdir(directory)

    def do_leave(self) -> None:
        """Close everything and go away, so that the mount is not busy."""
        for slot in list(self.slots):
            with suppress(OSError):
                self.do_close(slot)
        os.umask(0o022)
        os.chdir("/")

    def do_as(self, uid: int, groups: Sequence[int], deed: Deed) -> Outcome:
        """Do a deed as another user; the first group is the primary one."""
        with _person(uid, groups):
            return self.do(deed)

    def do_umask(self, mask: int) -> None:
        """Set the umask for all that follows."""
        os.umask(mask)

    def do_wait(self, seconds: float) -> None:
        """Let time pass: what is known may then be asked for again."""
        time.sleep(seconds)

    def do_forget(self) -> None:
        """Let the kernel forget the names and inodes that nobody uses, if we may."""
        with suppress(PermissionError):
            Path("/proc/sys/vm/drop_caches").write_text("2")

    # --- open files -------------------------------------------------------------

    def do_open(self, slot: int, path: str, flags: int, mode: int) -> None:
        """Open into a slot."""
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY, mode)
        if slot in self.slots:
            os.close(self.slots[slot])
        self.slots[slot] = descriptor

    def do_dup(self, slot: int, other: int) -> None:
        """Share a descriptor."""
        descriptor = os.dup(self.slots[slot])
        if other in self.slots:
            os.close(self.slots[other])
        self.slots[other] = descriptor

    def do_close(self, slot: int) -> None:
        """Close a slot; it is empty whatever close(2) says."""
        descriptor = self.slots[slot]
        del self.slots[slot]
        os.close(descriptor)

    def do_write(self, slot: int, size: int, fill: int) -> int:
        """Write where the descriptor stands (at the end with O_APPEND)."""
        return os.write(self.slots[slot], bytes([fill]) * size)

    def do_pwrite(self, slot: int, offset: int, size: int, fill: int) -> int:
        """Write somewhere."""
        return os.pwrite(self.slots[slot], bytes([fill]) * size, offset)

    def do_read(self, slot: int, size: int) -> object:
        """Read where the descriptor stands."""
        return runs_of(os.read(self.slots[slot], size))

    def do_pread(self, slot: int, offset: int, size: int) -> object:
        """Read somewhere."""
        return runs_of(os.pread(self.slots[slot], size, offset))

    def do_ftruncate(self, slot: int, size: int) -> None:
        """Cut or lengthen an open file."""
        os.ftruncate(self.slots[slot], size)

    def do_fsync(self, slot: int) -> None:
        """Store an open file."""
        os.fsync(self.slots[slot])

    def do_fchmod(self, slot: int, mode: int) -> None:
        """Change the mode of an open file."""
        os.fchmod(self.slots[slot], mode)

    def do_fchown(self, slot: int, uid: int, gid: int) -> None:
        """Change the owner of an open file."""
        os.fchown(self.slots[slot], uid, gid)

    def do_futimens(self, slot: int, atime_ns: int, mtime_ns: int) -> None:
        """Set the times of an open file."""
        os.utime(self.slots[slot], ns=(atime_ns, mtime_ns))

    def do_copy_range(self, source: int, target: int, size: int, offset: int) -> int:
        """Let the kernel copy between two open files."""
        return os.copy_file_range(
            self.slots[source], self.slots[target], size, 0, offset
        )

    def do_map_write(
        self, slot: int, offset: int, size: int, fill: int, how: str
    ) -> None:
        """Write through a memory map, inside the file."""
        descriptor = self.slots[slot]
        status = os.fstat(descriptor)
        length = status.st_size
        if offset >= length or not stat.S_ISREG(status.st_mode):
            return
        with mmap.mmap(descriptor, length, mmap.MAP_SHARED) as map_:
            if how == "close first":
                self.do_close(slot)
            end = min(offset + size, length)
            map_[offset:end] = bytes([fill]) * (end - offset)
            if how == "sync":
                map_.flush()

    def do_put(self, slot: int, offset: int, content: bytes) -> int:
        """Write these bytes."""
        return os.pwrite(self.slots[slot], content, offset)

    def do_get(self, slot: int) -> bytes:
        """Read everything."""
        return _all(self.slots[slot])

    def do_peek(self, path: str, with_content: bool) -> tuple[int, int, bytes | None]:
        """Return the permissions, size and bytes of a file, looked up by its name."""
        status = os.lstat(path)
        content = None
        if with_content:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                content = _all(descriptor)
            finally:
                os.close(descriptor)
        return stat.S_IMODE(status.st_mode), status.st_size, content

    # --- names ------------------------------------------------------------------

    def do_mkdir(self, path: str, mode: int) -> None:
        """Make a directory."""
        os.mkdir(path, mode)

    def do_rmdir(self, path: str) -> None:
        """Remove a directory."""
        os.rmdir(path)

    def do_symlink(self, target: str, path: str) -> None:
        """Make a link."""
        os.symlink(target, path)

    def do_readlink(self, path: str) -> str:
        """Read a link."""
        return os.readlink(path)

    def do_link(self, source: str, path: str, follow: bool) -> None:
        """Give a file another name."""
        flags = 0x400 if follow else 0
        _check(
            _libc.linkat(
                _AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(path), flags
            )
        )

    def do_unlink(self, path: str) -> None:
        """Remove a file."""
        os.unlink(path)

    def do_rename(self, source: str, target: str, flags: int) -> None:
        """Rename; 1 is NOREPLACE, 2 EXCHANGE."""
        _check(
            _libc.renameat2(
                _AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flags
            )
        )

    def do_mknod(self, path: str, mode: int, major: int, minor: int) -> None:
        """Make a special file."""
        os.mknod(path, mode, os.makedev(major, minor))

    def do_listdir(self, path: str) -> list[str]:
        """List a directory."""
        return sorted(os.listdir(path))

    def do_list_slot(self, slot: int) -> list[str]:
        """List an open directory."""
        return sorted(os.listdir(self.slots[slot]))

    def do_make_in_slot(self, slot: int, name: str, mode: int) -> None:
        """Make a directory in an open directory."""
        os.mkdir(name, mode, dir_fd=self.slots[slot])

    def do_list_while(self, path: str, count: int, deed: Deed) -> Outcome:
        """Begin to list, do something, list the rest; say what is wrong with it."""
        before = set(os.listdir(path))
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            names = _names(descriptor)
            seen = list(itertools.islice(names, count))
            outcome = self.do(deed)
            seen += names
            os.lseek(descriptor, 0, os.SEEK_SET)
            after = set(os.listdir(descriptor))
        finally:
            os.close(descriptor)
        problems = [f"twice: {name}" for name in set(seen) if seen.count(name) > 1]
        problems += [f"missing: {name}" for name in before & after - set(seen)]
        problems += [f"never there: {name}" for name in set(seen) - before - after]
        return (outcome, sorted(problems))

    # --- attributes -------------------------------------------------------------

    def do_stat(self, path: str) -> int:
        """Follow a path; say what kind of thing it leads to."""
        return stat.S_IFMT(os.stat(path).st_mode)

    def do_access(self, path: str, mode: int) -> bool:
        """Ask whether the caller may."""
        return os.access(path, mode, effective_ids=True)

    def do_truncate(self, path: str, size: int) -> None:
        """Cut or lengthen a file by its name.

        Not to the size that it has: that moves the mtime, but a kernel with a writeback
        cache keeps its own for a FUSE file, and does not move that.
        """
        with suppress(OSError):
            status = os.stat(path)
            if stat.S_ISREG(status.st_mode) and status.st_size == size:
                return
        os.truncate(path, size)

    def do_chmod(self, path: str, mode: int) -> None:
        """Change the mode."""
        os.chmod(path, mode)

    def do_chown(self, path: str, uid: int, gid: int, follow: bool) -> None:
        """Change the owner."""
        os.chown(path, uid, gid, follow_symlinks=follow)

    def do_utimens(self, path: str, times: str, mtime_ns: int, follow: bool) -> None:
        """Set the times: to something, now, or the mtime alone."""
        if times == "now":
            os.utime(path, follow_symlinks=follow)
        elif times == "mtime alone":
            _utimens_omitting_atime(path, mtime_ns, follow)
        else:
            os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=follow)

    def do_setxattr(self, path: str, name: str, value: bytes, flags: int) -> None:
        """Set an extended attribute; 1 is CREATE, 2 REPLACE."""
        os.setxattr(path, name, value, flags, follow_symlinks=False)

    def do_getxattr(self, path: str, name: str) -> bytes:
        """Get an extended attribute."""
        return os.getxattr(path, name, follow_symlinks=False)

    def do_removexattr(self, path: str, name: str) -> None:
        """Remove an extended attribute."""
        os.removexattr(path, name, follow_symlinks=False)

    # --- looking ----------------------------------------------------------------

    def do_survey(
        self, names: Sequence[str], is_deep: bool, lookup_first: bool
    ) -> tuple[dict[str, Facts], list[str]]:
        """Return the facts of every path and open file, and what contradicts itself.

        Deep means with the bytes, for which files are opened and closed.
        """
        found: dict[str, Facts] = {}
        problems: list[str] = []
        waiting = ["."]
        while waiting:
            directory = waiting.pop()
            for path, facts in self._look(
                directory, names, is_deep, lookup_first, problems
            ):
                found[path] = facts
                if facts["type"] == "directory":
                    waiting.append(path)
        for slot, descriptor in self.slots.items():
            found[f"<{slot}>"] = _facts_of_slot(descriptor)
        return found, problems

    def _look(
        self,
        directory: str,
        names: Sequence[str],
        is_deep: bool,
        lookup_first: bool,
        problems: list[str],
    ) -> Iterator[tuple[str, Facts]]:
        """Yield what is in a directory; names are looked up and listed, which agree."""

        def look_up() -> set[str]:
            return {name for name in names if os.path.lexists(f"{directory}/{name}")}

        there = look_up() if lookup_first else set[str]()
        with os.scandir(directory) as entries:
            listed = {entry.name: entry for entry in entries}
        if not lookup_first:
            there = look_up()
        if there != listed.keys() & set(names):
            problems.append(
                f"{directory}: listed {sorted(listed)}, are {sorted(there)}"
            )
        for name, entry in sorted(listed.items()):
            path = f"{directory}/{name}".removeprefix("./")
            status = os.lstat(path)
            if entry.inode() != status.st_ino:
                problems.append(f"{path}: d_ino {entry.inode()}, ino {status.st_ino}")
            if not _is_type(entry, status):
                problems.append(f"{path}: d_type is not {status.st_mode:o}")
            facts = _facts(status)
            if is_deep:
                _add_depth(facts, path)
            yield path, facts

    def do_clear(self, directory: str) -> None:
        """Remove everything below a directory, from bottom to top."""
        for base, directories, files in os.walk(directory, topdown=False):
            for name in files:
                os.unlink(f"{base}/{name}")
            for name in directories:
                path = f"{base}/{name}"
                if os.path.islink(path):
                    os.unlink(path)
                else:
                    os.rmdir(path)


_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "chr",
    stat.S_IFBLK: "blk",
}


def _facts(status: os.stat_result) -> Facts:
    type_ = _TYPES[stat.S_IFMT(status.st_mode)]
    facts: Facts = {
        "type": type_,
        "mode": oct(stat.S_IMODE(status.st_mode)),
        "owner": (status.st_uid, status.st_gid),
        "links": status.st_nlink,
        "mtime": moment(status.st_mtime_ns),
        "inode": status.st_ino,
    }
    if type_ != "directory":
        facts["size"] = status.st_size
    if type_ in ("chr", "blk"):
        facts["device"] = status.st_rdev
    return facts


def _add_depth(facts: Facts, path: str) -> None:
    if facts["type"] == "file":
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            facts["content"] = runs_of(_all(descriptor))
        finally:
            os.close(descriptor)
    if facts["type"] == "link":
        facts["target"] = os.readlink(path)
    facts["xattrs"] = {}
    with suppress(OSError):  # ENOTSUP is the same as none
        facts["xattrs"] = {
            name: os.getxattr(path, name, follow_symlinks=False)
            for name in sorted(os.listxattr(path, follow_symlinks=False))
        }


def _facts_of_slot(descriptor: int) -> Facts:
    facts = _facts(os.fstat(descriptor))
    if facts["type"] == "file":
        with suppress(OSError):  # EBADF: open for writing alone
            facts["content"] = runs_of(_all(descriptor))
    return facts


def _all(descriptor: int) -> bytes:
    pieces = []
    offset = 0
    while piece := os.pread(descriptor, 1 << 20, offset):
        pieces.append(piece)
        offset += len(piece)
    return b"".join(pieces)


def _is_type(entry: "os.DirEntry[str]", status: os.stat_result) -> bool:
    found = (
        entry.is_dir(follow_symlinks=False),
        entry.is_file(follow_symlinks=False),
        entry.is_symlink(),
    )
    mode = status.st_mode
    return found == (stat.S_ISDIR(mode), stat.S_ISREG(mode), stat.S_ISLNK(mode))


@contextmanager
def _person(uid: int, groups: Sequence[int]) -> Iterator[None]:
    """Be somebody else for a while (a no-op for those who cannot)."""
    if os.getuid() != 0:
        yield
        return
    os.setgroups(list(groups))
    os.setegid(groups[0])
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups([])


def _check(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _names(descriptor: int) -> Iterator[str]:
    """Read names in the smallest pieces that the kernel gives."""
    buffer = ctypes.create_string_buffer(80)
    while True:
        size = _libc.syscall(_SYS_GETDENTS64, descriptor, buffer, len(buffer))
        if size < 0:
            _check(size)
        if size == 0:
            return
        position = 0
        while position < size:
            (length,) = struct.unpack_from("=H", buffer, position + 16)
            raw = buffer.raw[position + 19 : position + length]
            name = os.fsdecode(raw.partition(b"\0")[0])
            if name not in (".", ".."):
                yield name
            position += length


def _utimens_omitting_atime(path: str, mtime_ns: int, follow: bool) -> None:
    seconds, nanoseconds = divmod(mtime_ns, 10**9)
    omit = (1 << 30) - 2
    times = struct.pack("=qqqq", 0, omit, seconds, nanoseconds)
    flags = 0 if follow else 0x100
    _check(_libc.utimensat(_AT_FDCWD, os.fsencode(path), times, flags))


def main() -> None:
    """Do deeds until the other end is gone."""
    hand = Hand()
    with open(0, "rb", closefd=False) as source, open(1, "wb", closefd=False) as sink:
        sys.stdout = sys.stderr
        while head := source.read(4):
            deed = pickle.loads(source.read(int.from_bytes(head, "big")))
            answer = pickle.dumps(hand.do(deed))
            sink.write(len(answer).to_bytes(4, "big") + answer)
            sink.flush()


if __name__ == "__main__":
    main()
