"""The control socket: status, following a drain, and whoever talks nonsense."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio
import trio.testing

from mountfs import control
from mountfs.control import Outcome, Request, State, Status
from mountfs.errors import UsageError
from mountfs.serving import control_server
from mountfs.serving.control_server import ControlServer, Deed, Stream
from mountfs.status import Event, LateError, PendingPath, Progress, Refused, Said
from mountfs.storage.tracing import Tracer


class Mount:
    """A mount as the server sees it, with two files to go."""

    def __init__(self, mount_point: Path) -> None:
        self.mount_point = mount_point
        self.pending = ["a", "b/c"]
        self.state = State.MOUNTED
        self.is_asked_to_leave = False
        self.seen_by: list[str] = []
        self.waited_for: list[Request] = []
        self.tracer = Tracer()
        self.deeds: Mapping[str, Deed | Stream] = {
            "check": Deed(carry_out=self.check),
            "wait": Deed(carry_out=self.wait),
            "warm": Deed(carry_out=self.warm, tells="progress"),
            "set": Deed(carry_out=self.set, tells="nothing"),
            "trace": Stream(self.tracer.watching),
        }
        self.may_answer = trio.Event()
        self.is_left_alone = trio.Event()

    def status(self, *, is_seen: bool = False) -> Status:
        """Return how it does."""
        self.seen_by += ["a person"] if is_seen else []
        return Status(
            url="memory://",
            mount_point=str(self.mount_point),
            pid=os.getpid(),
            state=self.state,
            pending_files=len(self.pending),
            pending_bytes=10 * len(self.pending),
            waiting=tuple(self.pending),
        )

    def unmount(self) -> None:
        """Note that it is to leave."""
        self.is_asked_to_leave = True

    async def check(self, request: Request, progress: Progress) -> Outcome:
        """Tell what is wrong, and whether it was mended."""
        return Outcome(lines=("wrong", f"mended: {request.is_repair}"), code=1)

    async def wait(self, request: Request, progress: Progress) -> Outcome:
        """Note what is waited for; answer when told to, and break for "bug"."""
        self.waited_for.append(request)
        await self.may_answer.wait()
        if "bug" in request.paths:
            raise ZeroDivisionError
        return Outcome(error="no route", is_passing=True)

    async def warm(self, request: Request, progress: Progress) -> Outcome:
        """Have fetched a part; go on until told to end, or nobody listens any more."""
        progress.files, progress.files_found = request.jobs, len(request.paths)
        try:
            await self.may_answer.wait()
        finally:
            self.is_left_alone.set()
        progress.is_counted = True
        return Outcome(lines=("a: gone",), error="1 file could not be fetched")

    async def set(self, request: Request, progress: Progress) -> Outcome:
        """Tell what is to be set."""
        return Outcome(told=request.settings)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """A mount whose socket is gone at the end."""
    yield Mount(tmp_path)
    assert not control.socket_path(tmp_path).exists()


async def in_thread(path: Path, request: str) -> Status | None:
    """Ask from another thread, as another process would."""
    return await trio.to_thread.run_sync(control.ask, path, request)


async def test_status_is_answered(mount: Mount) -> None:
    """The answer is what the mount says of itself, word for word."""
    server = ControlServer(mount.mount_point, mount)
    path = control.socket_path(mount.mount_point)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)

        assert await in_thread(path, "status") == mount.status()
        assert control.is_alive(path)
        server.finish()


async def test_unmount_is_passed_on(mount: Mount) -> None:
    """The request to leave reaches the mount."""
    server = ControlServer(mount.mount_point, mount)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        await in_thread(control.socket_path(mount.mount_point), "unmount")

        assert mount.is_asked_to_leave
        server.finish()


async def test_who_waits_hears_how_it_goes_and_how_it_ends(mount: Mount) -> None:
    """Statuses come until the mount answers, and then its answer alone."""
    server = ControlServer(mount.mount_point, mount)
    path = control.socket_path(mount.mount_point)
    heard: list[Said] = []

    def ask() -> None:
        for said in control.carry_out(path, Request("wait", ("a", "\udcff"))):
            heard.append(said)
            trio.from_thread.run_sync(mount.may_answer.set)

    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        await trio.to_thread.run_sync(ask)
        server.finish()

    assert mount.waited_for == [Request("wait", ("a", "\udcff"))]
    assert heard[0] == mount.status()
    assert heard[-1] == Outcome(error="no route", is_passing=True)
    assert all(isinstance(each, Status) for each in heard[:-1])


async def test_who_looks_hears_what_happens_until_the_mount_ends(mount: Mount) -> None:
    """Each event is told as it happens."""
    server = ControlServer(mount.mount_point, mount)
    path = control.socket_path(mount.mount_point)
    heard: list[str] = []

    def listen() -> None:
        for said in control.carry_out(path, Request("trace")):
            assert isinstance(said, Event)
            heard.append(str(said.told["operation"]))
            if len(heard) == 2:
                trio.from_thread.run_sync(server.finish)

    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        nursery.start_soon(trio.to_thread.run_sync, listen)
        await _until(lambda: mount.tracer.is_on)
        for name in ("open", "read"):
            with mount.tracer.operation(name, "a", ""):
                await trio.lowlevel.checkpoint()

    assert heard == ["open", "read"]
    assert not mount.tracer.is_on


async def test_nothing_is_followed_for_who_has_hung_up(mount: Mount) -> None:
    """The end of the connection ends it, although nothing happens."""
    server = ControlServer(mount.mount_point, mount)
    path = control.socket_path(mount.mount_point)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        async with await trio.open_unix_socket(path) as stream:
            await stream.send_all(Request("trace").encode())
            await _until(lambda: mount.tracer.is_on)
        await _until(lambda: not mount.tracer.is_on)
        server.finish()


async def _until(is_so: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not is_so():  # noqa: ASYNC110 - nothing tells
            await trio.sleep(0.005)


@pytest.mark.parametrize("is_repair", [True, False])
async def test_a_check_tells_what_it_found(mount: Mount, is_repair: bool) -> None:
    """The lines and the exit code come from the mount."""
    server = ControlServer(mount.mount_point, mount)
    path = control.socket_path(mount.mount_point)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        request = Request("check", is_repair=is_repair)
        said = await trio.to_thread.run_sync(
            lambda: list(control.carry_out(path, request))
        )
        server.finish()

    assert said[-1] == Outcome(lines=("wrong", f"mended: {is_repair}"), code=1)


async def test_what_is_brief_tells_nothing_but_how_it_ended(mount: Mount) -> None:
    """One line comes back, with what was asked for."""
    server = ControlServer(mount.mount_point, mount)
    path = control.socket_path(mount.mount_point)
    request = Request("set", settings={"log-level": "debug"})
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        said = await trio.to_thread.run_sync(
            lambda: list(control.carry_out(path, request))
        )
        server.finish()

    assert said == [Outcome(told={"log-level": "debug"})]


async def test_a_bug_in_an_answer_is_told_and_costs_nothing_else(mount: Mount) -> None:
    """The mount goes on, and who asked learns that it is a bug."""
    server = ControlServer(mount.mount_point, mount)
    path = control.socket_path(mount.mount_point)
    mount.may_answer.set()
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        said = await trio.to_thread.run_sync(
            lambda: list(control.carry_out(path, Request("wait", ("bug",))))
        )

        assert isinstance(said[-1], Outcome)
        assert "ZeroDivisionError" in str(said[-1].error)
        assert await in_thread(path, "status") == mount.status()
        server.finish()


async def test_who_goes_away_does_not_end_what_was_asked_for(mount: Mount) -> None:
    """A commit that somebody waited for is carried out though nobody waits."""
    server = ControlServer(mount.mount_point, mount)
    path = control.socket_path(mount.mount_point)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        async with await trio.open_unix_socket(path) as stream:
            await stream.send_all(Request("wait", ("a",)).encode())
            await stream.receive_some(1)
        mount.may_answer.set()
        await trio.testing.wait_all_tasks_blocked()

        assert mount.waited_for == [Request("wait", ("a",))]
        assert await in_thread(path, "status") == mount.status()
        server.finish()


async def test_a_person_who_looks_is_noted(mount: Mount) -> None:
    """Late errors count as seen only if somebody was shown them."""
    server = ControlServer(mount.mount_point, mount)
    path = control.socket_path(mount.mount_point)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        await in_thread(path, "status")
        assert mount.seen_by == []
        await trio.to_thread.run_sync(lambda: control.ask(path, "status", is_seen=True))
        assert mount.seen_by == ["a person"]
        server.finish()


async def test_followers_hear_the_last_word(mount: Mount) -> None:
    """Who follows gets one status after another, the last one marked as such."""
    server = ControlServer(mount.mount_point, mount)
    heard: list[Status] = []

    def follow() -> None:
        for status in control.follow(control.socket_path(mount.mount_point)):
            heard.append(status)
            trio.from_thread.run_sync(step)

    def step() -> None:
        mount.state = State.DRAINING
        if mount.pending:
            mount.pending.pop()
        else:
            server.finish()

    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        await trio.to_thread.run_sync(follow)

    assert [status.state for status in heard] == [
        State.MOUNTED,
        State.DRAINING,
        State.DRAINING,
        State.DONE,
    ]
    assert [status.pending_files for status in heard] == [2, 1, 0, 0]


async def test_a_daemon_that_dies_gives_no_last_word(mount: Mount) -> None:
    """Without the last word a follower knows that the daemon did not finish."""
    server = ControlServer(mount.mount_point, mount)
    heard: list[Status] = []

    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)

        def follow() -> None:
            for status in control.follow(control.socket_path(mount.mount_point)):
                heard.append(status)
                trio.from_thread.run_sync(nursery.cancel_scope.cancel)

        nursery.start_soon(trio.to_thread.run_sync, follow)

    assert heard
    assert all(status.state is State.MOUNTED for status in heard)


def test_a_mount_point_is_claimed_by_one_process(tmp_path: Path) -> None:
    """A second process is refused while the first one holds it, and not after."""
    code = (
        "import sys; from pathlib import Path; from mountfs.control import claimed\n"
        "with claimed(Path(sys.argv[1])): pass"
    )

    def claim(place: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, str(place)]
        return subprocess.run(command, check=False, capture_output=True, text=True)

    with control.claimed(tmp_path):
        assert "is just beginning or ending" in claim(tmp_path).stderr
        assert claim(tmp_path / "other").returncode == 0
    assert claim(tmp_path).returncode == 0


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"nonsense\n",
        b"[]\n",
        b'{"do": "rm -rf"}\n',
        b"\xff\n",
        b"x" * control.REQUEST_SIZE_MAX,
    ],
)
async def test_nonsense_is_answered_and_harms_nobody(mount: Mount, line: bytes) -> None:
    """A foreign request gets an error, and the next one its answer."""
    server = ControlServer(mount.mount_point, mount)
    path = control.socket_path(mount.mount_point)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        stream = await trio.open_unix_socket(path)
        async with stream:
            await stream.send_all(line)
            answer = await stream.receive_some(1000)

        assert b"unknown request" in answer
        assert await in_thread(path, "status") == mount.status()
        server.finish()


async def test_nobody_but_the_owner_may_connect(mount: Mount) -> None:
    """The socket and its directory are for their owner."""
    server = ControlServer(mount.mount_point, mount)
    path = control.socket_path(mount.mount_point)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)

        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o022 == 0
        server.finish()


async def test_a_new_mount_takes_the_name_of_a_dead_one(mount: Mount) -> None:
    """A socket that a killed daemon left does not stand in the way."""
    path = control.socket_path(mount.mount_point)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert not control.is_alive(path)

    server = ControlServer(mount.mount_point, mount)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        assert control.is_alive(path)
        server.finish()


async def test_a_server_leaves_the_socket_of_its_successor(tmp_path: Path) -> None:
    """When two mounts overlap at one place, the end of the first is not both's."""
    first = ControlServer(tmp_path, Mount(tmp_path))
    second = ControlServer(tmp_path, Mount(tmp_path))
    async with trio.open_nursery() as nursery:
        await nursery.start(first.serve)
        await nursery.start(second.serve)
        first.finish()
        await trio.testing.wait_all_tasks_blocked()

        assert control.is_alive(control.socket_path(tmp_path))
        second.finish()


