"""What the storage contract costs: a Storager in all its wrappers against bare boto3.

    python -m bench.contract
    python -m bench.contract --json

First it is made sure that both send the same requests; then they take turns, on a
SeaweedFS without delay, and CPU (of the client, its threads included) and wall time of
each operation are medians of the rounds. The second table is the S3 store alone, with
the light data plane and with boto3 below it. Compare within one run only.
"""

import argparse
import contextlib
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from mountfs.backends import open_store
from mountfs.storage.attempts import RetryPolicy
from mountfs.storage.body import BytesBody
from mountfs.storage.brakes import Brakes, BrakeStorager
from mountfs.storage.health import Health
from mountfs.storage.limit import Limits, LimitStorager
from mountfs.storage.meter import CountedStorager, Meter
from mountfs.storage.probe import NarrowedStorager, Probe
from mountfs.storage.protocol import Storager
from mountfs.storage.retry import RetryStorager
from mountfs.storage.tracing import Tracer
from mountfs.storage.types import Features, ListMode, OfflinePolicy
from mountfs.storage.vetted import VettedStorager
from mountfs.storage.virtual import VirtualStorager
from mountfs.storage.watched import HealthStorager
from tests.fakes import s3_servers
from tests.fakes.s3_servers import S3Server
from tests.fakes.strict_shim import StrictShim

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ALLOWED = 1.10
"""The Storager may take a tenth more than bare boto3."""
SIZES = {"8 KiB": 8 << 10, "4 MiB": 4 << 20}
BUCKET = "contract"
KEYS = 1000
COMMIT = "0" * 32

Work = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Taken:
    """What one operation takes."""

    cpu_ms: float
    wall_ms: float


def wrapped(store: Storager) -> Storager:
    """Put around a store what a mount puts around it."""
    counted = CountedStorager(VettedStorager(store), Meter(Tracer()))
    limited = BrakeStorager(LimitStorager(counted, Limits()), Brakes())
    watched = HealthStorager(limited, Health(), OfflinePolicy.WAIT)
    retried = RetryStorager(watched, RetryPolicy())
    narrowed = NarrowedStorager(retried, Probe.of_claims(retried.capabilities))
    return VirtualStorager(narrowed, Features.for_mounts())


def opened(endpoint_url: str, client: str) -> Storager:
    """Open the store."""
    options = {
        "endpoint_url": endpoint_url,
        "addressing_style": "path",
        "s3_client": client,
    }
    return open_store(f"s3://{BUCKET}", options)


def works_of_storager(store: Storager) -> dict[str, Work]:
    """Return the operations by name, through the contract."""
    works: dict[str, Work] = {}
    for name, size in SIZES.items():
        body = BytesBody(bytes(size))
        works[f"put {name}"] = partial(store.write, "w", body)
        works[f"get {name}"] = partial(store.read, f"r/{name}")
    works["head"] = lambda: store.stat(f"r/{next(iter(SIZES))}")
    works[f"list {KEYS}"] = lambda: store.list("d/", mode=ListMode.PREFIX)
    works["delete"] = lambda: store.delete("absent")
    works["in parts"] = partial(_write_in_parts, store)
    return works


async def _write_in_parts(store: Storager) -> None:
    upload = await store.create_multipart("p")
    part = await store.write_part(upload, 0, BytesBody(bytes(8 << 10)))
    await store.complete_multipart(upload, [part])


def works_of_boto3(client: "S3Client") -> dict[str, Work]:
    """Return the same operations with boto3 alone."""
    works: dict[str, Work] = {}
    for name, size in SIZES.items():
        data = bytes(size)

        async def put(data: bytes = data) -> None:
            client.put_object(
                Bucket=BUCKET, Key="w", Body=data, Metadata={"mountfs-commit": COMMIT}
            )

        async def get(name: str = name) -> None:
            client.get_object(Bucket=BUCKET, Key=f"r/{name}")["Body"].read()

        works[f"put {name}"], works[f"get {name}"] = put, get

    async def head() -> None:
        client.head_object(Bucket=BUCKET, Key=f"r/{next(iter(SIZES))}")

    async def page() -> None:
        client.list_objects_v2(Bucket=BUCKET, Prefix="d/", MaxKeys=KEYS)

    async def delete() -> None:
        client.delete_object(Bucket=BUCKET, Key="absent")

    async def in_parts() -> None:
        upload = client.create_multipart_upload(
            Bucket=BUCKET, Key="p", Metadata={"mountfs-commit": COMMIT}
        )["UploadId"]
        etag = client.upload_part(
            Bucket=BUCKET, Key="p", UploadId=upload, PartNumber=1, Body=bytes(8 << 10)
        )["ETag"]
        client.complete_multipart_upload(
            Bucket=BUCKET,
            Key="p",
            UploadId=upload,
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]},
        )

    works.update({"head": head, f"list {KEYS}": page})
    return {**works, "delete": delete, "in parts": in_parts}


