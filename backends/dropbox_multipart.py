"""Uploads in parts: a concurrent upload session whose pieces arrive in any order.

A piece lies at its own offset, so that all parts but the last have one size. Dropbox
lists neither sessions nor pieces: the id of an upload holds the metadata of its file,
and a part holds the digests of its blocks, so that whoever has both can go on with it.

The call with the last piece closes a session, and nothing can be sent behind it. So a
part of less than the full size, which can only be the last, waits here, at most 8 MiB,
until the upload is completed; it can be replaced until then. Crash before that: its
part is not in the journal, and is sent again. If the file is not made by the call after
the one that closes, only the same parts can complete the session any more.
"""

import json
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import trio
from dropbox import Dropbox, files

from mountfs.backends.dropbox_client import DropboxClient
from mountfs.backends.dropbox_uploads import (
    BLOCK,
    PIECE,
    SESSION_MAX,
    NewFile,
    Uploads,
    block_digests,
    hash_of,
    start_concurrent,
)
from mountfs.storage.body import Body, read_exactly
from mountfs.storage.errors import (
    InvalidRequest,
    NotFound,
    ObjectTooLarge,
    UploadNotFound,
)
from mountfs.storage.types import Metadata, MultipartLimits, Part, Upload

LIMITS = MultipartLimits(
    part_size_min=PIECE,
    part_size_max=PIECE,
    parts_max=SESSION_MAX // PIECE,
    equal_parts=True,
    in_place=True,
    lists=False,
)
_KNOWN_MAX = 64
_GONE_MAX = 4096
_DIGEST = 64
_DIGESTS = re.compile(f"([0-9a-f]{{{_DIGEST}}})+")


@dataclass(slots=True)
class _Open:
    """What this process knows of an open upload."""

    parts: dict[int, Part] = field(default_factory=dict)
    waiting: dict[int, bytes] = field(default_factory=dict)
    """The bytes of parts below the full size."""
    closing: Part | None = None
    """The last part of a session that is closed, or may be."""


class Multipart:
    """The uploads in parts of one store."""

    def __init__(self, client: DropboxClient, uploads: Uploads) -> None:
        self._client = client
        self._uploads = uploads
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._gone: OrderedDict[str, None] = OrderedDict()

    async def create(self, key: str, metadata: Metadata) -> Upload:
        """Send one upload_session/start."""
        session_id = await self._client.call(start_concurrent, key)
        about = {"session": session_id, "user": dict(metadata.user)}
        upload = Upload(key, json.dumps(about), metadata.commit_id)
        self._known(upload)
        return upload

    async def write(self, upload: Upload, index: int, body: Body, size: int) -> Part:
        """Send one append of the full size; a smaller part waits here."""
        _check_part(upload, index, size)
        session_id, _ = _meant(upload)
        known = self._known(upload)
        if size < PIECE:
            data = await trio.to_thread.run_sync(read_exactly, body, size)
            part = Part(index, size, _etag(block_digests(data)))
            known.waiting[index] = data
        else:
            digests = await self._append(session_id, upload.key, index * PIECE, body)
            part = Part(index, size, _etag(digests))
            known.waiting.pop(index, None)
        known.parts[index] = part
        return part

    def parts(self, upload: Upload) -> tuple[Part, ...]:
        """Return the parts that this process has sent."""
        known = self._known(upload).parts
        return tuple(known[index] for index in sorted(known))

    def abort(self, upload: Upload) -> None:
        """Forget an upload; Dropbox does by itself, after seven days."""
        self._open.pop(upload.id, None)
        self._gone[upload.id] = None
        while len(self._gone) > _GONE_MAX:
            self._gone.popitem(last=False)

    def metadata_of(self, upload: Upload) -> Metadata:
        """Return the metadata that an upload was begun with."""
        _, user = _meant(upload)
        return Metadata(user=user, commit_id=upload.commit_id)

    async def complete(
        self, upload: Upload, parts: Sequence[Part], new: NewFile
    ) -> Any:
        """Send the append that closes the session, and the finish."""
        known = self._known(upload)
        digests = _checked_digests(upload, parts)
        session_id, _ = _meant(upload)
        size = sum(part.size for part in parts)
        await self._close(session_id, upload, known, parts[-1])
        with _of_session(upload.key):
            made = await self._uploads.finish(
                upload.key, session_id, size, hash_of(digests), new
            )
        self.abort(upload)
        return made

    async def _append(
        self, session_id: str, key: str, offset: int, body: Body
    ) -> list[bytes]:
        def send(api: Dropbox) -> list[bytes]:
            data = read_exactly(body, PIECE)
            digests = block_digests(data)
            cursor = files.UploadSessionCursor(session_id, offset)
            api.files_upload_session_append_v2(
                data, cursor, close=False, content_hash=hash_of(digests)
            )
            return digests

        with _of_session(key):
            return await self._client.call(send, key, has_bytes=True)

    async def _close(
        self, session_id: str, upload: Upload, known: _Open, last: Part
    ) -> None:
        is_short = last.size < PIECE
        data = known.waiting.get(last.index) if is_short else b""
        if data is None or (is_short and known.parts.get(last.index) != last):
            raise UploadNotFound("the last part is not here any more", key=upload.key)
        offset = last.index * PIECE + (0 if is_short else PIECE)

        def close(api: Dropbox) -> None:
            cursor = files.UploadSessionCursor(session_id, offset)
            content_hash = hash_of(block_digests(data))
            api.files_upload_session_append_v2(
                data, cursor, close=True, content_hash=content_hash
            )

        was_sent, known.closing = known.closing == last, last
        try:
            with _of_session(upload.key):
                await self._client.call(close, upload.key, has_bytes=True)
        except UploadNotFound as error:
            # An answer that was lost: the session has these bytes already.
            if not (was_sent and error.code == "closed"):
                raise

    def _known(self, upload: Upload) -> _Open:
        if upload.id in self._gone:
            raise UploadNotFound("the upload is over", key=upload.key)
        known = self._open.setdefault(upload.id, _Open())
        self._open.move_to_end(upload.id)
        while len(self._open) > _KNOWN_MAX:
            self._open.popitem(last=False)
        return known


