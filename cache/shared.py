"""Texts that several keep, in memory once.

A million names that were listed are known twice: by what the store said of them and by
what the kernel was told. Both kept a text of its own, of 64 bytes. Equal texts that
come soon after each other become one here; that is only a matter of memory, so nothing
needs to be found: what another text took the room of is merely kept twice.
"""

SEEN_MAX = 1 << 16
"""So many texts are remembered. Half a megabyte."""

_seen = [""] * SEEN_MAX


def shared(text: str) -> str:
    """Return an equal text that was seen lately, or else this one."""
    place = hash(text) % SEEN_MAX
    if (seen := _seen[place]) == text:
        return seen
    _seen[place] = text
    return text
