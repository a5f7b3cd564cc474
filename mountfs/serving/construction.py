"""The file system of a mount, built over its store from what this host keeps of it.

From the store up: the attribute index, if there is one; what is kept here
(`mountfs.serving.kept`); the volume, which is what all of the file system shares; the
file system. Nothing runs yet: `mountfs.mount` owns the tasks, and the stack on which
all of it is entered.
"""

import os
import secrets
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import trio

from mountfs.backends import object_url
from mountfs.cache.attribute_index import AttributeIndex
from mountfs.cache.budget import Budget
from mountfs.cache.hooks import Hooks
from mountfs.cache.indexed import kinds_without_metadata
from mountfs.cache.indexed_files import ALL_KINDS
from mountfs.cache.records import gates_of
from mountfs.configuration.config import MountConfig, identity_of
from mountfs.serving.kept import Kept, open_kept
from mountfs.serving.stack import Stack
from mountfs.storage.types import Object, ObjectKind
from mountfs.vfs.attributes import Defaults, effective
from mountfs.vfs.filesystem import FileSystem
from mountfs.vfs.inodes import InodeTable
from mountfs.vfs.numbers import kept_numbers
from mountfs.vfs.volume import Outdated, Volume

OUTDATED_MAX = 1024


async def open_filesystem(
    stack: AsyncExitStack, layers: Stack, budget: Budget, config: MountConfig
) -> FileSystem:
    """Build the file system over a store. Raises `UsageError`."""
    index = await _add_index(stack, layers, config)
    hooks = Hooks(health=layers.health, activity=layers.activity)
    kept = await open_kept(stack, layers, index, budget, hooks, config)
    sending, receiving = trio.open_memory_channel[Outdated](OUTDATED_MAX)
    stack.callback(sending.close)
    volume = _volume(layers, index, kept, sending, config)
    filesystem = FileSystem(
        volume,
        owner=owner_of(config.state_dir / identity_of(config)),
        outdated=receiving,
        names_max=config.names_max,
    )
    hooks.outdated, hooks.failed = volume.outdate, filesystem.files.note_late_error
    return filesystem


async def _add_index(
    stack: AsyncExitStack, layers: Stack, config: MountConfig
) -> AttributeIndex | None:
    """Open the attribute index, if the user wants it, or nothing else keeps them."""
    store = layers.store
    able = store.capabilities
    is_only_place = not (able.metadata or able.attributes)
    is_needed = is_only_place and store.features.virtual_object_metadata
    if not (store.features.virtual_index or is_needed):
        return None
    index = AttributeIndex(
        store,
        gates_of(store.features),
        ALL_KINDS if is_needed else kinds_without_metadata(able),
        ttl_s=config.believed_s,
        is_read_only=config.read_only,
    )
    layers.add_index(index)
    return await stack.enter_async_context(index)


def _volume(
    layers: Stack,
    index: AttributeIndex | None,
    kept: Kept,
    outdated: trio.MemorySendChannel[Outdated],
    config: MountConfig,
) -> Volume:
    """Return what all parts of a file system share."""
    below, journaled, numbers = kept.below, kept.journaled, kept.numbers
    volume = Volume(
        store=layers.store if journaled is None else journaled.store,
        journaled=journaled,
        metadata=below.metadata,
        learnt=kept.learnt,
        index=index,
        blocks=below.blocks,
        writeback=below.writeback,
        journal=below.journal,
        defaults=_defaults(config),
        outdated=outdated,
        is_read_only=config.read_only,
        notes_reading=not config.noatime,
        inodes=InodeTable(kept_numbers(numbers.kept, numbers.note)),
        url_of=partial(object_url, config.url),
        watched=layers.watched,
        names=kept.names,
        activity=layers.activity,
    )
    root = Object(key="", kind=ObjectKind.DIRECTORY)
    volume.inodes.root.attributes = effective(root, volume.defaults)
    return volume


def _defaults(config: MountConfig) -> Defaults:
    return Defaults(
        uid=config.uid if config.uid is not None else os.getuid(),
        gid=config.gid if config.gid is not None else os.getgid(),
        file_mode=config.file_mode,
        directory_mode=config.dir_mode,
        time_ns=time.time_ns(),
    )


def owner_of(state_dir: Path) -> str:
    """Return the name of a state directory, in which no other host has part.

    What is set aside in the store under it is left over, and deleted, at the next
    mount. The identity will not do: other hosts mount the same store.
    """
    remembered = state_dir / "owner"
    try:
        owner = remembered.read_text()
    except FileNotFoundError:
        owner = ""
    if not owner:
        owner = secrets.token_hex(16)
        remembered.write_text(owner)
    return owner
