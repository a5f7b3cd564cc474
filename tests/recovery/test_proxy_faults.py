"""A network and a service that fail in every way: readers get right bytes or an error,
and what writers were promised is in the bucket.

Damaged bytes are told by their checksum, which S3 sends for whole objects; so the files
whose bytes are damaged here are read in one request.
"""

import errno
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial

import pytest

from tests.fakes import s3_servers
from tests.fakes.cutting_proxy import (
    CuttingProxy,
    Fault,
    Forward,
    Stall,
    StallBody,
    answer,
    answer_after,
    corrupt,
    corrupt_request,
    cut_reply,
    cut_request,
    slow,
    truncate,
)
from tests.fakes.http_proxy import Reply, Request
from tests.fakes.s3_servers import S3Server
from tests.fuse.conftest import Mounter
from tests.fuse.mounting import Mount
from tests.fuse.stores import S3Objects, Store
from tests.recovery.outages import Outages, outages, wait_for_store

__all__ = ["outages"]
pytestmark = pytest.mark.fuse

KIB = 1 << 10
SMALL = 700 * KIB
"""One request reads all of it."""
LARGE = 5 << 20
MULTIPART = 40 << 20
REFUSALS = (errno.EACCES, errno.EIO, errno.EINVAL)

PASSING: dict[str, Fault] = {
    "cut-request": cut_request,
    "cut-reply": cut_reply,
    "truncated-at-0": truncate(0),
    "truncated-at-1000": truncate(1000),
    "truncated-at-the-last": truncate(SMALL - 1),
    "500": answer(500, "InternalError"),
    "503": answer(503, "ServiceUnavailable"),
    "slow-down": answer(503, "SlowDown"),
    "slow": slow(20, 0.02),
}
"""What a retry mends."""
DAMAGE: dict[str, Fault] = {"corrupt": corrupt}
REFUSING: dict[str, Fault] = {
    "403": answer(403, "AccessDenied"),
    "expired": answer(400, "ExpiredToken"),
}

on_seaweedfs = pytest.mark.parametrize("outages", ["seaweedfs"], indirect=True)


def forgiving(outages: Outages, mounter: Mounter, *options: str) -> Mount:
    """Mount, and let whatever fails be logged."""
    mount = mounter(outages.store, "--ttl=0", "--offline=eio", *options)
    mount.announce(r".")
    return mount


def struck_by(outages: Outages, operation: str, fault: Fault) -> None:
    """Let the next two requests of an operation fail."""
    outages.proxy.fail(operation, fault)
    outages.proxy.fail(operation, fault)


def errno_of(deed: Callable[[], object]) -> int:
    """Return what a call fails with; 0 if it does not."""
    try:
        deed()
    except OSError as error:
        return error.errno or -1
    return 0


# --- reading ------------------------------------------------------------------------


@on_seaweedfs
def test_readers_get_right_bytes_when_a_fault_passes(
    outages: Outages, mounter: Mounter
) -> None:
    """Two failures of any kind in a row are made good without a word."""
    mount = forgiving(outages, mounter)
    for name, fault in (PASSING | DAMAGE).items():
        for size in (SMALL,) if name in DAMAGE else (SMALL, LARGE):
            content = os.urandom(size)
            outages.there.write(f"{name}-{size}", content)
            struck = outages.proxy.struck
            struck_by(outages, "GetObject", fault)

            assert (mount.path / f"{name}-{size}").read_bytes() == content, name
            # What is merely slow succeeds at the first try.
            assert outages.proxy.struck - struck >= (1 if name == "slow" else 2), name
            outages.end()
            wait_for_store(mount, "online")


@on_seaweedfs
@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param(("cut-request", "truncated-at-the-last"), marks=pytest.mark.slow),
        pytest.param(("500", "corrupt"), marks=pytest.mark.slow),
        ("403", "expired"),
    ],
    ids=" and ".join,
)
def test_readers_get_an_error_when_a_fault_lasts(
    outages: Outages, mounter: Mounter, kinds: tuple[str, str]
) -> None:
    """No wrong byte is read, and no file is short; then it is read as it is."""
    mount = forgiving(outages, mounter)
    for name in kinds:
        fault = (PASSING | DAMAGE | REFUSING)[name]
        content = os.urandom(SMALL)
        outages.there.write(name, content)
        outages.proxy.fail("GetObject", fault, is_lasting=True)

        assert errno_of((mount.path / name).read_bytes) in REFUSALS, name
        outages.end()
        wait_for_store(mount, "online")
        assert (mount.path / name).read_bytes() == content, name