@contextmanager
def _of_session(key: str) -> Iterator[None]:
    """Tell a session that is over from a path where nothing is."""
    try:
        yield
    except NotFound as error:
        raise UploadNotFound(
            "the upload session is over", key=key, code=error.code
        ) from error
    except InvalidRequest as error:
        if (error.code or "").rpartition("/")[2] != "closed":
            raise
        raise UploadNotFound(
            "the upload session is closed", key=key, code="closed"
        ) from error


def _meant(upload: Upload) -> tuple[str, Mapping[str, str]]:
    try:
        about = json.loads(upload.id)
        user = {str(name): str(text) for name, text in about["user"].items()}
        return str(about["session"]), user
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UploadNotFound("the id is that of no upload", key=upload.key) from error


def _check_part(upload: Upload, index: int, size: int) -> None:
    if not 0 <= index < LIMITS.parts_max:
        raise InvalidRequest(f"there is no part {index}", key=upload.key)
    if size > PIECE:
        raise ObjectTooLarge(f"a part has at most {PIECE} bytes", key=upload.key)


def _etag(digests: Sequence[bytes]) -> str:
    return b"".join(digests).hex()


def _checked_digests(upload: Upload, parts: Sequence[Part]) -> list[bytes]:
    """Return the digests of all blocks. Raises `InvalidRequest`."""
    if not parts:
        raise InvalidRequest("an upload has at least one part", key=upload.key)
    if [part.index for part in parts] != list(range(len(parts))):
        raise InvalidRequest("a part is missing", key=upload.key)
    if any(part.size != PIECE for part in parts[:-1]):
        raise InvalidRequest(f"a part has not {PIECE} bytes", key=upload.key)
    for part in parts:
        blocks = -(-part.size // BLOCK)
        is_ours = _DIGESTS.fullmatch(part.etag) or not blocks
        if not is_ours or len(part.etag) != blocks * _DIGEST:
            raise InvalidRequest(f"part {part.index} never arrived", key=upload.key)
    text = "".join(part.etag for part in parts)
    return [
        bytes.fromhex(text[at : at + _DIGEST]) for at in range(0, len(text), _DIGEST)
    ]
