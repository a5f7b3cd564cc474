"""Requests feed the health of a store, and its health decides what becomes of them."""

import math
import random
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from mountfs.backends.memory import MemoryStore
from mountfs.storage import errors
from mountfs.storage.attempts import RetryPolicy
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import InvalidRequest, StoreError
from mountfs.storage.health import Cause, Health, State
from mountfs.storage.reason import Reason, current_reason
from mountfs.storage.retry import RetryStorager
from mountfs.storage.types import ListMode, Object, ObjectKind, OfflinePolicy, Page
from mountfs.storage.watched import (
    HealthStorager,
    ProbeLimits,
    Prober,
    admitted,
)
from mountfs.storage.wrapper import StoragerWrapper


class Network(StoragerWrapper):
    """A store behind a network that a test takes down and up."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.error: StoreError | None = None
        self.is_silent = False
        self.stuck: set[str] = set()
        self.sent: list[tuple[str, Reason]] = []

    async def stat(self, key: str, *, kind: ObjectKind | None = None) -> Object:
        await self._pass("stat", key)
        return await super().stat(key, kind=kind)

    async def list(
        self,
        prefix: str,
        *,
        mode: ListMode = ListMode.DIRECTORY,
        token: str | None = None,
        limit: int | None = None,
    ) -> Page:
        await self._pass("list", prefix)
        return await super().list(prefix, mode=mode, token=token, limit=limit)

    async def _pass(self, call: str, key: str) -> None:
        self.sent.append((call, current_reason()))
        if self.is_silent or key in self.stuck:
            await trio.sleep_forever()
        if self.error is not None:
            raise self.error

    def asked(self) -> int:
        """Return how often the store was asked for its health."""
        return sum(reason is Reason.HEALTH for _, reason in self.sent)


class Scene:
    """The network, what watches it, and retries around both."""

    def __init__(self, policy: OfflinePolicy = OfflinePolicy.WAIT) -> None:
        self.network = Network()
        self.health = Health(clock=trio.current_time)
        self.watched = HealthStorager(self.network, self.health, policy)
        self.store = RetryStorager(
            self.watched,
            RetryPolicy(
                outage_attempts=math.inf if policy is OfflinePolicy.WAIT else 0
            ),
            chance=random.Random(1),
        )

    def prober(self, settle: Callable[[], Awaitable[None]] | None = None) -> Prober:
        return Prober(self.watched, self.health, settle=settle, chance=random.Random(2))


async def test_nothing_is_asked_while_all_is_well(autojump_clock: MockClock) -> None:
    """An hour of answers, misses and one lost reply costs not one request more."""
    scene = Scene()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.prober().run)
        for _ in range(60):
            with pytest.raises(errors.NotFound):
                await scene.store.stat("absent")
            await trio.sleep(60)
        scene.network.error = errors.Unreachable()
        with pytest.raises(errors.Unreachable):
            await scene.watched.stat("a")
        scene.network.error = None
        await scene.store.list("")
        await trio.sleep(60)
        nursery.cancel_scope.cancel()

    assert scene.network.asked() == 0
    assert len(scene.network.sent) == 62


@pytest.mark.parametrize(
    "error",
    [errors.Unreachable("gone"), errors.TimedOut("gone")],
)
async def test_waiting_outlasts_an_outage(
    autojump_clock: MockClock, error: StoreError
) -> None:
    """A request that meets an outage is answered when it ends before its deadline."""
    scene = Scene()
    scene.network.error = error
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.prober().run)
        nursery.start_soon(end_outage, scene, 7.0)

        with pytest.raises(errors.NotFound):
            await scene.store.stat("absent")

        assert scene.health.state is State.ONLINE
        nursery.cancel_scope.cancel()
    assert trio.current_time() < 10


async def end_outage(scene: Scene, after_s: float) -> None:
    await trio.sleep(after_s)
    scene.network.error = None
    scene.network.is_silent = False


async def test_waiting_ends_at_the_deadline(autojump_clock: MockClock) -> None:
    """A metadata request waits ten seconds for the store, and nothing is in doubt."""
    scene = Scene()
    scene.network.error = errors.Unreachable("gone")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.prober().run)
        begun_s = trio.current_time()
        with pytest.raises(errors.TimedOut, match="gone") as caught:
            await scene.store.stat("a")

        assert 9 < trio.current_time() - begun_s <= 10
        assert not caught.value.is_ambiguous
        assert scene.health.state is State.OFFLINE
        nursery.cancel_scope.cancel()


async def test_nothing_is_sent_while_offline(autojump_clock: MockClock) -> None:
    """A thousand requests that wait send nothing but the prober's questions."""
    scene = Scene()
    scene.network.error = errors.Unreachable("gone")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.prober().run)
        with pytest.raises(errors.TimedOut):
            await scene.store.stat("a")
        scene.network.sent.clear()
        async with trio.open_nursery() as programs:
            for number in range(1000):
                programs.start_soon(fails_with, errors.StayedOffline, scene, number)
        nursery.cancel_scope.cancel()

    assert len(scene.network.sent) == scene.network.asked()
    assert 2 <= scene.network.asked() <= 10


