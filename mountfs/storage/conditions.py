"""Conditions on stores that ignore them: look first, then send.

Between the look and the request a change of another client slips through, which is why
such calls stay out of `capabilities.conditions`.
"""

from mountfs.storage.errors import AlreadyExists, NotFound, VersionChanged
from mountfs.storage.protocol import Storager
from mountfs.storage.types import ABSENT, Call, Condition


async def look_first(
    store: Storager, call: Call, key: str, condition: Condition
) -> Condition:
    """Return the condition to send with a call; where it would be ignored, look.

    Raises `AlreadyExists` or `VersionChanged` if it does not hold, and `NotFound` for a
    delete of what is gone.
    """
    if condition is None or call in store.capabilities.conditions:
        return condition
    try:
        found = await store.stat(key)
    except NotFound:
        if condition is ABSENT:
            return None
        if call is Call.DELETE:
            raise
        raise VersionChanged("the object is gone", key=key) from None
    if condition is ABSENT:
        raise AlreadyExists("an object is there", key=key)
    if found.version is None or found.version.content != condition.content:
        raise VersionChanged("the object is another by now", key=key)
    return None
