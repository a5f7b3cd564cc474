"""What grows: directories, buckets, readers, files. Each point is checked.

    python -m bench.scale --scale-max 100000 --out scale.json

The store is made up (`bench/synthetic.py`), so what is measured is the file system: a
bucket of a million keys costs nothing to make, and the same for all. The link has no
delay unless one is asked for.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.allowance import NO_TIME, Allowance
from bench.link import CHECKOUT, DelayedLink
from bench.running import Wrong, guarded
from bench.synthetic import SMALL
from bench.systems import Place, System, choose
from tests.fuse import mounting

MIB = 1 << 20
LIMIT_S = 600.0
PEER_LIMIT_S = 120.0
"""For one point. A peer that takes longer is given up, and not tried with more."""
MOUNT_S = 90.0
EDIT = b"e" * 4096


@dataclass(slots=True)
class Point:
    """What one system needed at one size."""

    row: str
    system: str
    size: int
    values: dict[str, float] = field(default_factory=dict)
    failed: str = ""


@dataclass(slots=True)
class Scale:
    """One system, mounted on a made-up bucket."""

    system: System
    point: Point

    @property
    def root(self) -> Path:
        """Return the mount point."""
        return self.system.root

    @contextlib.contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Take the time of a block."""
        start = time.perf_counter()
        yield
        self.point.values[f"{what}, s"] = time.perf_counter() - start

    def resident(self, what: str) -> None:
        """Take the resident memory of the daemon."""
        self.point.values[f"{what}, MiB"] = self.system.resident_bytes() / MIB

    def expect(self, what: str, found: object, wanted: object) -> None:
        """Fail if something is not as it must be."""
        if found != wanted:
            raise Wrong(f"{what}: {found}, not {wanted}")


@dataclass(frozen=True, slots=True)
class ScaleRow:
    """One curve: its sizes, the bucket for each, and what is done."""

    name: str
    title: str
    sizes: tuple[int, ...]
    bucket: Callable[[int], tuple[str, ...]]
    act: Callable[[Scale, int], None]
    systems: tuple[str, ...] = ("mountfs-journal", "rclone")
    counts_keys: bool = True
    """Is its size a number of keys, that --scale-max limits?"""


def directory(run: Scale, size: int) -> None:
    """List, walk, look at and remove one directory of so many files."""
    path = run.root / "flat"
    with run.timed("list"):
        names = os.listdir(path)
    run.expect("names", len(names), size)
    with run.timed("walk with stat"), os.scandir(path) as entries:
        total = sum(entry.stat().st_size for entry in entries)
    run.expect("bytes", total, size * SMALL)
    with run.timed("stat each again"):
        for name in names:
            os.stat(path / name)
    run.resident("memory")
    with run.timed("rm -r"):
        # It says of each file that it is not there if the mount is given up.
        subprocess.run(["rm", "-r", path], check=True, stderr=subprocess.DEVNULL)
    run.expect("what is left", path.exists(), False)