@on_seaweedfs
def test_stalled_bodies_do_not_mix(outages: Outages, mounter: Mounter) -> None:
    """A body that stops in the middle and goes on later is read whole."""
    mount = forgiving(outages, mounter)
    content = os.urandom(LARGE)
    outages.there.write("f", content)
    stall = StallBody(1000)
    outages.proxy.fail("GetObject", stall)
    read: list[bytes] = []
    reading = threading.Thread(
        target=lambda: read.append((mount.path / "f").read_bytes())
    )
    reading.start()
    assert stall.has_begun.wait(30)
    stall.release()
    reading.join()

    assert read == [content]


@on_seaweedfs
def test_one_stuck_object_holds_up_no_other(outages: Outages, mounter: Mounter) -> None:
    """While eight programs wait for one, a hundred others are read."""
    mount = forgiving(outages, mounter)
    outages.there.write("d/stuck", b"stuck")
    for number in range(100):
        outages.there.write(f"d/f{number}", b"%d" % number)
    assert len(os.listdir(mount.path / "d")) == 101
    outages.proxy.fail("GetObject", Stall(), key="/stuck", is_lasting=True)
    waiting = [
        threading.Thread(target=errno_of, args=((mount.path / "d/stuck").read_bytes,))
        for _ in range(8)
    ]
    for each in waiting:
        each.start()

    for number in range(100):
        assert (mount.path / "d" / f"f{number}").read_bytes() == b"%d" % number
    assert all(each.is_alive() for each in waiting)
    outages.end()
    for each in waiting:
        each.join()


@on_seaweedfs
def test_unknown_is_never_absent(outages: Outages, mounter: Mounter) -> None:
    """Whatever becomes of HEAD and LIST, a file that exists is there or an error."""
    mount = forgiving(outages, mounter)
    content = os.urandom(1000)
    outages.there.write("d/f", content)
    faults = {kind: PASSING[kind] for kind in ("cut-request", "500", "slow-down")}

    def look() -> None:
        assert (mount.path / "d" / "f").stat().st_size == 1000
        assert os.listdir(mount.path / "d") == ["f"]

    for name, fault in (faults | REFUSING).items():
        for operation in ("HeadObject", "ListObjectsV2"):
            outages.proxy.fail(operation, fault, is_lasting=True)
            assert errno_of(look) in (0, *REFUSALS, errno.ETIMEDOUT), name
            outages.end()
            wait_for_store(mount, "online")
    assert (mount.path / "d" / "f").read_bytes() == content


# --- writing ------------------------------------------------------------------------

WRITE_FAULTS: dict[str, Fault] = {
    "cut-request": cut_request,
    "cut-reply": cut_reply,
    "500": answer(500, "InternalError"),
    "500-after-all": answer_after(500, "InternalError"),
    "503": answer(503, "ServiceUnavailable"),
    "slow-down": answer(503, "SlowDown"),
    "slow-down-after-all": answer_after(503, "ServiceUnavailable"),
    "corrupt": corrupt_request,
}


@on_seaweedfs
def test_a_passing_fault_costs_no_write(outages: Outages, mounter: Mounter) -> None:
    """Two failures of any kind in a row, and the bytes are there; once."""
    mount = forgiving(outages, mounter)
    for name, fault in WRITE_FAULTS.items():
        content = os.urandom(SMALL)
        struck_by(outages, "PutObject", fault)
        (mount.path / name).write_bytes(content)

        assert outages.there.read(name) == content, name
        outages.end()
        wait_for_store(mount, "online")
    assert sorted(outages.there.listing()) == sorted(WRITE_FAULTS)


@on_seaweedfs
def test_a_lasting_fault_is_told(outages: Outages, mounter: Mounter) -> None:
    """The program gets an error, the bucket the old bytes or the new, whole; and what
    was said to be stored is.
    """
    mount = forgiving(outages, mounter)
    faults = WRITE_FAULTS | REFUSING
    for name in ("503", "slow-down-after-all"):
        del faults[name]
    for name, fault in faults.items():
        old, new = os.urandom(SMALL), os.urandom(SMALL)
        (mount.path / name).write_bytes(old)
        outages.proxy.fail("PutObject", fault, is_lasting=True)
        code = errno_of(partial((mount.path / name).write_bytes, new))
        assert code in (0, *REFUSALS), name
        assert outages.there.read(name) in ((old, new) if code else (new,)), name
        outages.end()
        wait_for_store(mount, "online")
        latest = os.urandom(SMALL)
        (mount.path / name).write_bytes(latest)
        assert outages.there.read(name) == latest, name


