"""The state of a store follows from what became of requests, with hysteresis."""

import logging
import math

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from mountfs.storage import errors
from mountfs.storage.errors import InvalidRequest, StoreError
from mountfs.storage.health import (
    Cause,
    Health,
    HealthLimits,
    State,
    cause_of,
    is_answer,
)
from tests.fakes.clocks import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(clock=clock)


def take_offline(health: Health, clock: Clock) -> None:
    """Fail as often and as long as it takes."""
    health.failed(Cause.UNREACHABLE)
    health.failed(Cause.UNREACHABLE)
    clock.now_s += 2
    health.failed(Cause.UNREACHABLE, "no connection to there")
    assert health.state is State.OFFLINE


def test_a_store_begins_online(health: Health) -> None:
    """Nothing is wrong until something is."""
    assert (health.state, health.cause, health.reason) == (State.ONLINE, None, None)


@pytest.mark.parametrize("cause", [Cause.UNREACHABLE, Cause.FAILING])
def test_one_failure_changes_nothing(health: Health, cause: Cause) -> None:
    """A lost reply is made good by a retry, and nobody is told."""
    for _ in range(10):
        health.failed(cause)
        health.answered()

    assert health.state is State.ONLINE


@pytest.mark.parametrize("cause", [Cause.UNREACHABLE, Cause.FAILING])
def test_two_failures_in_a_row_degrade(health: Health, cause: Cause) -> None:
    """Then the store is asked in the background, and everything is still sent."""
    health.failed(cause)
    health.failed(cause)

    assert (health.state, health.cause) == (State.DEGRADED, cause)


@pytest.mark.parametrize("cause", [Cause.SILENT, Cause.CREDENTIALS, Cause.BUCKET])
def test_a_silence_or_refusal_degrades_at_once(health: Health, cause: Cause) -> None:
    """A whole deadline without an answer, or a clear word, is no noise."""
    health.failed(cause)

    assert (health.state, health.cause) == (State.DEGRADED, cause)


def test_many_failures_at_once_are_one_event(health: Health) -> None:
    """A hundred connections that one cut ends do not take the store offline."""
    for _ in range(100):
        health.failed(Cause.UNREACHABLE)

    assert health.state is State.DEGRADED


def test_failures_over_some_time_take_it_offline(health: Health, clock: Clock) -> None:
    """It takes three in a row over two seconds, without an answer."""
    take_offline(health, clock)

    assert health.reason == "the store cannot be reached (no connection to there)"


def test_an_answer_between_keeps_it_from_offline(health: Health, clock: Clock) -> None:
    """One stuck object does not take the store away from the others."""
    for _ in range(50):
        health.failed(Cause.SILENT)
        clock.now_s += 10
        health.answered()

    assert health.state is State.DEGRADED


def test_failing_answers_never_take_it_offline(health: Health, clock: Clock) -> None:
    """A store that answers 500 can be reached: requests are still sent."""
    for _ in range(50):
        health.failed(Cause.FAILING)
        clock.now_s += 1

    assert (health.state, health.cause) == (State.DEGRADED, Cause.FAILING)


def test_failing_answers_do_not_count_as_silence(health: Health, clock: Clock) -> None:
    """What failed before in another way is not added up."""
    health.failed(Cause.FAILING)
    health.failed(Cause.FAILING)
    clock.now_s += 60
    health.failed(Cause.UNREACHABLE)

    assert health.state is State.DEGRADED


@pytest.mark.parametrize("cause", [Cause.CREDENTIALS, Cause.BUCKET])
def test_two_refusals_take_it_offline(health: Health, cause: Cause) -> None:
    """Nothing can succeed until somebody acts."""
    health.failed(cause)
    health.failed(cause)

    assert (health.state, health.cause) == (State.OFFLINE, cause)


def test_online_takes_several_answers(health: Health, clock: Clock) -> None:
    """A store that flaps is not believed at the first word."""
    take_offline(health, clock)
    health.answered()
    health.answered()
    health.failed(Cause.UNREACHABLE)
    health.answered()
    health.answered()
    assert health.state is State.OFFLINE

    health.answered()

    assert (health.state, health.cause) == (State.ONLINE, None)


def test_a_failing_answer_ends_offline(health: Health, clock: Clock) -> None:
    """The network is back, whatever the store says."""
    take_offline(health, clock)

    health.failed(Cause.FAILING)

    assert health.state is State.DEGRADED


def test_the_cause_may_change_while_offline(health: Health, clock: Clock) -> None:
    """The network came back, and the credentials have expired meanwhile."""
    take_offline(health, clock)

    health.failed(Cause.CREDENTIALS)

    assert (health.state, health.cause) == (State.OFFLINE, Cause.CREDENTIALS)


def test_a_store_that_began_offline_waits_to_be_settled(health: Health) -> None:
    """What must be done first is done first, however well the store answers."""
    health.begin_offline(Cause.UNREACHABLE)
    for _ in range(10):
        health.answered()
    health.failed(Cause.FAILING)
    assert (health.state, health.cause) == (State.OFFLINE, Cause.FAILING)
    for _ in range(3):
        health.answered()
    assert (health.state, health.is_answering) == (State.OFFLINE, True)

    health.settled()

    assert (health.state, health.cause) == (State.ONLINE, None)


