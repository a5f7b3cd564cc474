"""Measure mountfs and its peers over the same store behind the same link.

    python -m bench.run --quick
    python -m bench.run --rows write,create --systems mountfs-store,bare,s3fs

Systems take turns within each row, so that what else the machine does meets all alike:
compare within one run only.
"""

import argparse
import contextlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench import contents, disk, floors, report, rows
from bench.allowance import Allowance
from bench.bare import BareClient, Refused
from bench.contents import Sizes
from bench.link import Carried, DelayedLink
from bench.report import Taken
from bench.rows import ROWS, Row
from bench.running import Run, guarded
from bench.systems import Place, System, choose, first_line, program
from bench.tls import Tls
from tests.fakes import s3_servers
from tests.fakes.s3_servers import S3Server
from tests.fuse import mounting

SYSTEMS = "mountfs-store,mountfs-journal,bare,disk,rclone,rclone-later,s3fs,juicefs"
FLOORS = ("bare", "disk")
NOT_AGAIN_S = 8.0
"""What took so long is not repeated."""
PREPARE_S = 300.0
MOUNT_S = 90.0


@dataclass(slots=True)
class Bench:
    """A run: the store, the systems, and what was taken."""

    place: Place
    sizes: Sizes
    systems: list[System]
    bare: floors.FloorRun | None
    local: Path
    limit_s: float
    has_disk: bool = False
    allowed: Allowance | None = None
    taken: list[Taken] = field(default_factory=list)

    def prepare(self) -> None:
        """Make buckets and the files that are only read."""
        with self.place.link.without_delay():
            if self.bare is not None:
                self.bare.direct.make_bucket()
                floors.prepare(self.bare)
            self.systems = [each for each in self.systems if self._prepared(each)]

    def _prepared(self, system: System) -> bool:
        """Make the files of one system; a peer that cannot is left out."""
        try:
            with guarded(system, PREPARE_S):
                system.set_up()
                system.mount()
                run = Run(system, self.sizes, self.local)
                rows.prepare(run)
                sizes = {"big": self.sizes.big} | {
                    f"small/{name}": contents.SMALL
                    for name in contents.small_names(self.sizes.small)
                }
                is_there = run.has_files(system.root / "data", sizes)
                run.await_stored("", time.perf_counter(), is_there)
            system.unmount()
        except Exception as error:
            system.kill()
            if system.name.startswith("mountfs"):
                raise
            print(f"{system.name} is left out: {error}", file=sys.stderr)
            return False
        print(f"prepared {system.name}", file=sys.stderr)
        return True

    def take(self, row: Row, number: int) -> None:
        """Take one row from each system."""
        if (
            self.bare is not None
            and row.name in floors.FLOORS
            and self._may("bare", row)
        ):
            self._take_floor(row, number)
        if self.has_disk and self._may("disk", row):
            times = disk.floor(row.name, self.sizes, self.local)
            if times:
                self._keep(Taken(row.name, "disk", times))
        for system in self.systems:
            if row.is_for(system.name) and self._may(system.name, row):
                self._take(system, row, number)

    def _may(self, name: str, row: Row) -> bool:
        """Tell if a row is worth taking, or taking again, and if there is time."""
        if self.allowed is not None and self.allowed.is_over:
            print(f"{row.name}: no time was left for {name}", file=sys.stderr)
            return False
        before = [t for t in self.taken if (t.system, t.row) == (name, row.name)]
        return not any(
            each.failed or sum(each.times.values()) > NOT_AGAIN_S for each in before
        )

    @property
    def _limit_s(self) -> float:
        if self.allowed is None:
            return self.limit_s
        return self.allowed.limit(self.limit_s)

    def _take_floor(self, row: Row, number: int) -> None:
        assert self.bare is not None
        self.bare.number = number
        self.bare.times = {}
        taken = Taken(row.name, "bare", self.bare.times)
        before = self.place.link.carried()
        try:
            floors.FLOORS[row.name](self.bare)
        except (Refused, OSError) as error:
            taken.failed = f"{type(error).__name__}: {error}"[:500]
        carried = self.place.link.carried() - before
        count(taken, carried)
        self._keep(taken)

    def _take(self, system: System, row: Row, number: int) -> None:
        run = Run(system, self.sizes, self.local, number=number)
        taken = Taken(row.name, system.name, run.times)
        try:
            with self.place.link.without_delay(), guarded(system, MOUNT_S):
                system.mount()
            before, cpu_s = self.place.link.carried(), system.cpu_s()
            with guarded(system, self._limit_s):
                row.act(run)
            carried = self.place.link.carried() - before
            for each in run.before:
                carried -= each
            count(taken, carried)
            taken.cpu_s = max(0.0, system.cpu_s() - cpu_s)
            with self.place.link.without_delay():
                system.unmount()
        except Exception as error:  # noqa: BLE001 - a peer may fail in any way
            taken.failed = f"{type(error).__name__}: {error}"[:500]
        finally:
            system.kill()
        self._keep(taken)

    def _keep(self, taken: Taken) -> None:
        self.taken.append(taken)
        times = "  ".join(f"{k} {v:.3f}" for k, v in taken.times.items())
        traffic = f"{taken.requests} requests, {taken.cpu_s:.2f} s CPU"
        print(
            f"{taken.row:8} {taken.system:24} {times}  [{traffic}] {taken.failed}",
            file=sys.stderr,
            flush=True,
        )


