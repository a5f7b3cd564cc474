"""What a host keeps of a store for its mounts, opened from its directories.

The cache directory holds what can be fetched again, the state directory what exists
nowhere else. Everything is opened once, in an order in which each finds what it stands
on, and closed in reverse by the stack that it is entered on. What the user must mend
is a `UsageError`. Nothing is sent to the store here, and no file system is built.
"""

import logging
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from mountfs.cache.aliases import Aliases, AliasStorager
from mountfs.cache.attribute_index import AttributeIndex
from mountfs.cache.blocks import BlockCache
from mountfs.cache.budget import Budget
from mountfs.cache.conflicts import Policy
from mountfs.cache.directory import DirectoryInUse
from mountfs.cache.hooks import Hooks
from mountfs.cache.journal import Journal
from mountfs.cache.journaled import Below, Journaled, open_queue
from mountfs.cache.journalfile import JournalError
from mountfs.cache.learnt import SIZE_MAX as LEARNT_SIZE_MAX
from mountfs.cache.learnt import Learnt
from mountfs.cache.localonly import LocalOnly
from mountfs.cache.metadata import MetadataCache
from mountfs.cache.numberfile import NumberFile
from mountfs.cache.records import gates_of
from mountfs.cache.salvage import JOURNAL, is_lost
from mountfs.cache.writeback import WriteBack
from mountfs.configuration.config import MountConfig, identity_of
from mountfs.errors import UsageError
from mountfs.serving.stack import Stack
from mountfs.storage.protocol import Storager
from mountfs.vfs.localonly import LocalOnlyNames
from mountfs.vfs.names import Names
from mountfs.vfs.numbers import KEPT_MAX

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What is open of it."""

    below: Below
    """The caches and the journal, as a queue is built upon them."""
    learnt: Learnt | None
    numbers: NumberFile
    journaled: Journaled | None
    names: Names


async def open_kept(
    stack: AsyncExitStack,
    layers: Stack,
    index: AttributeIndex | None,
    budget: Budget,
    hooks: Hooks,
    config: MountConfig,
) -> Kept:
    """Open what is kept here of a store. Raises `UsageError`."""
    cache_dir = config.cache_dir / identity_of(config)
    state_dir = config.state_dir / identity_of(config)
    names = Names(utf8_keys=layers.store.capabilities.utf8_keys)
    with _told_to_the_user(cache_dir):
        aliases = Aliases()
        store = AliasStorager(layers.store, aliases)
        blocks = await stack.enter_async_context(
            BlockCache(store, cache_dir, budget, activity=layers.activity)
        )
        learnt = await _learnt(stack, store, cache_dir, config)
        numbers = await stack.enter_async_context(
            await NumberFile.open(state_dir / "inodes.sqlite", kept_max=KEPT_MAX)
        )
        journal = await _journal(stack, state_dir)
        writeback = await stack.enter_async_context(
            WriteBack(
                store,
                blocks,
                journal,
                budget,
                state_dir / "spool",
                conflict=Policy(config.conflict),
            )
        )
        below = Below(
            store=store,
            aliases=aliases,
            journal=journal,
            blocks=blocks,
            writeback=writeback,
            budget=budget,
            metadata=_metadata(layers, index, learnt, config),
        )
        blocks.metadata = below.metadata
        local_only = LocalOnly(LocalOnlyNames(config.local_only, names))
        journaled = await _journaled(stack, below, config, index, hooks, local_only)
    return Kept(
        below=below, learnt=learnt, numbers=numbers, journaled=journaled, names=names
    )


@contextmanager
def _told_to_the_user(cache_dir: Path) -> Iterator[None]:
    """Turn what keeps directories from being used into what the user can mend."""
    try:
        yield
    except DirectoryInUse as error:
        raise UsageError(
            f"{cache_dir} is in use by process {error.owner}; unmount that first, or"
            " give this mount a --cache-dir of its own"
        ) from error
    except JournalError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise UsageError(
            f"cannot use {error.filename or cache_dir} ({error.strerror}); choose"
            " another --cache-dir or --state-dir"
        ) from error


async def _journal(stack: AsyncExitStack, state_dir: Path) -> Journal:
    if await trio.to_thread.run_sync(is_lost, state_dir):
        raise UsageError(
            f"the journal {state_dir / JOURNAL} is missing, and files that it would"
            f" explain are there: see `mountfs recover {state_dir}`"
        )
    return await stack.enter_async_context(await Journal.open(state_dir / JOURNAL))


def _metadata(
    layers: Stack,
    index: AttributeIndex | None,
    learnt: Learnt | None,
    config: MountConfig,
) -> MetadataCache:
    return MetadataCache(
        ttl_s=config.believed_s,
        entries_max=config.names_max,
        learnt=learnt,
        changes=index if _has_terse_listings(layers.store) else None,
        believes_all=layers.believes_all,
    )


async def _journaled(
    stack: AsyncExitStack,
    below: Below,
    config: MountConfig,
    index: AttributeIndex | None,
    hooks: Hooks,
    local_only: LocalOnly,
) -> Journaled | None:
    """Open the queue if changes may wait, or if those of an earlier mount do."""
    takes_changes = config.durability == "journal"
    waiting = await below.journal.pending()
    if config.read_only and waiting:
        log.warning(
            "%d changes that an earlier mount acknowledged are not in the store, and"
            " this mount, being read-only, neither shows nor sends them",
            len(waiting),
        )
    if config.read_only or not (takes_changes or waiting):
        return None
    return await open_queue(
        stack,
        below,
        below.writeback.incidents,
        hooks,
        takes_changes=takes_changes,
        tree_moved=index.renamed if index is not None else None,
        local_only=local_only,
    )


async def _learnt(
    stack: AsyncExitStack, store: Storager, cache_dir: Path, config: MountConfig
) -> Learnt | None:
    """Open what earlier mounts have learnt, where listings do not tell it anyway."""
    if not _has_terse_listings(store):
        return None
    learnt = await Learnt.open(
        cache_dir / "learnt.sqlite",
        gates_of(store.features),
        size_max=min(LEARNT_SIZE_MAX, config.cache_size // 4),
    )
    return await stack.enter_async_context(learnt)


def _has_terse_listings(store: Storager) -> bool:
    """Tell whether the store keeps metadata that its listings do not show."""
    return store.capabilities.metadata and not store.capabilities.list_metadata
