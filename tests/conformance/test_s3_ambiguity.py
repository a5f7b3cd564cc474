"""A lost reply is no conflict: the effect is there once, and the caller learns it.

Each request is carried out behind a proxy that says nothing, or that it failed; the
retries above must find their own effect, and a foreign one must stay a conflict.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from mountfs.backends.s3 import open_s3
from mountfs.storage.attempts import RetryPolicy
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import NotFound, VersionChanged
from mountfs.storage.protocol import Storager
from mountfs.storage.retry import RetryStorager
from mountfs.storage.types import ABSENT, Metadata, Object
from tests.fakes.cutting_proxy import (
    CuttingProxy,
    Fault,
    answer,
    answer_after,
    cut_reply,
)
from tests.fakes.strict_shim import StrictShim

POLICY = RetryPolicy(attempts=3, backoff_base_s=0.01, backoff_max_s=0.02)
FAULTS: dict[str, Fault] = {
    "cut": cut_reply,
    "500": answer_after(500, "InternalError"),
    "503": answer_after(503, "ServiceUnavailable"),
}


@pytest.fixture
def proxy(s3_shim: StrictShim) -> Iterator[CuttingProxy]:
    with contextlib.closing(CuttingProxy(s3_shim.server)) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: CuttingProxy, s3_bucket: str) -> AsyncIterator[Storager]:
    options = {"endpoint_url": proxy.endpoint_url, "addressing_style": "path"}
    store = RetryStorager(open_s3(f"s3://{s3_bucket}", options), POLICY)
    yield store
    await store.close()


async def _create(store: Storager, old: Object) -> Object:
    return await store.write("new", BytesBody(b"bytes"), condition=ABSENT)


async def _replace(store: Storager, old: Object) -> Object:
    return await store.write("old", BytesBody(b"bytes"), condition=old.version)


async def _copy(store: Storager, old: Object) -> Object:
    return await store.copy("old", "new", metadata=Metadata(), condition=ABSENT)


async def _plain_copy(store: Storager, old: Object) -> Object:
    return await store.copy("old", "new")


async def _set_metadata(store: Storager, old: Object) -> Object:
    changed = Metadata(user={"mode": "33188"})
    return await store.set_metadata(old, changed, condition=old.version)


async def _complete(store: Storager, old: Object) -> Object:
    upload = await store.create_multipart("new")
    part = await store.write_part(upload, 0, BytesBody(b"bytes"))
    return await store.complete_multipart(upload, [part], condition=ABSENT)


CHANGES: dict[str, tuple[str, Callable[[Storager, Object], Awaitable[Object]]]] = {
    "create": ("PutObject", _create),
    "replace": ("PutObject", _replace),
    "copy": ("CopyObject", _copy),
    "plain-copy": ("CopyObject", _plain_copy),
    "set_metadata": ("CopyObject", _set_metadata),
    "complete": ("CompleteMultipartUpload", _complete),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("change", CHANGES)
async def test_a_lost_reply_is_no_conflict_with_oneself(
    store: Storager,
    proxy: CuttingProxy,
    s3_shim: StrictShim,
    change: str,
    fault: str,
) -> None:
    """The change has its effect once, and its answer is the object."""
    old = await store.write("old", BytesBody(b"old bytes"))
    operation, make = CHANGES[change]
    s3_shim.clear()
    proxy.fail(operation, FAULTS[fault])

    made = await make(store, old)

    found = await store.stat(made.key)
    assert proxy.struck == 1
    assert found.version is not None
    assert made.version is not None
    assert found.version.content == made.version.content
    done = [request.status for request in s3_shim.requests(operation)]
    assert done.count(200) == 1


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_lost_reply_to_a_delete_is_success(
    store: Storager, proxy: CuttingProxy, fault: str
) -> None:
    """A conditional delete whose reply is lost ends well, and the key is gone."""
    old = await store.write("old", BytesBody(b"old bytes"))
    proxy.fail("DeleteObject", FAULTS[fault])

    await store.delete("old", condition=old.version)

    assert proxy.struck == 1
    with pytest.raises(NotFound):
        await store.stat("old")


async def test_a_foreign_write_behind_a_lost_reply_is_a_conflict(
    store: Storager, proxy: CuttingProxy, s3_bucket: str
) -> None:
    """What another client wrote meanwhile is neither overwritten nor taken for ours."""
    old = await store.write("old", BytesBody(b"old bytes"))
    foreign = proxy.upstream.client()
    foreign.put_object(Bucket=s3_bucket, Key="old", Body=b"foreign")
    foreign.close()
    proxy.fail("PutObject", cut_reply)

    with pytest.raises(VersionChanged):
        await store.write("old", BytesBody(b"ours"), condition=old.version)

    assert (await store.read("old")).data == b"foreign"


@pytest.mark.parametrize(
    "fault",
    [
        answer(503, "SlowDown", Retry_After="0"),
        answer(429, "TooManyRequests"),
        answer(500, "InternalError"),
        answer(400, "RequestTimeout"),
        answer(409, "ConditionalRequestConflict"),
    ],
    ids=["slow-down", "429", "500", "timeout", "conflict"],
)
async def test_a_failure_that_may_pass_is_tried_again(
    store: Storager, proxy: CuttingProxy, fault: Fault
) -> None:
    """A throttled or failed write succeeds at the second try."""
    proxy.fail("PutObject", fault)

    await store.write("key", BytesBody(b"bytes"), condition=ABSENT)

    assert proxy.struck == 1
    assert (await store.read("key")).data == b"bytes"
