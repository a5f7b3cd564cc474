"""The file systems under test: how each is mounted, with what, and ended.

Each has a bucket of its own, and begins with an empty cache at every mount. What is
mounted is ended by its process id; whoever hangs is freed by aborting its connection in
the kernel. A new mount has nothing in the kernel's caches, so nothing else is dropped:
what the server has in memory is the same for all.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.bare import BareClient
from bench.link import CHECKOUT, DelayedLink
from mountfs import mounts
from tests.fakes.s3_servers import ACCESS_KEY, REGION, SECRET_KEY, aws_environment

START_S = 60.0
UNMOUNT_S = 180.0
CONNECTIONS = Path("/sys/fs/fuse/connections")
GATES = (
    "virtual_dir,virtual_link,virtual_move,virtual_append,virtual_object_metadata,"
    "virtual_index,virtual_hard_link,virtual_special,virtual_pair,loose_operation"
)
"""All but virtual_xattr."""
TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A file system could not do what was asked of it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where systems find their store and their room on disk."""

    endpoint_url: str
    direct_url: str
    link: DelayedLink
    directory: Path
    ca_file: str | None = None


class System:
    """One file system, mounted or not."""

    name = ""
    is_plain = True
    """Are its files objects under their own keys?"""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.bucket = f"bench-{self.name}"
        self.base = place.directory / self.name
        self.root = self.base / "mnt"
        self.store = BareClient(place.direct_url, self.bucket, place.ca_file)
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: str | None = None

    # --- what differs ---------------------------------------------------------

    def version(self) -> str:
        """Return what is measured."""
        raise NotImplementedError

    def set_up(self) -> None:
        """Make the bucket; called once."""
        self.store.make_bucket()

    def command(self) -> list[str]:
        """Return the command that mounts and stays."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Return what its environment has beside ours."""
        return {}

    def ask_to_unmount(self) -> None:
        """Unmount as a user does."""
        command = ["fusermount3", "-u", str(self.root)]
        told = b""
        for _ in range(20):
            done = subprocess.run(command, check=False, capture_output=True, timeout=60)
            if done.returncode == 0:
                return
            told = done.stderr
            time.sleep(0.25)
        raise Failed(f"{self.name}: {os.fsdecode(told)}")

    # --- the life of a mount --------------------------------------------------

    def mount(self) -> None:
        """Mount with empty caches."""
        for name in ("cache", "state"):
            shutil.rmtree(self.base / name, ignore_errors=True)
            (self.base / name).mkdir(parents=True)
        self.root.mkdir(exist_ok=True)
        with (self.base / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                env={**os.environ, **aws_environment(), **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while (entry := mounts.mount_at(self.root)) is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise Failed(f"{self.name} did not mount:\n{self.log()}")
            time.sleep(0.02)
        self._connection = entry.device.partition(":")[2]
        os.listdir(self.root)  # the mount point may be there before its server is

    def unmount(self) -> None:
        """Unmount, and return when the store has everything."""
        if self._process is None:
            return
        try:
            self.ask_to_unmount()
            self._process.wait(UNMOUNT_S)
        except (Failed, subprocess.TimeoutExpired) as error:
            raise Failed(f"{self.name} did not unmount: {error}") from error
        finally:
            self.kill()

    def abort(self) -> None:
        """Free whoever waits for this mount: each gets an error."""
        if self._connection is not None and self._process is not None:
            with suppress(OSError):
                (CONNECTIONS / self._connection / "abort").write_text("1")

    def kill(self) -> None:
        """End what is left, by force."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None or mounts.mount_at(self.root) is not None:
            if self._connection is not None:
                with suppress(OSError):
                    (CONNECTIONS / self._connection / "abort").write_text("1")
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its own session: ours alone
            process.wait(10)
        if mounts.mount_at(self.root) is not None:
            mounts.unmount(self.root, is_lazy=True)
        self._connection = None

    def cpu_s(self) -> float:
        """Return the processor time of the mount's processes so far."""
        if self._process is None:
            return 0.0
        return sum(_cpu_s(pid) for pid in _session(self._process.pid))

    def resident_bytes(self) -> int:
        """Return the resident memory of the mount's processes."""
        if self._process is None:
            return 0
        pages = 0
        for pid in _session(self._process.pid):
            with suppress(OSError):
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def log(self) -> str:
        """Return the end of what it has said."""
        return (self.base / "log").read_text(errors="replace")[-2000:]


def _session(leader: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with suppress(OSError, ProcessLookupError):
                if os.getsid(int(entry)) == leader:
                    found.append(int(entry))
    return found


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(each) for each in fields[11:15]) / TICKS


def first_line(*command: str) -> str:
    """Return the first line that a command prints."""
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60
    )
    return (done.stdout + done.stderr).strip().splitlines()[0]


def program(name: str) -> str | None:
    """Find a program beside the running Python, or in PATH."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


class Mountfs(System):
    """This project."""

    gates = "all"

    def __init__(self, place: Place, durability: str, gates: str = "all") -> None:
        self.gates = gates
        self.name = f"mountfs-{durability}" + ("" if gates == "all" else "-noxattr")
        self.durability = durability
        super().__init__(place)

    def version(self) -> str:
        told = first_line("git", "-C", str(CHECKOUT), "describe", "--always", "--dirty")
        return f"mountfs {told}, Python {sys.version.split()[0]}"

    def command(self) -> list[str]:
        return [
            *(sys.executable, "-P", "-m", "mountfs", "mount", "--foreground"),
            f"--endpoint-url={self.place.endpoint_url}",
            "--addressing-style=path",
            f"--state-dir={self.base / 'state'}",
            f"--cache-dir={self.base / 'cache'}",
            "--cache-size=4G",
            f"--durability={self.durability}",
            f"--virtual={self.gates}",
            f"s3://{self.bucket}",
            str(self.root),
        ]

    def environment(self) -> dict[str, str]:
        found = {"PYTHONPATH": str(CHECKOUT)}
        if self.place.ca_file:
            found["AWS_CA_BUNDLE"] = self.place.ca_file
        return found

    def ask_to_unmount(self) -> None:
        command = [sys.executable, "-P", "-m", "mountfs", "umount", str(self.root)]
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            env={**os.environ, **self.environment()},
            timeout=UNMOUNT_S,
        )
        if done.returncode:
            raise Failed(os.fsdecode(done.stderr))


class Rclone(System):
    """rclone mount with its whole cache; when it sends what is written is an option."""

    def __init__(self, place: Place, name: str, write_back: str) -> None:
        self.name = name
        self._write_back = write_back
        super().__init__(place)

    def version(self) -> str:
        return first_line(program("rclone") or "rclone", "version")

    def command(self) -> list[str]:
        remote = (
            f":s3,provider=Other,access_key_id={ACCESS_KEY},"
            f"secret_access_key={SECRET_KEY},region={REGION},force_path_style=true,"
            f"endpoint='{self.place.endpoint_url}':{self.bucket}"
        )
        trust = ["--ca-cert", self.place.ca_file] if self.place.ca_file else []
        return [
            *(program("rclone") or "rclone", "mount", remote, str(self.root)),
            "--vfs-cache-mode=full",
            f"--vfs-write-back={self._write_back}",
            f"--cache-dir={self.base / 'cache'}",
            f"--config={os.devnull}",
            *trust,
        ]


class S3fs(System):
    """s3fs with its cache of files."""

    name = "s3fs"

    def version(self) -> str:
        return first_line("s3fs", "--version")

    def command(self) -> list[str]:
        password = self.base / "password"
        password.write_text(f"{ACCESS_KEY}:{SECRET_KEY}\n")
        password.chmod(0o600)
        options = (
            f"url={self.place.endpoint_url},use_path_request_style,"
            f"passwd_file={password},use_cache={self.base / 'cache'},endpoint={REGION}"
        )
        return ["s3fs", self.bucket, str(self.root), "-f", "-o", options]

    def environment(self) -> dict[str, str]:
        return {"CURL_CA_BUNDLE": self.place.ca_file} if self.place.ca_file else {}


class Juicefs(System):
    """JuiceFS on SQLite: its names are in a local database, its bytes in blocks."""

    name = "juicefs"
    is_plain = False

    def version(self) -> str:
        return first_line(program("juicefs") or "juicefs", "version")

    def set_up(self) -> None:
        super().set_up()
        self.base.mkdir(parents=True, exist_ok=True)
        command = [
            *(program("juicefs") or "juicefs", "format", "--storage=s3"),
            f"--bucket={self.place.endpoint_url}/{self.bucket}",
            f"--access-key={ACCESS_KEY}",
            f"--secret-key={SECRET_KEY}",
            "--trash-days=0",
            *(self._database(), "bench"),
        ]
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            env={**os.environ, **self.environment()},
            timeout=60,
        )
        if done.returncode:
            raise Failed(os.fsdecode(done.stdout + done.stderr)[-2000:])

    def _database(self) -> str:
        return f"sqlite3://{self.base / 'names.db'}"

    def command(self) -> list[str]:
        return [
            *(program("juicefs") or "juicefs", "mount", "--no-usage-report"),
            f"--cache-dir={self.base / 'cache'}",
            *(self._database(), str(self.root)),
        ]

    def environment(self) -> dict[str, str]:
        return {"SSL_CERT_FILE": self.place.ca_file} if self.place.ca_file else {}


def choose(place: Place, names: list[str]) -> list[System]:
    """Return the systems of these names; a peer that is not installed is left out."""
    found: list[System] = []
    for name in names:
        match name.split("-"):
            case ["mountfs", durability]:
                found.append(Mountfs(place, durability))
            case ["mountfs", durability, "noxattr"]:
                found.append(Mountfs(place, durability, GATES))
            case ["rclone"] if program("rclone"):
                found.append(Rclone(place, name, "0s"))
            case ["rclone", "later"] if program("rclone"):
                found.append(Rclone(place, name, "100ms"))
            case ["s3fs"] if program("s3fs"):
                found.append(S3fs(place))
            case ["juicefs"] if program("juicefs"):
                found.append(Juicefs(place))
            case ["rclone" | "s3fs" | "juicefs", *_]:
                print(f"{name} is not installed and left out", file=sys.stderr)
            case _:
                raise SystemExit(f"no system is called {name}")
    return found
