"""What gcsfuse reads of ours, beside the names that mountfs itself goes by.

A link says `goog-reserved-file-is-symlink`, a time of change `gcsfuse_mtime`. Both
follow from our own names, so they are added on the way out, and on the way in taken
away where they still do. Where they do not, gcsfuse has changed the object since: they
stay, and are read first (`mountfs.storage.dialects`).

Pure.
"""

import stat
from collections.abc import Mapping
from datetime import UTC, datetime

from mountfs.storage import dialects

LINK = "goog-reserved-file-is-symlink"
MTIME = "gcsfuse_mtime"
OWN_NAMES = dialects.ATTRIBUTE_NAMES | {LINK}
"""The names of attributes. A change of metadata that does not name one takes it away,
whether or not who changes them has heard of it."""
RESERVE = 128
"""The bytes that what is added may take."""
_SECOND_NS = 10**9


def added(user: Mapping[str, str]) -> dict[str, str]:
    """Return what is added for gcsfuse to custom metadata of ours."""
    found: dict[str, str] = {}
    mode = user.get("mode", "")
    if mode.isdecimal() and stat.S_ISLNK(int(mode)) and LINK not in user:
        found[LINK] = "true"
    if "mtime" in user and MTIME not in user:
        moment = _rfc3339(dialects.parse_seconds(user["mtime"]))
        if moment is not None:
            found[MTIME] = moment
    return found


def removed(user: Mapping[str, str]) -> dict[str, str]:
    """Return custom metadata without what `added` has added and nobody changed."""
    if MTIME not in user and LINK not in user:
        return dict(user)
    plain = {name: text for name, text in user.items() if name not in (MTIME, LINK)}
    ours = added(plain)
    for name in (MTIME, LINK):
        if name in user and user[name] != ours.get(name):
            plain[name] = user[name]
    return plain


def _rfc3339(time_ns: int | None) -> str | None:
    """Write a time as Go does: nine decimals at most, and no zeros at their end."""
    if time_ns is None:
        return None
    seconds, rest = divmod(time_ns, _SECOND_NS)
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):  # a year that RFC 3339 cannot write
        return None
    decimals = f".{rest:09}".rstrip("0") if rest else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{decimals}Z"
