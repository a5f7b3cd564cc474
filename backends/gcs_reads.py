"""Reading bytes: one request, whose answer is held against what is known of the object.

The answer tells the state of the object, generation and metageneration, and the bytes
are compared with the checksum that comes along where they are the whole object.
"""

import re

from mountfs.backends import gcs_crc32c
from mountfs.backends.gcs_client import GcsClient
from mountfs.backends.gcs_conditions import explained, generation_of
from mountfs.backends.gcs_connections import Answer
from mountfs.backends.gcs_keys import KeySpace
from mountfs.backends.gcs_known import Known
from mountfs.backends.gcs_objects import kind_of
from mountfs.backends.gcs_options import GcsOptions
from mountfs.storage.errors import Corrupt, InvalidRequest, VersionChanged
from mountfs.storage.types import Content, Object, Version

_CONTENT_RANGE = re.compile(r"bytes ([0-9]+)-([0-9]+)/([0-9]+)")
_CRC32C = re.compile(r"crc32c=([A-Za-z0-9+/=]+)")
_UNSATISFIABLE = 416


class Reads:
    """Reads objects below one root."""

    def __init__(
        self, client: GcsClient, keys: KeySpace, options: GcsOptions, known: Known
    ) -> None:
        self._client = client
        self._keys = keys
        self._options = options
        self._known = known

    async def read(
        self,
        key: str,
        offset: int,
        size: int | None,
        version: Version | None,
    ) -> Content:
        """Send one request for bytes; one for the object where there are none to get.

        The answer tells the state of the object and no metadata: they are told if that
        state is known.
        """
        if offset < 0 or (size is not None and size < 0):
            raise InvalidRequest(f"no range has {size} bytes from {offset}", key=key)
        if size == 0:
            return await self._read_nothing(key, version)
        query = {
            "alt": "media",
            "ifGenerationMatch": generation_of(version, key) if version else None,
        }
        path = self._keys.path(key)
        wanted = _range(offset, size)

        def fetch() -> Answer:
            headers = {**self._client.key_headers(), **wanted}
            return self._client.send(
                "GET",
                self._client.url(path, query),
                headers,
                key=key,
                expected=(200, 206, _UNSATISFIABLE),
            )

        with explained(key, version):
            answer = await self._client.run(fetch, key)
        if answer.status == _UNSATISFIABLE:
            return await self._read_nothing(key, version)
        found = self._read_object(key, answer, offset, size, version)
        return Content(found, answer.body)

    def _read_object(
        self,
        key: str,
        answer: Answer,
        offset: int,
        size: int | None,
        version: Version | None,
    ) -> Object:
        headers = answer.headers
        total = _checked_size(key, answer, offset, size)
        if self._options.checksums:
            _check_sum(key, answer, total)
        generation = headers.get("x-goog-generation", "")
        if version is not None and version.content != generation:
            raise VersionChanged("the object is another version by now", key=key)
        found = Version(generation, headers.get("x-goog-metageneration"))
        known = self._known.same(key, found)
        if known is not None:
            return known
        return Object(key=key, kind=kind_of(key), size=total, version=found)

    async def _read_nothing(self, key: str, version: Version | None) -> Content:
        found = await self._known.ask(key)
        known = found.version
        if version is not None and known and known.content != version.content:
            raise VersionChanged("the object is another version by now", key=key)
        return Content(found, b"")


def _range(offset: int, size: int | None) -> dict[str, str]:
    if offset == 0 and size is None:
        return {}
    end = offset + size - 1 if size is not None else ""
    return {"range": f"bytes={offset}-{end}"}


def _checked_size(key: str, answer: Answer, offset: int, size: int | None) -> int:
    """Return the size of the whole object, if the right bytes of it have come."""
    match = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
    if match is None:
        told = answer.headers.get("x-goog-stored-content-length", "")
        start, total = 0, int(told) if told.isdecimal() else len(answer.body)
    else:
        start, total = int(match[1]), int(match[3])
    wanted = total - offset if size is None else min(size, total - offset)
    if start != offset or len(answer.body) != wanted:
        raise Corrupt(
            f"{wanted} bytes from {offset} were asked for, "
            f"and {len(answer.body)} from {start} came",
            key=key,
        )
    return total


def _check_sum(key: str, answer: Answer, total: int) -> None:
    """Compare a whole object with the checksum that came along."""
    if len(answer.body) != total:
        return
    told = _CRC32C.search(answer.headers.get("x-goog-hash", ""))
    value = gcs_crc32c.decoded(told[1]) if told else None
    if value is not None and gcs_crc32c.of_bytes(answer.body) != value:
        raise Corrupt("the bytes do not have the checksum of the object", key=key)
