"""What this host knows of a file without asking anybody: bytes, state, errors.

For people and programs that look (`mountfs.vfs.explain`, `mountfs.vfs.facts`): nothing
is changed, and nothing waits.
"""

import math

from mountfs.cache.dirty import DirtyFile
from mountfs.cache.entries import Entry, StoreBytes
from mountfs.cache.extents import Extents
from mountfs.cache.tokens import is_token
from mountfs.storage.refusals import Refusal
from mountfs.storage.types import ObjectKind, Version
from mountfs.vfs.filestate import Dirty
from mountfs.vfs.groups import FOLDER as GROUP_FOLDER
from mountfs.vfs.node import Node
from mountfs.vfs.origins import moment
from mountfs.vfs.volume import Volume

SHOWN_MAX = 100
"""So many ranges or names are told; the counts are of all."""


class Here:
    """What is known of the files of one volume."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume

    def cached(self, node: Node) -> Extents:
        """Return which bytes of the object are here."""
        known = node.object
        if known is None or node.kind is not ObjectKind.FILE:
            return Extents()
        return self._volume.blocks.cached_ranges(known)

    def dirty(self, node: Node) -> DirtyFile | None:
        """Return the bytes that are here and not in the store, if there are any."""
        file = node.loaded_file
        if file is not None and isinstance(file.state, Dirty):
            return file.state.file
        for entry in reversed(self.entries(node)):
            if isinstance(entry.change, StoreBytes):
                return entry.change.dirty
        return None

    def state(self, node: Node) -> str:
        """Return where it stands, in one word."""
        if self.failure(node) is not None:
            return "failed"
        file = node.loaded_file
        if file is not None and file.needs_commit:
            return "dirty"
        if any(entry.is_local_only for entry in self.entries(node)):
            return "local-only"
        return "pending" if self.is_changed(node) else "clean"

    def failure(self, node: Node) -> str | None:
        """Return why the bytes that are here are not in the store."""
        file = node.loaded_file
        error = (file.failure or file.refusal) if file is not None else None
        if error is not None:
            return str(error)
        if node.is_nameless:
            return None
        key = node.key()
        left = self._volume.writeback.pending()
        kept = (each.error for each in left if each.key == key and each.error)
        errors = (each.error for each in self.entries(node) if each.error is not None)
        refused = (str(error) for error in errors if not error.is_retryable)
        return next(kept, None) or next(refused, None)

    def pending(self, node: Node) -> list[dict[str, object]]:
        """Return what waits for the store, oldest first."""
        told = [self.entry(entry) for entry in self.entries(node)]
        error = self.failure(node)
        if error is not None and not told:
            told.append({"change": "bytes", "error": error, "is_sending": False})
        return told

    def error(self, node: Node) -> dict[str, object] | None:
        """Return the newest request for it that failed, if one is remembered."""
        watched = self._volume.watched
        if watched is None or node.is_nameless:
            return None
        key = node.key()
        refusal = watched.refusals.last(*{key, key.rstrip("/")})
        return None if refusal is None else refusal_of(refusal)

    def etag(self, node: Node) -> str | None:
        """Return the version of the bytes that the store has, as far as is known."""
        version = self.version(node)
        return None if version is None else version.content

    def version(self, node: Node) -> Version | None:
        """Return the version that the store has, as far as is known."""
        known = node.object
        version = self._volume.as_stored(known).version if known is not None else None
        if is_token(version):
            entries = self.entries(node)
            before = entries[0].stored if entries else None
            version = before if isinstance(before, Version) else None
        return None if is_token(version) else version

    def pending_at(self, key: str) -> list[dict[str, object]]:
        """Return what waits for the store under a key, oldest first."""
        return [self.entry(entry) for entry in self._at(key)]

    def is_removed(self, key: str) -> bool:
        """Tell whether nothing is to be under a key, and something may be yet."""
        entries = self._at(key)
        return bool(entries) and entries[-1].is_removal

    def _at(self, key: str) -> list[Entry]:
        journaled = self._volume.journaled
        return [] if journaled is None else journaled.ledger.table.at(key)

    def entries(self, node: Node) -> list[Entry]:
        """Return the pending entries of a node, oldest first."""
        return [] if node.is_nameless else self._at(node.key())

    def is_changed(self, node: Node) -> bool:
        """Tell whether anything of it is only here."""
        is_touched = node.is_directory and node in self._volume.touched
        return bool(self.entries(node)) or is_touched or node.holds_changes

    def entry(self, entry: Entry) -> dict[str, object]:
        """Tell of a pending entry."""
        journaled = self._volume.journaled
        assert journaled is not None
        ledger, watched = journaled.ledger, self._volume.watched
        due_s = entry.due_s - ledger.now_s()
        is_reachable = watched is None or watched.trouble is None
        return {
            "change": _change(entry),
            "size": entry.size,
            "attempts": entry.attempts,
            "is_sending": entry.flight is not None,
            "is_local_only": entry.is_local_only,
            "waits_for_another": ledger.table.is_blocked(entry),
            "waits_for_store": not is_reachable,
            "next_try_s": (
                round(max(due_s, 0.0), 1)
                if math.isfinite(due_s) and is_reachable and not entry.is_local_only
                else None
            ),
            "waiting_s": round(ledger.now_s() - entry.since_s, 1),
            "error": str(entry.error) if entry.error is not None else None,
        }

    def incident(self, key: str) -> dict[str, object] | None:
        """Tell of the newest late error of a key."""
        found = self._volume.incidents.last(key)
        if found is None:
            return None
        return {
            "kind": found.kind.value,
            "time": moment(found.time_ns),
            "text": found.text,
            "kept_as": found.kept_as,
        }

    def links(self, node: Node) -> dict[str, object]:
        """Tell of the names of a file that has several."""
        id = node.group
        group = self._volume.group_of(node)
        names = sorted(group.names) if group is not None else []
        return {
            "group": id,
            "record": f"{GROUP_FOLDER}{id}",
            "count": node.links,
            "names": names[:SHOWN_MAX],
        }

    def count_below(self, key: str) -> int:
        """Return how many changes below a directory wait for the store."""
        return sum(
            entry.key.startswith(key) and entry.key != key and not entry.is_local_only
            for entry in self._volume.waiting()
        )


def ranges_of(extents: Extents) -> dict[str, object]:
    """Return ranges of bytes, from the first to behind the last, and their sum."""
    ranges = [list(each) for each in extents]
    return {"bytes": extents.total, "ranges": ranges[:SHOWN_MAX], "count": len(ranges)}


def dirty_of(dirty: DirtyFile | None) -> dict[str, object] | None:
    """Tell of the bytes that are here only."""
    if dirty is None:
        return None
    return {
        **ranges_of(dirty.extents),
        "size": dirty.size,
        "from_object": dirty.base_size,
        "sent": dirty.sent_bytes,
    }


def _change(entry: Entry) -> str:
    return {
        "StoreBytes": "bytes",
        "Make": "a new object",
        "Copy": "a copy",
        "Describe": "metadata",
        "Remove": "removal",
    }[type(entry.change).__name__]


def refusal_of(refusal: Refusal) -> dict[str, object]:
    """Tell of a request that failed."""
    error = refusal.error
    return {
        "time": moment(refusal.time_ns) if refusal.time_ns else None,
        "kind": type(error).__name__,
        "text": error.reason,
        "code": error.code,
        "request": error.request or None,
        "http_status": error.status,
        "request_id": error.request_id or None,
        "needs": error.permission or None,
        "is_retryable": error.is_retryable,
    }
