"""The words of mount(8) and fstab(5), beside the options that are ours.

mount(8), its library and systemd act on most of them and hand them on all the same.
Nothing here is read or run: a list of words comes in, a shorter one goes out.
"""

from collections.abc import Iterable, Sequence

Pair = tuple[str, str]
"""A word and what stands behind its `=`."""

# Others act on these, or they ask for what holds in any case: no program of a mount
# gets rights by its owner, no file is a device, and the kernel checks permissions.
# fmt: off
WORDS_OF_OTHERS = frozenset((
    "defaults", "auto", "noauto", "nofail", "_netdev", "_rnetdev",
    "user", "nouser", "users", "nousers", "owner", "noowner", "group", "nogroup",
    "helper", "uhelper", "comment", "default_permissions",
    "suid", "nosuid", "dev", "nodev",
    "relatime", "norelatime", "strictatime", "nostrictatime", "diratime",
    "nodiratime", "lazytime", "nolazytime", "iversion", "noiversion", "silent",
    "loud", "mand", "nomand",
    "symfollow",
))
# fmt: on
PREFIXES_OF_OTHERS = ("x-", "X-")

TAKEN_BACK = {
    "rw": ("ro", "read-only", "read_only"),
    "exec": ("noexec",),
    "atime": ("noatime",),
    "async": ("sync",),
}
"""What a later word undoes; by itself it asks for nothing, since mount(8) says `rw`
each time, and that must not win over a file that says read-only."""


def own_pairs(pairs: Iterable[Pair]) -> list[Pair]:
    """Return those that are for mountfs, in their order."""
    kept: list[Pair] = []
    for name, value in pairs:
        undone = TAKEN_BACK.get(name)
        if undone is not None:
            kept = [each for each in kept if each[0] not in undone]
        elif not is_for_others(name):
            kept.append(("read-only" if name == "ro" else name, value))
    return kept


def is_for_others(name: str) -> bool:
    """Tell whether a word means something to others, and nothing to mountfs."""
    return not name or name in WORDS_OF_OTHERS or name.startswith(PREFIXES_OF_OTHERS)


def join_options(pairs: Sequence[Pair]) -> str:
    """Return the pairs as `k=v,k,...`, with a backslash before what has a meaning."""
    return ",".join(
        _escape(name) + (f"={_escape(value)}" if value else "") for name, value in pairs
    )


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace(",", "\\,")