@on_seaweedfs
@pytest.mark.parametrize("fault", ["cut-request", "cut-reply", "500", "corrupt"])
def test_large_files_survive_faults_of_their_parts(
    outages: Outages, mounter: Mounter, fault: str
) -> None:
    """Of parts, of the beginning and of the end of an upload."""
    mount = forgiving(outages, mounter)
    content = os.urandom(MULTIPART)
    operations = ["UploadPart"]
    if fault != "corrupt":  # XML that is damaged is another request
        operations += ["CreateMultipartUpload", "CompleteMultipartUpload"]
    for operation in operations:
        outages.proxy.fail(operation, WRITE_FAULTS[fault])
        outages.proxy.fail(operation, WRITE_FAULTS[fault])
    (mount.path / "big").write_bytes(content)

    assert outages.there.read("big") == content
    assert outages.proxy.struck >= len(operations)


# --- everything at once -------------------------------------------------------------


class Weather(CuttingProxy):
    """Strikes a share of all requests, each in one of many ways, by chance."""

    def __init__(self, upstream: S3Server, seed: int) -> None:
        self.share = 0.0
        self.struck_by: dict[str, int] = {}
        self._chance = random.Random(seed)
        self._chance_lock = threading.Lock()
        super().__init__(upstream)

    def answer(self, request: Request) -> Reply:
        """Forward, or let one of the faults have it."""
        with self._chance_lock:
            strikes = self._chance.random() < self.share
            name = self._chance.choice(sorted(PASSING | WRITE_FAULTS))
        if not strikes or (name == "corrupt" and not is_checked(request)):
            return self.forward(request)
        self.struck_by[name] = self.struck_by.get(name, 0) + 1
        is_write = name in WRITE_FAULTS and name not in PASSING
        fault: Fault = WRITE_FAULTS[name] if is_write else PASSING[name]
        forward: Forward = self.forward
        return fault(request, forward)


def is_checked(request: Request) -> bool:
    """Tell whether the server compares the body with a checksum."""
    return request.operation in ("PutObject", "UploadPart") and bool(request.size)


@pytest.fixture
def weather(seaweedfs_server: S3Server) -> Iterator[tuple[Weather, Store, S3Objects]]:
    """A store on SeaweedFS with bad weather before it."""
    with ExitStack() as stack:
        bucket = stack.enter_context(s3_servers.bucket(seaweedfs_server))
        proxy = stack.enter_context(Weather(seaweedfs_server, seed=1))
        there = S3Objects(seaweedfs_server.client(), bucket, "pre/")
        options = (f"--endpoint-url={proxy.endpoint_url}", "--addressing-style=path")
        yield proxy, Store(f"s3://{bucket}/pre", options, there), there


def test_everything_at_random(
    weather: tuple[Weather, Store, S3Objects], mounter: Mounter
) -> None:
    """One request in five fails in one of many ways: what closes say is stored is, as
    it was written, and what is read is what is stored.
    """
    proxy, store, there = weather
    mount = mounter(store, "--ttl=0")
    mount.announce(r".")
    chance = random.Random(2)
    stored: dict[str, set[bytes]] = {}
    proxy.share = 0.2
    for _ in range(120):
        name = f"f{chance.randrange(20)}"
        content = chance.randbytes(chance.randrange(1, 40) * KIB)
        code = errno_of(partial((mount.path / name).write_bytes, content))
        assert code in (0, *REFUSALS, errno.ESTALE, errno.ETIMEDOUT)
        stored[name] = stored.get(name, set()) | {content} if code else {content}
        other = f"f{chance.randrange(20)}"
        if len(stored.get(other, ())) == 1:
            with suppress(TimeoutError):
                assert (mount.path / other).read_bytes() in stored[other], other
    proxy.share = 0.0
    wait_for_store(mount, "online")

    assert sum(proxy.struck_by.values()) > 30
    for name, contents in stored.items():
        found = there.read(name)
        assert found in contents or (len(contents) > 1 and found == b""), name
