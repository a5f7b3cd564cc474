"""Ten minutes of mixed load with faults on SeaweedFS: what does a mount take?

    python -m bench.soak --seconds 600 --durability journal

It ends with exit code 1 if a bound is passed, and fails at an error or a lost byte.
"""

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path

from tests.fakes import s3_servers
from tests.fakes.cutting_proxy import CuttingProxy
from tests.fuse import mounting
from tests.fuse.conftest import s3_store
from tests.fuse.mounting import TEST_S, Mount
from tests.fuse.stores import Store
from tests.recovery.load import Load, leave
from tests.recovery.soaking import BOUNDS, CACHE_SIZE, beyond, soak


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--durability", default="store")
    arguments = parser.parse_args()
    os.environ.update(s3_servers.aws_environment())
    with contextlib.ExitStack() as stack:
        text = stack.enter_context(tempfile.TemporaryDirectory(prefix="mountfs-soak-"))
        stack.enter_context(mounting.fusectl())
        server = stack.enter_context(s3_servers.seaweedfs(Path(text) / "server"))
        bucket = stack.enter_context(s3_servers.bucket(server))
        proxy = stack.enter_context(CuttingProxy(server))
        behind = s3_store(proxy.server, bucket, prefix="soak")
        direct = s3_store(server, bucket, prefix="soak")
        store = Store(behind.url, behind.options, direct.other_side)
        words = (
            *store.options,
            f"--cache-size={CACHE_SIZE}",
            f"--durability={arguments.durability}",
        )
        mount = Mount(store.url, Path(text) / "mount", words, life_s=TEST_S)
        stack.callback(mount.kill)
        load = Load()
        load.prepare(mount.path)

        try:
            soaked = soak(mount, load, proxy, arguments.seconds)
        except BaseException:
            print(mount.log())
            raise
        code = leave(mount)
        load.check_store(store)

    problems = beyond(soaked.peak)
    print(f"{soaked.deeds} deeds, {soaked.faults} faults, umount {code}")
    print(f"bounds:      {BOUNDS}")
    print(f"first half:  {soaked.early}")
    print(f"second half: {soaked.late}")
    print(*problems, sep="\n")
    return 1 if problems or code else 0


if __name__ == "__main__":
    sys.exit(main())
