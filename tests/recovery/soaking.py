"""A mount under constant mixed load, with a store that fails now and then.

Four programs work and look at what they have; requests fail one by one, each in a way
that a repetition mends. Meanwhile the daemon is measured. What it takes must stay
within `BOUNDS`, no program may see an error, and in the end the store has everything.
"""

import itertools
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

from tests.fakes import cutting_proxy
from tests.fakes.cutting_proxy import CuttingProxy, Fault
from tests.fuse.mounting import Mount
from tests.recovery.ledger import tree_of
from tests.recovery.load import Load
from tests.recovery.program import Program

MIB = 1 << 20
CACHE_SIZE = 64 * MIB
SAMPLE_EVERY_S = 0.25
LOOK_EVERY = 40
FAULTS: tuple[Fault, ...] = (
    cutting_proxy.answer(500, "InternalError"),
    cutting_proxy.answer(503, "SlowDown"),
    cutting_proxy.answer_after(500, "InternalError"),
    cutting_proxy.cut_request,
    cutting_proxy.cut_reply,
    cutting_proxy.truncate(7),
)
REQUESTS_BETWEEN_FAULTS = (15, 60)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a daemon takes at one moment, or at most."""

    resident_bytes: int
    open_files: int
    threads: int
    journal_bytes: int
    cache_bytes: int
    """On the disk: blocks that can be fetched again, and files not yet stored."""

    def __str__(self) -> str:
        """Return it for people."""
        return (
            f"{self.resident_bytes / MIB:.0f} MiB resident, {self.open_files} open"
            f" files, {self.threads} threads, journal {self.journal_bytes / MIB:.1f}"
            f" MiB, cache and spool {self.cache_bytes / MIB:.0f} MiB"
        )


BOUNDS = Usage(
    resident_bytes=400 * MIB,
    open_files=300,
    threads=120,
    journal_bytes=48 * MIB,
    # A part on its way may take its neighbours along, beyond the limit.
    cache_bytes=CACHE_SIZE + 16 * MIB,
)


@dataclass(frozen=True, slots=True)
class Soaked:
    """How a soak went."""

    deeds: int
    faults: int
    samples: int
    peak: Usage
    early: Usage
    """The most that was taken in the first half,"""
    late: Usage
    """and in the second."""


def usage_of(mount: Mount) -> Usage:
    """Measure a daemon."""
    process = Path("/proc") / str(mount.process.pid)
    status = (process / "status").read_text()
    numbers = dict(line.split(":", 1) for line in status.splitlines())
    journals = mount.state_dir.glob("*/journal.sqlite*")
    kept = [*mount.state_dir.glob("*/spool/*"), *mount.cache_dir.rglob("*")]
    return Usage(
        resident_bytes=int(numbers["VmRSS"].split()[0]) * 1024,
        open_files=len(os.listdir(process / "fd")),
        threads=int(numbers["Threads"]),
        journal_bytes=sum(_size_on_disk(path) for path in journals),
        cache_bytes=sum(_size_on_disk(path) for path in kept),
    )


def soak(mount: Mount, load: Load, proxy: CuttingProxy, seconds: float) -> Soaked:
    """Run the load for a while; return what was measured. Errors are passed on."""
    stop = threading.Event()
    samples: list[Usage] = []
    struck = proxy.struck
    with ThreadPoolExecutor(len(load.ledgers) + 2) as pool:
        try:
            programs = [
                pool.submit(_work, load, mount.path / name, number, stop)
                for number, name in enumerate(load.ledgers)
            ]
            others = [
                pool.submit(_fail_requests, proxy, stop),
                pool.submit(_sample, mount, samples, stop),
            ]
            until = time.monotonic() + seconds
            while time.monotonic() < until and not any(
                each.done() for each in programs
            ):
                stop.wait(SAMPLE_EVERY_S)
                mount.watch()
        finally:
            stop.set()
        deeds = sum(each.result(100) for each in programs)
        for each in others:
            each.result(100)
    proxy.forget()
    half = len(samples) // 2
    return Soaked(
        deeds,
        proxy.struck - struck,
        len(samples),
        most(samples),
        most(samples[:half]),
        most(samples[half:]),
    )


def most(samples: list[Usage]) -> Usage:
    """Return the largest of each."""
    names = [field.name for field in fields(Usage)]
    peaks = {name: max(getattr(each, name) for each in samples) for name in names}
    return Usage(**peaks)


def beyond(usage: Usage, bounds: Usage = BOUNDS) -> list[str]:
    """Return what is larger than it may be."""
    return [
        f"{field.name}: {getattr(usage, field.name)} > {getattr(bounds, field.name)}"
        for field in fields(Usage)
        if getattr(usage, field.name) > getattr(bounds, field.name)
    ]


def _work(load: Load, directory: Path, seed: int, stop: threading.Event) -> int:
    ledger = load.ledgers[directory.name]
    program = Program(directory, ledger, seed)
    for number in itertools.count(1):
        if stop.is_set():
            return number
        program.step()
        if number % LOOK_EVERY == 0:
            ledger.check(tree_of(directory), f"in {directory} after {number} deeds")
    raise AssertionError("it counts for ever")


def _fail_requests(proxy: CuttingProxy, stop: threading.Event) -> None:
    """Let one request after the other fail, never two of one's attempts in a row."""
    chooser = random.Random(1)
    while not stop.is_set():
        struck = proxy.struck
        proxy.fail(
            "", chooser.choice(FAULTS), nth=chooser.randint(*REQUESTS_BETWEEN_FAULTS)
        )
        while proxy.struck == struck and not stop.wait(0.01):
            pass


def _sample(mount: Mount, samples: list[Usage], stop: threading.Event) -> None:
    while True:
        samples.append(usage_of(mount))
        if stop.wait(SAMPLE_EVERY_S):
            return


def _size_on_disk(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512 if path.is_file() else 0
    except FileNotFoundError:
        return 0
