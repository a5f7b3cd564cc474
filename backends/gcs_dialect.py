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
_EPOCH = datetime(1970, 1, 1)
_PLAIN = len("1970-01-01T00:00:00Z")


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
    plain = dict(user)
    link, mtime = plain.pop(LINK, None), plain.pop(MTIME, None)
    if mtime is not None and not _is_moment(mtime, plain.get("mtime", "")):
        plain[MTIME] = mtime
    if link is not None and added({"mode": plain.get("mode", "")}).get(LINK) != link:
        plain[LINK] = link
    return plain


def _is_moment(rfc3339: str, seconds: str) -> bool:
    """Tell whether two texts, each in a form of its own, say one time.

    It is done for every object of a listing, so the common forms are compared as they
    stand.
    """
    whole, _, decimals = seconds.partition(".")
    if len(rfc3339) < _PLAIN or rfc3339[-1] != "Z" or not whole.isdecimal():
        known = dialects.parse_seconds(seconds)
        return known is not None and known == dialects.parse_rfc3339(rfc3339)
    try:
        past = datetime.fromisoformat(rfc3339[: _PLAIN - 1]) - _EPOCH
    except ValueError:
        return False
    is_same = past.days * 86_400 + past.seconds == int(whole)
    return is_same and rfc3339[_PLAIN:-1].rstrip("0") == decimals[:9].rstrip("0")


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
