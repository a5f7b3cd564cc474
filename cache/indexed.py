"""A store whose directories, links and root keep attributes although it does not.

Some stores drop the metadata of directory markers, some have links of their own that
have none, and no store has an object for its root. `IndexedStorager` keeps the
attributes of those in the attribute index, so that whoever asks above need not know. A
change of attributes is one conditional write of the index, and done when it returns.

Directories and the root are known by their key alone: who removes a directory with
another tool and makes it again finds its old attributes. An entry of a link counts only
for the link that it was made for.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from mountfs.cache.attribute_index import AttributeIndex
from mountfs.cache.index_format import PREFIX, Drop, Set
from mountfs.cache.knowledge import split_key
from mountfs.cache.records import Record
from mountfs.storage.errors import StoreError, VersionChanged
from mountfs.storage.parallel import run_all
from mountfs.storage.protocol import Storager
from mountfs.storage.types import (
    NO_METADATA,
    Attributes,
    Capabilities,
    Condition,
    ListMode,
    Metadata,
    Object,
    ObjectKind,
    Page,
    Version,
)
from mountfs.storage.wrapper import StoragerWrapper

_RESERVED = PREFIX.partition("/")[0] + "/"


def kinds_without_metadata(capabilities: Capabilities) -> frozenset[ObjectKind]:
    """Return the kinds of which a store keeps no attributes, if it keeps any."""
    if not (capabilities.attributes or capabilities.xattrs):
        return frozenset()
    kinds: set[ObjectKind] = set()
    if not capabilities.dir_metadata:
        kinds.add(ObjectKind.DIRECTORY)
    if capabilities.native_links and not capabilities.link_metadata:
        kinds.add(ObjectKind.LINK)
    return frozenset(kinds)


class IndexedStorager(StoragerWrapper):
    """Keeps in an index what `inner` has no place for."""

    def __init__(self, inner: Storager, index: AttributeIndex) -> None:
        super().__init__(inner)
        self._index = index
        self._native = self._take_native(inner.capabilities)
        self._capabilities = self._widened()

    def _take_native(self, native: Capabilities) -> Capabilities:
        """Return what the store can do, as this wrapper takes it."""
        return native

    def take_capabilities(self) -> None:
        """Ask `inner` again what it can do."""
        self._native = self._take_native(self._inner.capabilities)
        self._capabilities = self._widened()

    def _widened(self) -> Capabilities:
        is_kept = self._native.attributes or self._native.xattrs
        return dataclasses.replace(
            self._native,
            dir_metadata=is_kept,
            link_metadata=is_kept,
            root_metadata=is_kept,
            indexed=self._index.kinds,
        )

    @property
    def capabilities(self) -> Capabilities:
        """What the inner store can do, and that everything keeps attributes."""
        return self._capabilities

    async def stat(self, key: str, *, kind: ObjectKind | None = None) -> Object:
        """Look up; one request for the index more, unless it is known."""
        if not key and self._capabilities.root_metadata:
            return await self._with_kept(Object(key="", kind=ObjectKind.DIRECTORY))
        return await self._with_kept(await self._inner.stat(key, kind=kind))

    async def list(
        self,
        prefix: str,
        *,
        mode: ListMode = ListMode.DIRECTORY,
        token: str | None = None,
        limit: int | None = None,
    ) -> Page:
        """List; a directory's entries come with what the index keeps of them."""
        page = await self._inner.list(prefix, mode=mode, token=token, limit=limit)
        if mode is not ListMode.DIRECTORY:
            return page
        if not any(self._is_kept_here(object) for object in page.objects):
            return page
        records = await self._index.records(prefix)
        return Page(
            tuple(self._completed(object, records) for object in page.objects),
            page.token,
        )

    async def make_dir(self, key: str, *, metadata: Metadata = NO_METADATA) -> Object:
        """Make a directory, and keep its attributes, at the same time.

        A crash in between leaves a directory with the attributes of one that another
        tool made, or attributes of one that is not there, which nobody asks for.
        """
        attributes = metadata.attributes
        planned = Object(key=key, kind=ObjectKind.DIRECTORY)
        if attributes is None or not self._is_kept_here(planned):
            made = await self._inner.make_dir(key, metadata=metadata)
            return await self._keep(made, attributes)
        failure: StoreError | None = None

        async def keep() -> Object:
            nonlocal failure
            try:
                return await self._keep(planned, attributes)
            except StoreError as error:
                failure = error  # what is on its way is not cancelled for it
                return planned

        async def make() -> Object:
            return await self._inner.make_dir(key, metadata=metadata)

        made, _ = await run_all([make, keep], at_once=2)
        if failure is not None:
            raise failure
        return self._with_attributes(made, attributes)

    async def make_link(
        self,
        key: str,
        target: str,
        *,
        metadata: Metadata = NO_METADATA,
        condition: Condition = None,
    ) -> Object:
        """Make a link, then keep its attributes."""
        made = await self._inner.make_link(
            key, target, metadata=metadata, condition=condition
        )
        return await self._keep(made, metadata.attributes)

    async def set_metadata(
        self, object: Object, metadata: Metadata, *, condition: Condition = None
    ) -> Object:
        """Change attributes in the object, or in the index if it keeps none."""
        found = object
        if object.kind is ObjectKind.LINK and object.kind in self._index.kinds:
            found = await self._as_stored(object)
        if not self._is_kept_here(found):
            return await self._inner.set_metadata(object, metadata, condition=condition)
        if isinstance(condition, Version) and not _has(found, condition.content):
            raise VersionChanged(key=object.key)
        return await self._keep(found, metadata.attributes)

    async def delete(self, key: str, *, condition: Condition = None) -> None:
        """Delete, and forget what was kept."""
        await self._inner.delete(key, condition=condition)
        self._note_gone(key)

    async def delete_many(self, keys: Sequence[str]) -> dict[str, Exception]:
        """Delete, and forget what was kept of what is gone."""
        failed = await self._inner.delete_many(keys)
        for key in keys:
            if key not in failed:
                self._note_gone(key)
        return failed

    async def move(
        self, source: str, target: str, *, source_version: Version | None = None
    ) -> Object:
        """Move; what is kept goes along.

        Crash between the two: of a directory both keys have what is kept below it, of
        a link neither has it.
        """
        if source.endswith("/"):
            return await self._move_directory(source, target)
        moved = await self._inner.move(source, target, source_version=source_version)
        if not self._is_kept_here(moved):
            return moved
        record = await self._index.record(*split_key(source))
        is_its = record is not None and _has(moved, record.content)
        self._note_gone(source)
        return await self._keep(moved, record.attributes if record and is_its else None)

    async def _move_directory(self, source: str, target: str) -> Object:
        below = await self._index.directories(source)
        await self._index.renamed(source, target, below)
        moved = await self._inner.move(source, target)
        for directory in (source, *below):
            self._note_gone(directory)
        return await self._with_kept(moved)

    async def _as_stored(self, object: Object) -> Object:
        """Return a link as the store has it: perhaps as an object of another kind."""
        return await self._inner.stat(object.key)

    # --- inside -----------------------------------------------------------------------

    def _is_kept_here(self, object: Object) -> bool:
        """Tell whether the index keeps the attributes of what the store has told of."""
        if not object.key:
            return self._capabilities.root_metadata
        if object.kind not in self._index.kinds or is_reserved(object.key):
            return False
        # A link that is an object, on a store with links of its own, keeps them itself.
        return object.kind is not ObjectKind.LINK or object.attributes is None

    async def _with_kept(self, object: Object) -> Object:
        if not self._is_kept_here(object):
            return object
        directory, name = split_key(object.key)
        record = await self._index.record(directory, name)
        return self._completed(object, {} if record is None else {name: record})

    def _completed(self, object: Object, records: Mapping[str, Record]) -> Object:
        """Return an object with what the index keeps of it."""
        if not self._is_kept_here(object):
            return object
        record = records.get(split_key(object.key)[1])
        if record is None:
            return self._with_attributes(object, None)
        return self._completed_by(object, record)

    def _completed_by(self, object: Object, record: Record) -> Object:
        if record.kind is not object.kind:
            return self._with_attributes(object, None)
        if object.kind is ObjectKind.LINK and not record.is_of(object):
            return self._with_attributes(object, None)
        return self._with_attributes(object, record.attributes)

    def _with_attributes(self, object: Object, kept: Attributes | None) -> Object:
        attributes = self._native.kept(kept) if kept is not None else None
        if attributes is not None and self._native.xattrs and attributes.xattrs is None:
            attributes = dataclasses.replace(attributes, xattrs={})
        metadata = (object.metadata or NO_METADATA).with_attributes(attributes)
        return dataclasses.replace(object, metadata=metadata)

    async def _keep(self, object: Object, attributes: Attributes | None) -> Object:
        """Keep attributes of an object; return it with them."""
        if not self._is_kept_here(object):
            return object
        if attributes is None:
            return await self._with_kept(object)
        directory, name = split_key(object.key)
        record = self._record(object, self._native.kept(attributes))
        await self._index.change(directory, {name: Set(record)})
        return self._with_attributes(object, attributes)

    def _record(self, object: Object, attributes: Attributes | None) -> Record:
        gates = self._index.gates
        if object.kind is not ObjectKind.LINK or object.version is None:
            return Record(kind=object.kind, gates=gates, attributes=attributes)
        return Record(
            kind=object.kind,
            size=object.size,
            time_ns=object.mtime_ns,
            content=object.version.content,
            state=object.version.attributes,
            gates=gates,
            attributes=attributes,
        )

    def _note_gone(self, key: str) -> None:
        if is_reserved(key):
            return
        directory, name = split_key(key)
        kind = ObjectKind.DIRECTORY if key.endswith("/") else ObjectKind.LINK
        if kind is ObjectKind.DIRECTORY:
            self._index.forget(key)
        if kind in self._index.kinds:
            self._index.note(directory, {name: Drop()})


def is_reserved(key: str) -> bool:
    """Tell whether a key is one of ours, of which nothing is kept."""
    return key.startswith(_RESERVED)


def _has(object: Object, content: str | None) -> bool:
    """Tell whether an object has these bytes."""
    return object.version is not None and object.version.content == content