async def fails_with(expected: type[StoreError], scene: Scene, number: int) -> None:
    with pytest.raises(StoreError) as caught:
        await scene.store.stat(f"key-{number}")
    assert type(caught.value) is expected


@pytest.mark.parametrize("policy", [OfflinePolicy.EIO, OfflinePolicy.CACHED])
async def test_other_policies_do_not_wait(
    autojump_clock: MockClock, policy: OfflinePolicy
) -> None:
    """While OFFLINE a request fails at once."""
    scene = Scene(policy)
    scene.health.begin_offline(Cause.UNREACHABLE)
    begun_s = trio.current_time()

    await fails_with(errors.Offline, scene, 1)
    with pytest.raises(errors.Offline):
        await scene.store.write("a", BytesBody(b"x"))

    assert trio.current_time() == begun_s
    assert scene.network.sent == []


@pytest.mark.parametrize("policy", list(OfflinePolicy))
@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (Cause.CREDENTIALS, errors.CredentialsRejected),
        (Cause.BUCKET, errors.BucketNotFound),
    ],
)
async def test_a_refusal_is_told_at_once(
    autojump_clock: MockClock,
    policy: OfflinePolicy,
    cause: Cause,
    expected: type[StoreError],
) -> None:
    """Waiting renews no credentials: whatever the policy, the program is told."""
    scene = Scene(policy)
    scene.health.begin_offline(cause)
    begun_s = trio.current_time()

    await fails_with(expected, scene, 1)

    assert trio.current_time() == begun_s


async def test_who_waits_is_told_when_credentials_are_the_reason(
    autojump_clock: MockClock,
) -> None:
    """The network is back and the credentials have expired: nobody waits on."""
    scene = Scene()
    scene.health.begin_offline(Cause.UNREACHABLE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails_with, errors.CredentialsRejected, scene, 1)
        await trio.sleep(3)
        scene.health.failed(Cause.CREDENTIALS)

    assert trio.current_time() < 4


async def test_all_waiting_may_be_bounded(autojump_clock: MockClock) -> None:
    """At unmount a hundred files do not wait a minute each for a dead store."""
    scene = Scene()
    scene.health.begin_offline(Cause.UNREACHABLE)
    scene.watched.wait_no_longer_than(60)
    begun_s = trio.current_time()
    for number in range(100):
        with pytest.raises(errors.StayedOffline):
            await scene.store.write(f"key-{number}", BytesBody(b"x"))

    assert trio.current_time() - begun_s <= 60


async def test_one_stuck_object_blocks_nothing_else(
    autojump_clock: MockClock,
) -> None:
    """Programs that ask for it time out; all others are answered at once, and the
    store is never offline.
    """
    scene = Scene()
    scene.network.stuck = {"stuck"}
    seen: set[State] = set()

    async def ask_stuck() -> None:
        with pytest.raises(errors.TimedOut):
            await scene.store.stat("stuck")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.prober().run)
        async with trio.open_nursery() as programs:
            for _ in range(20):
                programs.start_soon(ask_stuck)
            for number in range(100):
                begun_s = trio.current_time()
                with pytest.raises(errors.NotFound):
                    await scene.store.stat(f"other-{number}")
                assert trio.current_time() == begun_s
                seen.add(scene.health.state)
                await trio.sleep(0.2)
        nursery.cancel_scope.cancel()

    assert State.OFFLINE not in seen


async def test_a_silent_store_is_found_out(autojump_clock: MockClock) -> None:
    """Packets that vanish: one deadline and two unanswered questions later it is
    OFFLINE, and it is ONLINE soon after it answers again.
    """
    scene = Scene()
    scene.network.is_silent = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.prober().run)
        nursery.start_soon(fails_with, errors.TimedOut, scene, 1)
        await scene.health.wait_for(State.OFFLINE)
        assert trio.current_time() < 22
        assert scene.health.cause is Cause.SILENT

        await end_outage(scene, 100)
        begun_s = trio.current_time()
        await scene.health.wait_for(State.ONLINE)
        assert trio.current_time() - begun_s < 15
        nursery.cancel_scope.cancel()


