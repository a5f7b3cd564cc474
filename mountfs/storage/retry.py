"""Retries, deadlines, and the truth about lost replies.

Every write gets a commit id, a random word that is stored with the object. When a
reply is lost, or a retry is refused, the key is asked first: our own id there means
that the request was carried out, and its object is the answer. So no conflict with
oneself ever comes up, and a real one always does. Where a store keeps no metadata a
lost conditional write cannot be told from a conflict.

What may be repeated blindly (reads, listings, parts, deletes without a condition) is.
Appends are sent again only if they were certainly not carried out.
"""

import dataclasses
import random
import time
import uuid
from collections.abc import Callable, Sequence

from mountfs.storage.attempts import Attempts, Found, Look, RetryPolicy
from mountfs.storage.body import Body, stated_size
from mountfs.storage.errors import NotFound, StoreError
from mountfs.storage.protocol import Storager
from mountfs.storage.refusals import Refusals
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

# Clocks differ: S3 itself takes requests that are this much off its own clock.
_CLOCK_SLACK_NS = 15 * 60 * 10**9


def new_commit_id() -> str:
    """Return a random word that marks one commit."""
    return uuid.uuid4().hex


class RetryStorager(StoragerWrapper):
    """Repeats what may be repeated, within the deadlines of a policy."""

    def __init__(
        self,
        inner: Storager,
        policy: RetryPolicy,
        *,
        chance: random.Random | None = None,
        commit_ids: Callable[[], str] = new_commit_id,
        refusals: Refusals | None = None,
    ) -> None:
        super().__init__(inner)
        self._policy = policy
        chance = chance or random.SystemRandom()
        self._attempts = Attempts(policy, chance, refusals)
        self._commit_ids = commit_ids

    async def stat(self, key: str, *, kind: ObjectKind | None = None) -> Object:
        """Repeat until answered."""
        return await self._attempts.repeat(
            lambda: self._inner.stat(key, kind=kind),
            what="stat",
            key=key,
            deadline_s=self._policy.metadata_s,
        )

    async def list(
        self,
        prefix: str,
        *,
        mode: ListMode = ListMode.DIRECTORY,
        token: str | None = None,
        limit: int | None = None,
    ) -> Page:
        """Repeat until answered."""
        return await self._attempts.repeat(
            lambda: self._inner.list(prefix, mode=mode, token=token, limit=limit),
            what="list",
            key=prefix,
            deadline_s=self._policy.metadata_s,
        )

    async def read(
        self,
        key: str,
        offset: int = 0,
        size: int | None = None,
        *,
        version: Version | None = None,
    ) -> Content:
        """Repeat until answered; bytes that arrive damaged are read again."""
        return await self._attempts.repeat(
            lambda: self._inner.read(key, offset, size, version=version),
            what="read",
            key=key,
            deadline_s=self._policy.reading_s(size),
        )

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
        """Write once; a lost reply is resolved by the commit id."""
        marked = self._marked(metadata, inherit)

        async def request() -> Object:
            written = await self._inner.write(
                key,
                body,
                size=size,
                metadata=marked,
                inherit=inherit,
                condition=condition,
            )
            return _with_sent(written, marked, is_whole=inherit is None)

        return await self._attempts.resolve(
            request,
            self._look_for(key, marked.commit_id),
            what="write",
            key=key,
            deadline_s=self._policy.writing_s(stated_size(body, size)),
            is_resumed=_is_fresh(metadata, inherit),
        )

    async def delete(self, key: str, *, condition: Condition = None) -> None:
        """Delete once; on a retry absence means that the first request did it."""

        async def request() -> None:
            await self._inner.delete(key, condition=condition)

        if condition is None:
            await self._attempts.repeat(
                request,
                what="delete",
                key=key,
                deadline_s=self._policy.metadata_s,
                may_be_ambiguous=True,
            )
            return

        async def look() -> Found[None] | None:
            return Found(None) if await self._find(key) is None else None

        await self._attempts.resolve(
            request,
            look,
            what="delete",
            key=key,
            deadline_s=self._policy.metadata_s,
        )

    async def delete_many(self, keys: Sequence[str]) -> dict[str, Exception]:
        """Delete; only the keys that may succeed later are sent again."""
        failures: dict[str, Exception] = {}
        waiting = tuple(keys)

        async def request() -> None:
            nonlocal waiting
            answer = await self._inner.delete_many(waiting)
            for key in waiting:
                failures.pop(key, None)
            failures.update(answer)
            errors = {k: e for k, e in answer.items() if _is_worth_a_retry(e)}
            waiting = tuple(errors)
            for error in errors.values():
                raise error

        requests = 1 + len(waiting) // self.capabilities.delete_many_max
        try:
            await self._attempts.repeat(
                request,
                what="delete_many",
                key=None,
                deadline_s=self._policy.metadata_s * requests,
                may_be_ambiguous=True,
            )
        except StoreError:
            if not failures:  # no request was answered at all
                raise
        return failures

    async def copy(
        self,
        source: str,
        target: str,
        *,
        source_version: Version | None = None,
        metadata: Metadata | None = None,
        condition: Condition = None,
    ) -> Object:
        """Copy once; without metadata of its own a copy is known by its source."""
        marked = self._marked(metadata) if metadata is not None else None

        async def request() -> Object:
            copied = await self._inner.copy(
                source,
                target,
                source_version=source_version,
                metadata=marked,
                condition=condition,
            )
            return copied if marked is None else _with_sent(copied, marked)

        look = (
            self._look_for_copy(source, target)
            if marked is None
            else self._look_for(target, marked.commit_id)
        )
        return await self._attempts.resolve(
            request, look, what="copy", key=target, deadline_s=self._policy.copy_s
        )

    async def move(
        self, source: str, target: str, *, source_version: Version | None = None
    ) -> Object:
        """Move once; a source that is gone for a target means that it was done."""

        async def look() -> Found[Object] | None:
            if await self._find(source) is not None:
                return None
            moved = await self._find(target)
            return None if moved is None else Found(moved)

        return await self._attempts.resolve(
            lambda: self._inner.move(source, target, source_version=source_version),
            look,
            what="move",
            key=source,
            deadline_s=self._policy.copy_s,
        )

    async def make_dir(self, key: str, *, metadata: Metadata = NO_METADATA) -> Object:
        """Repeat until answered: a directory that is there is success."""
        marked = self._marked(metadata)
        return await self._attempts.repeat(
            lambda: self._inner.make_dir(key, metadata=marked),
            what="make_dir",
            key=key,
            deadline_s=self._policy.metadata_s,
            may_be_ambiguous=True,
        )

    async def make_link(
        self,
        key: str,
        target: str,
        *,
        metadata: Metadata = NO_METADATA,
        condition: Condition = None,
    ) -> Object:
        """Make once; a link with our target is ours."""
        marked = self._marked(metadata)

        async def look() -> Found[Object] | None:
            link = await self._find(key)
            return None if link is None or link.link_target != target else Found(link)

        return await self._attempts.resolve(
            lambda: self._inner.make_link(
                key, target, metadata=marked, condition=condition
            ),
            look,
            what="make_link",
            key=key,
            deadline_s=self._policy.metadata_s,
        )

    async def set_metadata(
        self, object: Object, metadata: Metadata, *, condition: Condition = None
    ) -> Object:
        """Change once: on some stores a change of metadata is a new version."""
        marked = self._marked(metadata, object)

        async def request() -> Object:
            changed = await self._inner.set_metadata(
                object, marked, condition=condition
            )
            return _with_sent(changed, marked)

        return await self._attempts.resolve(
            request,
            self._look_for(object.key, marked.commit_id),
            what="set_metadata",
            key=object.key,
            deadline_s=self._policy.copy_s,
            is_resumed=_is_fresh(metadata, object),
        )

    async def create_multipart(
        self,
        key: str,
        *,
        metadata: Metadata = NO_METADATA,
        inherit: Object | None = None,
    ) -> Upload:
        """Repeat until answered. A lost reply leaves an upload that nobody knows.

        It is not looked for: a listing of uploads does not tell whose they are.
        """
        marked = self._marked(metadata, inherit)
        upload = await self._attempts.repeat(
            lambda: self._inner.create_multipart(key, metadata=marked, inherit=inherit),
            what="create_multipart",
            key=key,
            deadline_s=self._policy.metadata_s,
            may_be_ambiguous=True,
        )
        if upload.commit_id is None:
            return dataclasses.replace(upload, commit_id=marked.commit_id)
        return upload

    async def write_part(
        self, upload: Upload, index: int, body: Body, *, size: int | None = None
    ) -> Part:
        """Repeat until answered: the same part replaces itself."""
        return await self._attempts.repeat(
            lambda: self._inner.write_part(upload, index, body, size=size),
            what="write_part",
            key=upload.key,
            deadline_s=self._policy.writing_s(stated_size(body, size)),
        )

    async def copy_part(
        self, upload: Upload, index: int, source: Object, offset: int, size: int
    ) -> Part:
        """Repeat until answered: the same part replaces itself."""
        return await self._attempts.repeat(
            lambda: self._inner.copy_part(upload, index, source, offset, size),
            what="copy_part",
            key=upload.key,
            deadline_s=self._policy.copy_s,
        )

    async def list_parts(self, upload: Upload) -> tuple[Part, ...]:
        """Repeat until answered."""
        return await self._attempts.repeat(
            lambda: self._inner.list_parts(upload),
            what="list_parts",
            key=upload.key,
            deadline_s=self._policy.metadata_s,
        )

    async def list_uploads(self, prefix: str = "") -> tuple[Upload, ...]:
        """Repeat until answered."""
        return await self._attempts.repeat(
            lambda: self._inner.list_uploads(prefix),
            what="list_uploads",
            key=prefix,
            deadline_s=self._policy.metadata_s,
        )

    async def sign_read(self, key: str, *, expires_s: int) -> str:
        """Repeat until answered; most stores need not be asked."""
        return await self._attempts.repeat(
            lambda: self._inner.sign_read(key, expires_s=expires_s),
            what="sign_read",
            key=key,
            deadline_s=self._policy.metadata_s,
        )

    async def complete_multipart(
        self,
        upload: Upload,
        parts: Sequence[Part],
        *,
        inherit: Object | None = None,
        condition: Condition = None,
    ) -> Object:
        """Complete once; an upload that is gone may be one that became the object."""

        async def request() -> Object:
            return await self._inner.complete_multipart(
                upload, parts, inherit=inherit, condition=condition
            )

        return await self._attempts.resolve(
            request,
            self._look_for(upload.key, upload.commit_id),
            what="complete_multipart",
            key=upload.key,
            deadline_s=self._policy.copy_s,
            is_resumed=upload.commit_id is not None,
        )

    async def abort_multipart(self, upload: Upload) -> None:
        """Repeat until answered: an upload that is gone is success."""
        await self._attempts.repeat(
            lambda: self._inner.abort_multipart(upload),
            what="abort_multipart",
            key=upload.key,
            deadline_s=self._policy.metadata_s,
            may_be_ambiguous=True,
        )

    async def create_append(
        self,
        key: str,
        *,
        base: Object | None = None,
        metadata: Metadata = NO_METADATA,
    ) -> Append:
        """Begin; again only if it was certainly not begun."""
        marked = self._marked(metadata)
        return await self._attempts.once(
            lambda: self._inner.create_append(key, base=base, metadata=marked),
            what="create_append",
            key=key,
            deadline_s=self._policy.metadata_s,
        )

    async def write_append(self, append: Append, body: Body) -> Append:
        """Add; again only if it was certainly not added."""
        return await self._attempts.once(
            lambda: self._inner.write_append(append, body),
            what="write_append",
            key=append.key,
            deadline_s=self._policy.writing_s(body.size),
        )

    async def commit_append(self, append: Append) -> Object:
        """Commit; again only if it was certainly not committed."""
        return await self._attempts.once(
            lambda: self._inner.commit_append(append),
            what="commit_append",
            key=append.key,
            deadline_s=self._policy.copy_s,
        )

    def _marked(self, metadata: Metadata, replaced: Object | None = None) -> Metadata:
        """Return the metadata with a commit id that no older object can carry.

        A caller may pass on the metadata of the object that is replaced, id and all;
        with that id the old object would be taken for the new one.
        """
        if _is_fresh(metadata, replaced):
            return metadata
        return dataclasses.replace(metadata, commit_id=self._commit_ids())

    async def _find(self, key: str) -> Object | None:
        kind = ObjectKind.DIRECTORY if key.endswith("/") else None
        try:
            return await self._inner.stat(key, kind=kind)
        except NotFound:
            return None

    def _look_for(self, key: str, commit_id: str | None) -> Look[Object]:
        """Return a look that finds the object which carries the commit id."""

        async def look() -> Found[Object] | None:
            if not self.capabilities.metadata or commit_id is None:
                return None
            try:
                found = await self._inner.stat(key)
            except NotFound:
                return None
            return Found(found) if _commit_id(found) == commit_id else None

        return look

    def _look_for_copy(self, source: str, target: str) -> Look[Object]:
        """Return a look that finds a copy of the source as it is now.

        The copy has the source's commit id, or its content and size and a time of
        change that is not before the copy began, give or take what clocks differ.
        """
        begun_ns = time.time_ns()

        async def look() -> Found[Object] | None:
            original, copied = await self._find(source), await self._find(target)
            if original is None or copied is None:
                return None
            if is_copy(original, copied, begun_ns - _CLOCK_SLACK_NS):
                return Found(copied)
            return None

        return look