async def test_a_state_can_be_waited_for(health: Health, clock: Clock) -> None:
    """Who waits wakes when it comes, and at once if it is there."""
    await health.wait_for(State.ONLINE)
    take_offline(health, clock)
    woken: list[str] = []

    async def wait() -> None:
        await health.wait_for(State.ONLINE)
        woken.append("online")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert woken == []
        for _ in range(3):
            health.answered()
    assert woken == ["online"]


def test_each_change_is_one_line(
    health: Health, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """It names the state, the cause and the cure; only OFFLINE is a warning."""
    caplog.set_level(logging.INFO, "mountfs.storage.health")
    take_offline(health, clock)
    health.failed(Cause.UNREACHABLE)
    clock.now_s += 5
    for _ in range(5):
        health.answered()

    assert [record.levelname for record in caplog.records] == [
        "INFO",
        "WARNING",
        "INFO",
    ]
    assert caplog.messages == [
        "the store is DEGRADED: the store cannot be reached:"
        " check the network, the name service and --endpoint-url",
        "the store is OFFLINE: the store cannot be reached (no connection to there):"
        " check the network, the name service and --endpoint-url",
        "the store is ONLINE again after 5.0 s",
    ]


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (errors.TimedOut(), Cause.SILENT),
        (errors.Unreachable(), Cause.UNREACHABLE),
        (errors.ServiceFailed(), Cause.FAILING),
        (errors.Throttled(), Cause.FAILING),
        (errors.CredentialsRejected(), Cause.CREDENTIALS),
        (errors.CredentialsRenewed(), None),
        (errors.BucketNotFound(), Cause.BUCKET),
        (errors.NotFound(), None),
        (errors.PermissionDenied(), None),
        (errors.Corrupt(), None),
        (errors.BodyTooShort(), None),
    ],
)
def test_what_an_error_says(error: StoreError, cause: Cause | None) -> None:
    """Only what is wrong with the store counts, not what is wrong with a request."""
    assert cause_of(error) is cause


def test_a_no_is_an_answer() -> None:
    """A refusal shows a store that is well; a local failure shows nothing."""
    assert is_answer(errors.NotFound())
    assert is_answer(errors.AlreadyExists())
    assert not is_answer(errors.BucketNotFound())
    assert not is_answer(errors.CredentialsRejected())
    assert not is_answer(errors.Corrupt())
    assert not is_answer(StoreError("the bytes to send cannot be read"))


@pytest.mark.parametrize(
    ("cause", "has_waited", "expected"),
    [
        (Cause.UNREACHABLE, False, errors.Offline),
        (Cause.SILENT, True, errors.StayedOffline),
        (Cause.FAILING, False, errors.Offline),
        (Cause.CREDENTIALS, False, errors.CredentialsRejected),
        (Cause.BUCKET, True, errors.BucketNotFound),
    ],
)
def test_what_a_request_is_told(
    health: Health, cause: Cause, has_waited: bool, expected: type[StoreError]
) -> None:
    """Nothing was sent, so nothing is in doubt, and nothing is tried again."""
    health.begin_offline(cause, "why")

    with pytest.raises(StoreError, match="why") as caught:
        health.refuse(has_waited=has_waited)

    assert type(caught.value) is expected
    assert not caught.value.is_ambiguous
    assert not caught.value.is_retryable


@pytest.mark.parametrize(
    "wrong",
    [
        {"degraded_after": 0},
        {"offline_after_s": -1.0},
        {"offline_after_s": math.inf},
        {"online_after": 0},
    ],
)
def test_limits_must_make_sense(wrong: dict[str, float]) -> None:
    """A limit that can never, or always, be met is refused."""
    with pytest.raises(InvalidRequest):
        HealthLimits(**wrong)  # type: ignore[arg-type]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from([*Cause, None]),
        st.floats(0, 5, allow_nan=False),
    ),
    max_size=60,
)


@given(EVENTS)
def test_whatever_happens_the_rules_hold(
    events: list[tuple[Cause | None, float]],
) -> None:
    """OFFLINE begins with a failure after others and no answer between; ONLINE only
    with the third answer in a row; a cause is known exactly while not ONLINE.
    """
    clock = Clock()
    health = Health(clock=clock)
    failures, answers = 0, 0
    for cause, pause_s in events:
        clock.now_s += pause_s
        before = health.state
        if cause is None:
            health.answered()
            failures, answers = 0, answers + 1
        else:
            health.failed(cause)
            failures, answers = failures + 1, 0
        assert (health.cause is None) is (health.state is State.ONLINE)
        if health.state is State.OFFLINE and before is not State.OFFLINE:
            assert cause not in (None, Cause.FAILING)
            assert failures >= 2
        if health.state is State.ONLINE and before is not State.ONLINE:
            assert answers >= 3