async def test_a_program_that_goes_away_is_no_silence(
    autojump_clock: MockClock,
) -> None:
    """A request that is cancelled before its deadline says nothing of the store."""
    scene = Scene()
    scene.network.is_silent = True
    for _ in range(5):
        with trio.move_on_after(3):
            await scene.store.stat("a")

    assert scene.health.state is State.ONLINE


async def test_an_unexplained_refusal_is_looked_into(
    autojump_clock: MockClock,
) -> None:
    """A HEAD says 403 and no more; a listing says that the token has expired."""
    scene = Scene()
    unexplained = errors.PermissionDenied("403")
    unexplained.is_unexplained = True

    async def stat(key: str, *, kind: ObjectKind | None = None) -> Object:
        raise unexplained

    scene.network.stat = stat  # type: ignore[method-assign]  # what only HEAD does
    scene.network.error = errors.CredentialsRejected("expired")

    with pytest.raises(errors.CredentialsRejected, match="expired"):
        await scene.store.stat("a")

    assert scene.network.sent == [("list", Reason.HEALTH)]


async def test_a_plain_refusal_is_looked_into_once_in_a_while(
    autojump_clock: MockClock,
) -> None:
    """Where HEAD is forbidden for good, not every HEAD costs a listing."""
    scene = Scene()
    unexplained = errors.PermissionDenied("403")
    unexplained.is_unexplained = True

    async def stat(key: str, *, kind: ObjectKind | None = None) -> Object:
        raise unexplained

    scene.network.stat = stat  # type: ignore[method-assign]  # what only HEAD does
    scene.network.error = errors.PermissionDenied("no listing either")
    for _ in range(100):
        with pytest.raises(errors.PermissionDenied, match="403"):
            await scene.store.stat("a")
        await trio.sleep(0.05)

    assert scene.network.asked() == 1
    assert scene.health.state is State.ONLINE


async def test_renewed_credentials_bring_it_back(autojump_clock: MockClock) -> None:
    """Expired credentials are a state: the prober finds out when they are renewed."""
    scene = Scene()
    scene.network.error = errors.CredentialsRejected("expired")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.prober().run)
        await fails_with(errors.CredentialsRejected, scene, 1)
        await scene.health.wait_for(State.OFFLINE)
        assert scene.health.cause is Cause.CREDENTIALS

        await end_outage(scene, 30)
        await scene.health.wait_for(State.ONLINE)
        nursery.cancel_scope.cancel()

    assert trio.current_time() < 40


async def test_credentials_renewed_meanwhile_are_used(
    autojump_clock: MockClock,
) -> None:
    """The request that found new ones is sent again, and nobody is told."""
    scene = Scene()
    scene.network.error = errors.CredentialsRenewed("expired")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_outage, scene, 0.01)
        with pytest.raises(errors.NotFound):
            await scene.store.stat("absent")

    assert scene.health.state is State.ONLINE


async def test_settling_comes_before_online(autojump_clock: MockClock) -> None:
    """What must be done first may use the store; programs wait until it is done, and
    a failure of it is tried again.
    """
    scene = Scene()
    scene.health.begin_offline(Cause.UNREACHABLE)
    tries: list[State] = []

    async def settle() -> None:
        await scene.store.list("")
        tries.append(scene.health.state)
        if len(tries) < 3:
            raise errors.ServiceFailed("not yet")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.prober(settle).run)
        with pytest.raises(errors.NotFound):
            await scene.store.stat("absent")

        assert tries == [State.OFFLINE] * 3
        assert scene.health.state is State.ONLINE
        nursery.cancel_scope.cancel()


async def test_the_admitted_are_sent_while_offline() -> None:
    """Questions, and what must be done before the store is ONLINE."""
    scene = Scene(OfflinePolicy.EIO)
    scene.health.begin_offline(Cause.UNREACHABLE)

    with admitted():
        await scene.store.list("")

    with pytest.raises(errors.Offline):
        await scene.store.list("")


def test_probe_limits_must_make_sense() -> None:
    """A pause of nothing would be an attack."""
    with pytest.raises(InvalidRequest):
        ProbeLimits(pause_min_s=0)
