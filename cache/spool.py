"""Sparse files for bytes that are not yet in the store.

A byte lies at the offset that it has in its file. Everything outside the written
ranges reads as zero, so a hole of the file needs no bytes here. Disk work runs in
worker threads; one call at a time may close the file, and its owner sees to it that
none is under way then.

A few bytes are in memory until there are more, or they must survive this process: to
make a file, and a way into a worker thread and back for each write, cost more than all
else that is done here for them. Nothing is less safe for that: bytes that were
acknowledged are in the store, in a row of the journal, or were synced (`sync`), which
puts them on the disk.

A sync that failed is never made good by another: the kernel may have thrown away what
it could not write, and takes the rest for written. What may be lost then is neither
read nor synced again, until the file is cut to what comes before it. As it writes in
the background, too, who reads or sends what was not synced asks whether that went well.
"""

import ctypes
import errno
import os
import secrets
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

import trio

from mountfs.cache.hop import in_thread
from mountfs.cache.pieces import Pieces
from mountfs.storage.body import Body, BytesBody, FileBody
from mountfs.storage.errors import ObjectTooLarge, QuotaExceeded, StoreError

DISK_THREADS = trio.CapacityLimiter(16)

_FALLOC_FL_KEEP_SIZE = 0x01
_FALLOC_FL_PUNCH_HOLE = 0x02
_ZEROS = bytes(1 << 20)
_WRITE_OUT = 8 << 20
_SYNC_FILE_RANGE_WAIT_BEFORE = 1
_SYNC_FILE_RANGE_WRITE = 2
_FAR_BEHIND = 1 << 62
IN_MEMORY_MAX = 128 << 10
"""So many bytes of a file are in memory; the journal takes so much into a row."""
SIZE_SURE = 1 << 40
"""So large a file every file system holds that has a state directory."""
PIECES_MAX = 64
"""In so many pieces at most."""
HELD_MAX = 64 << 20
"""How many bytes of all files are in memory at most; the others are on the disk."""
_NOWHERE = sys.maxsize
_NAME = -1
"""Before the first byte: what cannot be reached by its name is lost as a whole."""

P = ParamSpec("P")
T = TypeVar("T")


class SpoolFailed(StoreError):
    """The local disk failed while it held bytes that are not yet stored."""


