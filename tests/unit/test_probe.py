"""Probes: only what a store really does is believed."""

import dataclasses
import itertools

import pytest

from mountfs.storage.body import BytesBody
from mountfs.storage.errors import (
    AlreadyExists,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    ServiceFailed,
    StoreError,
    Throttled,
    Unreachable,
    Unsupported,
    VersionChanged,
)
from mountfs.storage.probe import NarrowedStorager, Probe, probe_store
from mountfs.storage.reason import Reason, because, current_reason
from mountfs.storage.types import (
    ABSENT,
    Call,
    Capabilities,
    Condition,
    Metadata,
    Object,
    ObjectKind,
    Version,
)
from tests.fakes.faulty import Fault, FaultyStore
from tests.fakes.flat_store import KEY_STORE, FlatStore

NOTHING = Probe(frozenset(), dir_metadata=False)
SUBSETS = [
    frozenset(calls)
    for count in range(len(Call) + 1)
    for calls in itertools.combinations(Call, count)
]


@pytest.mark.parametrize("ignored", SUBSETS)
async def test_each_call_is_probed_apart(ignored: frozenset[Call]) -> None:
    """Exactly the calls whose conditions are ignored lose them."""
    flat = FlatStore(ignored=ignored)

    probe = await probe_store(flat)

    assert probe.conditions == frozenset(Call) - ignored


async def test_nothing_is_left_and_nothing_else_is_touched() -> None:
    """A probe writes under its own fresh keys alone, and takes them away."""
    flat = FlatStore()
    flat.put("a", b"theirs")
    seen: set[str] = set()

    class Watched(FaultyStore):
        async def _pass(self, call: str, request: object) -> object:
            answer = await super()._pass(call, request)  # type: ignore[arg-type]
            seen.update(flat.objects)
            return answer

    await probe_store(Watched(flat))

    assert set(flat.objects) == {"a"}
    assert flat.uploads == {}
    assert all(key.startswith(".mountfs/probe-") for key in seen - {"a"})


async def test_claims_are_only_ever_shrunk() -> None:
    """What a backend does not claim is not tried."""
    flat = FlatStore(Capabilities(service="bare"))

    assert await probe_store(flat) == NOTHING
    assert flat.requests == []


@pytest.mark.parametrize("call", ["write", "copy", "complete_multipart", "delete"])
async def test_unknown_answer_to_a_condition_is_no_honour(call: str) -> None:
    """A store that fails a conditional request does not honour conditions."""

    class Failing(FlatStore):
        def _honoured(self, asked: Call, condition: Condition) -> Condition:
            if condition is not None and call.startswith(asked.value):
                raise Unsupported
            return super()._honoured(asked, condition)

    probe = await probe_store(Failing())

    assert len(probe.conditions) == len(Call) - 1


async def test_store_that_refuses_every_condition_honours_none() -> None:
    """A condition that holds must be accepted, not only wrong ones refused."""

    class Refusing(FlatStore):
        def _honoured(self, call: Call, condition: Condition) -> Condition:
            if condition is not None:
                raise PreconditionFailed
            return None

    assert (await probe_store(Refusing())).conditions == frozenset()


async def test_markers_that_drop_metadata_are_found_out() -> None:
    """A claim that markers keep metadata is tried as well."""

    class Dropping(FlatStore):
        def _put(
            self, key: str, data: bytes, metadata: Metadata, condition: Condition
        ) -> Object:
            kept = Metadata() if key.endswith("/") else metadata
            return super()._put(key, data, kept, condition)

    class Losing(FlatStore):
        async def stat(self, key: str, *, kind: ObjectKind | None = None) -> Object:
            raise NotFound(key=key)

    assert (await probe_store(FlatStore())).dir_metadata
    assert not (await probe_store(Dropping())).dir_metadata
    assert not (await probe_store(Losing())).dir_metadata


async def test_native_directories_are_believed() -> None:
    """Directories of the store's own are no markers that could drop metadata."""
    capabilities = dataclasses.replace(
        KEY_STORE, native_dirs=True, conditions=frozenset()
    )
    flat = FlatStore(capabilities)

    assert (await probe_store(flat)).dir_metadata
    assert flat.requests == []


async def test_directory_of_the_probe_goes_too() -> None:
    """Where directories are real, the probe's own one is removed after its keys."""
    flat = FlatStore(dataclasses.replace(KEY_STORE, native_dirs=True))
    deleted: list[str] = []

    class Noting(FaultyStore):
        async def delete(self, key: str, *, condition: Condition = None) -> None:
            deleted.append(key)
            await flat.delete(key, condition=condition)

    await probe_store(Noting(flat))

    assert deleted[-1].startswith(".mountfs/probe-")
    assert deleted[-1].endswith("/")


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([Fault("write", PermissionDenied())], id="read-only"),
        pytest.param([Fault("copy", Unreachable())], id="cut"),
        pytest.param([Fault("complete_multipart", Throttled())], id="throttled"),
    ],
)
async def test_failed_probe_cleans_up_too(faults: list[Fault]) -> None:
    """No answer is no finding: it is raised, and the keys go all the same."""
    flat = FlatStore()

    with pytest.raises(StoreError):
        await probe_store(FaultyStore(flat, *faults))

    assert flat.objects == {}
    assert flat.uploads == {}


async def test_no_answer_to_a_condition_that_holds_is_raised() -> None:
    """Only an answer counts, for a right condition as for a wrong one."""

    class Cut(FlatStore):
        def _check_target(self, key: str, condition: Condition) -> None:
            super()._check_target(key, condition)
            if condition is not None:
                raise Unreachable(key=key)

    with pytest.raises(Unreachable):
        await probe_store(Cut())


