"""Programs of a day: what each does in a mount, and what it was told.

Each is a loop in a thread of its own that starts real programs, or does what they do.
It writes down what it was told, and what it tried and does not know the outcome of: a
call that failed. At the end the bucket must hold the one, and nothing but the other
besides. Without the mount its directory is read-only, and they try again.
"""

import http.client
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PROGRAM_S = 100
LINES_A_FILE = 25


class Application:
    """Something that goes on until it is stopped, whatever happens to the mount."""

    def __init__(self, mnt: Path) -> None:
        self.mnt = mnt
        self.steps = 0
        """How many of its steps have succeeded."""
        self.error: BaseException | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def step(self) -> None:
        """Do one piece of work; raises OSError if the mount refuses."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the step that is under way, and end."""
        self._stopped.set()
        self._thread.join(PROGRAM_S)
        assert not self._thread.is_alive(), f"{type(self).__name__} hangs"
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            while not self._stopped.wait(0.02):
                try:
                    self.step()
                except OSError:
                    self._stopped.wait(0.1)
                else:
                    self.steps += 1
        except Exception as error:  # noqa: BLE001 - it is told to whoever stops this
            self.error = error


class Logger(Application):
    """Appends lines to a log, each with an open and a close; logrotate renames it."""

    def __init__(self, mnt: Path) -> None:
        super().__init__(mnt)
        self.acknowledged: list[str] = []
        self.tried: list[str] = []
        self._rotations = 0

    def step(self) -> None:
        """Append a line, and now and then rotate."""
        log = self.mnt / "log"
        log.mkdir(exist_ok=True)
        if len(self.acknowledged) >= LINES_A_FILE * (self._rotations + 1):
            # Other numbers than logrotate's, so that a name is never used again.
            (log / "app.log").rename(log / f"app.log.{self._rotations:04}")
            self._rotations += 1
        line = f"line {len(self.tried):06}\n"
        self.tried.append(line)
        with (log / "app.log").open("a") as file:
            file.write(line)
        self.acknowledged.append(line)

    def check(self, stored: Mapping[str, bytes]) -> None:
        """Every line that was acknowledged is there, once, in order, and no other."""
        names = sorted(name for name in stored if name.startswith("log/app.log."))
        text = b"".join(stored[name] for name in (*names, "log/app.log"))
        lines = text.decode().splitlines(keepends=True)

        assert lines == sorted(set(lines)), "lines twice, or in another order"
        assert set(self.acknowledged) <= set(lines)
        assert set(lines) <= set(self.tried)


class Backup(Application):
    """A cron job: the files of a host change, and rsync copies them."""

    def __init__(self, mnt: Path, source: Path) -> None:
        super().__init__(mnt)
        self._source = source
        source.mkdir()
        for number in range(12):
            (source / f"file-{number:02}").write_bytes(os.urandom(200 * number))
        self._generation = 0

    def step(self) -> None:
        """Change a file, and synchronize."""
        self._generation += 1
        name = f"file-{self._generation % 12:02}"
        (self._source / name).write_bytes(os.urandom(100 + 37 * self._generation))
        time.sleep(0.1)
        self.synchronize()

    def synchronize(self) -> None:
        """Run rsync once; raises OSError if it has failed."""
        command = ("rsync", "-a", "--checksum", "--delete", f"{self._source}/")
        done = subprocess.run(
            [*command, f"{self.mnt / 'backup'}/"],
            check=False,
            capture_output=True,
            timeout=PROGRAM_S,
        )
        if done.returncode:
            raise OSError(done.returncode, done.stderr)

    def check(self, stored: Mapping[str, bytes]) -> None:
        """After a last run that succeeded the bucket has what the host has."""
        wanted = {
            f"backup/{path.name}": path.read_bytes() for path in _files(self._source)
        }
        found = {
            name: data
            for name, data in stored.items()
            if name.startswith("backup/") and not name.endswith("/")
        }
        assert found == wanted


class Ledger(Application):
    """A program that keeps its rows in SQLite, a transaction each."""

    def __init__(self, mnt: Path) -> None:
        super().__init__(mnt)
        self.acknowledged: list[int] = []
        self.tried: list[int] = []

    def step(self) -> None:
        """Insert a row."""
        number = len(self.tried)
        self.tried.append(number)
        try:
            with sqlite3.connect(self.mnt / "ledger.db", timeout=5) as database:
                database.execute("create table if not exists t (n integer primary key)")
                database.execute("insert into t values (?)", (number,))
            database.close()
        except sqlite3.Error as error:
            raise OSError(str(error)) from error
        self.acknowledged.append(number)
        time.sleep(0.1)

    def check(self, stored: Mapping[str, bytes], scratch: Path) -> None:
        """The database is whole, and has every row that was committed."""
        scratch.mkdir()
        for name in ("ledger.db", "ledger.db-journal"):
            if name in stored:
                (scratch / name).write_bytes(stored[name])
        database = sqlite3.connect(scratch / "ledger.db")
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
        rows = {number for (number,) in database.execute("select n from t")}
        database.close()

        assert set(self.acknowledged) <= rows <= set(self.tried)


class Website(Application):
    """A web server with its files in the mount, and somebody who reads them."""

    def __init__(self, mnt: Path, pages: Mapping[str, bytes], port: int) -> None:
        super().__init__(mnt)
        self._pages = dict(pages)
        self._port = port
        self.refused = 0
        command = [sys.executable, "-m", "http.server", str(port)]
        self._server = subprocess.Popen(
            [*command, "--bind", "127.0.0.1", "--directory", str(mnt / "www")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def step(self) -> None:
        """Ask for a page: what comes as a success is what was published."""
        name, data = sorted(self._pages.items())[self.steps % len(self._pages)]
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request("GET", f"/{name}")
            answer = connection.getresponse()
            body = answer.read()
        except http.client.HTTPException as error:
            self.refused += 1
            raise OSError(str(error)) from error
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK:
            self.refused += 1
            raise OSError(answer.status, name)
        assert body == data, f"the web server gave other bytes for {name}"

    def stop(self) -> None:
        """End the server, too."""
        try:
            super().stop()
        finally:
            self._server.terminate()
            self._server.wait(PROGRAM_S)


def _files(directory: Path) -> Sequence[Path]:
    return [path for path in directory.iterdir() if path.is_file()]


def wait_until(what: Callable[[], bool], seconds: float = 60) -> None:
    """Return when something has become true."""
    end_s = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.05)
