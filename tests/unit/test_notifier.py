"""Notifications of the kernel, which run in threads."""

import errno
import threading

import pyfuse3
import pytest
import trio

from mountfs.fuse.notifier import notify_kernel
from mountfs.vfs.volume import Outdated


async def notified(monkeypatch: pytest.MonkeyPatch, code: int) -> list[str]:
    """Send one notification, and cancel when it is under way; tell what happened."""
    begun, go_on = trio.Event(), threading.Event()
    happened: list[str] = []

    def invalidate(*_: object) -> None:
        trio.from_thread.run_sync(begun.set)
        go_on.wait(10)
        happened.append("the thread has ended")
        if code:
            raise OSError(code, "")

    monkeypatch.setattr(pyfuse3, "invalidate_entry", invalidate)
    sending, receiving = trio.open_memory_channel[Outdated](1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(notify_kernel, receiving)
        await sending.send(Outdated(1, b"name"))
        await begun.wait()
        nursery.cancel_scope.cancel()
        threading.Timer(0.1, go_on.set).start()
    happened.append("the session may be closed")
    return happened


@pytest.mark.parametrize("code", [0, errno.EINVAL, errno.ENOTCONN])
async def test_no_notification_outlives_the_session(
    monkeypatch: pytest.MonkeyPatch, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    """libfuse would use the session, which is no more; that is no news to anybody."""
    happened = await notified(monkeypatch, code)

    assert happened == ["the thread has ended", "the session may be closed"]
    assert caplog.messages == []
