"""What an earlier mount of the store left undone: this one goes on with it.

In this order: what it kept of files that could not be stored, what it began and had
journaled (renames, links), what waits in its queue. What cannot be done now stays in
the state directory, and somebody is told: a mount does not fail for it.
"""

import logging

from mountfs.configuration.config import MountConfig
from mountfs.serving.stack import Stack
from mountfs.storage.errors import StoreError
from mountfs.vfs.filesystem import FileSystem

log = logging.getLogger(__name__)


async def take_up(
    filesystem: FileSystem, config: MountConfig, *, waits_for_queue: bool = True
) -> None:
    """Go on where an earlier mount ended."""
    await _recover(filesystem, config)
    if waits_for_queue:
        await _empty_queue(filesystem, config)
    if filesystem.volume.journaled is not None:
        filesystem.volume.journaled.drain.begin()
    try:
        await filesystem.learning.learn_root()
    except StoreError as error:
        log.warning("the root has the attributes of the mount for now: %s", error)


async def take_up_late(
    layers: Stack, filesystem: FileSystem, config: MountConfig
) -> None:
    """Do what could not be done at the mount, when the store answers for the first
    time. No program has changed anything: it would have needed the store for that.
    """
    try:
        await layers.find_out()
    except OSError as error:
        log.warning("cannot write %s: %s", error.filename, error.strerror)
    # The queue is emptied as soon as the store is ONLINE, which it is after this.
    await take_up(filesystem, config, waits_for_queue=False)


async def _recover(filesystem: FileSystem, config: MountConfig) -> None:
    """Finish what an earlier mount left undone, and say what that was."""
    if config.read_only:
        return
    try:
        for found in await filesystem.volume.writeback.recover():
            if found.error is None:
                log.info("%r, kept by an earlier mount, is in the store", found.key)
            else:
                log.warning(
                    "%r, kept by an earlier mount, cannot be stored (%s) and stays in"
                    " the state directory until its name is written anew",
                    found.key,
                    found.error,
                )
        await filesystem.recover()
    except StoreError as error:
        log.warning("what an earlier mount left undone stays so for now: %s", error)


async def _empty_queue(filesystem: FileSystem, config: MountConfig) -> None:
    """Store what an earlier mount left in its queue, where this one has none."""
    journaled = filesystem.volume.journaled
    if journaled is not None and config.durability == "store":
        await journaled.drain.empty()