def find(run: Scale, size: int) -> None:
    """Walk a bucket of so many keys, a thousand to a directory."""
    run.resident("memory before")
    with run.timed("find"):
        done = subprocess.run(
            ["find", run.root / "many", "-type", "f"],
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    run.expect("files", done.stdout.count(b"\n"), size)
    run.resident("memory after")
    grown = run.point.values["memory after, MiB"] - run.point.values[
        "memory before, MiB"
    ]  # fmt: skip
    run.point.values["memory per million, MiB"] = grown * 1e6 / size


def readers(run: Scale, size: int) -> None:
    """Read at so many places of one large object at once, 16 MiB at each."""
    each = 16 * MIB

    def read(number: int) -> int:
        with (run.root / "huge").open("rb", buffering=0) as file:
            file.seek(number << 30)
            found = 0
            while found < each:
                piece = file.read(min(MIB, each - found))
                if piece.count(0) != len(piece) or not piece:
                    raise Wrong("other bytes than zeros")
                found += len(piece)
        return found

    with run.timed("all"), ThreadPoolExecutor(size) as pool:
        total = sum(pool.map(read, range(size)))
    rate = total / MIB / run.point.values["all, s"]
    run.point.values["MiB each second"] = rate


def writers(run: Scale, size: int) -> None:
    """Write so many files of 4 MiB at once."""
    run.root.joinpath("written").mkdir()
    content = random.Random(3).randbytes(4 * MIB)

    def write(number: int) -> None:
        (run.root / "written" / f"w{number}").write_bytes(content)

    with run.timed("all"), ThreadPoolExecutor(size) as pool:
        list(pool.map(write, range(size)))
    run.point.values["MiB each second"] = size * 4 / run.point.values["all, s"]
    for number in range(size):
        path = run.root / "written" / f"w{number}"
        run.expect("content", path.read_bytes() == content, True)


def sparse(run: Scale, size: int) -> None:
    """Read here and there in an object of so many GiB, and edit it in four places."""
    path = run.root / "huge"
    run.expect("size", path.stat().st_size, size << 30)
    chooser = random.Random(size)
    pages = (size << 30) // 4096
    with run.timed("100 reads"), path.open("rb", buffering=0) as file:
        for _ in range(100):
            piece = os.pread(file.fileno(), 4096, chooser.randrange(pages) * 4096)
            run.expect("piece", piece == bytes(4096), True)
    places = [(size << 30) * n // 4 + 12_288 for n in range(4)]
    link = run.system.place.link
    before = link.carried()
    with run.timed("4 edits, close"), path.open("r+b", buffering=0) as file:
        for place in places:
            os.pwrite(file.fileno(), EDIT, place)
    for _ in range(600):
        if run.system.store.get("huge", places[-1], 4096) == EDIT:
            break
        time.sleep(0.1)
    for place in places:
        found = run.system.store.get("huge", place - 1, 4098)
        run.expect("edit", found == b"\0" + EDIT + b"\0", True)
    carried = link.carried() - before
    run.point.values["sent, MiB"] = carried.up / MIB
    run.resident("memory")


def open_files(run: Scale, size: int) -> None:
    """Hold so many files open, and read each."""
    paths = [
        run.root / "many" / f"d{number // 1000:04}" / f"f{number % 1000:04}"
        for number in range(size)
    ]
    files = []
    try:
        with run.timed("open"):
            files = [os.open(path, os.O_RDONLY) for path in paths]
        with run.timed("read"):
            for file in files:
                run.expect("byte", os.pread(file, 1, 100), b"\0")
        run.resident("memory")
    finally:
        for file in files:
            os.close(file)


def _flat(size: int) -> tuple[str, ...]:
    return ("--flat", str(size))


def _many(size: int) -> tuple[str, ...]:
    files = min(size, 1000)
    return ("--directories", str(-(-size // 1000)), "--files", str(files))


def _huge(size: int) -> tuple[str, ...]:
    return ("--huge-gib", str(size))


SCALES = (  # what takes longest comes last
    ScaleRow("open", "N open files", (100, 1000, 10_000), _many, open_files),
    ScaleRow("readers", "N readers at once", (1, 8, 64), lambda _: ("--huge-gib", "64"),
             readers, counts_keys=False),
    ScaleRow("writers", "N writers at once", (1, 8, 64), lambda _: (), writers,
             counts_keys=False),
    ScaleRow("sparse", "an object of N GiB", (1, 10, 100), _huge, sparse,
             ("mountfs-journal",), counts_keys=False),
    ScaleRow("find", "find over N keys", (10_000, 100_000, 1_000_000), _many, find),
    ScaleRow("directory", "a directory of N files", (1000, 10_000, 100_000), _flat,
             directory),
)  # fmt: skip


@contextlib.contextmanager
def synthetic(words: tuple[str, ...]) -> Iterator[str]:
    """Run a made-up bucket; yield its address."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "bench.synthetic", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        text=True,
    )
    try:
        assert process.stdout is not None
        yield f"127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.communicate()


def limit_s(name: str) -> float:
    """Return how long one point may take."""
    return LIMIT_S if name.startswith("mountfs") else PEER_LIMIT_S


def measure(
    row: ScaleRow,
    name: str,
    size: int,
    *,
    rtt_ms: float,
    base: Path,
    limit_s: float = LIMIT_S,
) -> Point:
    """Take one point."""
    point = Point(row.name, name, size)
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(synthetic(row.bucket(size)))
        link = stack.enter_context(DelayedLink(upstream, rtt_ms=rtt_ms, mbit=0))
        text = stack.enter_context(tempfile.TemporaryDirectory(dir=base))
        place = Place(
            f"http://127.0.0.1:{link.port}", f"http://{upstream}", link, Path(text)
        )
        systems = choose(place, [name])
        if not systems:
            point.failed = "not installed"
            return point
        (system,) = systems
        stack.callback(system.store.close)
        stack.callback(system.kill)
        try:
            with link.without_delay(), guarded(system, MOUNT_S):
                system.set_up()
                system.mount()
            with guarded(system, limit_s):
                row.act(Scale(system, point), size)
            system.unmount()
        except Exception as error:  # noqa: BLE001 - a peer may fail in any way
            point.failed = f"{type(error).__name__}: {error}"[:500]
    return point


def run(
    rows: list[str],
    most: int,
    *,
    rtt_ms: float = 0,
    systems: list[str] | None = None,
    allowed: Allowance | None = None,
) -> list[Point]:
    """Take all points of some rows, as far as `most` keys and while there is time."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
    points: list[Point] = []
    with (
        tempfile.TemporaryDirectory(prefix="mountfs-scale-") as text,
        mounting.fusectl(),
    ):
        for row, name, size in _wanted(rows, most, systems):
            limit = limit_s(name) if allowed is None else allowed.limit(limit_s(name))
            why = _why_not(points, row, name)
            if not why and allowed is not None and allowed.is_over:
                why = NO_TIME
            if why:
                point = Point(row.name, name, size, failed=why)
            else:
                point = measure(
                    row, name, size, rtt_ms=rtt_ms, base=Path(text), limit_s=limit
                )
            points.append(point)
            told = "  ".join(f"{k} {v:.3g}" for k, v in point.values.items())
            print(f"{row.name:10} {name:18} {size:9} {told} {point.failed}",
                  file=sys.stderr, flush=True)  # fmt: skip
    return points


def _wanted(
    rows: list[str], most: int, systems: list[str] | None
) -> Iterator[tuple[ScaleRow, str, int]]:
    """Yield what is to be measured: each row, from small to large."""
    for row in SCALES:
        sizes = row.sizes if row.name in rows else ()
        for size in sizes:
            if not (row.counts_keys and size > most):
                for name in systems or row.systems:
                    yield row, name, size


def _why_not(points: list[Point], row: ScaleRow, name: str) -> str:
    """Return why a system is not tried with more than it has failed with."""
    for point in points:
        if (point.row, point.system) == (row.name, name) and point.failed:
            return f"not tried: it failed with {point.size:,}"
    return ""


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default=",".join(row.name for row in SCALES))
    parser.add_argument("--systems", default="", help="default: those of the row")
    parser.add_argument("--scale-max", type=int, default=1_000_000)
    parser.add_argument("--rtt-ms", type=float, default=0.0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    systems = given.systems.split(",") if given.systems else None
    points = run(
        given.rows.split(","), given.scale_max, rtt_ms=given.rtt_ms, systems=systems
    )
    if given.out:
        given.out.write_text(json.dumps([asdict(each) for each in points], indent=1))
    return 1 if any(p.failed and p.system.startswith("mountfs") for p in points) else 0


if __name__ == "__main__":
    sys.exit(main())
