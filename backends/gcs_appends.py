"""Appending: the service composes the old object and the new bytes.

The old bytes are not moved, and the object is replaced in one step, by its generation:
of two appends to one object one wins and the other is told. What is to be appended is
sent as components first. A crash before the compose leaves those (`gcs_leftovers`).
"""

import dataclasses
import secrets
from dataclasses import dataclass

import trio

from mountfs.backends.gcs_client import GcsClient
from mountfs.backends.gcs_components import Components, Owner, Source, pinned
from mountfs.backends.gcs_conditions import generation_of, lost
from mountfs.backends.gcs_keys import KeySpace
from mountfs.backends.gcs_known import Known
from mountfs.backends.gcs_objects import merged, object_of, resource_of
from mountfs.backends.gcs_options import GcsOptions
from mountfs.backends.gcs_uploads import Uploads
from mountfs.storage.body import Body
from mountfs.storage.errors import (
    NotFound,
    PreconditionFailed,
    VersionChanged,
)
from mountfs.storage.types import Append, Metadata, Object

APPEND_MIN = 2 << 20
"""A smaller object is written anew in one request; a compose takes three."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GcsAppend(Append):
    """An append whose bytes are components until it is committed."""

    metadata: Metadata
    sources: tuple[Source, ...] = ()


class Appends:
    """Appends below one root."""

    def __init__(
        self,
        client: GcsClient,
        keys: KeySpace,
        options: GcsOptions,
        uploads: Uploads,
        *,
        components: Components,
        known: Known,
    ) -> None:
        self._client = client
        self._keys = keys
        self._options = options
        self._uploads = uploads
        self._components = components
        self._known = known

    async def create(
        self, key: str, base: Object | None, metadata: Metadata
    ) -> GcsAppend:
        """Begin; asks for the base if not all of it is known."""
        if base is None:
            await trio.lowlevel.checkpoint()
            return GcsAppend(key, 0, secrets.token_hex(16), metadata=metadata)
        whole = base
        if not base.is_described or base.size is None or base.version is None:
            whole = await self._known.source(key, base.version)
        pin, there = base.version, whole.version
        if pin and there and generation_of(pin, key) != there.content:
            raise VersionChanged("the object is another version by now", key=key)
        return GcsAppend(
            key,
            whole.size or 0,
            secrets.token_hex(16),
            whole,
            metadata=merged(metadata, whole.metadata, user=True),
        )

    async def write(self, append: GcsAppend, body: Body) -> GcsAppend:
        """Send a component. Nothing is visible before the commit."""
        if body.size == 0:
            return append
        name = f"{len(append.sources):05}-{secrets.token_hex(4)}"
        sent = await self._components.send(self._owner(append), name, body, body.size)
        return dataclasses.replace(
            append, offset=append.offset + body.size, sources=(*append.sources, sent)
        )

    async def commit(self, append: GcsAppend) -> Object:
        """Compose the old object and the components, and remove these."""
        key, base = append.key, append.base
        resource = resource_of(append.metadata)
        if self._options.kms_key or self._options.sse:
            resource.pop("kmsKeyName", None)
        sources = append.sources
        if base is not None and base.size:
            sources = (pinned(self._keys.full(key), base), *sources)
        version = base.version if base is not None else None
        conditions = {"ifGenerationMatch": version.content} if version else {}
        if not sources:
            return await self._empty(key, resource, conditions, version)
        try:
            made, joined = await self._components.compose(
                self._owner(append), sources, resource, conditions
            )
        except (PreconditionFailed, NotFound) as error:
            await self._drop(append)
            if isinstance(error, PreconditionFailed):
                raise lost(key, version, error) from error
            raise VersionChanged("the object is gone", key=key) from error
        self._known.remember([made])
        await self._drop(append, joined)
        return made

    async def _empty(
        self,
        key: str,
        resource: dict[str, object],
        conditions: dict[str, str],
        version: object,
    ) -> Object:
        full = self._keys.full(key)
        try:
            reply = await self._client.run(
                lambda: self._uploads.insert(full, None, 0, resource, conditions, key),
                key,
            )
        except PreconditionFailed as error:
            raise VersionChanged(
                "the object is another version by now", key=key, code=error.code
            ) from error
        return object_of(key, reply)

    async def _drop(self, append: GcsAppend, joined: "list[str] | None" = None) -> None:
        fulls = [source.full for source in append.sources] + (joined or [])
        await self._components.remove_later(fulls, append.key)

    def _owner(self, append: GcsAppend) -> Owner:
        storage_class = append.metadata.pairs.get("storage-class")
        return Owner(append.id, append.key, append.metadata.commit_id, storage_class)
