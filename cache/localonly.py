"""Files that stay here: those whose names say that nobody else needs them.

Editors and office programs write a file under another name first, beside their lock and
swap files, and rename it when it is whole. An entry that makes a file under a name
which the user has marked (`local_only`) is *local-only*: it is in the journal, as safe
here as any other, is shown and moved as any other, and does not take off. Under another
name it is pending like what was just closed.

Only what the store never had is local-only: nothing of it lies there under its name,
nothing waits for it, and it stands on nothing that the store has. So whatever becomes
of it here concerns nobody there. Its row says so, and is written anew before it is sent
for another reason (`Ledger.release`): who reads the row after a crash can believe it.
"""

from collections.abc import Callable, Iterable

from mountfs.cache.dirty import DirtyFile
from mountfs.cache.entries import Entry, Make, StoreBytes, was_never_stored
from mountfs.storage.types import ABSENT, Condition

AT_ONCE_MAX = 32
"""How many are stored together when there is no room for them."""


def _no_name(_: str) -> bool:
    return False


class LocalOnly:
    """Tells what is local-only; `is_meant` tells it of a key, by its last name."""

    def __init__(self, is_meant: Callable[[str], bool] = _no_name) -> None:
        self.is_meant = is_meant

    def __call__(self, entry: Entry) -> bool:
        """Tell whether an entry stays here, if it is put into the journal now."""
        if entry.is_directory or not self.is_meant(entry.key):
            return False
        is_new = was_never_stored(entry) and not entry.stands_on_what_it_replaces
        match entry.change:
            case StoreBytes(dirty):
                # Parts may lie in an upload that began under another name.
                is_here = dirty.stream is None and dirty.attempt is None
                return is_new and is_here and not entry.needs
            case Make():
                return is_new
            case _:
                return False

    def keeps(self, dirty: DirtyFile, last: Entry | None) -> bool:
        """Tell whether a file stays here when it is committed, as far as is known.

        `last` is the newest entry of its key.
        """
        if dirty.is_ahead or not self.is_meant(dirty.key):
            return False
        if last is not None:
            return last.is_local_only
        return dirty.starts_from is ABSENT and dirty.base_size == 0

    def replaced_by(self, dirty: DirtyFile) -> Condition:
        """Return what a file takes the place of, in the store.

        With `conflict=overwrite` nobody asks; but what was never sent must be known.
        """
        return dirty.starts_from if self.is_meant(dirty.key) else dirty.condition


def enough(entries: Iterable[Entry], size: int) -> list[Entry]:
    """Return the first entries, as many as have so many bytes, or may go at once."""
    found: list[Entry] = []
    for entry in entries:
        if size <= 0 or len(found) == AT_ONCE_MAX:
            break
        found.append(entry)
        size -= entry.size
    return found
