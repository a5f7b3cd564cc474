"""The queue of a mount, put together: what is pending, who stores it, who shows it.

With `durability=journal` the file system works on the queue. Without it there is one
only as long as that of an earlier mount is not empty: its names are stored before they
are changed again, and shown as they will be until then.
"""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from mountfs.cache.aliases import Aliases, AliasStorager
from mountfs.cache.blocks import BlockCache
from mountfs.cache.budget import Budget
from mountfs.cache.direct import DirectStorager, StoreFirstStorager
from mountfs.cache.drain import Drain
from mountfs.cache.hooks import Hooks
from mountfs.cache.incidents import Incidents
from mountfs.cache.journal import Journal
from mountfs.cache.ledger import Ledger
from mountfs.cache.localonly import LocalOnly
from mountfs.cache.metadata import MetadataCache
from mountfs.cache.moves import Moves, TreeMoved
from mountfs.cache.queue import Queue
from mountfs.cache.queued import QueuedStorager
from mountfs.cache.settling import Settling
from mountfs.cache.writeback import WriteBack
from mountfs.storage.protocol import Storager


@dataclass(frozen=True, slots=True, kw_only=True)
class Journaled:
    """A queue that is open, and how the file system works with it."""

    store: Storager
    """The store as it will be."""
    direct: Storager
    """The store as it is."""
    ledger: Ledger
    settling: Settling
    queue: Queue
    moves: Moves
    drain: Drain


@dataclass(frozen=True, slots=True, kw_only=True)
class Below:
    """What a queue is built upon."""

    store: AliasStorager
    aliases: Aliases
    journal: Journal
    blocks: BlockCache
    writeback: WriteBack
    budget: Budget
    metadata: MetadataCache


async def open_queue(
    stack: AsyncExitStack,
    below: Below,
    incidents: Incidents,
    hooks: Hooks,
    *,
    takes_changes: bool,
    tree_moved: TreeMoved | None = None,
    local_only: LocalOnly | None = None,
) -> Journaled:
    """Take up what is pending, and begin to store it.

    `takes_changes` says that new changes may wait, too; `local_only` which of them are
    not to be stored, if nothing has to be stored now. Raises `JournalError` if what
    is pending cannot be used.
    """
    ledger = Ledger(
        below.journal,
        below.store,
        below.aliases,
        below.writeback.promised,
        below.metadata,
        incidents,
        local_only=local_only if takes_changes else None,
    )
    await ledger.load()
    settling = Settling(ledger, hooks.health)
    queue = Queue(ledger, settling, takes_changes=takes_changes)
    moves = Moves(ledger, settling, tree_moved)
    queued = QueuedStorager(ledger, settling, queue, moves, below.writeback)
    below.blocks.front = queued
    below.writeback.promises = queue
    drain = await stack.enter_async_context(Drain(ledger, settling, incidents, hooks))
    below.budget.register_dirty(drain)
    return Journaled(
        store=queued if takes_changes else StoreFirstStorager(ledger, settling, queued),
        direct=DirectStorager(ledger, settling),
        ledger=ledger,
        settling=settling,
        queue=queue,
        moves=moves,
        drain=drain,
    )
