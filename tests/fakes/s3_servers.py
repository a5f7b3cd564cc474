"""Real S3 servers for tests: SeaweedFS and moto, each a child process.

Both listen on the loopback, keep their files in a directory that is given, and are
gone, sockets included, when the context manager ends. Start them from the main thread:
they die with the thread that started them, so that a killed test run leaves nothing.
Everything here takes the same credentials, which `aws_environment` names the way
boto3's own chain finds them.
"""

import contextlib
import functools
import itertools
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ACCESS_KEY = "mountfs-test"
SECRET_KEY = "mountfs-test-secret"
SECOND_ACCESS_KEY = "mountfs-next"
SECOND_SECRET_KEY = "mountfs-next-secret"
REGION = "us-east-1"
READY_S = 60.0
STARTS_MAX = 3
_GRPC_DISTANCE = 10_000
_session_lock = threading.Lock()


class PortTaken(RuntimeError):
    """Somebody else came to listen at a port that was free a moment before."""


@dataclass(frozen=True, slots=True)
class S3Server:
    """A server that answers at `endpoint_url`, and what to call it in test ids."""

    name: str
    endpoint_url: str

    def client(self) -> "S3Client":
        """Return a plain boto3 client, for looking at the store from outside."""
        with _session_lock:
            return _session().client(
                "s3",
                endpoint_url=self.endpoint_url,
                aws_access_key_id=ACCESS_KEY,
                aws_secret_access_key=SECRET_KEY,
                region_name=REGION,
                config=Config(
                    s3={"addressing_style": "path"},
                    retries={"total_max_attempts": 3},
                    read_timeout=30,
                ),
            )

    def at(self, endpoint_url: str, suffix: str) -> "S3Server":
        """Return the same server as seen through a proxy."""
        return S3Server(f"{self.name}-{suffix}", endpoint_url)


def aws_environment() -> dict[str, str]:
    """Return the environment variables that make boto3's chain find the key."""
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


@contextlib.contextmanager
def seaweedfs(directory: Path, *options: str) -> Iterator[S3Server]:
    """Run a SeaweedFS with its S3 gateway; its data go below `directory`.

    A port that was free may have been taken until it listens there: then once more.
    """
    for number in itertools.count(1):
        with contextlib.ExitStack() as stack:
            try:
                started = _seaweedfs(directory / f"server{number}", *options)
                server = stack.enter_context(started)
            except PortTaken:
                if number < STARTS_MAX:
                    continue
                raise
            yield server
            return


@contextlib.contextmanager
def _seaweedfs(directory: Path, *options: str) -> Iterator[S3Server]:
    data, logs = directory / "data", directory / "logs"
    data.mkdir(parents=True)
    logs.mkdir()
    identities = directory / "identities.json"
    identities.write_text(_seaweedfs_identities())
    s3, master, volume, filer = free_ports(4, grpc=True)
    command = [
        program("weed"),
        f"-logdir={logs}",
        "-logtostderr=false",
        "-alsologtostderr=false",
        "server",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-dir={data}",
        f"-master.port={master}",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=1024",
        f"-volume.port={volume}",
        "-volume.max=100000",
        "-volume.preStopSeconds=0",
        f"-filer.port={filer}",
        "-s3",
        f"-s3.port={s3}",
        f"-s3.config={identities}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.autoCreateBucket=false",
        *options,
    ]
    environment = {"WEED_S3_SSE_KEY": "mountfs-test-key-encryption-key"}
    server = S3Server("seaweedfs", f"http://127.0.0.1:{s3}")
    try:
        with running(command, environment, logs / "output.txt") as process:
            _wait_until_ready(server, process, logs / "output.txt")
            yield server
    finally:
        for port in (s3, master, volume, filer):
            _remove_sockets(port)


@contextlib.contextmanager
def moto(directory: Path) -> Iterator[S3Server]:
    """Run a moto server; it keeps everything in memory, `directory` has its log."""
    directory.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = S3Server("moto", f"http://127.0.0.1:{port}")
    output = directory / "output.txt"
    with running(command, {}, output) as process:
        _wait_until_ready(server, process, output)
        yield server


