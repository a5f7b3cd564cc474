"""What the manager of a mount is told, by what happens to the mount."""

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from mountfs.cache.activity import Activity
from mountfs.serving.notify import Manager
from mountfs.serving.pulse import Pulse
from mountfs.serving.service import (
    EXTENSION_S,
    STATUS_INTERVAL_S,
    Service,
    Work,
    describe,
)
from mountfs.status import State, Status


class Listening(Manager):
    """A manager that remembers what it was told."""

    def __init__(self, watchdog_s: float | None = None) -> None:
        super().__init__("/nowhere", watchdog_s)
        self.told: list[dict[str, str | int]] = []

    def tell(self, **said: str | int) -> None:
        """Remember it."""
        self.told.append(said)

    def count(self, name: str) -> int:
        """Return how often it was told something of that name."""
        return sum(name in each for each in self.told)


class Mount:
    """A mount as far as a service sees it."""

    def __init__(self, watchdog_s: float | None = None) -> None:
        self.manager = Listening(watchdog_s)
        self.activity = Activity()
        self.requests = 0
        self.state = State.MOUNTED
        self.pending = 0
        work = Work(self.activity, lambda: self.requests)
        self.service = Service(self.manager, work)

    def status(self) -> Status:
        return Status(
            url="s3://b",
            mount_point="/m",
            pid=1,
            state=self.state,
            pending_files=self.pending,
        )


async def passes(seconds: float, task: Callable[..., object], *args: object) -> None:
    """Run a task for so long."""
    with trio.move_on_after(seconds):
        await task(*args)  # type: ignore[misc]


def status_of(**fields: object) -> Status:
    known = {"url": "s3://b", "mount_point": "/m", "pid": 1, "state": State.MOUNTED}
    return Status(**{**known, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (status_of(), "mounted; the store has everything"),
        (
            status_of(pending_files=1, pending_bytes=2048),
            "mounted; not in the store yet: 1 file, 2 KiB",
        ),
        (
            status_of(
                store_state="offline",
                store_reason="the store cannot be reached (no route)",
                pending_files=3,
                pending_bytes=3 << 20,
            ),
            "mounted; the store is OFFLINE (the store cannot be reached (no route));"
            " not in the store yet: 3 files, 3 MiB",
        ),
        (
            status_of(state=State.DRAINING, pending_files=2, unseen=1),
            "unmounted, draining; not in the store yet: 2 files, 0 B; late errors: 1"
            " (see `mountfs status`)",
        ),
        (
            status_of(config_problem="/etc/mountfs/a.toml:7: ttl takes a time"),
            "mounted; the store has everything; the configuration was not taken:"
            " /etc/mountfs/a.toml:7: ttl takes a time",
        ),
        (
            status_of(state=State.DONE, pending_files=2),
            "unmounted; not in the store yet: 2 files, 0 B; the next mount goes on"
            " with it",
        ),
    ],
)
def test_a_mount_in_one_line(status: Status, expected: str) -> None:
    """As it stands in `systemctl status`."""
    assert describe(status) == expected


def test_what_is_stuck_comes_first() -> None:
    """It is why the manager is going to restart the mount."""
    text = describe(status_of(), ("the journal",))

    assert text.startswith("STUCK: the journal does not answer; mounted")


async def test_a_status_is_told_when_it_changes(autojump_clock: MockClock) -> None:
    """And not again while it stays."""
    mount = Mount()
    mount.service.ready(mount.status)

    await passes(10 * STATUS_INTERVAL_S, mount.service.run)
    mount.pending = 1
    await passes(10 * STATUS_INTERVAL_S, mount.service.run)

    assert mount.manager.told[0] == {"READY": 1}
    assert mount.manager.count("STATUS") == 2


async def test_a_reload_is_told_from_its_beginning_to_its_end() -> None:
    """But not before the mount is ready: READY would be a lie."""
    mount = Mount()

    with mount.service.reloading():
        pass
    before = list(mount.manager.told)
    mount.service.ready(mount.status)
    with mount.service.reloading():
        begun = mount.manager.told[-1]

    assert before == []
    assert begun["RELOADING"] == 1
    assert {"READY": 1} in mount.manager.told[mount.manager.told.index(begun) :]


async def test_a_start_that_gets_on_is_given_time(autojump_clock: MockClock) -> None:
    """A mount that sends what an earlier one has left is not ready for long."""
    mount = Mount()

    async def work() -> None:
        for _ in range(10):
            await trio.sleep(EXTENSION_S / 2)
            mount.activity.uploaded_bytes += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(mount.service.run)
        await work()
        nursery.cancel_scope.cancel()

    assert mount.manager.count("EXTEND_TIMEOUT_USEC") >= 10


async def test_a_drain_without_progress_is_not(autojump_clock: MockClock) -> None:
    """One that does nothing for the time of its unit is ended."""
    mount = Mount()
    mount.service.ready(mount.status)
    mount.state = State.DRAINING
    mount.service.stopping()
    await passes(STATUS_INTERVAL_S / 2, mount.service.run)
    before = mount.manager.count("EXTEND_TIMEOUT_USEC")

    await passes(10 * EXTENSION_S, mount.service.run)

    assert mount.manager.count("EXTEND_TIMEOUT_USEC") == before
    assert before >= 1


async def test_one_long_request_is_progress(autojump_clock: MockClock) -> None:
    """It has a deadline of its own, which ends it."""
    mount = Mount()
    mount.service.ready(mount.status)
    mount.state, mount.requests = State.DRAINING, 1

    await passes(10 * EXTENSION_S, mount.service.run)

    assert mount.manager.count("EXTEND_TIMEOUT_USEC") >= 10


class Parts(Pulse):
    """A pulse of parts that answer when they are told to."""

    def __init__(self) -> None:
        self.are_stuck: tuple[str, ...] = ()

    async def run(self, every_s: float) -> None:
        await trio.sleep_forever()

    def silent(self, limit_s: float) -> tuple[str, ...]:
        return self.are_stuck


async def test_signs_of_life_end_with_life(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """They go on when what was stuck goes on; the status and the log name it."""
    mount, parts = Mount(watchdog_s=10.0), Parts()
    mount.service.ready(mount.status)
    counts = []

    for stuck in ((), ("the journal",), ()):
        parts.are_stuck = stuck
        before = mount.manager.count("WATCHDOG")
        await passes(100.0, mount.service.watch, parts)
        counts.append(mount.manager.count("WATCHDOG") - before)

    assert counts[1] == 0
    assert min(counts[0], counts[2]) >= 20  # at least twice within the watchdog's time
    said = [str(each["STATUS"]) for each in mount.manager.told if "STATUS" in each]
    assert [each.startswith("STUCK") for each in said] == [False, True, False]
    assert caplog.text.count("the journal does not answer") == 1


async def test_a_bug_in_a_status_does_not_cost_the_mount(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged."""
    mount = Mount()

    def status() -> Status:
        raise ZeroDivisionError

    mount.service.ready(status)
    await passes(STATUS_INTERVAL_S / 2, mount.service.run)

    assert "a bug in mountfs" in caplog.text


async def test_without_a_manager_nothing_is_looked_at() -> None:
    """A mount by hand pays nothing for being a service."""
    service = Service(Manager(), Work(Activity(), lambda: 0))

    with trio.fail_after(1):
        await service.run()
        await service.watch(Parts())
