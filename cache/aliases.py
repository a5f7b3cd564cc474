"""Tokens: versions of objects that are acknowledged and not stored yet.

Who has written a file knows it by the token that it got; when the store has it and
gives it a version of its own, the token goes on standing for it as long as this process
lives. Everybody above sees tokens, the store sees its own versions, and nobody above
has to learn that an object was stored.
"""

import dataclasses
import itertools
import secrets
from collections import OrderedDict
from collections.abc import Sequence

from mountfs.cache.journal import AliasRow
from mountfs.cache.tokens import TOKEN_MARK, is_token
from mountfs.storage.body import Body
from mountfs.storage.errors import VersionChanged
from mountfs.storage.protocol import Storager
from mountfs.storage.types import (
    NO_METADATA,
    Append,
    Condition,
    Content,
    ListMode,
    Metadata,
    Object,
    ObjectKind,
    Page,
    Part,
    Upload,
    Version,
)
from mountfs.storage.wrapper import StoragerWrapper

KEPT_MAX = 100_000


class Aliases:
    """Which token stands for which version.

    Bounded: the oldest go first. An object whose token is forgotten shows with the
    version that the store gave it, as one that somebody else has written.
    """

    def __init__(self, kept_max: int = KEPT_MAX) -> None:
        self._kept_max = kept_max
        self._mine = f"{TOKEN_MARK}{secrets.token_hex(6)}-"
        self._numbers = itertools.count(1)
        self._real: OrderedDict[str, Version] = OrderedDict()
        self._tokens: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._copies: OrderedDict[str, Object] = OrderedDict()

    def new(self) -> Version:
        """Return a token that was never used."""
        return Version(f"{self._mine}{next(self._numbers)}")

    def learn(self, token: str, real: Version, key: str | None = None) -> None:
        """Note the version that the store gave; `key` is where it is to show."""
        self._real[token] = real
        if key is not None:
            self._tokens[key, real.content] = token
        for kept in (self._real, self._tokens):
            while len(kept) > self._kept_max:
                kept.popitem(last=False)

    def lost(self, token: str, copy: Object) -> None:
        """Note where bytes are that never got the name they were promised under."""
        self._copies[token] = copy
        while len(self._copies) > self._kept_max:
            self._copies.popitem(last=False)

    def copy_of(self, version: Version | None) -> Object | None:
        """Return the object that has the bytes of a token which lost its name."""
        return self._copies.get(version.content) if version is not None else None

    def row(self, shown: Object | None, object: Object) -> tuple[AliasRow, ...]:
        """Return what the journal is to remember of a token, if there is one."""
        if shown is None or not is_token(shown.version) or object.version is None:
            return ()
        assert shown.version is not None
        real = object.version
        return (AliasRow(shown.version.content, real.content, real.attributes),)

    def real(self, version: Version) -> Version:
        """Return the store's own version. Raises `VersionChanged` for lost tokens."""
        if not is_token(version):
            return version
        found = self._real.get(version.content)
        if found is None:
            raise VersionChanged("the version was never stored")
        return found

    def is_known(self, version: Version) -> bool:
        """Tell whether the store's own version is known."""
        return not is_token(version) or version.content in self._real

    def condition(self, condition: Condition) -> Condition:
        """Return a condition in the store's own words."""
        return self.real(condition) if isinstance(condition, Version) else condition

    def inward(self, object: Object) -> Object:
        """Return an object with the version that the store gave it."""
        if not is_token(object.version) or object.version is None:
            return object
        return dataclasses.replace(object, version=self.real(object.version))

    def resolved(self, object: Object | None) -> Object | None:
        """Return an object with the store's own version, if that is known by now."""
        if object is None or object.version is None:
            return object
        return self.inward(object) if self.is_known(object.version) else object

    def without_token(self, object: Object) -> Object:
        """Return an object with the store's own version, or with none if it has none.

        Not every store gives a version to a directory.
        """
        if object.version is None or self.is_known(object.version):
            return self.inward(object)
        return dataclasses.replace(object, version=None)

    def outward(self, object: Object) -> Object:
        """Return an object with its token, if it has one."""
        if object.version is None:
            return object
        token = self._tokens.get((object.key, object.version.content))
        if token is None:
            return object
        version = Version(token, object.version.attributes)
        return dataclasses.replace(object, version=version)

    def retire(self, key: str, version: Version) -> None:
        """Let an object show with the version that the store gave it from now on."""
        self._tokens.pop((key, self.real(version).content), None)