def count(taken: Taken, carried: Carried) -> None:
    """Keep what the link carried."""
    taken.requests = carried.requests
    taken.up, taken.down = carried.up, carried.down


def titles(sizes: Sizes) -> dict[str, str]:
    """Return what each row is called, with the sizes that it has."""
    words = asdict(sizes) | {"big": sizes.big // contents.MIB}
    return {row.name: row.title.format(**words) for row in ROWS}


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default=",".join(row.name for row in ROWS))
    parser.add_argument("--systems", default=SYSTEMS)
    parser.add_argument("--rtt-ms", type=float, default=20.0)
    parser.add_argument("--mbit", type=float, default=0.0, help="0: no limit")
    parser.add_argument(
        "--tls", action="store_true", help="over TLS, with a CA of ours"
    )
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a quarter, once")
    parser.add_argument("--tiny", action="store_true", help="only that it works")
    parser.add_argument("--limit-s", type=float, default=180.0, help="for each row")
    parser.add_argument("--out", type=Path, help="write the JSON here")
    return parser.parse_args(words)


@contextlib.contextmanager
def started(
    arguments: argparse.Namespace,
    server: S3Server | None = None,
    allowed: Allowance | None = None,
) -> Iterator[Bench]:
    """Start the store, unless there is one, and the link; end all afterwards."""
    sizes = Sizes()
    if arguments.quick:
        sizes = sizes.quick()
    if arguments.tiny:
        sizes = sizes.tiny()
    names = arguments.systems.split(",")
    with contextlib.ExitStack() as stack:
        text = stack.enter_context(tempfile.TemporaryDirectory(prefix="mountfs-bench-"))
        directory = Path(text)
        stack.enter_context(mounting.fusectl())
        tls = Tls(directory / "tls") if arguments.tls else None
        options = tls.server_options if tls else ()
        if server is None:
            server = stack.enter_context(
                s3_servers.seaweedfs(directory / "server", *options)
            )
        plain = server.endpoint_url.removeprefix("http://")
        upstream = f"127.0.0.1:{tls.port}" if tls else plain
        link = stack.enter_context(
            DelayedLink(upstream, rtt_ms=arguments.rtt_ms, mbit=arguments.mbit)
        )
        place = Place(
            f"{'https' if tls else 'http'}://127.0.0.1:{link.port}",
            server.endpoint_url,
            link,
            directory,
            str(tls.ca_file) if tls else None,
        )
        systems = choose(place, [name for name in names if name not in FLOORS])
        for system in systems:
            stack.callback(system.store.close)
            stack.callback(system.kill)
        local = directory / "local"
        contents.make_tree(local / "tree", sizes.tree)
        contents.make_tar(local / "tree.tar", local / "tree")
        bare = None
        if "bare" in names:
            slow = BareClient(place.endpoint_url, "bench-bare", place.ca_file)
            direct = BareClient(place.direct_url, "bench-bare")
            stack.callback(slow.close)
            stack.callback(direct.close)
            bare = floors.FloorRun(slow, direct, sizes)
        limit_s, has_disk = arguments.limit_s, "disk" in names
        bench = Bench(place, sizes, systems, bare, local, limit_s, has_disk, allowed)
        bench.prepare()
        yield bench


def machine() -> dict[str, str]:
    """Return what was measured on."""
    return {
        "kernel": platform.release(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "seaweedfs": first_line(program("weed") or "weed", "version"),
        "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def measured(
    arguments: argparse.Namespace,
    server: S3Server | None = None,
    allowed: Allowance | None = None,
) -> dict[str, object]:
    """Run what the options say; return all there is to tell.

    What there is no time for is not repeated, or not taken at all.
    """
    wanted = arguments.rows.split(",")
    chosen = [row for row in ROWS if row.name in wanted]
    repeat = 1 if arguments.quick or arguments.tiny else arguments.repeat
    found: dict[str, object] = {}
    with started(arguments, server, allowed) as bench:
        for done, row in enumerate(chosen, 1):
            for number in range(repeat):
                if number and allowed and not allowed.is_ahead(done, len(chosen)):
                    break
                bench.take(row, number)
            found = told(arguments, bench)
            if arguments.out:  # whoever ends a long run early has what there is
                arguments.out.write_text(json.dumps(found, indent=1))
    return found


def told(arguments: argparse.Namespace, bench: Bench) -> dict[str, object]:
    """Return all there is to tell so far."""
    return {
        "machine": machine(),
        "versions": {each.name: each.version() for each in bench.systems},
        "rtt_ms": arguments.rtt_ms,
        "mbit": arguments.mbit,
        "tls": arguments.tls,
        "titles": titles(bench.sizes),
        "systems": arguments.systems.split(","),
        "proxy_cpu_s": round(bench.place.link.carried().cpu_s, 2),
        "taken": [asdict(each) for each in bench.taken],
    }


def main() -> int:
    """Run as the command line says."""
    arguments = parsed()
    found = measured(arguments)
    print(table(found))
    return 0


def table(found: dict[str, object]) -> str:
    """Return the table of what was measured, as Markdown."""
    if not found:
        return "nothing was measured"
    taken, systems, names = found["taken"], found["systems"], found["titles"]
    assert isinstance(taken, list)
    assert isinstance(systems, list)
    assert isinstance(names, dict)
    rows = report.lines([Taken(**each) for each in taken], names)
    return f"{report.markdown(rows, systems)}\n{report.summary(rows)}\n"


if __name__ == "__main__":
    sys.exit(main())
