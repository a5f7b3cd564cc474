"""Runs of the exerciser over real mounts.

    python -m tests.fsx.runs --store s3 --count 100000 --seed 1 --seed 2

mounts a store of its own, exercises it with each seed, and says what it did. The store
is looked at from outside in the end.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.fakes import s3_servers
from tests.fuse import mounting
from tests.fuse.conftest import s3_store
from tests.fuse.mounting import TEST_S, Mount
from tests.fuse.stores import PlainFiles, Store

PROGRAM = Path(__file__).with_name("exerciser.py")


@dataclass(frozen=True, slots=True)
class Run:
    """How one run goes."""

    seed: int
    count: int
    size_max: int = 256 << 10
    remount_every: int = 0


def exercise(
    run: Run, mount: Mount, again: Callable[[Mount], Mount]
) -> tuple[str, bytes]:
    """Exercise a mount; return the last name of the file, and its bytes.

    `again` unmounts it and mounts the store anew. The watchdog is wound up as long as
    there is progress. Fails at a difference.
    """
    shadow = mount.path.parent / f"shadow-{run.seed}"
    command = [
        *(sys.executable, str(PROGRAM), f"--directory={mount.path}"),
        *(f"--shadow={shadow}", f"--seed={run.seed}", f"--count={run.count}"),
        *(f"--size-max={run.size_max}", f"--remount-every={run.remount_every}"),
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            told: list[str] = []
            for line in process.stdout:
                if line.startswith("at "):
                    mount.watch()
                elif line == "remount\n":
                    mount = again(mount)
                    process.stdin.write("\n")
                    process.stdin.flush()
                else:
                    told.append(line)
        finally:
            if sys.exc_info()[0] is not None:
                process.kill()  # the watchdog sees to it that it can end
    assert process.returncode == 0, f"{run}\n{''.join(told)}\n{mount.log()}"
    word, count, name = told[-1].rstrip("\n").split(" ", 2)
    assert (word, int(count)) == ("done", run.count)
    return name, shadow.read_bytes()


@contextlib.contextmanager
def store_of_kind(kind: str, directory: Path) -> Iterator[Store]:
    """Give a new store, on a server of its own if it needs one."""
    if kind == "local":
        root = directory / "store"
        root.mkdir()
        yield Store(f"file://{root}", (), PlainFiles(root))
        return
    os.environ.update(s3_servers.aws_environment())
    with (
        s3_servers.seaweedfs(directory / "server") as server,
        s3_servers.bucket(server) as bucket,
    ):
        yield s3_store(server, bucket, prefix="fsx")


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=("local", "s3"), required=True)
    parser.add_argument("--seed", type=int, action="append", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--size-max", type=int, default=256 << 10)
    parser.add_argument("--remount-every", type=int, default=5000)
    parser.add_argument("--option", action="append", default=[])
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="mountfs-fsx-") as text,
        mounting.fusectl(),
        store_of_kind(arguments.store, Path(text)) as store,
    ):
        for seed in arguments.seed:
            run = Run(
                seed, arguments.count, arguments.size_max, arguments.remount_every
            )
            began = time.monotonic()
            _run_once(run, store, Path(text) / f"mount-{seed}", arguments.option)
            took_s = time.monotonic() - began
            sys.stdout.write(f"{arguments.store} {run}: none, {took_s:.0f} s\n")
            sys.stdout.flush()
    return 0


def _run_once(run: Run, store: Store, base: Path, options: list[str]) -> None:
    with contextlib.ExitStack() as stack:

        def mount() -> Mount:
            words = (*store.options, "--cache-size=512M", *options)
            return stack.enter_context(Mount(store.url, base, words, life_s=TEST_S))

        def again(mounted: Mount) -> Mount:
            mounted.unmount()
            shutil.rmtree(mounted.cache_dir)
            return mount()

        name, expected = exercise(run, mount(), again)
    assert store.there.read(name) == expected, f"{run}: the store has other bytes"


if __name__ == "__main__":
    sys.exit(main())
