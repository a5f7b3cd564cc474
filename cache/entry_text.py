"""Pending entries as rows of the journal.

The bytes of a small file travel in the row itself: then one sync serves many files,
and the spool file beside it need not be synced at all. Those of a larger one are in its
spool file, synced before the row is written.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mountfs.cache import failed, object_json
from mountfs.cache.attribute_json import Json
from mountfs.cache.entries import (
    Change,
    Copy,
    Describe,
    Entry,
    Make,
    Remove,
    StoreBytes,
)
from mountfs.cache.journal import PendingRow
from mountfs.cache.journalfile import JournalError
from mountfs.cache.spool import Spool
from mountfs.cache.streaming import Ladder
from mountfs.storage.types import Metadata, ObjectKind

INLINE_SIZE_MAX = 128 << 10
_FORMAT = 1


def to_row(entry: Entry, content: bytes | None = None) -> PendingRow:
    """Return the row of an entry; `content` are the bytes of its extents, if small."""
    state = {
        "format": _FORMAT,
        "shown": object_json.from_object(entry.shown),
        "stored": object_json.from_condition(entry.stored),
        "change": _from_change(entry.change),
        "error": str(entry.error) if entry.error is not None else None,
        "is_local_only": entry.is_local_only,
    }
    return PendingRow(entry.id, entry.key, json.dumps(state), content)


def from_row(row: PendingRow, spool: Path, ladder: Callable[[], Ladder]) -> Entry:
    """Return the entry of a row; its spool file in that directory is not opened yet.

    Raises `JournalError` if the row cannot be understood.
    """
    try:
        state = json.loads(row.state)
        if state["format"] != _FORMAT:
            raise JournalError(
                f"{row.key!r} was left behind by a newer mountfs; mount with that one"
            )
        return Entry(
            id=row.id,
            key=row.key,
            change=_to_change(state["change"], row.key, spool, ladder),
            shown=object_json.to_object(state["shown"]),
            stored=object_json.to_condition(state["stored"]),
            # Mounts that know nothing of it send it: then it is as any other.
            is_local_only=state.get("is_local_only") is True,
        )
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise JournalError(
            f"what the journal says of {row.key!r} is damaged"
        ) from error


def _from_change(change: Change) -> Json:
    match change:
        case StoreBytes(dirty, metadata):
            return {
                "what": "bytes",
                "spool": dirty.spool.name,
                "file": failed.describe(dirty, metadata, ""),
                "commit_id": dirty.commit_id,
            }
        case Make(kind, metadata, target):
            return {
                "what": "make",
                "kind": kind.value,
                "target": target,
                **_from_metadata(metadata),
            }
        case Copy(source, new_metadata):
            return {
                "what": "copy",
                "object": object_json.from_object(source),
                **(_from_metadata(new_metadata) if new_metadata is not None else {}),
            }
        case Describe(object, metadata):
            return {
                "what": "describe",
                "object": object_json.from_object(object),
                **_from_metadata(metadata),
            }
        case Remove():
            return {"what": "remove"}


def _to_change(
    state: dict[str, Any], key: str, spool: Path, ladder: Callable[[], Ladder]
) -> Change:
    match state["what"]:
        case "bytes":
            file = Spool(spool, str(state["spool"]))
            dirty, metadata, _ = failed.restore(state["file"], key, file, ladder)
            dirty.commit_id = state["commit_id"]
            if dirty.commit_id is not None:
                # Of all that were tried for this name, this one alone has these bytes.
                dirty.commit_ids[dirty.commit_id] = dirty.revision
            return StoreBytes(dirty, metadata)
        case "make":
            kind = ObjectKind(state["kind"])
            return Make(kind, _to_metadata(state), state["target"])
        case "copy":
            source = object_json.to_object(state["object"])
            assert source is not None
            return Copy(source, _to_metadata(state) if "metadata" in state else None)
        case "describe":
            object = object_json.to_object(state["object"])
            assert object is not None
            return Describe(object, _to_metadata(state))
        case "remove":
            return Remove()
        case what:
            raise ValueError(what)


def _from_metadata(metadata: Metadata) -> dict[str, Json]:
    whole = replace(metadata, is_whole=True)
    described = object_json.from_metadata(whole)
    return {"metadata": described, "commit_id": metadata.commit_id}


def _to_metadata(state: dict[str, Any]) -> Metadata:
    metadata = object_json.to_metadata(state["metadata"])
    assert metadata is not None
    return replace(metadata, commit_id=state["commit_id"])
