"""What a mount has done since it began, as counters that only grow.

Whoever does something adds to a field here, on the trio thread; whoever wants a rate or
a share (`mountfs status --watch`) takes the difference of two looks. A counter is an
addition to a slot, so that the most frequent request can afford it.
"""

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Activity:
    """Counters of one mount. Bytes where the name says so, else how many."""

    requests: int = 0
    """What the kernel has asked, forgets not counted."""
    read_bytes: int = 0
    """Given to the kernel. What programs read from its page cache never comes here."""
    written_bytes: int = 0
    """Taken from the kernel."""
    block_hits: int = 0
    """Blocks of clean files that were here when a program wanted them."""
    block_misses: int = 0
    """Those that had to be fetched, or were still on their way."""
    metadata_hits: int = 0
    """Questions for a name or a directory that were answered from what is known."""
    metadata_misses: int = 0
    evicted_blocks: int = 0
    """Removed from the disk to make room for others."""
    evicted_bytes: int = 0
    ahead_bytes: int = 0
    """Fetched before anybody asked: read-ahead, siblings of a walked directory."""
    ahead_used_bytes: int = 0
    """Of those, what a program, or the kernel after a push, has taken since."""
    ahead_unused_bytes: int = 0
    """Of those, what was dropped unread. The rest may still be wanted."""
    pushed_bytes: int = 0
    """Of those, what the kernel was given unasked."""
    uploaded_bytes: int = 0
    """Sent to the store, in objects and parts; only what arrived."""
    fetched_bytes: int = 0
    """Brought from the store."""
