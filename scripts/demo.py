"""The demo: a small S3 server, a bucket, and that bucket mounted at ./demo/mnt.

    python scripts/demo.py start | stop

`start` first removes what an earlier run left, interrupted or not. All data lie outside
the checkout, in a directory that `stop` removes; `demo/mnt` is an empty directory then.
"""

import contextlib
import hashlib
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CHECKOUT = Path(__file__).resolve().parent.parent
MOUNT_POINT = CHECKOUT / "demo" / "mnt"
BIN = Path(sys.executable).parent
BUCKET = "demo"
READY_S = 60.0
END_S = 10.0
GRPC_DISTANCE = 10_000  # SeaweedFS also listens on each port plus this
KEYS = {
    "AWS_ACCESS_KEY_ID": "demo",
    "AWS_SECRET_ACCESS_KEY": "demo-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


def place() -> Path:
    """Return the directory of the demo's data: one per user and checkout."""
    name = hashlib.sha256(os.fsencode(CHECKOUT)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"mountfs-demo-{os.geteuid()}-{name}"


def start() -> None:
    """Start the server, mount the bucket, show both sides, leave it mounted."""
    stop()
    directory = place()
    directory.mkdir(mode=0o700)
    try:
        endpoint = start_server(directory)
        mount(directory, endpoint)
        show(endpoint)
    except BaseException:
        stop()
        raise


def stop() -> None:
    """Unmount, end the server, remove the data. Nothing there is success."""
    directory = place()
    unmount()
    if directory.exists():
        if directory.lstat().st_uid != os.geteuid():
            sys.exit(f"demo: {directory} is not yours; remove it first")
        stop_server(directory)
        shutil.rmtree(directory)
    with contextlib.suppress(OSError):
        MOUNT_POINT.rmdir()
        MOUNT_POINT.parent.rmdir()


def is_mounted() -> bool:
    """Tell whether something is mounted at the demo's mount point."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    escaped = str(MOUNT_POINT).replace("\\", "\\134").replace(" ", "\\040")
    return any(line.split(" ")[1] == escaped for line in lines)


def unmount() -> None:
    """Unmount politely; detach what does not let go."""
    if not is_mounted():
        return
    command: list[str | Path] = [BIN / "mountfs", "umount", MOUNT_POINT]
    subprocess.run(command, check=False, timeout=120)
    if is_mounted():
        subprocess.run([*command, "--lazy"], check=True, timeout=120)


def start_server(directory: Path) -> str:
    """Run SeaweedFS in the background; return its URL once it serves the bucket."""
    ports = free_ports(4)
    s3, master, volume, filer = ports
    for name in ("data", "logs"):
        (directory / name).mkdir()
    key = {
        "accessKey": KEYS["AWS_ACCESS_KEY_ID"],
        "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"],
    }
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {"name": "demo", "credentials": [key], "actions": actions}
    identities = directory / "identities.json"
    identities.write_text(json.dumps({"identities": [identity]}))
    weed = BIN / "weed" if (BIN / "weed").exists() else "weed"
    command = [
        *(weed, f"-logdir={directory}/logs", "-logtostderr=false", "server"),
        *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={directory}/data"),
        *(f"-master.port={master}", "-master.telemetry=false"),
        *("-master.volumeSizeLimitMB=256", "-volume.max=100"),
        *(f"-volume.port={volume}", "-volume.preStopSeconds=0"),
        *(f"-filer.port={filer}", "-s3", f"-s3.port={s3}"),
        *(f"-s3.config={identities}", "-s3.port.iceberg=0", "-s3.port.lance=0"),
    ]
    with (directory / "logs" / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=directory,
        )
    (directory / "server.json").write_text(
        json.dumps({"pid": process.pid, "ports": ports})
    )
    endpoint = f"http://127.0.0.1:{s3}"
    wait_until_ready(endpoint, process, directory)
    return endpoint


def stop_server(directory: Path) -> None:
    """End the server that was started for this directory, and no other process."""
    try:
        server = json.loads((directory / "server.json").read_text())
        pid = int(server["pid"])
    except (OSError, ValueError):
        return
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        command = b""
    if os.fsencode(directory) in command:
        os.kill(pid, signal.SIGTERM)
        if not wait_for_end(pid):
            os.kill(pid, signal.SIGKILL)
            wait_for_end(pid)
    for port in server["ports"]:
        for number in (port, port + GRPC_DISTANCE):
            for left in Path("/tmp").glob(f"seaweedfs-*-{number}.sock"):
                left.unlink(missing_ok=True)


def wait_for_end(pid: int) -> bool:
    """Wait for a process, which need not be our child; tell whether it ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        ended, _, _ = select.select([handle], [], [], END_S)
    finally:
        os.close(handle)
    return bool(ended)


def free_ports(count: int) -> list[int]:
    """Return ports nobody listens on, below the range the kernel gives out."""
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(10_240, 22_000)
        if port not in found and is_free(port) and is_free(port + GRPC_DISTANCE):
            found.append(port)
    return found


def is_free(port: int) -> bool:
    """Tell whether nobody listens on a port of the loopback."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def client(endpoint: str) -> Iterator["S3Client"]:
    """A plain S3 client: the view from the other side."""
    made = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        region_name=KEYS["AWS_DEFAULT_REGION"],
        config=Config(s3={"addressing_style": "path"}, read_timeout=10),
    )
    try:
        yield made
    finally:
        made.close()


def wait_until_ready(
    endpoint: str, process: "subprocess.Popen[bytes]", directory: Path
) -> None:
    """Return once the bucket exists and takes an object."""
    deadline = time.monotonic() + READY_S
    with client(endpoint) as s3:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                s3.create_bucket(Bucket=BUCKET)
            except ClientError as error:
                if error.response["Error"]["Code"] != "BucketAlreadyOwnedByYou":
                    time.sleep(0.2)
                    continue
            except BotoCoreError:
                time.sleep(0.2)
                continue
            try:
                s3.put_object(Bucket=BUCKET, Key="ready", Body=b"")
                s3.delete_object(Bucket=BUCKET, Key="ready")
            except (ClientError, BotoCoreError):
                time.sleep(0.2)
            else:
                return
    tail = (directory / "logs" / "output.txt").read_text(errors="replace")[-1000:]
    sys.exit(f"demo: the S3 server did not start\n{tail}")


def mount(directory: Path, endpoint: str) -> None:
    """Mount the bucket at ./demo/mnt."""
    MOUNT_POINT.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = [
        *(BIN / "mountfs", "mount", "--endpoint-url", endpoint),
        *("--state-dir", directory / "state", "--cache-dir", directory / "cache"),
        *("--cache-size", "256M", f"s3://{BUCKET}", MOUNT_POINT),
    ]
    outside = {name: text for name, text in os.environ.items() if name[:4] != "AWS_"}
    done = subprocess.run(command, check=False, env={**outside, **KEYS}, timeout=180)
    if done.returncode != 0:
        sys.exit(f"demo: mountfs mount ended with {done.returncode}")


def show(endpoint: str) -> None:
    """Write from each side and show it from the other."""
    path = MOUNT_POINT.relative_to(CHECKOUT)
    with client(endpoint) as s3:
        print(
            f"An S3 server at {endpoint}, its bucket `{BUCKET}` mounted at ./{path}\n"
        )
        print("1. boto3 puts an object; a program reads a file:")
        s3.put_object(Bucket=BUCKET, Key="notes/from-s3.txt", Body=b"put by boto3\n")
        run(f"ls -l {path}/notes")
        run(f"cat {path}/notes/from-s3.txt")
        print("\n2. programs write files; boto3 reads plain objects:")
        run(f"mkdir -p {path}/src && echo 'first line' > {path}/src/a.txt")
        run(f"echo 'appended' >> {path}/src/a.txt")
        run(f"sed -i s/first/edited/ {path}/src/a.txt")
        run(f"ln -s a.txt {path}/src/link && mv {path}/src {path}/source")
        run(f"chmod 640 {path}/source/a.txt && ls -l {path}/source")
        for entry in s3.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
            print(f"   boto3: {entry['Size']:>4} bytes  {entry['Key']}")
        body = s3.get_object(Bucket=BUCKET, Key="source/a.txt")["Body"].read()
        print(f"   boto3: source/a.txt holds {body.decode()!r}")
    print(f"\nTry it yourself below ./{path}; stop it with: make demo-stop")


def run(line: str) -> None:
    """Show a command of the shell and what it prints."""
    print(f"   $ {line}", flush=True)
    done = subprocess.run(
        ["sh", "-ec", line], cwd=CHECKOUT, check=True, capture_output=True, text=True
    )
    for printed in done.stdout.splitlines():
        print(f"   {printed}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["start"]:
            start()
        case ["stop"]:
            stop()
        case _:
            sys.exit(__doc__)
