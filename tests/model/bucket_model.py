"""What a bucket holds, and what mounts of it must show: pure, no I/O.

`Bucket` is the truth: a key, its bytes, its mode and the serial number of the change
that made the bytes. `Side` is one mount: the files that it has open, each with the
serial of the object that it started from. A file that was changed here means its name
here, until it is stored or given up; everything else is what the bucket says.
"""

import errno
import itertools
import os
from dataclasses import dataclass, field, replace

DEFAULT_MODE = 0o644
NEW_MODE = 0o640


@dataclass(frozen=True, slots=True)
class Item:
    """One object."""

    content: bytes
    mode: int | None
    """None where two writers of attributes have raced: any mode is right then."""
    serial: int


@dataclass(slots=True)
class Bucket:
    """All objects, by key."""

    items: dict[str, Item] = field(default_factory=dict)
    serials: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def put(self, key: str, content: bytes, mode: int | None) -> int:
        """Store bytes; return their serial."""
        serial = next(self.serials)
        self.items[key] = Item(content, mode, serial)
        return serial

    def serial(self, key: str) -> int | None:
        """Return the serial of what a key has, None if it has nothing."""
        item = self.items.get(key)
        return item.serial if item is not None else None


@dataclass(slots=True, eq=False)
class File:
    """One inode of one mount, open there."""

    key: str
    base: int | None
    content: bytes
    mode: int | None
    is_changed: bool = False
    is_failed: bool = False
    is_named: bool = True
    is_whole: bool = False
    """Whether every byte was written here, so that none can be missing."""
    is_doomed: bool = False
    """Whether bytes were written after its object had been replaced: a close says so,
    and until then the kernel shows what it likes."""
    is_told: bool = False
    writers: int = 0
    handles: int = 0


class Refused(Exception):
    """The system call fails with this error."""

    def __init__(self, code: int) -> None:
        super().__init__(errno.errorcode[code])
        self.name = errno.errorcode[code]


@dataclass(slots=True)
class Side:
    """One mount of the bucket."""

    bucket: Bucket
    files: list[File] = field(default_factory=list)
    slots: dict[int, tuple[File, int]] = field(default_factory=dict)
    kept: list[bytes] = field(default_factory=list)
    """What lies in the state directory: the bytes of closes that lost."""

    # --- what it shows ----------------------------------------------------------

    def changed(self, key: str) -> File | None:
        """Return the file that was changed here and has this name."""
        for file in self.files:
            if file.key == key and file.is_named and file.is_changed:
                return file
        return None

    def shown(self, key: str) -> Item | None:
        """Return what the name shows here."""
        there = self.bucket.items.get(key)
        file = self.changed(key)
        if file is None:
            return there
        is_same = there is None or there.mode == file.mode
        return Item(file.content, file.mode if is_same else None, 0)

    def is_stale(self, file: File) -> bool:
        """Tell whether the object that a file started from is gone."""
        return file.is_named and self.bucket.serial(file.key) != file.base

    def is_changed(self, key: str) -> bool:
        """Tell whether a file of this name was changed here, or there since."""
        return any(
            each.key == key
            and each.is_named
            and (each.is_changed or self.is_stale(each))
            for each in self.files
        )

    def is_disputed(self, key: str) -> bool:
        """Tell whether it was changed here and there: the name may mean either."""
        file = self.changed(key)
        return file is not None and self.is_stale(file)

    # --- what it does -----------------------------------------------------------

    def open(self, slot: int, key: str, flags: int) -> None:
        """Open a file. Raises `Refused`."""
        file = self._found(key)
        if file is None and not flags & os.O_CREAT:
            raise Refused(errno.ENOENT)
        if file is not None and flags & os.O_CREAT and flags & os.O_EXCL:
            raise Refused(errno.EEXIST)
        if file is None:
            file = File(key, None, b"", NEW_MODE, is_changed=True, is_whole=True)
        elif flags & os.O_TRUNC:
            file.content = b""
            file.is_changed = file.is_whole = True
        if file not in self.files:
            self.files.append(file)
        file.handles += 1
        file.writers += flags & os.O_ACCMODE != os.O_RDONLY
        self.slots[slot] = (file, flags)

    def write(self, slot: int, offset: int, content: bytes) -> None:
        """Write to an open file."""
        file, _ = self.slots[slot]
        if self.is_stale(file) and not file.is_changed:
            file.is_doomed = True
            return
        there = self.bucket.items.get(file.key)
        if not file.is_changed and there is not None:
            file.mode = there.mode
        padded = file.content.ljust(offset, b"\0")
        file.content = padded[:offset] + content + padded[offset + len(content) :]
        file.is_changed = True

    def store(self, file: File) -> None:
        """Put a changed file into the bucket. Raises `Refused`."""
        if not file.is_changed or not file.is_named:
            return
        if self.is_stale(file):
            file.is_failed = True
            raise Refused(errno.ESTALE)
        there = self.bucket.items.get(file.key)
        mode = file.mode if there is None or there.mode == file.mode else None
        file.base = self.bucket.put(file.key, file.content, mode)
        file.is_changed = file.is_failed = False

    def close(self, slot: int) -> None:
        """Close; what the last writer closes is stored. Raises `Refused`."""
        file, flags = self.slots.pop(slot)
        file.handles -= 1
        file.writers -= flags & os.O_ACCMODE != os.O_RDONLY
        if file.is_doomed:
            if file.handles == 0:
                self.files.remove(file)
            return
        try:
            if file.writers == 0:
                self.store(file)
        finally:
            if file.handles == 0:
                self._let_go(file)

    def unlink(self, key: str) -> None:
        """Remove a name. Raises `Refused`."""
        if self.bucket.items.pop(key, None) is None:
            raise Refused(errno.ENOENT)
        self._lose_name(key)

    def rename(self, source: str, target: str) -> None:
        """Rename a file over another. Raises `Refused`."""
        item = self.bucket.items.get(source)
        if item is None:
            raise Refused(errno.ENOENT)
        if source == target:
            return
        self._lose_name(target)
        del self.bucket.items[source]
        serial = self.bucket.put(target, item.content, item.mode)
        for file in self.files:
            if file.key == source and file.is_named:
                file.key, file.base = target, serial

    def chmod(self, key: str, mode: int) -> None:
        """Change the mode of what is stored. Raises `Refused`."""
        item = self.bucket.items.get(key)
        if item is None:
            raise Refused(errno.ENOENT)
        self.bucket.items[key] = replace(item, mode=mode)

    # --- inside -----------------------------------------------------------------

    def _found(self, key: str) -> File | None:
        file = self.changed(key)
        if file is not None:
            return file
        item = self.bucket.items.get(key)
        if item is None:
            return None
        for each in self.files:
            if each.key == key and each.is_named and each.base == item.serial:
                each.mode = item.mode
                return each
        return File(key, item.serial, item.content, item.mode)

    def _lose_name(self, key: str) -> None:
        for file in self.files:
            if file.key == key:
                file.is_named = False

    def _let_go(self, file: File) -> None:
        self.files.remove(file)
        if file.is_failed and file.is_named and file.is_whole:
            self.kept.append(file.content)
