"""A dirty file as text, so that the next mount finds it in the journal.

The text is JSON and carries its own format number. The bytes stay in the spool file;
what is described here is which of them count, what lies under them, and how to store
them.
"""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

from mountfs.cache import object_json
from mountfs.cache.attribute_json import Json
from mountfs.cache.dirty import DirtyFile
from mountfs.cache.journalfile import JournalError
from mountfs.cache.spool import Spool
from mountfs.cache.streaming import Ladder, Slot, SlotState, Stream
from mountfs.storage.types import (
    ABSENT,
    Condition,
    Metadata,
    Part,
    Upload,
)

_FORMAT = 1


def describe(
    dirty: DirtyFile, metadata: Metadata, error: str, *, with_stream: bool = True
) -> str:
    """Return the state of a dirty file as text."""
    return json.dumps(
        {
            "format": _FORMAT,
            "size": dirty.size,
            "base": object_json.from_object(dirty.base),
            "base_size": dirty.base_size,
            "extents": [list(extent) for extent in dirty.extents],
            "inherit": object_json.from_object(dirty.inherit),
            "condition": object_json.from_version(retry_condition(dirty)),
            "commit_ids": sorted(dirty.commit_ids),
            "stream": _from_stream(dirty.stream if with_stream else None),
            "metadata": object_json.from_metadata(metadata),
            "error": error,
        }
    )


def restore(
    text: str, key: str, spool: Spool, ladder: Callable[[], Ladder]
) -> tuple[DirtyFile, Metadata, str]:
    """Return the dirty file, its metadata and the error that a text describes.

    `ladder` gives the sizes of the parts that an open upload still lacks.

    Raises `JournalError` if the text cannot be understood.
    """
    try:
        state = json.loads(text)
        if state["format"] != _FORMAT:
            raise JournalError(
                f"{key!r} was left behind by a newer mountfs; mount with that version"
            )
        dirty = DirtyFile(
            key,
            object_json.to_object(state["base"]),
            int(state["size"]),
            spool,
            inherit=object_json.to_object(state["inherit"]),
            condition=object_json.to_version(state["condition"]) or ABSENT,
        )
        dirty.base_size = int(state["base_size"])
        dirty.stored_revision = -1
        # Its bytes may be newer than this text, and than any object that these made.
        dirty.commit_ids.update(dict.fromkeys(state["commit_ids"], -1))
        for start, end in state["extents"]:
            dirty.extents.add(start, end)
        if state["stream"] is not None:
            dirty.stream = _to_stream(state["stream"], ladder())
        metadata = object_json.to_metadata(state["metadata"])
        assert metadata is not None
        return dirty, metadata, str(state["error"])
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise JournalError(f"what the journal says of {key!r} is damaged") from error


def retry_condition(dirty: DirtyFile) -> Condition:
    """Return what must hold for storing a file long after its program has gone."""
    if dirty.condition is not None:
        return dirty.condition
    for object in (dirty.base, dirty.inherit):
        if object is not None and object.version is not None:
            return object.version
    return ABSENT


def _from_stream(stream: Stream | None) -> Json:
    """Describe an upload that holds bytes which are nowhere else."""
    if stream is None:
        return None
    return {
        "key": stream.upload.key,
        "id": stream.upload.id,
        "commit_id": stream.metadata.commit_id,
        "metadata": object_json.from_metadata(stream.metadata),
        "started_ns": stream.started_ns,
        "used": stream.used,
        "slots": [
            {
                "offset": slot.offset,
                "size": slot.size,
                "etag": slot.part.etag if slot.part is not None else None,
                "is_punched": slot.is_punched,
                "was_touched": slot.was_touched,
            }
            for slot in stream.slots
        ],
    }


def _to_stream(state: dict[str, Any], ladder: Ladder) -> Stream:
    metadata = object_json.to_metadata(state["metadata"])
    assert metadata is not None
    commit_id = state["commit_id"]
    stream = Stream(
        Upload(state["key"], state["id"], commit_id),
        ladder,
        dataclasses.replace(metadata, commit_id=commit_id),
        state["started_ns"],
    )
    stream.is_restored = True
    # Who did not write these down knew nothing of them.
    stream.used = state.get("used", stream.parts_max)
    for index, item in enumerate(state["slots"]):
        slot = Slot(index, item["offset"], item["size"])
        if item["etag"] is not None:
            slot.state = SlotState.SENT
            slot.part = Part(index, slot.size, item["etag"])
        slot.is_punched = item["is_punched"]
        slot.was_touched = item.get("was_touched", True)
        if slot.is_punched:
            stream.punched.add(slot.offset, slot.end)
        stream.slots.append(slot)
    return stream
