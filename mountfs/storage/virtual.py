"""What a store lacks and its operations can make up for, behind gates.

`VirtualStorager` holds every emulation that concerns one object and needs no memory
of its own. Each is a gate of `Features`; off means that the operation behaves as if
nobody had thought of it. What needs a journal (renaming a directory) lives higher up.

A directory of a key store is a marker, an empty object whose key ends in `/`, or any
key below it. A link is an object whose body is the target and whose mode says so.
Attributes and pairs ride in user metadata, in the request that stores the bytes.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from contextlib import suppress

import trio

from mountfs.storage import dialects
from mountfs.storage.append import VirtualAppend
from mountfs.storage.append import commit as commit_virtual_append
from mountfs.storage.body import Body, BytesBody
from mountfs.storage.errors import (
    AlreadyExists,
    Corrupt,
    InvalidRequest,
    NotFound,
    Unsupported,
    VersionChanged,
)
from mountfs.storage.looks import Looks, with_metadata_of, with_target_from
from mountfs.storage.overflow import OverflowStorager
from mountfs.storage.protocol import Storager
from mountfs.storage.sidecars import Sidecars
from mountfs.storage.translate import (
    MD5,
    Translator,
    bequest,
    has_md5,
    inherited,
    merged,
)
from mountfs.storage.types import (
    ABSENT,
    NO_METADATA,
    Append,
    Call,
    Capabilities,
    Condition,
    Content,
    Features,
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

DIRECTORY_TYPE = "application/x-directory"
_UPLOADS_KNOWN_MAX = 4096
_HASH_INLINE_MAX = 1 << 20


class VirtualStorager(StoragerWrapper):
    """Adds to `inner` what the gates allow."""

    def __init__(self, inner: Storager, features: Features) -> None:
        super().__init__(inner)
        self._features = features
        self._native = inner.capabilities
        self._translator = Translator(self._native, features)
        self._capabilities = self._translator.capabilities
        self._sidecars: Sidecars | None = None
        if self._capabilities.xattrs and not self._native.xattrs:
            self._sidecars = Sidecars(inner)
            self._inner = OverflowStorager(inner, self._sidecars)
        self._looks = Looks(self._inner, self._native, self._translator, self._sidecars)
        # What open uploads were begun with, so that their objects need no HEAD.
        self._sent: dict[str, Metadata] = {}

    def take_capabilities(self) -> None:
        """Ask `inner` again what it can do; no more of it is kept or emulated."""
        self._native = self._inner.capabilities
        self._translator = Translator(self._native, self._features)
        self._capabilities = self._translator.capabilities
        self._looks.take(self._native, self._translator)

    @property
    def capabilities(self) -> Capabilities:
        """What the service can do, and what is emulated."""
        return self._capabilities

    @property
    def features(self) -> Features:
        """The gates that are on."""
        return self._features

    async def stat(self, key: str, *, kind: ObjectKind | None = None) -> Object:
        """Look up an object; a directory is its marker or any key below it.

        A link whose target stands in its body costs one more read, and so do extended
        attributes that found no room in the metadata. If a listing has shown links of
        rclone or directories of Hadoop, what is not there may be one of those: a link
        is answered under its own key.
        """
        return await self._looks.stat(key, kind)

    async def list(
        self,
        prefix: str,
        *,
        mode: ListMode = ListMode.DIRECTORY,
        token: str | None = None,
        limit: int | None = None,
    ) -> Page:
        """List; links are told where listings carry metadata, without their target."""
        page = await self._inner.list(prefix, mode=mode, token=token, limit=limit)
        self._looks.note_foreign_names(page)
        entries: Iterable[Object] = page.objects
        if mode is ListMode.DIRECTORY:
            entries = [entry for entry in entries if entry.key != prefix]
        objects = self._translator.seen_all(entries)
        if self._sidecars is not None:
            objects = list(map(self._sidecars.resolved_nowait, objects))
        return Page(tuple(objects), page.token)

    async def read(
        self,
        key: str,
        offset: int = 0,
        size: int | None = None,
        *,
        version: Version | None = None,
    ) -> Content:
        """Read; a whole read is checked against a virtual `content-md5`."""
        content = await self._inner.read(key, offset, size, version=version)
        found = self._looks.seen(content.object)
        if offset == 0 and len(content.data) == found.size:
            await self._check_md5(found, content.data)
            found = with_target_from(found, content.data)
        return Content(found, content.data)

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
        """Write; attributes and what is inherited go in the same request."""
        heir, sent = await self._for_new_bytes(key, metadata, inherit)
        written = await self._inner.write(
            key, body, size=size, metadata=sent, inherit=heir, condition=condition
        )
        return self._answered(written, sent)

    async def copy(
        self,
        source: str,
        target: str,
        *,
        source_version: Version | None = None,
        metadata: Metadata | None = None,
        condition: Condition = None,
    ) -> Object:
        """Copy; with metadata the source is asked first for what is not ours."""
        sent = None
        if metadata is not None:
            original = self._looks.seen(await self._inner.stat(source))
            source_version = _pinned(original, source_version)
            base = original.metadata or NO_METADATA
            sent = self._translator.sent(merged(metadata, base), original.kind)
        copied = await self._inner.copy(
            source,
            target,
            source_version=source_version,
            metadata=sent,
            condition=condition,
        )
        return self._answered(copied, sent)

    async def move(
        self, source: str, target: str, *, source_version: Version | None = None
    ) -> Object:
        """Move natively, or copy and then delete: both exist for a moment."""
        is_directory = source.endswith("/")
        if self._native.move_dir if is_directory else self._native.move:
            moved = await self._inner.move(
                source, target, source_version=source_version
            )
            return self._looks.seen(moved)
        if is_directory or not self.capabilities.move:
            raise Unsupported("this store cannot move", key=source)
        if source == target:
            return await self.stat(source)
        version, can_pin = source_version, Call.DELETE in self._native.conditions
        if version is None and can_pin:
            # Pinned all the way, a newer object at the source is never deleted.
            version = (await self._inner.stat(source)).version
        copied = await self._inner.copy(source, target, source_version=version)
        # A crash here leaves both; the copy is whole.
        await self._inner.delete(source, condition=version if can_pin else None)
        return self._looks.seen(copied)

    async def make_dir(self, key: str, *, metadata: Metadata = NO_METADATA) -> Object:
        """Make a directory natively, or its marker; an existing one is left as is."""
        _check_directory_key(key)
        if not self._native.dir_metadata:
            metadata = Metadata(commit_id=metadata.commit_id)
        if self._native.native_dirs:
            sent = self._translator.sent(metadata, ObjectKind.DIRECTORY)
            made = await self._inner.make_dir(key, metadata=sent)
            return self._answered(made, sent)
        if not self._features.virtual_dir:
            raise Unsupported("virtual_dir is off, and the store knows none", key=key)
        sent = self._marker_metadata(metadata)
        condition = ABSENT if Call.WRITE in self._native.conditions else None
        try:
            made = await self._inner.write(
                key, None, metadata=sent, condition=condition
            )
        except AlreadyExists:
            # SeaweedFS takes a directory that exists by its children for its marker;
            # and the last of them may go while we look.
            with suppress(NotFound):
                found = await self._looks.directory(key)
                if found.version is not None:
                    return found
            made = await self._inner.write(key, None, metadata=sent)
        return self._answered(made, sent)

    async def make_link(
        self,
        key: str,
        target: str,
        *,
        metadata: Metadata = NO_METADATA,
        condition: Condition = None,
    ) -> Object:
        """Make a link natively, or an object whose body is the target."""
        if not dialects.is_target(target):
            raise InvalidRequest("a link's target is 1 to 4095 bytes", key=key)
        if self._native.native_links:
            if not self._native.link_metadata:
                metadata = Metadata(commit_id=metadata.commit_id)
            sent = self._translator.sent(metadata, ObjectKind.LINK)
            made = await self._inner.make_link(
                key, target, metadata=sent, condition=condition
            )
        else:
            if not self._features.virtual_link:
                raise Unsupported(
                    "virtual_link is off, and the store knows none", key=key
                )
            if not (self._native.metadata or self._native.attributes):
                raise Unsupported("the store cannot mark an object as a link", key=key)
            sent = self._translator.linked(metadata)
            body = BytesBody(target.encode("utf-8", "surrogateescape"))
            made = await self._inner.write(
                key, body, metadata=sent, condition=condition
            )
        link = self._answered(made, sent)
        return dataclasses.replace(link, kind=ObjectKind.LINK, link_target=target)

    async def set_metadata(
        self, object: Object, metadata: Metadata, *, condition: Condition = None
    ) -> Object:
        """Replace attributes and what `metadata` names; all else stays.

        Attributes that are None leave those of the object. A directory without a
        marker gets one.
        """
        if self._translator.would_drop(metadata):
            await trio.lowlevel.checkpoint()
            return object
        if not self._can_set(object):
            if self._features.loose_operation:
                return object
            raise Unsupported("the store cannot change metadata", key=object.key)
        known = await self._looks.known(object)
        if known is None:
            if object.kind is ObjectKind.DIRECTORY and self._features.virtual_dir:
                return await self.make_dir(object.key, metadata=metadata)
            raise NotFound(key=object.key)
        sent = self._translator.sent(
            merged(metadata, known.metadata or NO_METADATA), known.kind
        )
        changed = await self._inner.set_metadata(
            self._bare(known), sent, condition=condition
        )
        answer = self._answered(changed, sent)
        if answer.kind is ObjectKind.LINK and answer.link_target is None:
            return dataclasses.replace(answer, link_target=object.link_target)
        return answer

    async def create_multipart(
        self,
        key: str,
        *,
        metadata: Metadata = NO_METADATA,
        inherit: Object | None = None,
    ) -> Upload:
        """Begin an upload whose object will carry the attributes."""
        heir, sent = await self._for_new_bytes(key, metadata, inherit)
        upload = await self._inner.create_multipart(key, metadata=sent, inherit=heir)
        while len(self._sent) >= _UPLOADS_KNOWN_MAX:
            del self._sent[next(iter(self._sent))]
        self._sent[upload.id] = sent
        return upload

    async def complete_multipart(
        self,
        upload: Upload,
        parts: Sequence[Part],
        *,
        inherit: Object | None = None,
        condition: Condition = None,
    ) -> Object:
        """Complete; the answer carries the metadata that the upload began with."""
        heir = await self._heir(inherit)
        completed = await self._inner.complete_multipart(
            upload, parts, inherit=heir, condition=condition
        )
        return self._answered(completed, self._sent.pop(upload.id, None))

    async def abort_multipart(self, upload: Upload) -> None:
        """Abort, and forget what the upload began with."""
        await self._inner.abort_multipart(upload)
        self._sent.pop(upload.id, None)

    async def create_append(
        self,
        key: str,
        *,
        base: Object | None = None,
        metadata: Metadata = NO_METADATA,
    ) -> Append:
        """Begin an append natively, or one that is kept here until its commit."""
        if self._native.append:
            heir, sent = await self._for_new_bytes(key, metadata, base)
            return await self._inner.create_append(key, base=heir, metadata=sent)
        if not self._features.virtual_append:
            raise Unsupported("virtual_append is off, and the store cannot", key=key)
        if base is not None and (base.size is None or not base.is_described):
            base = with_metadata_of(base, self._looks.seen(await self._inner.stat(key)))
        offset = base.size or 0 if base is not None else 0
        await trio.lowlevel.checkpoint()
        return VirtualAppend(key, offset, base=base, metadata=metadata)

    async def write_append(self, append: Append, body: Body) -> Append:
        """Add a body. It is opened at the commit, and must not change until then."""
        if not isinstance(append, VirtualAppend):
            return await self._inner.write_append(append, body)
        await trio.lowlevel.checkpoint()
        return dataclasses.replace(
            append,
            offset=append.offset + body.size,
            bodies=(*append.bodies, body),
        )

    async def commit_append(self, append: Append) -> Object:
        """Make what was appended visible, in one step where it is emulated."""
        if isinstance(append, VirtualAppend):
            return await commit_virtual_append(self, append)
        return self._looks.seen(await self._inner.commit_append(append))

    async def _check_md5(self, found: Object, content: bytes) -> None:
        pairs = found.metadata.pairs if found.metadata is not None else {}
        if MD5 not in pairs or MD5 in self._native.pairs:
            return
        if len(content) > _HASH_INLINE_MAX:
            is_right = await trio.to_thread.run_sync(has_md5, content, pairs[MD5])
        else:
            is_right = has_md5(content, pairs[MD5])
        if not is_right:
            raise Corrupt("the bytes do not match their content-md5", key=found.key)

    async def _for_new_bytes(
        self, key: str, metadata: Metadata, inherit: Object | None
    ) -> tuple[Object | None, Metadata]:
        """Return whom to inherit from, and the metadata to send with new bytes."""
        kind = ObjectKind.DIRECTORY if key.endswith("/") else ObjectKind.FILE
        known = await self._looks.known(inherit) if inherit is not None else None
        if known is None:
            return inherit, self._translator.sent(metadata, kind)
        base = known.metadata or NO_METADATA
        sent = self._translator.sent(inherited(metadata, base), kind)
        return self._bare(known), sent

    async def _heir(self, inherit: Object | None) -> Object | None:
        known = inherit is not None and await self._looks.known(inherit)
        return self._bare(known) if known else inherit

    def _bare(self, object: Object) -> Object:
        """Return an object as the inner store may see it: without what is emulated."""
        kept = bequest(object.metadata or NO_METADATA)
        user = dict(kept.user)
        if self._capabilities.xattrs:
            # Who keeps it says so in what is sent.
            user.pop(dialects.SIDECAR_NAME, None)
        pairs = {
            name: text
            for name, text in kept.pairs.items()
            if name in self._native.pairs
        }
        attributes = kept.attributes if self._native.attributes else None
        return dataclasses.replace(
            object,
            metadata=dataclasses.replace(
                kept, user=user, pairs=pairs, attributes=attributes
            ),
        )

    def _answered(self, answer: Object, sent: Metadata | None) -> Object:
        """Return the answer to a write, with the metadata that were sent with it."""
        if answer.metadata is None and sent is not None:
            answer = dataclasses.replace(answer, metadata=sent)
        return self._looks.seen(answer)

    def _marker_metadata(self, metadata: Metadata) -> Metadata:
        sent = self._translator.sent(metadata, ObjectKind.DIRECTORY)
        if "content-type" not in self._native.pairs:
            return sent
        pairs = {"content-type": DIRECTORY_TYPE, **sent.pairs}
        return dataclasses.replace(sent, pairs=pairs)

    def _can_set(self, object: Object) -> bool:
        native = self._native
        if object.kind is ObjectKind.DIRECTORY and not native.dir_metadata:
            return False
        if object.kind is ObjectKind.LINK and native.native_links:
            return native.set_metadata and native.link_metadata
        return native.set_metadata


def _pinned(original: Object, wanted: Version | None) -> Version | None:
    """Return the version that a copy is to take, which is the one that was asked."""
    found = original.version
    if wanted is None:
        return found
    if found is not None and found.content != wanted.content:
        raise VersionChanged(key=original.key)
    return wanted


def _check_directory_key(key: str) -> None:
    if not key.endswith("/"):
        raise InvalidRequest("the key of a directory ends in a slash", key=key)