async def check_requests(server: S3Server) -> None:
    """Make sure that each operation sends the same requests both ways."""
    with contextlib.closing(StrictShim(server)) as shim:
        store = wrapped(opened(shim.endpoint_url, "light"))
        ours = works_of_storager(store)
        theirs = works_of_boto3(shim.server.client())
        for name, work in ours.items():
            counts = []
            for each in (work, theirs[name]):
                shim.clear()
                await each()
                counts.append(shim.counts(reason=None))
            if counts[0] != counts[1]:
                raise SystemExit(f"{name}: {counts[0]} is not {counts[1]}")
        await store.close()


async def compare(
    sides: Mapping[str, Mapping[str, Work]], rounds: int, share: float
) -> dict[str, dict[str, Taken]]:
    """Let the sides take turns at each operation; the first turn is not counted."""
    found: dict[str, dict[str, Taken]] = {}
    for name in next(iter(sides.values())):
        turns, times = rounds, max(3, int(100 * share))
        if name.startswith("list") or "MiB" in name:
            # What takes long meets more of what else happens on the machine.
            turns, times = rounds * max(3, times // 10), 1
        taken: dict[str, list[Taken]] = {side: [] for side in sides}
        for number in range(turns + 1):
            for side, works in sides.items():
                cpu_s, wall_s = time.process_time(), time.perf_counter()
                for _ in range(times):
                    await works[name]()
                cpu_ms = (time.process_time() - cpu_s) / times * 1e3
                wall_ms = (time.perf_counter() - wall_s) / times * 1e3
                if number:
                    taken[side].append(Taken(cpu_ms, wall_ms))
        found[name] = {side: _median(each) for side, each in taken.items()}
    return found


def _median(taken: list[Taken]) -> Taken:
    return Taken(
        statistics.median(each.cpu_ms for each in taken),
        statistics.median(each.wall_ms for each in taken),
    )


def show(title: str, found: Mapping[str, Mapping[str, Taken]]) -> float:
    """Print a table; return the worst ratio of the first side to the second."""
    first, second = next(iter(found.values()))
    print(f"\n{title}\n")
    print(f"| operation | {first}: CPU, wall ms | {second}: CPU, wall ms | ratio |")
    print("|---|---|---|---|")
    worst = 0.0
    for name, sides in found.items():
        ours, theirs = sides[first], sides[second]
        cpu, wall = ours.cpu_ms / theirs.cpu_ms, ours.wall_ms / theirs.wall_ms
        worst = max(worst, cpu, wall)
        print(
            f"| {name} | {ours.cpu_ms:.2f}, {ours.wall_ms:.2f}"
            f" | {theirs.cpu_ms:.2f}, {theirs.wall_ms:.2f} | {cpu:.2f}, {wall:.2f} |"
        )
    return worst


async def measure(
    server: S3Server, rounds: int, share: float
) -> tuple[dict[str, dict[str, Taken]], dict[str, dict[str, Taken]]]:
    """Fill the bucket and measure both tables."""
    client = server.client()
    client.create_bucket(Bucket=BUCKET)
    for name, size in SIZES.items():
        client.put_object(Bucket=BUCKET, Key=f"r/{name}", Body=bytes(size))
    light, plain = (opened(server.endpoint_url, each) for each in ("light", "boto3"))
    for number in range(KEYS):
        await light.write(f"d/file-{number:04}", BytesBody(b"x"))
    await check_requests(server)
    storager = wrapped(light)
    gc.freeze()  # as a mount does
    contract = await compare(
        {"Storager": works_of_storager(storager), "boto3": works_of_boto3(client)},
        rounds,
        share,
    )
    plane = await compare(
        {"light": works_of_storager(light), "boto3": works_of_storager(plain)},
        rounds,
        share,
    )
    await plain.close()
    await storager.close()
    client.close()
    return contract, plane


def main(arguments: list[str] | None = None) -> int:
    """Measure; the exit code says whether the contract costs what it may."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--share", type=float, default=1.0, help="of the repetitions")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    os.environ.update(s3_servers.aws_environment())
    with (
        tempfile.TemporaryDirectory() as directory,
        s3_servers.seaweedfs(Path(directory) / "server") as server,
    ):
        contract, plane = trio.run(measure, server, options.rounds, options.share)
    if options.json:
        print(json.dumps({"contract": contract, "plane": plane}, default=_plain))
        return 0
    worst = show("A Storager and its wrappers against bare boto3", contract)
    show("The S3 store alone: the light data plane against boto3 below it", plane)
    print(f"\nThe worst ratio of the first table is {worst:.2f}; {ALLOWED} is allowed.")
    return 0 if worst <= ALLOWED else 1


def _plain(taken: Taken) -> dict[str, float]:
    return {"cpu_ms": taken.cpu_ms, "wall_ms": taken.wall_ms}


if __name__ == "__main__":
    sys.exit(main())