def make_bucket(server: S3Server) -> str:
    """Make a bucket that stays: its server is thrown away with all that is in it."""
    name = f"test-{uuid.uuid4().hex[:20]}"
    with contextlib.closing(server.client()) as client:
        client.create_bucket(Bucket=name)
    return name


@contextlib.contextmanager
def bucket(
    server: S3Server, *, object_lock: bool = False, acls: bool = False
) -> Iterator[str]:
    """Make a bucket with a name of its own, and remove it with all that is in it."""
    name = f"test-{uuid.uuid4().hex[:20]}"
    client = server.client()
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=object_lock)
    if not acls and server.name.startswith("moto"):  # as AWS makes every new bucket
        client.put_bucket_ownership_controls(
            Bucket=name,
            OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
        )
    try:
        yield name
    finally:
        with contextlib.suppress(Exception):  # the server is thrown away anyway
            _empty(client, name)
            client.delete_bucket(Bucket=name)
        client.close()


@functools.cache
def _session() -> boto3.session.Session:
    """One for all clients: it reads the models of the SDK once."""
    return boto3.session.Session(region_name=REGION)


def _empty(client: "S3Client", name: str) -> None:
    """Delete every key, page by page from the start: tokens may not survive it."""
    for _ in range(10_000):
        page = client.list_objects_v2(Bucket=name)
        keys = [entry["Key"] for entry in page.get("Contents", ())]
        if not keys:
            return
        for key in keys:
            client.delete_object(Bucket=name, Key=key)


def _seaweedfs_identities() -> str:
    pairs = ((ACCESS_KEY, SECRET_KEY), (SECOND_ACCESS_KEY, SECOND_SECRET_KEY))
    credentials = ", ".join(
        f'{{"accessKey": "{key}", "secretKey": "{secret}"}}' for key, secret in pairs
    )
    actions = '["Admin", "Read", "Write", "List", "Tagging"]'
    identity = f'"name": "test", "credentials": [{credentials}], "actions": {actions}'
    return f'{{"identities": [{{{identity}}}]}}'


def program(name: str) -> str:
    """Find a program beside the running Python, or in PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed; pip install '.[test]'")
    return found


def free_ports(count: int, *, grpc: bool = False) -> list[int]:
    """Return ports nobody listens on, below the range the kernel gives out.

    SeaweedFS listens on each port + 10 000 as well.
    """
    found: list[int] = []
    chooser = random.SystemRandom()
    for _ in range(1000):
        port = chooser.randrange(10_240, 22_000)
        wanted = (port, port + _GRPC_DISTANCE) if grpc else (port,)
        if port not in found and all(_is_free(candidate) for candidate in wanted):
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free ports were found")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def running(
    command: list[str], environment: Mapping[str, str], output: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a child until the block ends."""
    setpriv = shutil.which("setpriv")
    die_with_us = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
    with output.open("wb") as sink:
        process = subprocess.Popen(
            [*die_with_us, *command],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.kill()  # its data are thrown away, and a polite end takes seconds
        process.wait(timeout=10)


def _wait_until_ready(
    server: S3Server, process: "subprocess.Popen[bytes]", output: Path
) -> None:
    """Return once a bucket can be made, written to and removed."""
    deadline = time.monotonic() + READY_S
    problem: Exception | None = None
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            _try_out(server)
        except Exception as error:  # noqa: BLE001 - any failure means "not yet"
            problem = error
            time.sleep(0.1)
        else:
            return
    tail = output.read_text(errors="replace")[-2000:]
    failure = PortTaken if "address already in use" in tail else RuntimeError
    raise failure(f"{server.name} did not start: {problem}\n{tail}")


def _try_out(server: S3Server) -> None:
    with socket.create_connection(_address(server.endpoint_url), timeout=1):
        pass
    with bucket(server) as name:
        client = server.client()
        client.put_object(Bucket=name, Key="ready", Body=b"ready")
        client.close()


def _address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)


def _remove_sockets(port: int) -> None:
    """Remove the sockets that SeaweedFS leaves in the system's /tmp."""
    for number in (port, port + _GRPC_DISTANCE):
        for path in Path("/tmp").glob(f"seaweedfs-*-{number}.sock"):
            path.unlink(missing_ok=True)