def test_one_that_hears_nobody_any_more_is_alive(tmp_path: Path) -> None:
    """Who asked before, and was not answered, fills what the kernel keeps for it."""
    path = tmp_path / "stuck.sock"
    with socket.socket(socket.AF_UNIX) as listening, ExitStack() as asked_before:
        listening.bind(str(path))
        listening.listen(0)
        before = asked_before.enter_context(socket.socket(socket.AF_UNIX))
        before.connect(str(path))

        assert control.is_alive(path)
        with pytest.raises(TimeoutError):
            control.ask(path, "status")


def test_nobody_listening_is_no_answer(tmp_path: Path) -> None:
    """Without a daemon there is no status, and no error either."""
    path = control.socket_path(tmp_path)

    assert control.ask(path, "status") is None
    assert not control.is_alive(path)


def test_a_status_of_another_version_is_understood() -> None:
    """Fields that came later may be missing, and unknown ones are passed over."""
    old = {"url": "u", "mount_point": "/m", "pid": 7, "state": "mounted"}
    line = json.dumps({**old, "pending_files": 2, "colour": ["red"]}).encode()

    assert control.decode(line) == Status(
        url="u", mount_point="/m", pid=7, state=State.MOUNTED, pending_files=2
    )


def test_what_is_told_arrives_word_for_word() -> None:
    """A status and an outcome survive the way over the socket, odd names too."""
    status = Status(
        url="s3://b",
        mount_point="/m\udcff",
        pid=7,
        state=State.DRAINING,
        pending_files=1,
        pending_bytes=3,
        waiting=("a\n",),
        pending=(
            PendingPath(
                path="a\n",
                size=3,
                error="no route",
                sent=1,
                is_sending=True,
                attempts=2,
                next_try_s=0.5,
            ),
        ),
        store_state="offline",
        store_reason="no route",
        conflicts=1,
        unseen=1,
        incidents=(
            LateError(
                kind="conflict",
                path="a",
                text="t",
                time_ns=9,
                kept_as="a (c)",
                is_new=True,
            ),
        ),
        refused=(
            Refused(path="a", text="no", time_ns=8, http_status=403, needs="p on r"),
            Refused(path="", text="no", time_ns=9, request_id="R"),
        ),
        cache_used=5,
        since_ns=3,
    )
    outcome = Outcome(
        error="e", is_passing=True, lines=("x", "y"), told={"a": [1]}, code=3
    )

    assert control.decode(control.encode(status)) == status
    assert control.decode(control.encode(outcome)) == outcome
    assert control.decode(control.encode(Outcome())) == Outcome()


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[1]",
        b"nonsense",
        b'{"state": 1}',
        b'{"url": "u", "mount_point": "/m", "pid": "7", "state": "mounted"}',
        b'{"url": "u", "mount_point": "/m", "pid": 7, "state": "asleep"}',
        b'{"outcome": 1}',
    ],
)
def test_what_is_no_status_is_not_taken_for_one(line: bytes) -> None:
    """Decoding refuses what it does not know."""
    with pytest.raises(ValueError, match=r"not a (status|valid)|Expecting value"):
        control.decode(line)


