"""How much memory a process needs for names that it knows. Run as a program.

    python -m tests.fakes.known_names 50

It walks so many directories of a thousand files as `ls -lR` does, without a mount, and
prints by how many bytes its resident memory grew for each name.
"""

import sys
import tempfile
from pathlib import Path

import trio

from mountfs.vfs.attributes import stat_of
from tests.fakes.synthetic import SyntheticStore
from tests.fakes.volume import Scene, open_scene

FILES = 1000
FIRST = 5
"""After so many directories all is there that is needed but once."""
PAGE_SIZE = 4096


async def walk(scene: Scene, name: str) -> None:
    """List a directory, and let the kernel know what is in it."""
    directory = await scene.lookup(name)
    opened = scene.fs.directories.open(directory)
    for entry, what in await scene.fs.directories.entries(opened, anew=True):
        node = scene.fs.directories.node_of(directory, entry, what)
        assert node is not None
        stat_of(node)
        node.hand_out()
    scene.fs.directories.release(opened.handle)


async def grown(count: int) -> float:
    """Return the growth for each name in so many directories, in bytes."""
    store = SyntheticStore(FIRST + count, FILES)
    with tempfile.TemporaryDirectory() as text:
        async with open_scene(Path(text), there=store, ttl_s=600) as scene:
            for number in range(FIRST):
                await walk(scene, f"d{number:06}")
            before = resident_bytes()
            for number in range(FIRST, FIRST + count):
                await walk(scene, f"d{number:06}")
            return (resident_bytes() - before) / (count * FILES)


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_SIZE


if __name__ == "__main__":
    sys.stdout.write(f"{trio.run(grown, int(sys.argv[1]))}\n")
