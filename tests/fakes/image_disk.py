"""A small ext4 file system in an image file, whose power can be cut.

The image holds what the kernel has written out, no more: with `commit=300` and nothing
else writing, that is what was synced. `power_cut` copies it, as it is at that moment,
and gives the disk that a machine finds when it comes up again: the file system's own
journal is replayed at the mount.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

MIB = 1 << 20
SIZE = 128 * MIB
COPIES_MAX = 50


class ImageDisk:
    """One file system on a loop device, mounted at `path`."""

    def __init__(self, image: Path, path: Path) -> None:
        self.image = image
        self.path = path
        path.mkdir(parents=True)
        # `mount -o loop` has the kernel detach the device with the last mount.
        options = "loop,commit=300,noatime"
        command = ("mount", "-t", "ext4", "-o", options, str(image), str(path))
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    @classmethod
    def make(cls, base: Path, size: int = SIZE) -> "ImageDisk":
        """Make a file system below a directory, and mount it."""
        image = base / "disk.img"
        with image.open("wb") as file:
            file.truncate(size)
        command = ("mkfs.ext4", "-q", "-F", "-O", "^resize_inode", str(image))
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        disk = cls(image, base / "disk")
        # What was made so far is there; what comes is not, until it is synced.
        disk.sync()
        return disk

    def sync(self) -> None:
        """Write out everything of this file system alone."""
        command = ("sync", "--file-system", str(self.path))
        subprocess.run(command, check=True, timeout=60)

    def power_cut(self, base: Path) -> "ImageDisk":
        """Return the disk as it would be found after a power cut now."""
        copy = base / "after.img"
        for _ in range(COPIES_MAX):
            before = self.image.stat().st_mtime_ns
            _copy_sparse(self.image, copy)
            if self.image.stat().st_mtime_ns == before:
                break  # nothing was written in the middle of it
        else:
            raise AssertionError("the kernel does not stop writing")
        return ImageDisk(copy, base / "after")

    def close(self) -> None:
        """Unmount; the device is detached, the image deleted."""
        if os.path.ismount(self.path):
            subprocess.run(("umount", str(self.path)), check=True, timeout=60)
        self.image.unlink(missing_ok=True)


@contextlib.contextmanager
def image_disk(base: Path) -> Iterator[ImageDisk]:
    """Give a new disk."""
    base.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(ImageDisk.make(base)) as disk:
        yield disk


def _copy_sparse(source: Path, target: Path) -> None:
    command = ("cp", "--sparse=always", "--reflink=never", str(source), str(target))
    subprocess.run(command, check=True, timeout=60)