def is_copy(original: Object, copied: Object, since_ns: int = 0) -> bool:
    """Tell whether an object is a copy of another that was made since a moment."""
    if _commit_id(original) is not None:
        return _commit_id(original) == _commit_id(copied)
    if original.version is None or copied.version is None:
        return False
    return (
        original.version.content == copied.version.content
        and original.size == copied.size
        and (copied.mtime_ns is None or copied.mtime_ns >= since_ns)
    )


def _is_fresh(metadata: Metadata, replaced: Object | None) -> bool:
    if metadata.commit_id is None:
        return False
    return replaced is None or metadata.commit_id != _commit_id(replaced)


def _commit_id(object: Object) -> str | None:
    return object.metadata.commit_id if object.metadata is not None else None


def _is_worth_a_retry(error: Exception) -> bool:
    return isinstance(error, StoreError) and error.is_retryable


def _with_sent(answer: Object, sent: Metadata, *, is_whole: bool = True) -> Object:
    """Return the answer with what it left out of the metadata that were sent.

    `is_whole` says that nothing was inherited, so that what was sent is all there is.
    """
    if answer.metadata is not None:
        if answer.metadata.commit_id is not None:
            return answer
        metadata = dataclasses.replace(answer.metadata, commit_id=sent.commit_id)
    elif is_whole:
        metadata = sent
    else:
        return answer
    return dataclasses.replace(answer, metadata=metadata)
