"""Telling the kernel to forget a name, or giving it bytes, from threads of their own.

A notification waits for whatever request of that directory is under way, so on the
trio thread it would wait for itself, in a state that even SIGKILL does not end. The
file system puts what changed on a bounded channel; this reads it and calls pyfuse3 in
a worker thread, one at a time, holding no lock.
"""

import errno
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress

import pyfuse3
import trio

from mountfs.cache.activity import Activity
from mountfs.vfs.pushes import Push
from mountfs.vfs.volume import Outdated

log = logging.getLogger(__name__)

ENDS_WITHIN_S = 2.0
"""A notification ends at once when the mount is gone, which is when we end, too."""
_NOT_THERE = (errno.ENOENT, errno.ENOTCONN, errno.ENODEV, errno.EINVAL)
"""ENOENT: the kernel does not know the name or the inode. ENOTCONN, ENODEV: it is
unmounted. EINVAL, from libfuse: the session is closed.
"""


async def notify_kernel(outdated: "trio.MemoryReceiveChannel[Outdated]") -> None:
    """Pass on notifications until cancelled; what is left then is dropped."""
    limiter = trio.CapacityLimiter(1)
    async with outdated, _ended(limiter):
        async for message in outdated:
            await trio.to_thread.run_sync(
                _invalidate, message, limiter=limiter, abandon_on_cancel=True
            )


async def push_to_kernel(
    pushes: "trio.MemoryReceiveChannel[Push]", activity: Activity
) -> None:
    """Put bytes into the kernel's page cache until cancelled; what is left is dropped.

    Many small ones go in one hop to the thread, which costs as much as three requests.
    """
    limiter = trio.CapacityLimiter(1)
    async with pushes, _ended(limiter):
        async for first in pushes:
            batch = [first, *_waiting(pushes)]
            begun = [push for push in batch if push.begin()]
            if not begun:
                continue
            try:
                activity.pushed_bytes += await trio.to_thread.run_sync(
                    _store_all, begun, limiter=limiter, abandon_on_cancel=True
                )
            finally:
                for push in begun:
                    push.end()


@asynccontextmanager
async def _ended(limiter: trio.CapacityLimiter) -> AsyncIterator[None]:
    """Wait in the end for the thread that is left behind: the session is closed next.

    It has the only token of `limiter` as long as it runs.
    """
    try:
        yield
    finally:
        with trio.move_on_after(ENDS_WITHIN_S, shield=True):
            await limiter.acquire()


async def fetch_unsent(inodes: Iterable[int], *, timeout_s: float) -> None:
    """Make the kernel send what programs have written to these files.

    It waits up to 30 s with that, and drops it when the connection is closed. The
    requests must still be served.
    """
    limiter = trio.CapacityLimiter(1)
    with trio.move_on_after(timeout_s) as scope:
        for inode in inodes:
            await trio.to_thread.run_sync(
                _send_pages, inode, limiter=limiter, abandon_on_cancel=True
            )
    if scope.cancelled_caught:
        log.warning("the kernel did not send everything within %g s", timeout_s)


def _waiting(pushes: "trio.MemoryReceiveChannel[Push]") -> Iterator[Push]:
    with suppress(trio.WouldBlock):
        while True:
            yield pushes.receive_nowait()


def _store_all(pushes: Sequence[Push]) -> int:
    """Push; return how many bytes the kernel took."""
    taken = 0
    for push in pushes:
        try:
            pyfuse3.notify_store(pyfuse3.InodeT(push.node.inode), 0, push.data)
            taken += len(push.data)
        except OSError as error:
            if error.errno not in _NOT_THERE:
                log.warning("the kernel takes no bytes ahead: %s", error)
    return taken


def _send_pages(inode: int) -> None:
    try:
        # Dirty pages are sent, and waited for, before they are dropped.
        pyfuse3.invalidate_inode(pyfuse3.InodeT(inode))
    except OSError as error:
        if error.errno not in _NOT_THERE:
            log.warning("the kernel keeps bytes of inode %d: %s", inode, error)


def _invalidate(message: Outdated) -> None:
    try:
        pyfuse3.invalidate_entry(
            pyfuse3.InodeT(message.parent), pyfuse3.FileNameT(message.name)
        )
    except OSError as error:
        if error.errno not in _NOT_THERE:
            log.warning("the kernel keeps an outdated name: %s", error)
