"""A disk of 64 MiB: an image on a loop device, as a fixture.

Both the cache and the state of a mount lie on it, and its log. Others fill it, and it
fails, without harm to the disk of this host.
"""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SIZE = 64 << 20
CHUNK = bytes(256 << 10)


class SmallDisk:
    """A mounted ext4 file system on a loop device."""

    def __init__(self, place: Path, image: Path) -> None:
        self.place = place
        self.image = image
        self.times_full = 0

    def free(self) -> int:
        """Return how many bytes are free."""
        return shutil.disk_usage(self.place).free

    def fill(self, *, leave: int = 0) -> None:
        """Take all there is but `leave` bytes, as another program would."""
        with (self.place / "filler").open("ab", buffering=0) as file:
            try:
                while not leave or self.free() > leave:
                    rest = self.free() - leave
                    file.write(CHUNK[: min(len(CHUNK), max(rest, 1))])
            except OSError:
                self.times_full += 1

    def release(self) -> None:
        """Give back what `fill` took."""
        (self.place / "filler").unlink(missing_ok=True)

    @contextmanager
    def filled_now_and_then(self, period_s: float) -> Iterator[None]:
        """Fill the disk and release it again, all the time."""
        is_over = threading.Event()

        def work() -> None:
            while not is_over.wait(period_s):
                self.fill()
                is_over.wait(period_s)
                self.release()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()
            self.release()

    def write_back(self) -> None:
        """Let the kernel write, as it does by itself in time, and keep nothing."""
        for path in self.place.rglob("*.spool"):
            with path.open("rb") as file:
                # An error is told to who has written it, and no error of ours.
                subprocess.run(["sync", "--file-system", path], check=False)
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def fail(self) -> None:
        """Let the disk fail: from now on it takes no write, as after an I/O error."""
        run("mount", "-o", "remount,abort", str(self.place))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk at `tmp_path / "first"`, where `mounter` puts everything of a mount."""
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        os.truncate(file.fileno(), SIZE)
    run("mkfs.ext4", "-q", "-F", "-m", "0", str(image))
    place = tmp_path / "first"
    place.mkdir()
    run("mount", "-o", "loop", str(image), str(place))
    try:
        yield SmallDisk(place, image)
    finally:
        # `-d`: the loop device goes with it.
        run("umount", "-d", str(place))


@pytest.fixture
def thin_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """As `small_disk`, and what is below it has room for a third of it alone.

    So writing succeeds, and what the kernel writes later in the background is lost.
    """
    below = tmp_path / "below"
    below.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={SIZE // 3}", "tmpfs", str(below))
    image = below / "disk.img"
    try:
        with image.open("wb") as file:
            os.truncate(file.fileno(), SIZE)
        run("mkfs.ext4", "-q", "-F", "-m", "0", str(image))
        place = tmp_path / "first"
        place.mkdir()
        run("mount", "-o", "loop,errors=continue", str(image), str(place))
        try:
            yield SmallDisk(place, image)
        finally:
            run("umount", "-d", str(place))
    finally:
        run("umount", str(below))


def run(*command: str) -> None:
    """Run a command that must succeed."""
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
