"""Sending the bytes of one object: in one request, or in a session that can go on.

All of a small object goes in one request, with its resource before the bytes. A larger
one gets a session (a "resumable upload"): when its connection breaks, the service is
asked how much has come, and the rest is sent. The checksum goes ahead of the bytes, so
the service stores nothing that was damaged on the way.
"""

import json
import logging
import re
import secrets
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from mountfs.backends import gcs_crc32c
from mountfs.backends._payload import IN_MEMORY_MAX, ExactReader
from mountfs.backends.gcs_client import GcsClient, Query, Reply, resource_of
from mountfs.backends.gcs_connections import Answer
from mountfs.backends.gcs_errors import translated, understood
from mountfs.backends.gcs_keys import KeySpace
from mountfs.backends.gcs_objects import FIELDS
from mountfs.backends.gcs_options import GcsOptions
from mountfs.storage.body import Body, read_exactly
from mountfs.storage.errors import (
    Corrupt,
    NotFound,
    ServiceFailed,
    StoreError,
    Throttled,
    Unreachable,
)

log = logging.getLogger(__name__)

OCTETS = "application/octet-stream"
BREAKS_MAX = 4
"""So often in a row a session may break without a byte of progress."""
PAUSE_S = 0.25
_RANGE = re.compile(r"bytes=0-([0-9]+)")
_INCOMPLETE = 308


class Uploads:
    """Creates objects below one root. Everything here is called in a thread."""

    def __init__(self, client: GcsClient, keys: KeySpace, options: GcsOptions) -> None:
        self._client = client
        self._keys = keys
        self._kms_key = options.kms_key
        self._checksums = options.checksums

    def insert(
        self,
        full: str,
        body: Body | None,
        size: int,
        resource: Mapping[str, object],
        query: Query,
        key: str,
    ) -> Reply:
        """Create or replace an object of exactly `size` bytes; return its resource.

        Raises `BodyTooShort`, and nothing is stored; `Corrupt` if something else is.
        """
        query = {"name": full, "fields": FIELDS, "kmsKeyName": self._kms_key, **query}
        if body is None or size <= IN_MEMORY_MAX:
            data = read_exactly(body, size)
            sum_sent = gcs_crc32c.of_bytes(data) if self._checksums else 0
            reply = self._at_once(data, self._summed(resource, sum_sent), query, key)
        else:
            reader = ExactReader(body.open(), size)
            try:
                sum_sent = gcs_crc32c.of_reader(reader, size) if self._checksums else 0
                reply = self._in_session(
                    reader, size, self._summed(resource, sum_sent), query, key
                )
            finally:
                reader.close_when_sent()
        if self._checksums:
            _check(reply, size, sum_sent, key)
        return reply

    def _summed(self, resource: Mapping[str, object], value: int) -> dict[str, object]:
        if not self._checksums:
            return dict(resource)
        return {**resource, "crc32c": gcs_crc32c.encoded(value)}

    def _at_once(
        self, data: bytes, resource: Mapping[str, object], query: Query, key: str
    ) -> Reply:
        boundary = secrets.token_hex(16)
        media_type = str(resource.get("contentType", OCTETS))
        head = (
            f"--{boundary}\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n"
            f"{json.dumps(resource, ensure_ascii=False)}\r\n"
            f"--{boundary}\r\ncontent-type: {media_type}\r\n\r\n"
        )
        answer = self._client.send(
            "POST",
            self._url("multipart", query),
            {
                "content-type": f"multipart/related; boundary={boundary}",
                **self._client.key_headers(),
            },
            b"".join((head.encode(), data, f"\r\n--{boundary}--\r\n".encode())),
            key=key,
        )
        return resource_of(answer, key)

    def _in_session(
        self,
        reader: ExactReader,
        size: int,
        resource: Mapping[str, object],
        query: Query,
        key: str,
    ) -> Reply:
        url = self._url("resumable", query)
        opened = self._client.send(
            "POST",
            url,
            {
                "content-type": "application/json; charset=UTF-8",
                "x-upload-content-type": str(resource.get("contentType", OCTETS)),
                "x-upload-content-length": str(size),
                **self._client.key_headers(),
            },
            json.dumps(resource, ensure_ascii=False).encode(),
            key=key,
        )
        session = opened.headers.get("location")
        if session is None or urlsplit(session).scheme != urlsplit(url).scheme:
            raise ServiceFailed("the service opened no upload session", key=key)
        try:
            answer = self._sent_whole(session, reader, size, key)
        except NotFound as error:
            raise ServiceFailed("the upload session is gone", key=key) from error
        return resource_of(answer, key)

    def _sent_whole(
        self, session: str, reader: ExactReader, size: int, key: str
    ) -> Answer:
        """Send what is missing until all has come."""
        offset, breaks = 0, 0
        while True:
            try:
                with translated(key):
                    answer = self._send_from(session, reader, offset, size, key)
            except (Unreachable, ServiceFailed, Throttled) as error:
                failure: StoreError = error
            else:
                if answer.status != _INCOMPLETE:
                    return answer
                failure = ServiceFailed("the service took a part of the bytes", key=key)
            breaks += 1
            if breaks > BREAKS_MAX:
                raise failure
            log.debug("an upload broke off, and goes on: %s", failure)
            time.sleep(PAUSE_S * breaks)
            try:
                known = self._received(session, size, key)
            except StoreError as error:
                # Whether all has come, and is stored, nobody has told.
                error.is_ambiguous = error.is_ambiguous or failure.is_ambiguous
                raise
            if isinstance(known, Answer):
                return known
            if known > offset:
                offset, breaks = known, 0

    def _send_from(
        self, session: str, reader: ExactReader, offset: int, size: int, key: str
    ) -> Answer:
        reader.seek(offset)
        return self._client.send(
            "PUT",
            session,
            {
                "content-range": f"bytes {offset}-{size - 1}/{size}",
                **self._client.key_headers(),
            },
            reader,
            key=key,
            expected=(200, 201, _INCOMPLETE),
        )

    def _received(self, session: str, size: int, key: str) -> "int | Answer":
        """Ask how many bytes have come; return the answer to the upload if all have."""
        with translated(key):
            answer = self._client.send(
                "PUT",
                session,
                {"content-range": f"bytes */{size}", **self._client.key_headers()},
                key=key,
                expected=(200, 201, _INCOMPLETE),
            )
        if answer.status != _INCOMPLETE:
            return answer
        match = _RANGE.fullmatch(answer.headers.get("range", ""))
        return int(match[1]) + 1 if match else 0

    def _url(self, kind: str, query: Query) -> str:
        path = f"/upload{self._keys.objects}"
        return self._client.url(path, {"uploadType": kind, **query})


def _check(reply: Reply, size: int, value: int, key: str) -> None:
    told = gcs_crc32c.decoded(str(reply.get("crc32c", "")))
    with understood(key):
        stored = int(reply.get("size", -1))
    if stored != size or (told is not None and told != value):
        raise Corrupt("what was stored is not what was sent", key=key)
