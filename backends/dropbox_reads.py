"""Reads of files of Dropbox: the bytes that were asked for, or an error.

A download tells the file's metadata, but no properties: what those hold is looked up
where it is not known. Keys and ranges are checked by who calls.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dropbox import files

from mountfs.backends import _checks
from mountfs.backends.dropbox_client import DropboxClient
from mountfs.backends.dropbox_looks import Looks
from mountfs.backends.dropbox_objects import Keys, object_of
from mountfs.backends.dropbox_uploads import check_bytes
from mountfs.storage.errors import Corrupt, InvalidRequest, VersionChanged, WrongKind
from mountfs.storage.types import NO_METADATA, Content, Object, ObjectKind, Version

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-[0-9]{1,19}/([0-9]{1,19})")


class Reads:
    """Reads files below one root."""

    def __init__(self, client: DropboxClient, keys: Keys, looks: Looks) -> None:
        self._client = client
        self._keys = keys
        self._looks = looks

    async def read(
        self, key: str, offset: int, size: int | None, version: Version | None
    ) -> Content:
        """Return a range of a file, and what is known of it."""
        if size == 0:
            return await self._read_nothing(key, version)
        path = self._keys.path(key)
        try:
            known, headers, data = await self._client.fetch(path, offset, size, key)
        except InvalidRequest as error:
            if error.code != "416":
                raise
            return await self._read_beyond(key, offset, version)
        if not isinstance(known, files.FileMetadata):
            raise WrongKind("a folder has no bytes", key=key)
        self._looks.check_found(key, known)
        if version is not None and known.rev != version.content:
            raise VersionChanged("the file is another by now", key=key)
        _check_range(key, known, headers, offset, size, data)
        return Content(await self._read_object(key, known, offset), data)

    async def _read_object(self, key: str, known: Any, offset: int) -> Object:
        metadata = self._looks.known_metadata(str(known.rev))
        if metadata is None and offset == 0:
            found = await self._looks.object(key)
            if found.version is not None and found.version.content == known.rev:
                return found
        plain = object_of(key, known, None, metadata=metadata or NO_METADATA)
        return plain if metadata is not None else replace(plain, metadata=None)

    async def _read_beyond(
        self, key: str, offset: int, version: Version | None
    ) -> Content:
        """Return no bytes, if the end is where Dropbox says that it is passed."""
        found = await self._read_nothing(key, version)
        known = found.object
        if known.kind is ObjectKind.FILE and (known.size or 0) > offset:
            raise Corrupt(f"nothing came from {offset} of {known.size} bytes", key=key)
        return found

    async def _read_nothing(self, key: str, version: Version | None) -> Content:
        found = await self._looks.object(key)
        if found.kind is ObjectKind.DIRECTORY:
            raise WrongKind("a folder has no bytes", key=key)
        _checks.check_holds(key, version, found.version)
        return Content(found, b"")


def _check_range(
    key: str,
    known: Any,
    headers: Mapping[str, str],
    offset: int,
    size: int | None,
    data: bytes,
) -> None:
    """Raise `Corrupt` unless the right bytes have come."""
    total = int(known.size)
    match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    start, told = (int(match[1]), int(match[2])) if match else (0, total)
    wanted = total - offset if size is None else min(size, total - offset)
    if start != offset or told != total or len(data) != wanted:
        raise Corrupt(
            f"{wanted} bytes from {offset} were asked for, "
            f"and {len(data)} from {start} came",
            key=key,
        )
    if len(data) == total:
        check_bytes(known, data, key)
