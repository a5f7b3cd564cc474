"""Moves, copies, folders and properties.

Dropbox neither moves nor copies onto something, so what is in the way is deleted first,
by its revision; if the move then fails it is restored. A crash between the two leaves
the source whole and nothing at the target: the move is sent again and succeeds. The old
bytes are then among the deleted files of the account for as long as it keeps those.
"""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import trio
from dropbox import Dropbox, files

from mountfs.backends import _checks
from mountfs.backends.dropbox_answers import check_made
from mountfs.backends.dropbox_batches import Batches, result_of_job
from mountfs.backends.dropbox_client import DropboxClient
from mountfs.backends.dropbox_deletions import Deletions
from mountfs.backends.dropbox_looks import Looks
from mountfs.backends.dropbox_objects import (
    Keys,
    check_named,
    is_one_name,
    object_of,
)
from mountfs.backends.dropbox_properties import Template, group_of
from mountfs.storage.errors import (
    AlreadyExists,
    NotFound,
    PreconditionFailed,
    ServiceFailed,
    StoreError,
    VersionChanged,
    WrongKind,
)
from mountfs.storage.types import NO_METADATA, Condition, Metadata, Object, Version

_TRIES = 3


class Changes:
    """Changes of names in one store."""

    def __init__(
        self,
        client: DropboxClient,
        keys: Keys,
        looks: Looks,
        deletions: Deletions,
        template: Template,
    ) -> None:
        self._client = client
        self._keys = keys
        self._looks = looks
        self._deletions = deletions
        self._template = template
        self._folders = Batches(self._made_folders)
        self._folders_at_once = 0

    # --- moves and copies ------------------------------------------------------------

    async def move(
        self, source: str, target: str, source_version: Version | None
    ) -> Object:
        """Move a file or a folder, whatever is in it."""
        known = await self._source(source, source_version)
        found = object_of(source, known, self._template.known_id)
        if source == target:
            return found
        start, end = self._keys.path(source), self._keys.path(target)
        if is_one_name(start, end):
            # Dropbox changes no case of letters in place. A crash between the two
            # leaves the file under the name in between, which tells what it is.
            beside = f"{end}.mountfs-{secrets.token_hex(4)}"
            await self._relocate(source, start, beside)
            start = beside

        async def do() -> Any:
            return await self._relocate(source, start, end)

        moved = await self._onto(target, do)
        check_made(target, moved)
        return self._looks.noted(target, moved, found.metadata or NO_METADATA)

    async def copy(
        self,
        source: str,
        target: str,
        source_version: Version | None,
        metadata: Metadata | None,
        condition: Condition = None,
    ) -> Object:
        """Copy a file; its metadata are then put with the copy."""
        known = await self._source(source, source_version)
        if isinstance(known, files.FolderMetadata):
            raise WrongKind("a directory is there", key=source)
        kept = object_of(source, known, self._template.known_id).metadata or NO_METADATA
        if metadata is not None:
            kept = _checks.changed(metadata, kept)
        if source == target:
            rev = Version(str(known.rev))
            _checks.check_holds(target, condition, rev)
            if metadata is not None:
                await self.set_group(target, kept, str(known.content_hash))
            return self._looks.noted(target, known, kept)
        start, end = self._keys.path(source), self._keys.path(target)

        def copy(api: Dropbox) -> Any:
            return api.files_copy_v2(start, end, autorename=False).metadata

        async def do() -> Any:
            return await self._client.call(copy, source)

        copied = await self._under(condition, target, do)
        check_made(target, copied)
        # A crash here leaves a copy without metadata: its bytes are whole.
        if self._template.is_wanted and (kept.user or kept.commit_id is not None):
            await self.set_group(target, kept, str(copied.content_hash))
        return self._looks.noted(target, copied, kept)

    async def _under(
        self, condition: Condition, target: str, do: Callable[[], Awaitable[Any]]
    ) -> Any:
        """Do what needs a free target, if a condition on what is there holds."""
        if condition is None:
            return await self._onto(target, do)
        rev = condition.content if isinstance(condition, Version) else None
        try:
            if rev is not None:
                await self._deletions.delete_rev(target, rev)
            return await self._or_restore(target, rev, do)
        except (PreconditionFailed, NotFound) as error:
            if rev is None and "to" in (error.code or "").split("/"):
                raise AlreadyExists(
                    "a file is there", key=target, code=error.code
                ) from error
            if isinstance(error, NotFound) and "from_lookup" in (error.code or ""):
                raise
            raise VersionChanged(
                "the file is another by now", key=target, code=error.code
            ) from error

    async def _source(self, key: str, version: Version | None) -> Any:
        known = await self._looks.found(key)
        is_folder = isinstance(known, files.FolderMetadata)
        if is_folder and not key.endswith("/"):
            raise WrongKind("a directory is there", key=key)
        if version is not None and not is_folder and known.rev != version.content:
            raise VersionChanged("the file is another by now", key=key)
        return known

    async def _relocate(self, key: str, start: str, end: str) -> Any:
        def move(api: Dropbox) -> Any:
            return api.files_move_v2(start, end, autorename=False).metadata

        return await self._client.call(move, key)

    async def _onto(self, target: str, do: Callable[[], Awaitable[Any]]) -> Any:
        """Do what needs a free target; if something is there, in its place."""
        for _ in range(_TRIES):
            try:
                return await do()
            except (PreconditionFailed, WrongKind) as error:
                if "to" not in (error.code or "").split("/"):
                    raise
            old = await self._cleared(target)
            try:
                return await self._or_restore(target, old, do)
            except PreconditionFailed:
                continue  # another client was faster: that is replaced, too
        raise VersionChanged("the target changes all the time", key=target)

    async def _or_restore(
        self, target: str, old: str | None, do: Callable[[], Awaitable[Any]]
    ) -> Any:
        """Do it where an old revision was deleted; restore that if it fails."""
        try:
            return await do()
        except PreconditionFailed:
            raise  # something is there, and newer
        except BaseException:
            if old is not None:
                with trio.CancelScope(shield=True), suppress(StoreError):
                    await self._restore(target, old)
            raise

    async def _cleared(self, target: str) -> str | None:
        """Delete what is at a target; return its revision. A folder must be empty."""
        try:
            known = await self._looks.raw(target)
        except NotFound:
            return None
        check_named(target, known)
        if isinstance(known, files.FolderMetadata):
            if not target.endswith("/"):
                raise WrongKind("a directory is there", key=target)
            await self._deletions.delete_folder(target)
            return None
        if target.endswith("/"):
            raise WrongKind("a file is there, and no directory", key=target)
        with suppress(NotFound, PreconditionFailed):
            await self._deletions.delete_rev(target, str(known.rev))
        return str(known.rev)

    async def _restore(self, target: str, rev: str) -> None:
        path = self._keys.path(target)
        await self._client.call(lambda api: api.files_restore(path, rev), target)

    # --- folders and properties -----------------------------------------------------

    async def make_folder(self, key: str, metadata: Metadata) -> Object:
        """Make a folder, and put its metadata with it; one that is there stays."""
        self._folders_at_once += 1
        try:
            made = await self._made_folder(key)
            check_made(key, made)
        except (WrongKind, PreconditionFailed) as error:
            known = await self._looks.raw(key) if _is_taken(error) else None
            if not isinstance(known, files.FolderMetadata):
                raise WrongKind(
                    "a file is in the way", key=key, code=error.code
                ) from error
            check_named(key, known)
            return object_of(key, known, self._template.known_id)
        finally:
            self._folders_at_once -= 1
        # A crash here leaves a directory with the attributes of the mount.
        if metadata.user:
            await self.set_group(key, metadata, "")
            return self._looks.noted(key, made, metadata)
        return self._looks.noted(key, made, NO_METADATA)

    async def _made_folder(self, key: str) -> Any:
        path = self._keys.path(key)
        if self._folders_at_once > 1:
            return (await self._folders.add(key, path)).metadata

        def make(api: Dropbox) -> Any:
            return api.files_create_folder_v2(path).metadata

        return await self._client.call(make, key)

    async def _made_folders(self, paths: Sequence[str]) -> Sequence[Any]:
        once = list(dict.fromkeys(paths))  # Dropbox answers for each path once
        launch = await self._client.call(
            lambda api: api.files_create_folder_batch(once)
        )
        entries = await result_of_job(
            self._client,
            launch,
            lambda api, job: api.files_create_folder_batch_check(job),
        )
        if len(entries) != len(once):
            raise ServiceFailed("a batch was answered in part")
        answers = dict(zip(once, entries, strict=True))
        return [answers[path] for path in paths]

    async def set_group(self, key: str, metadata: Metadata, content_hash: str) -> None:
        """Put metadata with what is there; raises `NotFound`."""
        path = self._keys.path(key)

        def overwrite(api: Dropbox) -> None:
            template_id = self._template.find(api, make=True)
            assert template_id is not None, "asked for only where properties are kept"
            group = group_of(template_id, metadata, content_hash)
            api.file_properties_properties_overwrite(path, [group])

        await self._client.call(overwrite, key)


def _is_taken(error: StoreError) -> bool:
    return not (error.code or "").endswith("file_ancestor")