async def test_cleaning_up_goes_on_after_a_failure() -> None:
    """What cannot be taken away does not keep the rest."""
    flat = FlatStore()
    faulty = FaultyStore(
        flat,
        Fault("complete_multipart", Unreachable()),
        Fault("abort_multipart", ServiceFailed()),
        Fault("delete", ServiceFailed()),
    )

    with pytest.raises(Unreachable):
        await probe_store(faulty)

    assert len(flat.objects) == 1
    assert len(flat.uploads) == 1


async def test_probe_says_why_it_asks() -> None:
    """All requests of a probe carry its reason."""
    reasons: set[Reason] = set()

    class Noting(FlatStore):
        def _begin(self, call: str) -> None:
            reasons.add(current_reason())
            super()._begin(call)

    await probe_store(Noting())

    assert reasons == {Reason.PROBE}
    assert current_reason() is Reason.FOREGROUND


def test_reasons_nest() -> None:
    """The innermost reason counts, and the outer one comes back."""
    with because(Reason.INDEX):
        with because(Reason.PREFETCH):
            assert current_reason() is Reason.PREFETCH
        assert current_reason() is Reason.INDEX


@pytest.mark.parametrize("conditions", SUBSETS)
def test_probe_survives_json(conditions: frozenset[Call]) -> None:
    """What is written to the cache is read back."""
    probe = Probe(conditions, dir_metadata=True)

    assert Probe.from_json(probe.to_json()) == probe


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"conditions": "write", "dir_metadata": True},
        {"conditions": [], "dir_metadata": 1},
        {"conditions": ["wriggle"], "dir_metadata": True},
    ],
)
def test_garbage_is_no_probe(value: object) -> None:
    """A damaged cache is noticed, so that the store is asked again."""
    with pytest.raises(ValueError, match=r"wriggle|not a probe"):
        Probe.from_json(value)


def test_claims_can_be_believed_untried() -> None:
    """A read-only mount takes the backend at its word."""
    assert Probe.of_claims(KEY_STORE) == Probe(frozenset(Call), dir_metadata=True)


# Living with the result.


async def _write(store: NarrowedStorager, condition: Condition) -> object:
    return await store.write("a", BytesBody(b"new"), condition=condition)


async def _copy(store: NarrowedStorager, condition: Condition) -> object:
    return await store.copy("source", "a", condition=condition)


async def _complete(store: NarrowedStorager, condition: Condition) -> object:
    upload = await store.create_multipart("a")
    part = await store.write_part(upload, 0, BytesBody(b"new"))
    return await store.complete_multipart(upload, [part], condition=condition)


async def _delete(store: NarrowedStorager, condition: Condition) -> object:
    await store.delete("a", condition=condition)
    return None


async def _set_metadata(store: NarrowedStorager, condition: Condition) -> object:
    return await store.set_metadata(
        Object(key="a"), Metadata(user={"k": "v"}), condition=condition
    )


async def _make_link(store: NarrowedStorager, condition: Condition) -> object:
    return await store.make_link("a", "t", condition=condition)


STEPS = [_write, _copy, _complete, _delete, _set_metadata, _make_link]
LINKING = dataclasses.replace(KEY_STORE, native_links=True)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("probe", [NOTHING, Probe.of_claims(LINKING)])
async def test_conditions_hold_whether_the_store_checks_them_or_not(
    step: object, probe: Probe
) -> None:
    """A wrong condition is refused, and a right one accepted, on every store."""
    flat = FlatStore(LINKING, ignored=frozenset(Call) - probe.conditions)
    flat.put("source", b"new")
    version = flat.put("a", b"old").version
    store = NarrowedStorager(flat, probe)

    with pytest.raises(VersionChanged):
        await step(store, Version("other"))  # type: ignore[operator]
    # A store that knows conditions tells that this one makes no sense for a delete.
    is_senseless = step is _delete and probe is not NOTHING
    with pytest.raises(InvalidRequest if is_senseless else AlreadyExists):
        await step(store, ABSENT)  # type: ignore[operator]
    assert flat.objects["a"].data == b"old"
    await step(store, version)  # type: ignore[operator]

    assert set(store.ignored) == (set(Call) if probe is NOTHING else set())


@pytest.mark.parametrize("step", [_write, _copy, _complete, _make_link])
async def test_absence_is_checked_where_the_store_does_not(step: object) -> None:
    """A new key is written once its absence was seen; a gone one has changed."""
    flat = FlatStore(LINKING, ignored=frozenset(Call))
    flat.put("source", b"new")
    store = NarrowedStorager(flat, NOTHING)

    with pytest.raises(VersionChanged):
        await step(store, Version("any"))  # type: ignore[operator]
    await step(store, ABSENT)  # type: ignore[operator]

    assert "a" in flat.objects


async def test_delete_of_what_is_gone_is_success(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Absence is success for a delete, whatever version was named."""
    flat = FlatStore(ignored=frozenset(Call))

    await NarrowedStorager(flat, NOTHING).delete("a", condition=Version("any"))

    assert "delete" not in flat.requests


async def test_unconditional_calls_cost_nothing_more() -> None:
    """Without a condition nothing is asked first."""
    flat = FlatStore()

    await NarrowedStorager(flat, NOTHING).write("a", None)

    assert flat.requests == ["write"]


def test_narrowed_capabilities_are_the_common_ones() -> None:
    """A probe can take claims away, never add any."""
    bare = FlatStore(Capabilities(service="bare"))
    everything = Probe(frozenset(Call), dir_metadata=True)

    assert NarrowedStorager(bare, everything).capabilities == bare.capabilities
    narrowed = NarrowedStorager(FlatStore(), NOTHING).capabilities
    assert (narrowed.conditions, narrowed.dir_metadata) == (frozenset(), False)
