"""Whom the background tells what it finds out, and how the store does.

Who is told lies above and is set once both are built; nobody is told by default.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from mountfs.cache.activity import Activity
from mountfs.storage.errors import StoreError
from mountfs.storage.health import Health


@dataclass(slots=True, kw_only=True)
class Hooks:
    """Whom the drain tells, and asks."""

    outdated: Callable[[str], None] = lambda _: None
    """A key has in the store what nobody here knows of."""
    failed: Callable[[str, StoreError | None], None] = lambda _key, _error: None
    """What a program was promised is not in the store, and why; None: now it is."""
    health: Health = field(default_factory=Health)
    """How the store does: nothing is sent while it is out of reach."""
    activity: Activity = field(default_factory=Activity)
    """What programs ask for: less is sent beside them."""