def test_a_socket_path_that_is_too_long_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's limit becomes a sentence that says what to set."""
    monkeypatch.setattr(
        control, "runtime_dir", lambda uid, environ: tmp_path / ("x" * 99)
    )

    with pytest.raises(UsageError, match="set XDG_RUNTIME_DIR shorter"):
        control_server._listen(control.socket_path(tmp_path))


def test_a_runtime_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """A directory that others may write could hold a forged socket."""
    directory = tmp_path / "run"
    directory.mkdir()
    directory.chmod(0o777)

    with pytest.raises(UsageError, match="must belong to you alone"):
        control_server._listen(directory / "x.sock")


@pytest.mark.parametrize(
    ("uid", "environ", "expected"),
    [
        (0, {"XDG_RUNTIME_DIR": "/run/user/5"}, "/run/mountfs"),
        (54321, {"XDG_RUNTIME_DIR": "/run/user/5"}, "/tmp/mountfs-54321"),
    ],
)
def test_each_user_has_a_runtime_directory(
    uid: int, environ: dict[str, str], expected: str
) -> None:
    """Root's mounts and those of users are kept apart."""
    assert control.runtime_dir(uid, environ) == Path(expected)


async def test_who_warms_hears_how_far_it_is(mount: Mount) -> None:
    """Progress comes until the mount answers, once more at the end, then the answer."""
    server = ControlServer(mount.mount_point, mount)
    path = control.socket_path(mount.mount_point)
    heard: list[object] = []

    def ask() -> None:
        for said in control.carry_out(path, Request("warm", ("a", "b"), jobs=1)):
            heard.append(said)
            trio.from_thread.run_sync(mount.may_answer.set)

    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        await trio.to_thread.run_sync(ask)
        server.finish()

    assert heard[0] == Progress(files=1, files_found=2)
    assert heard[-2] == Progress(files=1, files_found=2, is_counted=True)
    assert heard[-1] == Outcome(lines=("a: gone",), error="1 file could not be fetched")


async def test_warming_ends_with_who_asked(mount: Mount) -> None:
    """Ctrl-C closes the connection, and the mount fetches no more."""
    server = ControlServer(mount.mount_point, mount)
    path = control.socket_path(mount.mount_point)

    def ask() -> None:
        next(iter(control.carry_out(path, Request("warm", ("a",)))))

    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        await trio.to_thread.run_sync(ask)
        with trio.fail_after(10):
            await mount.is_left_alone.wait()
        server.finish()
