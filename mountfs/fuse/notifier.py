"""Telling the kernel to forget a name, from a thread of its own.

A notification waits for whatever request of that directory is under way, so on the
trio thread it would wait for itself, in a state that even SIGKILL does not end. The
file system puts what changed on a bounded channel; this reads it and calls pyfuse3 in
a worker thread, one at a time, holding no lock.
"""

import errno
import logging

import pyfuse3
import trio

from mountfs.vfs.volume import Outdated

log = logging.getLogger(__name__)


async def notify_kernel(outdated: "trio.MemoryReceiveChannel[Outdated]") -> None:
    """Pass on notifications until cancelled; what is left then is dropped."""
    limiter = trio.CapacityLimiter(1)
    async with outdated:
        async for message in outdated:
            await trio.to_thread.run_sync(
                _invalidate, message, limiter=limiter, abandon_on_cancel=True
            )


def _invalidate(message: Outdated) -> None:
    try:
        pyfuse3.invalidate_entry(
            pyfuse3.InodeT(message.parent), pyfuse3.FileNameT(message.name)
        )
    except OSError as error:
        # ENOENT: the kernel did not know the name. ENOTCONN: it is unmounted.
        if error.errno not in (errno.ENOENT, errno.ENOTCONN, errno.ENODEV):
            log.warning("the kernel keeps an outdated name: %s", error)