async def on_disk(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run disk work in a worker thread and wait for its end, even if cancelled."""
    place = object()
    await trio.lowlevel.checkpoint_if_cancelled()
    try:
        DISK_THREADS.acquire_on_behalf_of_nowait(place)
    except trio.WouldBlock:
        await DISK_THREADS.acquire_on_behalf_of(place)
    try:
        return await in_thread(partial(call, *args, **kwargs))
    finally:
        DISK_THREADS.release_on_behalf_of(place)


class _Held:
    """How many bytes of all spools are in memory; threads take from it, too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.total = 0

    def take(self, size: int) -> bool:
        """Count bytes in, or refuse."""
        with self._lock:
            if self.total + size > HELD_MAX:
                return False
            self.total += size
            return True

    def give_back(self, size: int) -> None:
        """Count bytes out."""
        with self._lock:
            self.total -= size


HELD = _Held()


class Spool:
    """One sparse file, made when it is first written; a new one if it has no name."""

    def __init__(self, directory: Path, name: str | None = None) -> None:
        self.directory = directory
        self.name = name or f"{secrets.token_hex(12)}.spool"
        self._fd = -1
        self.is_for_sync = False
        """Whether what is written will be synced, so that the disk may begin."""
        self._unwritten = 0
        self._size = 0
        """How long the file is on the disk, if it is there."""
        self._has_durable_name = False
        self._newest: object = None
        """Stands for the newest change of what is on the disk; None before any."""
        self._synced: object = self._newest
        """Stands for the newest change that is known to be synced."""
        self._changed_from = _NOWHERE
        """Where the changes begin that no sync has taken up."""
        self._lost_from = _NOWHERE
        """Where the bytes begin that a sync which failed may have lost."""
        self._noting = threading.Lock()
        self._syncing = threading.Lock()
        self._memory: Pieces | None = None

    @property
    def path(self) -> Path:
        """Where the file is, if there is one; most small ones never need that."""
        return self.directory / self.name

    @property
    def is_open(self) -> bool:
        """Whether there are bytes at all, here or in a file."""
        return self._fd >= 0 or self._memory is not None

    @property
    def is_on_disk(self) -> bool:
        """Whether there is a file, and nothing in memory."""
        return self._fd >= 0

    @property
    def is_lost(self) -> bool:
        """Whether bytes may be lost, so that it cannot be synced any more."""
        return self._lost_from < self._size

    async def reopen(self, size: int) -> bool:
        """Open the file of an earlier process; False unless it is there, and whole."""
        return await on_disk(self._reopen, size)

    def body(self, offset: int, size: int) -> Body:
        """Return bytes as they are sent. Nothing may change them until that is over.

        The last of them is not given if some are known to be lost by then, so that no
        request which sends them is ever complete.
        """
        if self._memory is not None:
            return BytesBody(self._memory.read(offset, size))
        self._check_not_lost(offset + size)
        end = offset + size
        return FileBody(self.path, offset, size, partial(self._check_sent, end))

    async def write(
        self, offset: int, data: bytes | memoryview, *, and_sync: bool = False
    ) -> None:
        """Write all of `data`; with `and_sync` what is on the disk is synced as well,
        by the same hop to a thread.
        """
        memory = self._memory_for(offset, offset + len(data))
        if memory is None and and_sync:
            await on_disk(self._write_and_sync, offset, data)
        elif memory is None:
            await on_disk(self._write, offset, data)
        else:
            memory.write(offset, data)

    async def read(self, offset: int, size: int) -> bytes:
        """Read exactly `size` bytes; zeros behind the end of the file."""
        memory = self._memory
        if memory is not None:
            return memory.read(offset, size)
        return await on_disk(self._read, offset, size)

    async def resize(self, size: int) -> None:
        """Give the file this size; what is behind it is gone for good."""
        if self._fd >= 0 and self._size == size:
            self._forget_loss_behind(size)
            return
        if self._fd >= 0 or size > IN_MEMORY_MAX:
            # In memory, what is sent of it would be made of zeros as long as this.
            await on_disk(self._resize, size)
            return
        self._memory = self._memory or Pieces()
        self._cut_memory(self._memory, size)

    async def cut(self, size: int) -> None:
        """Forget for good what is behind an offset. No file is made for that: it must
        not fail for a disk that is full.
        """
        if self._fd >= 0:
            await self.resize(size)
        elif self._memory is not None:
            self._cut_memory(self._memory, size)

    def _cut_memory(self, memory: Pieces, size: int) -> None:
        before = memory.total
        memory.resize(size)
        HELD.give_back(before - memory.total)

    async def check_size(self, size: int) -> None:
        """Raise `ObjectTooLarge` for a size that the disk has no file of.

        A hole is in no file before it is stored, and then it is too late to refuse it.
        """
        if size > SIZE_SURE:
            await self.resize(size)

    def _memory_for(self, start: int, end: int) -> Pieces | None:
        """Return what takes a range in memory, or None if that is no place for it."""
        if self._fd >= 0 or end > SIZE_SURE:
            return None
        memory = self._memory if self._memory is not None else Pieces()
        more = memory.growth(start, end)
        if memory.total + more > IN_MEMORY_MAX or memory.count >= PIECES_MAX:
            return None
        if not HELD.take(more):
            return None
        self._memory = memory
        return memory

    def _forget_memory(self) -> None:
        memory, self._memory = self._memory, None
        if memory is not None:
            HELD.give_back(memory.total)

    async def punch(self, start: int, end: int) -> None:
        """Make a range read as zeros, and give its room back to the disk."""
        if self._memory is not None:
            self._memory.clear(start, end)
        elif self.is_open and start < end:
            await on_disk(self._punch, start, end)

    async def sync(self) -> None:
        """Return when the bytes survive a power cut. Raises `SpoolFailed` for good if
        they may be lost.
        """
        if self._fd < 0 or self._synced is not self._newest:
            await on_disk(self._sync)

    async def check(self) -> None:
        """Return if no byte that was written so far is known to be lost.

        Raises `SpoolFailed`. What was read before this call is right then.
        """
        if self._fd >= 0 and self._synced is not self._newest:
            await on_disk(self._check)

    def _check_sent(self, end: int) -> None:
        if self._fd >= 0 and self._synced is not self._newest:
            self._note_failed_writes(waits=True)
            self._check_not_lost(end)

    async def copy_to(self, path: Path, size: int) -> None:
        """Make another file of the same bytes, holes left out; it is synced."""
        await on_disk(self._copy_to, path, size)

    async def remove(self) -> None:
        """Close and delete the file. No call may be under way."""
        self._forget_memory()
        self._has_durable_name = False  # written anew, it gets another
        self._changed_from = self._lost_from = _NOWHERE
        fd, self._fd = self._fd, -1
        if fd >= 0:
            await on_disk(self._remove, fd)

    async def close(self) -> None:
        """Close the file, and leave on the disk what is there. No call may be under
        way. Who wants what is in memory to stay has synced it.
        """
        self._forget_memory()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            await on_disk(os.close, fd)

    def _open(self) -> int:
        if self._fd < 0:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            if self._memory is not None:
                flags |= os.O_TRUNC  # an attempt before this one may have failed
            fd = os.open(self.path, flags, 0o600)
            try:
                if self._memory is not None:
                    for start, piece in self._memory:
                        _write_all(fd, start, piece)
                    os.ftruncate(fd, self._memory.size)
                self._size = os.fstat(fd).st_size
            except OSError:
                os.close(fd)
                if self._memory is not None:
                    # Of a disk that is full it must not take room; all is in memory.
                    self.path.unlink(missing_ok=True)
                raise
            # In this order: who reads meanwhile finds the bytes in one of the two.
            self._note_change(0)
            self._fd = fd
            self._forget_memory()
        return self._fd

    def _reopen(self, size: int) -> bool:
        try:
            if self.path.stat().st_size < size:
                return False
            self._open()
        except OSError:
            return False
        self._changed_from = _NOWHERE  # what a row names was synced
        return True

    def _write(self, offset: int, data: "bytes | memoryview") -> None:
        self._check_not_lost(self._size)
        self._note_change(offset)
        try:
            fd = self._open()
            try:
                _write_all(fd, offset, data)
            finally:
                # Some of it may be there even if the disk was full before the end.
                self._size = os.fstat(fd).st_size
        except OSError as error:
            raise _translated(error) from error
        finally:
            # Once more: a sync that began meanwhile may have missed some of it.
            self._note_change(offset)
        self._unwritten += len(data)
        if self.is_for_sync and self._unwritten >= _WRITE_OUT:
            self._unwritten = 0
            _write_out(self._fd)

    def _write_and_sync(self, offset: int, data: "bytes | memoryview") -> None:
        self._write(offset, data)
        self._sync()

    def _read(self, offset: int, size: int) -> bytes:
        if self._fd < 0:
            return bytes(size)
        self._check_not_lost(offset + size)
        try:
            data = os.pread(self._fd, size, offset)
            while len(data) < size:
                more = os.pread(self._fd, size - len(data), offset + len(data))
                if not more:
                    return data + bytes(size - len(data))
                data += more
        except OSError as error:
            raise _translated(error) from error
        self._note_failed_writes()
        self._check_not_lost(offset + size)
        return data

    def _resize(self, size: int) -> None:
        start = min(self._size, size)
        self._note_change(start)
        try:
            os.ftruncate(self._open(), size)
            self._size = size
        except OSError as error:
            raise _translated(error) from error
        finally:
            self._note_change(start)
        self._forget_loss_behind(size)

    def _punch(self, start: int, end: int) -> None:
        self._note_change(start)
        try:
            _punch_hole(self._fd, start, end - start)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
                raise _translated(error) from error
            self._write_zeros(start, min(end, os.fstat(self._fd).st_size))
        finally:
            self._note_change(start)

    def _write_zeros(self, start: int, end: int) -> None:
        for offset in range(start, end, len(_ZEROS)):
            self._write(offset, _ZEROS[: min(len(_ZEROS), end - offset)])

    def _sync(self) -> None:
        # One at a time: of two that wait for the same bytes the kernel may tell only
        # one that they could not be written.
        with self._syncing:
            try:
                fd = self._open()
                self._check_not_lost(self._size)
                newest, start = self._take_up_changes()
                with self._loses(start):
                    os.fdatasync(fd)  # its size, too
                if not self._has_durable_name:
                    with self._loses(_NAME):
                        self._sync_name()
                # Not before: who asks meanwhile must wait for the disk as well.
                self._synced = newest
            except OSError as error:
                raise _translated(error) from error

    def _check(self) -> None:
        self._note_failed_writes(waits=True)
        self._check_not_lost(self._size)

    def _note_failed_writes(self, *, waits: bool = False) -> None:
        """Ask the kernel, which tells once: not while a sync may be told instead."""
        if not self._syncing.acquire(blocking=waits):
            return
        try:
            if self._synced is not self._newest:
                with suppress(OSError), self._loses(self._changed_from):
                    tell_of_failed_writes(self._fd)
        finally:
            self._syncing.release()

    def _note_change(self, start: int) -> None:
        """Note that bytes from an offset on are about to change, or have changed."""
        with self._noting:
            self._changed_from = min(self._changed_from, start)
            self._newest = object()

    def _take_up_changes(self) -> tuple[object, int]:
        """Return what stands for the changes so far, and where they begin."""
        with self._noting:
            start, self._changed_from = self._changed_from, _NOWHERE
            return self._newest, start  # what is written from here on may be missed

    @contextmanager
    def _loses(self, start: int) -> Iterator[None]:
        """Note what may be lost if the disk fails meanwhile."""
        try:
            yield
        except OSError:
            self._lost_from = min(self._lost_from, start)
            raise

    def _check_not_lost(self, end: int) -> None:
        """Raise `SpoolFailed` if bytes before an offset may be lost."""
        if self._lost_from < min(end, self._size):
            raise SpoolFailed(
                "the state directory failed: its disk could not keep bytes of "
                f"{self.name}, which may be lost"
            )

    def _forget_loss_behind(self, size: int) -> None:
        """Note that all behind an offset is gone, and so is what may be lost there."""
        if size <= self._lost_from:
            self._lost_from = _NOWHERE

    def _sync_name(self) -> None:
        parent = os.open(self.directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
        self._has_durable_name = True

    def _copy_to(self, path: Path, size: int) -> None:
        copy = Spool(path.parent, path.name)
        try:
            self._copy_into(copy, size)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise _translated(error) from error
        except StoreError:  # such a one already
            path.unlink(missing_ok=True)
            raise
        finally:
            if copy._fd >= 0:
                os.close(copy._fd)

    def _copy_into(self, copy: "Spool", size: int) -> None:
        fd = self._open()
        self._check_not_lost(size)
        copy._resize(size)
        for start, end in _data_of(fd, size):
            for offset in range(start, end, len(_ZEROS)):
                count = min(len(_ZEROS), end - offset)
                copy._write(offset, os.pread(fd, count, offset))
        copy._sync()

    def _remove(self, fd: int) -> None:
        os.close(fd)
        self.path.unlink(missing_ok=True)


def _write_all(fd: int, offset: int, data: "bytes | bytearray | memoryview") -> None:
    with memoryview(data) as whole:
        done = 0
        while done < len(whole):
            done += os.pwrite(fd, whole[done:], offset + done)


def _data_of(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of a file that are no holes."""
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                return
            raise
        end = min(size, os.lseek(fd, start, os.SEEK_HOLE))
        yield start, end


def _translated(error: OSError) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return QuotaExceeded(f"the disk of the state directory is full: {error}")
    if error.errno == errno.EFBIG:
        return ObjectTooLarge(f"the state directory holds no such file: {error}")
    return SpoolFailed(f"the state directory failed: {error}")


_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
    ctypes.c_int64,
)


_libc.sync_file_range.argtypes = (
    ctypes.c_int,
    ctypes.c_int64,
    ctypes.c_int64,
    ctypes.c_uint,
)


def _write_out(fd: int) -> None:
    """Let the disk begin; what goes wrong the sync will tell."""
    _libc.sync_file_range(fd, 0, 0, _SYNC_FILE_RANGE_WRITE)


def tell_of_failed_writes(fd: int) -> None:
    """Raise `OSError` if the kernel could not write something of a file since it was
    opened or asked; it tells that once. Waits for nothing: no file is so long.
    """
    if _libc.sync_file_range(fd, _FAR_BEHIND, 1, _SYNC_FILE_RANGE_WAIT_BEFORE) != 0:
        code = ctypes.get_errno()
        if code == errno.ENOSYS:  # in a sandbox: no byte is lost by that
            os.fdatasync(fd)
            return
        raise OSError(code, os.strerror(code))


def _punch_hole(fd: int, offset: int, size: int) -> None:
    mode = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
    if _libc.fallocate(fd, mode, offset, size) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
