"""Deletion on Dropbox: of files by their revision, of folders that are empty.

A file is deleted by the revision that was heard of last, so that neither a folder nor a
newer file goes with it; if it is wrong Dropbox says so. Many go by batches, which are
jobs of Dropbox's.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence

from dropbox import files

from mountfs.backends.dropbox_batches import result_of_job
from mountfs.backends.dropbox_client import DropboxClient
from mountfs.backends.dropbox_errors import union_error
from mountfs.backends.dropbox_listing import Listings
from mountfs.backends.dropbox_looks import Looks
from mountfs.backends.dropbox_objects import Keys
from mountfs.storage.errors import (
    DirectoryNotEmpty,
    NotFound,
    PreconditionFailed,
    ServiceFailed,
    StoreError,
    VersionChanged,
    WrongKind,
)

_TRIES = 3
_BATCH_MAX = 1000
_LIST_FROM = 3
"""So many files of one folder are looked up by one listing."""


class Deletions:
    """Deletes what is in one store."""

    def __init__(
        self, client: DropboxClient, keys: Keys, looks: Looks, listings: Listings
    ) -> None:
        self._client = client
        self._keys = keys
        self._looks = looks
        self._listings = listings

    async def delete_file(self, key: str, rev: str | None) -> None:
        """Delete one file of a revision, or of whatever revision is there."""
        for _ in range(_TRIES):
            # What was known last will do: if it is wrong, Dropbox says so.
            wanted = rev or self._looks.take_rev(key)
            try:
                if wanted is None:
                    wanted = await self._rev(key)
                await self.delete_rev(key, wanted)
            except NotFound:
                return
            except PreconditionFailed as error:
                if rev is not None:
                    raise VersionChanged(
                        "the file is another by now", key=key, code=error.code
                    ) from error
                continue  # it was written just now: delete that
            return
        raise VersionChanged("the file changes all the time", key=key)

    async def _rev(self, key: str) -> str:
        known = await self._looks.found(key)
        if isinstance(known, files.FolderMetadata):
            raise WrongKind("a directory is there", key=key)
        return str(known.rev)

    async def delete_rev(self, key: str, rev: str) -> None:
        """Delete a file if it has a revision. Raises `PreconditionFailed`."""
        path = self._keys.path(key)
        await self._client.call(
            lambda api: api.files_delete_v2(path, parent_rev=rev), key
        )

    async def delete_folder(self, key: str) -> None:
        """Delete an empty folder.

        Dropbox deletes a folder with all that is in it, and no condition can be given.
        What another client puts there between the two requests goes along, and is
        among the deleted files of the account.
        """
        try:
            await self._looks.found(key)
            if await self._listings.has_any(key):
                raise DirectoryNotEmpty(key=key)
            path = self._keys.path(key)
            await self._client.call(lambda api: api.files_delete_v2(path), key)
        except NotFound:
            return

    async def delete_many(
        self, keys: Sequence[str], check: Callable[[str], None]
    ) -> dict[str, Exception]:
        """Delete files by batches, then directories from the innermost one."""
        failed: dict[str, Exception] = {}
        plain: list[str] = []
        for key in dict.fromkeys(keys):
            try:
                check(key)
                plain.append(key)
            except StoreError as error:
                failed[key] = error
        wanted = [key for key in plain if not key.endswith("/")]
        if len(wanted) == 1:
            await _noting(failed, wanted[0], self.delete_file(wanted[0], None))
        elif wanted:
            revs = await self._revs(wanted, failed)
            for at in range(0, len(revs), _BATCH_MAX):
                await self._delete_batch(revs[at : at + _BATCH_MAX], failed)
        for key in sorted((key for key in plain if key.endswith("/")), reverse=True):
            await _noting(failed, key, self.delete_folder(key))
        return failed

    async def _revs(
        self, keys: Sequence[str], failed: dict[str, Exception]
    ) -> list[tuple[str, str]]:
        """Return the revision of each file that is there."""
        by_folder: dict[str, list[str]] = defaultdict(list)
        for key in keys:
            folder, slash, _ = key.rpartition("/")
            by_folder[folder + slash].append(key)
        found: list[tuple[str, str]] = []
        for folder, names in by_folder.items():
            revs = {key: self._looks.take_rev(key) for key in names}
            found.extend((key, rev) for key, rev in revs.items() if rev is not None)
            inside = [key for key, rev in revs.items() if rev is None]
            if len(inside) >= _LIST_FROM:
                found.extend(await self._listed_revs(folder, inside, failed))
                continue
            for key in inside:
                try:
                    found.append((key, await self._rev(key)))
                except NotFound:
                    continue
                except StoreError as error:
                    failed[key] = error
        return found

    async def _listed_revs(
        self, folder: str, keys: Iterable[str], failed: dict[str, Exception]
    ) -> list[tuple[str, str]]:
        try:
            children = await self._listings.children(folder)
        except NotFound:
            return []
        by_name = {each.name: each for each in children}
        found: list[tuple[str, str]] = []
        for key in keys:
            known = by_name.get(self._keys.path(key).rpartition("/")[2])
            if isinstance(known, files.FolderMetadata):
                failed[key] = WrongKind("a directory is there", key=key)
            elif isinstance(known, files.FileMetadata):
                found.append((key, str(known.rev)))
        return found

    async def _delete_batch(
        self, revs: Sequence[tuple[str, str]], failed: dict[str, Exception]
    ) -> None:
        arguments = [files.DeleteArg(self._keys.path(key), rev) for key, rev in revs]
        launch = await self._client.call(lambda api: api.files_delete_batch(arguments))
        entries = await result_of_job(
            self._client, launch, lambda api, job: api.files_delete_batch_check(job)
        )
        if len(entries) != len(revs):
            raise ServiceFailed("a batch was answered in part", is_ambiguous=True)
        for (key, _), entry in zip(revs, entries, strict=True):
            if not entry.is_failure():
                continue
            error = union_error(entry.get_failure(), key)
            if isinstance(error, PreconditionFailed):
                await _noting(failed, key, self.delete_file(key, None))
            elif not isinstance(error, NotFound):
                failed[key] = error


async def _noting(
    failed: dict[str, Exception], key: str, deed: Awaitable[None]
) -> None:
    try:
        await deed
    except StoreError as error:
        failed[key] = error
