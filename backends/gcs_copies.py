"""Copies and changes of metadata, made by the service.

A copy is a `rewrite`, repeated until the service says that it is done: between classes
and keys it moves bytes, and a large object takes several calls. A change of metadata
is a `patch`: the bytes and their generation stay, and only what differs is sent, so
that what somebody else changed meanwhile stays too.
"""

from collections.abc import Mapping

from mountfs.backends._content_types import retyped
from mountfs.backends.gcs_client import GcsClient, Query, Reply
from mountfs.backends.gcs_conditions import condition_query, generation_of, lost
from mountfs.backends.gcs_dialect import OWN_NAMES
from mountfs.backends.gcs_keys import KeySpace
from mountfs.backends.gcs_known import Known
from mountfs.backends.gcs_objects import (
    CLASS,
    FIELDS,
    PAIRS,
    merged,
    object_of,
    resource_of,
    user_of,
)
from mountfs.backends.gcs_options import SSE_CUSTOMER, GcsOptions
from mountfs.storage.errors import (
    InvalidRequest,
    PreconditionFailed,
    ServiceFailed,
    Throttled,
    VersionChanged,
)
from mountfs.storage.types import (
    NO_METADATA,
    Absent,
    Call,
    Condition,
    Metadata,
    Object,
    Version,
)

TRIES_MAX = 4
"""So often a change is tried while somebody else changes the same object."""


class Copies:
    """Copies and changes objects inside one bucket."""

    def __init__(
        self, client: GcsClient, keys: KeySpace, options: GcsOptions, known: Known
    ) -> None:
        self._client = client
        self._keys = keys
        self._options = options
        self._known = known

    async def copy(
        self,
        source: str,
        target: str,
        version: Version | None,
        metadata: Metadata | None,
        condition: Condition,
    ) -> Object:
        """Copy an object with its metadata, or with others in their place."""
        if version is not None:
            generation_of(version, source)
        conditions = condition_query(
            target, condition, Call.COPY, self._options.conditions
        )
        known = await self._known.source(source, version)
        is_typed = version is not None and self._options.content_types
        for _ in range(TRIES_MAX):
            _check_pin(known, version)
            new = metadata
            if new is None and is_typed:  # it is a file of ours that is renamed
                new = retyped(known.metadata, source, target)
            try:
                return await self._rewrite(known, target, new, conditions)
            except PreconditionFailed as error:
                fresh = await self._known.ask(source)
                if fresh.version == known.version:  # the source was not to blame
                    raise lost(target, condition, error) from error
                known = fresh
        raise Throttled("the source changes faster than it is copied", key=source)

    async def _rewrite(
        self,
        source: Object,
        target: str,
        metadata: Metadata | None,
        conditions: Query,
    ) -> Object:
        old = source.metadata or NO_METADATA
        new = old if metadata is None else merged(metadata, old, user=False)
        resource = resource_of(new)
        assert source.version is not None
        query: dict[str, object] = {
            "ifSourceGenerationMatch": source.version.content,
            "ifSourceMetagenerationMatch": source.version.attributes,
            "destinationKmsKeyName": self._kms_key(resource),
            "fields": f"done,rewriteToken,resource({FIELDS})",
            **conditions,
        }
        reply = await self._client.run(
            lambda: self._until_done(source, target, query, resource), source.key
        )
        copied = object_of(target, reply.get("resource", {}))
        self._known.remember([copied])
        return copied

    def _until_done(
        self,
        source: Object,
        target: str,
        query: dict[str, object],
        resource: Mapping[str, object],
    ) -> Reply:
        path = (
            f"{self._keys.path(source.key)}/rewriteTo"
            f"{self._keys.path(target).removeprefix('/storage/v1')}"
        )
        headers = {
            **self._client.key_headers(is_source=True),
            **self._client.key_headers(),
        }
        while True:  # each call gets further, and the deadline cuts the connection
            reply = self._client.send_json(
                "POST", path, query, resource, headers, source.key
            )
            if reply.get("done"):
                return reply
            if not reply.get("rewriteToken"):
                raise ServiceFailed("a copy ended in the middle", key=target)
            query["rewriteToken"] = reply["rewriteToken"]

    def _kms_key(self, resource: dict[str, object]) -> object:
        own = resource.pop("kmsKeyName", None)
        if self._options.sse == SSE_CUSTOMER:
            return None
        return self._options.kms_key or own

    async def set_metadata(
        self, object: Object, metadata: Metadata, condition: Condition
    ) -> Object:
        """Send a patch, pinned to the state that it was made for."""
        key = object.key
        if isinstance(condition, Absent):
            raise InvalidRequest("what is absent has no metadata", key=key)
        condition_query(key, condition, Call.COPY, self._options.conditions)
        base = known = await self._described(object)
        for _ in range(TRIES_MAX):
            _check_pin(known, condition)
            new = merged(metadata, known.metadata, user=False)
            if self._changes_class(new, known):
                return await self.copy(key, key, known.version, metadata, None)
            patch = _patch(base.metadata or NO_METADATA, known.metadata, new)
            try:
                return await self._send_patch(known, patch)
            except PreconditionFailed:
                known = await self._known.ask(key)
        raise Throttled("the object changes faster than its metadata are", key=key)

    async def _send_patch(self, known: Object, patch: object) -> Object:
        assert known.version is not None
        pins: dict[str, object] = {}
        if Call.COPY in self._options.conditions:
            pins = {
                "ifGenerationMatch": known.version.content,
                "ifMetagenerationMatch": known.version.attributes,
            }
        reply = await self._client.call(
            "PATCH",
            self._keys.path(known.key),
            {**pins, "fields": FIELDS},
            patch,
            key=known.key,
        )
        changed = object_of(known.key, reply)
        self._known.remember([changed])
        return changed

    async def _described(self, object: Object) -> Object:
        version = object.version
        is_whole = version is not None and version.attributes is not None
        if object.is_described and is_whole:
            return object
        return await self._known.source(object.key, version)

    def _changes_class(self, new: Metadata, known: Object) -> bool:
        old = known.metadata or NO_METADATA
        return new.pairs.get(CLASS) != old.pairs.get(CLASS)


def _check_pin(known: Object, wanted: Condition) -> None:
    if not isinstance(wanted, Version):
        return
    if known.version is None or known.version.content != wanted.content:
        raise VersionChanged("the object is another version by now", key=known.key)


def _patch(
    base: Metadata, current: Metadata | None, new: Metadata
) -> dict[str, object]:
    """Return what makes `new` of an object that was `base` and is `current` by now.

    Custom metadata that `base` had and `new` has not go, and attributes that are not in
    `new`, of which `base` may tell nothing; what others have added since stays. Names
    that keep their value are left alone.
    """
    now = current or NO_METADATA
    before, after, there = user_of(base), user_of(new), user_of(now)
    user: dict[str, str | None] = {
        name: value for name, value in after.items() if there.get(name) != value
    }
    user.update((n, None) for n in OWN_NAMES.union(before) if n not in after)
    patch: dict[str, object] = {
        PAIRS[name]: value
        for name, value in new.pairs.items()
        if name != CLASS and now.pairs.get(name) != value
    }
    if user:
        patch["metadata"] = user
    return patch