class AliasStorager(StoragerWrapper):
    """Takes tokens for versions, and gives them back."""

    def __init__(self, inner: Storager, aliases: Aliases) -> None:
        super().__init__(inner)
        self._aliases = aliases

    async def stat(self, key: str, *, kind: ObjectKind | None = None) -> Object:
        """Look up."""
        return self._aliases.outward(await self._inner.stat(key, kind=kind))

    async def list(
        self,
        prefix: str,
        *,
        mode: ListMode = ListMode.DIRECTORY,
        token: str | None = None,
        limit: int | None = None,
    ) -> Page:
        """List."""
        page = await self._inner.list(prefix, mode=mode, token=token, limit=limit)
        return Page(tuple(map(self._aliases.outward, page.objects)), page.token)

    async def read(
        self,
        key: str,
        offset: int = 0,
        size: int | None = None,
        *,
        version: Version | None = None,
    ) -> Content:
        """Read."""
        copy = self._aliases.copy_of(version)
        if copy is not None:
            key, version = copy.key, copy.version
        real = self._aliases.real(version) if version is not None else None
        content = await self._inner.read(key, offset, size, version=real)
        return Content(self._aliases.outward(content.object), content.data)

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
        """Write."""
        return await self._inner.write(
            key,
            body,
            size=size,
            metadata=metadata,
            inherit=self._inherited(inherit),
            condition=self._aliases.condition(condition),
        )

    async def delete(self, key: str, *, condition: Condition = None) -> None:
        """Delete."""
        await self._inner.delete(key, condition=self._aliases.condition(condition))

    async def copy(
        self,
        source: str,
        target: str,
        *,
        source_version: Version | None = None,
        metadata: Metadata | None = None,
        condition: Condition = None,
    ) -> Object:
        """Copy."""
        pinned = None if source_version is None else self._aliases.real(source_version)
        return await self._inner.copy(
            source,
            target,
            source_version=pinned,
            metadata=metadata,
            condition=self._aliases.condition(condition),
        )

    async def move(
        self, source: str, target: str, *, source_version: Version | None = None
    ) -> Object:
        """Move."""
        pinned = None if source_version is None else self._aliases.real(source_version)
        return await self._inner.move(source, target, source_version=pinned)

    async def make_link(
        self,
        key: str,
        target: str,
        *,
        metadata: Metadata = NO_METADATA,
        condition: Condition = None,
    ) -> Object:
        """Make a link."""
        return await self._inner.make_link(
            key,
            target,
            metadata=metadata,
            condition=self._aliases.condition(condition),
        )

    async def set_metadata(
        self, object: Object, metadata: Metadata, *, condition: Condition = None
    ) -> Object:
        """Change metadata."""
        return await self._inner.set_metadata(
            self._aliases.inward(object),
            metadata,
            condition=self._aliases.condition(condition),
        )

    async def create_multipart(
        self,
        key: str,
        *,
        metadata: Metadata = NO_METADATA,
        inherit: Object | None = None,
    ) -> Upload:
        """Open an upload."""
        return await self._inner.create_multipart(
            key, metadata=metadata, inherit=self._inherited(inherit)
        )

    async def copy_part(
        self, upload: Upload, index: int, source: Object, offset: int, size: int
    ) -> Part:
        """Make a part of an object."""
        pinned = self._aliases.inward(source)
        return await self._inner.copy_part(upload, index, pinned, offset, size)

    async def complete_multipart(
        self,
        upload: Upload,
        parts: Sequence[Part],
        *,
        inherit: Object | None = None,
        condition: Condition = None,
    ) -> Object:
        """Complete an upload."""
        return await self._inner.complete_multipart(
            upload,
            parts,
            inherit=self._inherited(inherit),
            condition=self._aliases.condition(condition),
        )

    async def create_append(
        self,
        key: str,
        *,
        base: Object | None = None,
        metadata: Metadata = NO_METADATA,
    ) -> Append:
        """Begin an append."""
        pinned = None if base is None else self._aliases.inward(base)
        return await self._inner.create_append(key, base=pinned, metadata=metadata)

    def _inherited(self, inherit: Object | None) -> Object | None:
        """Return what a write takes the place of, or nothing if that is not known."""
        if inherit is None or inherit.version is None:
            return inherit
        if not self._aliases.is_known(inherit.version):
            return None
        return self._aliases.inward(inherit)
