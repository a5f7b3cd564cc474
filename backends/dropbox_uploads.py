"""Writing files: one request for small ones, an upload session for large ones.

Small files that are written at once go into sessions, too, and become visible together
(`dropbox_batches`).

A session is concurrent: several pieces are on their way at once, each a multiple of
4 MiB at its own offset, the last one alone may be shorter. Nothing of it is visible
before it is finished; Dropbox forgets what is not after seven days.

Dropbox checks the hash of each piece, and the hash of the whole is compared here.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import trio
from dropbox import Dropbox, files

from mountfs.backends.dropbox_answers import check_file, check_hash
from mountfs.backends.dropbox_batches import Batches, finish_argument
from mountfs.backends.dropbox_client import DropboxClient
from mountfs.storage.body import Body, read_exactly
from mountfs.storage.errors import BodyTooShort, StoreError
from mountfs.storage.parallel import run_all

T = TypeVar("T")

BLOCK = 4 << 20
UPLOAD_MAX = 8 << 20
"""The most bytes of one request; above, a session."""
PIECE = 8 << 20
AT_ONCE = 4
_TRIES = 5
_PAUSE_S = 0.1
SESSION_MAX = (1 << 41) - (1 << 22)


class NewFile(NamedTuple):
    """What a write says besides the bytes."""

    path: str
    mode: files.WriteMode
    is_strict: bool
    client_modified: Any
    groups_for: Any
    """Returns the property groups for a content hash, or None."""


class Uploads:
    """Sends the bytes of new files."""

    def __init__(self, client: DropboxClient) -> None:
        self._client = client
        self._commits = Batches(self._finished)
        self._small = 0

    async def write(self, key: str, body: Body | None, size: int, new: NewFile) -> Any:
        """Save a file; return what Dropbox says of it."""
        if size <= UPLOAD_MAX:
            self._small += 1
            send = self._in_one if self._small == 1 else self._with_others
            try:
                return await send(key, body, size, new)
            finally:
                self._small -= 1
        assert body is not None
        return await self._in_session(key, body, size, new)

    async def _in_one(
        self, key: str, body: Body | None, size: int, new: NewFile
    ) -> Any:
        def upload(api: Dropbox) -> Any:
            data = read_exactly(body, size)
            content_hash = hash_of(block_digests(data))
            made = api.files_upload(
                data,
                new.path,
                mode=new.mode,
                autorename=False,
                client_modified=new.client_modified,
                mute=True,
                property_groups=new.groups_for(api, content_hash),
                strict_conflict=new.is_strict,
                content_hash=content_hash,
            )
            check_file(key, made, size, content_hash)
            return made

        return await self._client.call(upload, key, has_bytes=True)

    async def _with_others(
        self, key: str, body: Body | None, size: int, new: NewFile
    ) -> Any:
        def start(api: Dropbox) -> tuple[str, files.CommitInfo, str]:
            data = read_exactly(body, size)
            hashed = hash_of(block_digests(data))
            begun = api.files_upload_session_start(
                data, close=True, content_hash=hashed
            )
            return str(begun.session_id), _commit_info(api, new, hashed), hashed

        session_id, commit, hashed = await self._client.call(start, key, has_bytes=True)
        argument = finish_argument(session_id, size, commit)
        made = await self._commits.add(key, argument)
        check_file(key, made, size, hashed)
        return made

    async def _finished(self, arguments: Sequence[Any]) -> Sequence[Any]:
        reply = await self._client.call(
            lambda api: api.files_upload_session_finish_batch_v2(list(arguments))
        )
        return list(reply.entries)

    async def _in_session(self, key: str, body: Body, size: int, new: NewFile) -> Any:
        session_id = await self._client.call(start_concurrent, key)
        digests = await self._send_pieces(session_id, key, body, size)
        content_hash = hash_of([each for piece in digests for each in piece])
        return await self.finish(key, session_id, size, content_hash, new)

    async def finish(
        self, key: str, session_id: str, size: int, content_hash: str, new: NewFile
    ) -> Any:
        """Make a closed session a file; return what Dropbox says of it."""

        def finish(api: Dropbox) -> Any:
            commit = _commit_info(api, new, content_hash)
            cursor = files.UploadSessionCursor(session_id, size)
            made = api.files_upload_session_finish(b"", cursor, commit)
            check_file(key, made, size, content_hash)
            return made

        return await self._client.call(finish, key)

    async def _sent_again(self, request: Callable[[Dropbox], T], key: str) -> T:
        """Send a piece of a session, again if it fails for now.

        What has arrived of a large file is not to be sent anew for one of its pieces,
        and a piece that arrives twice lies where it lay.
        """
        for attempt in range(1, _TRIES):
            try:
                return await self._client.call(request, key, has_bytes=True)
            except StoreError as error:
                if not error.is_retryable:
                    raise
                await trio.sleep(_PAUSE_S * 2**attempt)
        return await self._client.call(request, key, has_bytes=True)

    async def _send_pieces(
        self, session_id: str, key: str, body: Body, size: int
    ) -> list[list[bytes]]:
        """Send all pieces, some at once; return the digests of their blocks."""
        offsets = range(0, size, PIECE)
        sends = [
            partial(
                self._send_piece, session_id, key, body, at, min(PIECE, size - at), size
            )
            for at in offsets
        ]
        # The last piece closes the session, and nothing can be sent behind it.
        digests = await run_all(sends[:-1], at_once=AT_ONCE)
        return [*digests, await sends[-1]()]

    async def _send_piece(
        self, session_id: str, key: str, body: Body, offset: int, count: int, size: int
    ) -> list[bytes]:
        def send(api: Dropbox) -> list[bytes]:
            with body.open() as reader:
                reader.seek(offset)
                data = reader.read(count)
            if len(data) < count:
                raise BodyTooShort(f"the body ended before {size} bytes", key=key)
            found = block_digests(data)
            cursor = files.UploadSessionCursor(session_id, offset)
            is_last = offset + count == size
            api.files_upload_session_append_v2(
                data, cursor, close=is_last, content_hash=hash_of(found)
            )
            return found

        return await self._sent_again(send, key)


def _commit_info(api: Dropbox, new: NewFile, content_hash: str) -> files.CommitInfo:
    return files.CommitInfo(
        path=new.path,
        mode=new.mode,
        autorename=False,
        client_modified=new.client_modified,
        mute=True,
        property_groups=new.groups_for(api, content_hash),
        strict_conflict=new.is_strict,
    )


def block_digests(data: bytes) -> list[bytes]:
    """Return the SHA-256 of each block of 4 MiB."""
    view = memoryview(data)
    return [
        hashlib.sha256(view[at : at + BLOCK]).digest()
        for at in range(0, len(data), BLOCK)
    ]


def hash_of(digests: Sequence[bytes]) -> str:
    """Return the content hash of Dropbox of the blocks with these digests."""
    return hashlib.sha256(b"".join(digests)).hexdigest()


def check_bytes(known: Any, data: bytes, key: str) -> None:
    """Raise `Corrupt` if bytes are not those of a whole file."""
    check_hash(known, hash_of(block_digests(data)), key)


def start_concurrent(api: Dropbox) -> str:
    """Begin a session whose pieces may come at once; return its id."""
    begun = api.files_upload_session_start(
        b"", session_type=files.UploadSessionType.concurrent
    )
    return str(begun.session_id)
