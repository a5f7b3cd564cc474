"""Objects, versions and metadata as JSON, for the journal.

What a store says in its own words (`Metadata.system`) and commit ids are left out: the
one is not ours to repeat, the other belongs to one commit.
"""

from collections.abc import Mapping

from mountfs.cache import attribute_json
from mountfs.cache.attribute_json import Json
from mountfs.storage.types import (
    ABSENT,
    Attributes,
    Condition,
    Metadata,
    Object,
    ObjectKind,
    Version,
)


def from_version(version: Condition) -> Json:
    """Describe a version; a condition that names none is null."""
    if not isinstance(version, Version):
        return None
    return {"content": version.content, "attributes": version.attributes}


def to_version(state: Mapping[str, str | None] | None) -> Version | None:
    """Return the version that was described."""
    if state is None:
        return None
    content = state["content"]
    assert content is not None
    return Version(content, state["attributes"])


def from_condition(condition: Condition) -> Json:
    """Describe a condition: a version, "absent", or null for anything."""
    return "absent" if condition is ABSENT else from_version(condition)


def to_condition(state: object) -> Condition:
    """Return the condition that was described."""
    if state == "absent":
        return ABSENT
    return to_version(state)  # type: ignore[arg-type]  # JSON


def from_object(object: Object | None) -> Json:
    """Describe what a store said about a key."""
    if object is None:
        return None
    return {
        "key": object.key,
        "kind": object.kind.value,
        "size": object.size,
        "mtime_ns": object.mtime_ns,
        "version": from_version(object.version),
        "metadata": from_metadata(object.metadata),
        "link_target": object.link_target,
    }


def to_object(state: Mapping[str, object] | None) -> Object | None:
    """Return the object that was described."""
    if state is None:
        return None
    size, mtime_ns = state["size"], state["mtime_ns"]
    assert size is None or isinstance(size, int)
    assert mtime_ns is None or isinstance(mtime_ns, int)
    target = state.get("link_target")
    return Object(
        key=str(state["key"]),
        kind=ObjectKind(state["kind"]),
        size=size,
        mtime_ns=mtime_ns,
        version=to_version(state["version"]),  # type: ignore[arg-type]  # JSON
        metadata=to_metadata(state["metadata"]),  # type: ignore[arg-type]  # JSON
        link_target=None if target is None else str(target),
    )


def from_metadata(metadata: Metadata | None) -> Json:
    """Describe metadata; those that are not whole are null, as unknown ones."""
    if metadata is None or not metadata.is_whole:
        return None
    attributes = metadata.attributes
    return {
        "user": dict(metadata.user),
        "pairs": dict(metadata.pairs),
        "attributes": None
        if attributes is None
        else attribute_json.to_json(attributes),
    }


def to_metadata(
    state: Mapping[str, Mapping[str, str] | None] | None,
) -> Metadata | None:
    """Return the metadata that were described."""
    if state is None:
        return None
    attributes = state["attributes"]
    return Metadata(
        user=dict(state["user"] or {}),
        pairs=dict(state["pairs"] or {}),
        attributes=None if attributes is None else to_attributes(attributes),
    )


def to_attributes(state: Mapping[str, object]) -> Attributes:
    """Return the attributes that were described."""
    # What is not kept once stood here as null.
    known = {name: value for name, value in state.items() if value is not None}
    return attribute_json.from_json(known)
