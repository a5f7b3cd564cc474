"""How an object is looked up where names, links and directories are emulated.

A directory may be a marker, or exist by what is below it; a link's target may stand in
its body; what other tools mean by a key may lie under another one. Whoever looks gets
it as callers see it (`mountfs.storage.translate`), at no more requests than it takes.

Nothing is changed in the store here.
"""

import dataclasses

from mountfs.storage import dialects
from mountfs.storage.errors import NotFound, VersionChanged
from mountfs.storage.foreign_names import (
    FOLDER_SUFFIX,
    LINK_SUFFIX,
    directory_of,
    other_key,
)
from mountfs.storage.protocol import Storager
from mountfs.storage.sidecars import Sidecars
from mountfs.storage.translate import Translator
from mountfs.storage.types import (
    NO_METADATA,
    Capabilities,
    ListMode,
    Object,
    ObjectKind,
    Page,
)

_TARGET_TRIES = 3
# Enough to see the marker, a child, and that there is more than the marker.
_DIRECTORY_PROBE = 3


class Looks:
    """Looks objects of `inner` up, and remembers which foreign names it has."""

    def __init__(
        self,
        inner: Storager,
        native: Capabilities,
        translator: Translator,
        sidecars: Sidecars | None,
    ) -> None:
        self._inner = inner
        self._sidecars = sidecars
        # What is not there under its name is worth a question under these.
        self._foreign_suffixes: set[str] = set()
        self.take(native, translator)

    def take(self, native: Capabilities, translator: Translator) -> None:
        """Look things up by what the store can do from now on."""
        self._native = native
        self._translator = translator
        self._capabilities = translator.capabilities

    async def stat(self, key: str, kind: ObjectKind | None) -> Object:
        """Look up an object; a directory is its marker or any key below it."""
        try:
            if not self._native.native_dirs and kind is ObjectKind.DIRECTORY:
                found = await self.directory(key)
            else:
                hint = kind if self._native.native_dirs else None
                found = self.seen(await self._inner.stat(key, kind=hint))
                if found.kind is ObjectKind.LINK and found.link_target is None:
                    found = await self._with_target(found)
        except NotFound:
            other = await self._under_foreign_name(key, kind)
            if other is None:
                raise
            found = other
        if self._sidecars is None:
            return found
        return await self._sidecars.resolved(found)

    def seen(self, object: Object) -> Object:
        """Return an answer as callers see it, with what is known without a request."""
        found = self._translator.seen(object)
        if self._sidecars is None:
            return found
        return self._sidecars.resolved_nowait(found)

    def note_foreign_names(self, page: Page) -> None:
        """Note what tools a page shows that keep things under names of their own."""
        suffixes = (LINK_SUFFIX, FOLDER_SUFFIX)
        for key in [e.key for e in page.objects if e.key.endswith(suffixes)]:
            self._foreign_suffixes.update(filter(key.endswith, suffixes))

    async def _under_foreign_name(
        self, key: str, kind: ObjectKind | None
    ) -> Object | None:
        """Return what a foreign tool keeps for a key under another one, if anything."""
        is_directory = kind is ObjectKind.DIRECTORY
        wanted = key if not is_directory or key.endswith("/") else f"{key}/"
        other = other_key(wanted)
        if not any(other.endswith(suffix) for suffix in self._foreign_suffixes):
            return None
        if wanted in ("", "/") or is_directory != wanted.endswith("/"):
            return None
        try:
            found = await self._with_target(self.seen(await self._inner.stat(other)))
        except NotFound:
            return None
        if not found.has_foreign_name:
            return None
        return directory_of(found) if is_directory else found

    async def directory(self, key: str) -> Object:
        """Return a directory: its marker, or that there is a key below it."""
        prefix = key if not key or key.endswith("/") else f"{key}/"
        page = await self._inner.list(
            prefix, mode=ListMode.PREFIX, limit=_DIRECTORY_PROBE
        )
        while not page.objects and page.token is not None:
            page = await self._inner.list(
                prefix,
                mode=ListMode.PREFIX,
                token=page.token,
                limit=_DIRECTORY_PROBE,
            )
        marker = next((entry for entry in page.objects if entry.key == prefix), None)
        if marker is not None:
            return await self._with_attributes(marker)
        if page.objects or not prefix:
            return Object(key=prefix, kind=ObjectKind.DIRECTORY, metadata=NO_METADATA)
        raise NotFound(key=prefix)

    async def _with_attributes(self, marker: Object) -> Object:
        """Return a directory with what its marker keeps, asking where that helps."""
        if (
            marker.metadata is None
            and self._native.dir_metadata
            and (self._capabilities.attributes or self._capabilities.xattrs)
        ):
            try:
                marker = await self._inner.stat(marker.key)
            except NotFound:  # deleted just now; the listing was true in its time
                marker = dataclasses.replace(marker, metadata=NO_METADATA)
        return self.seen(marker)

    async def _with_target(self, found: Object) -> Object:
        """Return what was found; read a link's body for its target."""
        key = found.key
        for _ in range(_TARGET_TRIES):
            if found.kind is not ObjectKind.LINK or found.link_target is not None:
                return found
            try:
                content = await self._inner.read(
                    found.key, 0, dialects.TARGET_SIZE_MAX + 1, version=found.version
                )
            except VersionChanged:
                found = self.seen(await self._inner.stat(found.key))
                continue
            return with_target_from(found, content.data)
        raise VersionChanged("the link changes faster than it is read", key=key)

    async def known(self, object: Object) -> Object | None:
        """Return the object with its metadata, asking for them if they are unknown."""
        if object.is_described:
            return object
        try:
            fresh = await self._inner.stat(object.key)
        except NotFound:
            return None
        return with_metadata_of(object, self.seen(fresh))


def with_target_from(object: Object, body: bytes) -> Object:
    """Return a link with the target that stands in its body; else it is a file."""
    if object.kind is not ObjectKind.LINK or object.link_target is not None:
        return object
    target = body.decode("utf-8", "surrogateescape")
    if dialects.is_target(target):
        return dataclasses.replace(object, link_target=target)
    return dataclasses.replace(object, kind=ObjectKind.FILE, has_foreign_name=False)


def with_metadata_of(known: Object, fresh: Object) -> Object:
    """Return what is known, with the metadata (and size) of a fresh answer."""
    size = fresh.size if known.size is None else known.size
    version = fresh.version if known.version is None else known.version
    return dataclasses.replace(
        known,
        kind=fresh.kind,
        size=size,
        version=version,
        metadata=fresh.metadata or NO_METADATA,
    )
