"""A store that keeps no metadata at all: the attribute index has those of files, too.

So it is with an app of Dropbox that sees its own folder alone. A file is two requests
then: its bytes, and the index of its directory, which many files share that come at
once. A link is a file whose target is its bytes, and the index says that it is one.

Crash between the two: a file has the attributes of the mount, and a link is a file. An
entry counts only for the bytes that it was made for; so it is if another program, or a
mount that does not know the index, replaces them.
"""

import dataclasses
from collections.abc import Sequence

from mountfs.cache.attribute_index import AttributeIndex
from mountfs.cache.index_format import Set
from mountfs.cache.indexed import IndexedStorager, is_reserved
from mountfs.cache.knowledge import split_key
from mountfs.cache.records import Record
from mountfs.storage.body import Body, BytesBody
from mountfs.storage.protocol import Storager
from mountfs.storage.types import (
    NO_METADATA,
    Append,
    Attributes,
    Capabilities,
    Condition,
    ListMode,
    Metadata,
    Object,
    ObjectKind,
    Page,
    Part,
    Upload,
    Version,
)

ALL_KINDS = frozenset({ObjectKind.FILE, ObjectKind.DIRECTORY, ObjectKind.LINK})
_BEGUN_MAX = 4096


class IndexedFiles(IndexedStorager):
    """Keeps the attributes of everything in an index."""

    def __init__(self, inner: Storager, index: AttributeIndex) -> None:
        self._begun: dict[str, Attributes | None] = {}
        """The attributes of uploads and appends that are under way."""
        super().__init__(inner, index)

    def _take_native(self, native: Capabilities) -> Capabilities:
        return dataclasses.replace(
            native, attributes=True, set_metadata=True, list_metadata=True
        )

    # --- looking ------------------------------------------------------------------

    async def list(
        self,
        prefix: str,
        *,
        mode: ListMode = ListMode.DIRECTORY,
        token: str | None = None,
        limit: int | None = None,
    ) -> Page:
        """List; of a whole tree attributes are not told."""
        page = await super().list(prefix, mode=mode, token=token, limit=limit)
        if mode is ListMode.DIRECTORY:
            return page
        return Page(tuple(map(self._unknown, page.objects)), page.token)

    def _unknown(self, object: Object) -> Object:
        kept = self._is_kept_here(object)
        return dataclasses.replace(object, metadata=None) if kept else object

    # --- bytes --------------------------------------------------------------------

    async def write(
        self,
        key: str,
        body: Body | None,
        *,
        size: int | None = None,
        metadata: Metadata = NO_METADATA,
        inherit: Object | None = None,
        condition: Condition = None,
    ) -> Object:
        """Write, then keep the attributes."""
        made = await self._inner.write(
            key,
            body,
            size=size,
            metadata=_bare(metadata),
            inherit=_bare_object(inherit),
            condition=condition,
        )
        return await self._keep(made, metadata.attributes)

    async def make_link(
        self,
        key: str,
        target: str,
        *,
        metadata: Metadata = NO_METADATA,
        condition: Condition = None,
    ) -> Object:
        """Write the target, then keep that it is a link."""
        body = BytesBody(target.encode("utf-8", "surrogateescape"))
        made = await self._inner.write(
            key, body, metadata=_bare(metadata), condition=condition
        )
        link = dataclasses.replace(made, kind=ObjectKind.LINK, link_target=target)
        return await self._keep(link, metadata.attributes or Attributes())

    async def create_multipart(
        self,
        key: str,
        *,
        metadata: Metadata = NO_METADATA,
        inherit: Object | None = None,
    ) -> Upload:
        """Begin; the attributes wait here for the completion."""
        upload = await self._inner.create_multipart(
            key, metadata=_bare(metadata), inherit=_bare_object(inherit)
        )
        self._begin(upload.id, metadata.attributes)
        return upload

    async def complete_multipart(
        self,
        upload: Upload,
        parts: Sequence[Part],
        *,
        inherit: Object | None = None,
        condition: Condition = None,
    ) -> Object:
        """Complete, then keep the attributes."""
        made = await self._inner.complete_multipart(
            upload, parts, inherit=_bare_object(inherit), condition=condition
        )
        return await self._keep(made, self._begun.pop(upload.id, None))

    async def abort_multipart(self, upload: Upload) -> None:
        """Abort, and forget."""
        self._begun.pop(upload.id, None)
        await self._inner.abort_multipart(upload)

    async def create_append(
        self,
        key: str,
        *,
        base: Object | None = None,
        metadata: Metadata = NO_METADATA,
    ) -> Append:
        """Begin; the attributes wait here for the commit."""
        append = await self._inner.create_append(
            key, base=_bare_object(base), metadata=_bare(metadata)
        )
        self._begin(f"append {key}", metadata.attributes)
        return append

    async def commit_append(self, append: Append) -> Object:
        """Commit, then keep the attributes, or those that the base had."""
        base = append.base
        kept = await self._kept_of(append.key, base.version if base else None)
        made = await self._inner.commit_append(append)
        attributes = self._begun.pop(f"append {append.key}", None)
        if attributes is None and kept is not None:
            attributes = kept.attributes
        return await self._keep(made, attributes)

    # --- names --------------------------------------------------------------------

    async def copy(
        self,
        source: str,
        target: str,
        *,
        source_version: Version | None = None,
        metadata: Metadata | None = None,
        condition: Condition = None,
    ) -> Object:
        """Copy; what is kept is copied."""
        kept = await self._kept_of(source, source_version)
        copied = await self._inner.copy(
            source,
            target,
            source_version=source_version,
            metadata=None if metadata is None else _bare(metadata),
            condition=condition,
        )
        return await self._keep_as(copied, kept, metadata)

    async def move(
        self, source: str, target: str, *, source_version: Version | None = None
    ) -> Object:
        """Move; what is kept goes along, though the version is another."""
        if source.endswith("/"):
            moved = await super().move(source, target, source_version=source_version)
            if not self._native.move_dir_keeps_versions:
                await self._renew_below(target)
            return moved
        kept = await self._kept_of(source, source_version)
        moved = await self._inner.move(source, target, source_version=source_version)
        self._note_gone(source)
        return await self._keep_as(moved, kept, None)

    async def _renew_below(self, directory: str) -> None:
        """Let what is kept below a directory that has moved name the new versions."""
        token: str | None = None
        while True:
            page = await self._inner.list(directory, mode=ListMode.PREFIX, token=token)
            changes: dict[str, dict[str, Set]] = {}
            for object in page.objects:
                if object.kind is ObjectKind.DIRECTORY or is_reserved(object.key):
                    continue
                parent, name = split_key(object.key)
                record = await self._index.record(parent, name)
                if record is not None and _is_like(record, object):
                    meant = _shown(object, record)
                    new = self._record(meant, record.attributes)
                    changes.setdefault(parent, {})[name] = Set(new)
            for parent, new_records in changes.items():
                await self._index.change(parent, new_records)
            if page.token is None:
                return
            token = page.token

    # --- inside -------------------------------------------------------------------

    def _begin(self, id: str, attributes: Attributes | None) -> None:
        self._begun[id] = attributes
        while len(self._begun) > _BEGUN_MAX:
            del self._begun[next(iter(self._begun))]

    async def _kept_of(self, key: str, version: Version | None) -> Record | None:
        """Return what is kept of a file, if it is of the bytes that are meant."""
        record = await self._index.record(*split_key(key))
        if record is None or version is None:
            return record
        return record if record.content == version.content else None

    async def _keep_as(
        self, made: Object, kept: Record | None, metadata: Metadata | None
    ) -> Object:
        """Keep of a copy what was kept of its source, or what it is to have instead."""
        if kept is not None:
            made = _shown(made, kept)
        attributes = kept.attributes if kept is not None else None
        if metadata is not None and metadata.attributes is not None:
            attributes = metadata.attributes
        return await self._keep(made, attributes)

    def _is_kept_here(self, object: Object) -> bool:
        return not object.key or not is_reserved(object.key)

    def _completed_by(self, object: Object, record: Record) -> Object:
        if object.kind is ObjectKind.DIRECTORY:
            return super()._completed_by(object, record)
        if not record.is_of(object):
            return self._with_attributes(object, None)
        return self._with_attributes(_shown(object, record), record.attributes)

    async def _as_stored(self, object: Object) -> Object:
        return object

    def _record(self, object: Object, attributes: Attributes | None) -> Record:
        if object.kind is ObjectKind.DIRECTORY or object.version is None:
            return super()._record(object, attributes)
        return Record(
            kind=object.kind,
            size=object.size,
            time_ns=object.mtime_ns,
            content=object.version.content,
            state=object.version.attributes,
            gates=self._index.gates,
            attributes=attributes,
            target=object.link_target,
        )


def _bare(metadata: Metadata) -> Metadata:
    return metadata.with_attributes(None)


def _bare_object(object: Object | None) -> Object | None:
    if object is None or object.metadata is None:
        return object
    bare = _bare(object.metadata)
    return dataclasses.replace(object, kind=_stored_kind(object), metadata=bare)


def _stored_kind(object: Object) -> ObjectKind:
    return ObjectKind.FILE if object.kind is ObjectKind.LINK else object.kind


def _shown(object: Object, record: Record) -> Object:
    """Return what the store has as what it is."""
    return dataclasses.replace(
        object, kind=record.kind, link_target=record.target or object.link_target
    )


def _is_like(record: Record, object: Object) -> bool:
    """Tell whether a file is still what it was before its directory moved."""
    return record.size == object.size and record.time_ns == object.mtime_ns
