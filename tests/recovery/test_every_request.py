"""Each request of a workload fails once, in each way: acknowledged is stored, and who
was not heard is told.
"""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from tests.fakes import cutting_proxy
from tests.fakes.cutting_proxy import CuttingProxy, Fault, Forward
from tests.fakes.http_proxy import Reply, Request
from tests.fakes.s3_servers import S3Server, bucket
from tests.fuse.conftest import Mounter, s3_store
from tests.fuse.stores import Store
from tests.recovery.ledger import Ledger, files_in, tree_of
from tests.recovery.load import DURABILITIES, leave
from tests.recovery.program import MIB, Program

AT_LENGTH = "AT_LENGTH" in os.environ
STRIDE = 8 if AT_LENGTH else 79
"""Every so many-th request has its turn, others with each fault: at length each of them
with one of the eight. With every fault at each it was most of a night.
"""
DELAY_S = 0.3
pytestmark = [pytest.mark.fuse, pytest.mark.timeout(3600 if AT_LENGTH else 300)]


def delay(request: Request, forward: Forward) -> Reply:
    """Answer late."""
    time.sleep(DELAY_S)
    return forward(request)


HARMLESS: dict[str, Fault] = {
    "delayed": delay,
    "failed": cutting_proxy.answer(500, "InternalError"),
    "slowed down": cutting_proxy.answer(503, "SlowDown"),
    "failed after it was done": cutting_proxy.answer_after(500, "InternalError"),
    "reset": cutting_proxy.cut_request,
    "reset after it was done": cutting_proxy.cut_reply,
    "truncated": cutting_proxy.truncate(7),
}
"""Repeating the request mends them: no program may notice."""
FAULTS = {**HARMLESS, "denied": cutting_proxy.answer(403, "AccessDenied")}
SAMPLED = ("reset after it was done", "denied")


@dataclass
class Workload:
    """Every kind of deed once, in a directory of its own."""

    program: Program
    told: list[str] = field(default_factory=list)
    """The deeds of which an error was reported."""

    def run(self) -> None:
        """Do all deeds; go on after errors."""
        does = self.program
        deeds: list[Callable[[], object]] = [
            lambda: does.write("f0", 5000),
            lambda: does.write("f1", 9 * MIB),
            lambda: does.edit("f1"),
            lambda: does.append("f0"),
            lambda: does.cut("f0"),
            lambda: does.sync("f2"),
            lambda: does.make_directory("d0"),
            lambda: does.write("d0/f3", 100),
            lambda: does.rename("f0", "d0/f0"),
            lambda: does.rename("f2", "d0/f3"),
            lambda: does.chmod("d0/f3"),
            lambda: does.rename_directory("d0", "d1"),
            lambda: does.remove("d1/f3"),
            lambda: does.write("f1", 200),
            lambda: does.make_directory("d0"),
            lambda: does.remove_directory("d0"),
            lambda: does.ledger.check(tree_of(does.directory), "while it went wrong"),
        ]
        for number, deed in enumerate(deeds):
            try:
                deed()
            except OSError as error:
                self.told.append(f"{number}: {error}")


@pytest.fixture
def proxied(
    seaweedfs_server: S3Server,
) -> Iterator[tuple[CuttingProxy, Store]]:
    """A store behind a proxy that fails requests; its other side is not behind it."""
    with bucket(seaweedfs_server) as name, CuttingProxy(seaweedfs_server) as proxy:
        behind = s3_store(proxy.server, name, prefix="pre")
        direct = s3_store(seaweedfs_server, name, prefix="pre")
        yield proxy, Store(behind.url, behind.options, direct.other_side)


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(name, marks=() if name in SAMPLED else pytest.mark.slow)
        for name in FAULTS
    ],
)
def test_each_request_fails_once(
    mounter: Mounter,
    proxied: tuple[CuttingProxy, Store],
    fault: str,
    durability: str,
) -> None:
    """The workload runs once for each of its requests, and that one fails. What was
    acknowledged is in the store, what failed is old or new, and whole.
    """
    proxy, store = proxied
    options = (f"--durability={durability}", "--ttl=0")
    mount = mounter(store, *options)
    mount.announce(r"^\S+ \S+ (WARNING|ERROR) ")
    ledgers: dict[str, Ledger] = {}
    told: list[str] = []

    first = 1 + 5 * list(FAULTS).index(fault) % STRIDE  # 5 and 8 share no divisor
    for nth in itertools.count(first, STRIDE):
        mount.watch()
        name = f"n{nth}"
        (mount.path / name).mkdir()
        ledgers[name] = Ledger({})
        program = Program(mount.path / name, ledgers[name], nth, (5000,), may_fail=True)
        workload = Workload(program)
        before = proxy.struck
        proxy.fail("", FAULTS[fault], nth=nth)
        workload.run()
        proxy.forget()
        told += workload.told
        if durability == "store":
            where = f"after request {nth} of {name} was {fault}"
            ledgers[name].check_files(files_in(store.below(name)), where)
        ledgers[name].check(tree_of(mount.path / name), f"{name} in the mount")
        if proxy.struck == before:
            break  # it has fewer requests: each has had its turn
    code = leave(mount)

    assert nth > 30, "the workload has fewer requests than it had"
    assert fault not in HARMLESS or (told, code) == ([], 0)
    # With the journal, a request that was denied once is often repeated unnoticed.
    must_tell = fault not in HARMLESS and durability == "store"
    assert told or not must_tell, "it was denied, and nobody was told"
    if code:
        again = mounter(store, *options)
        again.announce(r"^\S+ \S+ (WARNING|ERROR) ")
        assert leave(again) == 0, "it was not sent although nothing hindered it"
    fresh = mounter(store, *options, at="fresh")
    for name, ledger in ledgers.items():
        fresh.watch()
        ledger.check_files(files_in(store.below(name)), f"{name} in the store")
        ledger.check(tree_of(fresh.path / name), f"{name} by a fresh mount")
