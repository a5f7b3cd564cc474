"""Upload sessions and listing cursors of the fake Dropbox; see `dropbox_tree`."""

import itertools
from dataclasses import dataclass, field

from tests.fakes.dropbox_tree import ApiError, Tree, content_hash, lowered

MIB_4 = 4 << 20
PAYLOAD_MAX = 150 << 20
SESSION_MAX = (1 << 41) - (1 << 22)


@dataclass
class Session:
    """[files] upload_session/start: a file on its way."""

    is_concurrent: bool = False
    pieces: dict[int, bytes] = field(default_factory=dict)
    is_closed: bool = False

    @property
    def size(self) -> int:
        """How far the pieces reach."""
        return max((at + len(piece) for at, piece in self.pieces.items()), default=0)

    @property
    def is_gapless(self) -> bool:
        """Whether every byte has come."""
        return sum(map(len, self.pieces.values())) == self.size

    def bytes(self) -> bytes:
        """Return the pieces in their order."""
        return b"".join(self.pieces[at] for at in sorted(self.pieces))


class Sessions:
    """The open upload sessions of an account. All are gone after 7 days ([files])."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.open: dict[str, Session] = {}

    def start(self, data: bytes, kind: str, *, is_closed: bool) -> str:
        """[files] upload_session/start."""
        is_concurrent = kind == "concurrent"
        if is_concurrent and data:
            raise ApiError("concurrent_session_data_not_allowed")
        if is_concurrent and is_closed:
            raise ApiError("concurrent_session_close_not_allowed")
        session_id = f"pid_upload_session:{next(self._numbers)}"
        pieces = {0: data} if data else {}
        self.open[session_id] = Session(is_concurrent, pieces, is_closed)
        return session_id

    def append(
        self, session_id: str, offset: int, data: bytes, *, is_closed: bool, outer: str
    ) -> None:
        """[files] upload_session/append_v2."""
        outers = (outer,) if outer else ()
        session = self._find(session_id, *outers)
        if session.is_closed:
            raise ApiError(*outers, "closed")
        if session.is_concurrent:
            if offset % MIB_4:
                raise ApiError(*outers, "concurrent_session_invalid_offset")
            if len(data) % MIB_4 and not is_closed:
                raise ApiError(*outers, "concurrent_session_invalid_data_size")
        elif offset != session.size:
            raise ApiError(
                *outers, "incorrect_offset", value={"correct_offset": session.size}
            )
        if offset + len(data) > SESSION_MAX:
            raise ApiError(*outers, "too_large")
        if data:
            # No page tells what other bytes at an offset do. Harsh: they are refused.
            if session.pieces.get(offset, data) != data:
                raise ApiError(*outers, "concurrent_session_invalid_offset")
            session.pieces[offset] = data
        session.is_closed = is_closed

    def finish(self, session_id: str, offset: int, data: bytes) -> bytes:
        """[files] upload_session/finish: return the bytes of the file.

        The session stays, so that a finish that failed can be sent again.
        """
        session = self._find(session_id, "lookup_failed")
        if session.is_concurrent:
            if data:
                raise ApiError("concurrent_session_data_not_allowed")
            if not session.is_closed:
                raise ApiError("concurrent_session_not_closed")
            if not session.is_gapless or session.size != offset:
                raise ApiError("concurrent_session_missing_data")
        elif offset != session.size:
            raise ApiError(
                "lookup_failed",
                "incorrect_offset",
                value={"correct_offset": session.size},
            )
        return session.bytes() + data

    def finish_closed(self, session_id: str, offset: int) -> bytes:
        """[files] upload_session/finish_batch: only closed sessions."""
        if not self._find(session_id, "lookup_failed").is_closed:
            raise ApiError("lookup_failed", "not_closed")
        return self.finish(session_id, offset, b"")

    def end(self, session_id: str) -> None:
        """Forget a session that became a file."""
        self.open.pop(session_id, None)

    def _find(self, session_id: str, *outer: str) -> Session:
        session = self.open.get(session_id)
        if session is None:
            raise ApiError(*outer, "not_found")
        return session


@dataclass
class Cursor:
    """[files] list_folder: what is left of a listing, then what changes after it."""

    path: str
    is_recursive: bool
    limit: int
    template_ids: tuple[str, ...]
    left: list[str]
    seen: int
    """The changes that the listing has."""


class Cursors:
    """The listings that can be continued."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._numbers = itertools.count(1)
        self._cursors: dict[str, Cursor] = {}

    def begin(
        self, path: str, limit: int, ids: tuple[str, ...], *, is_recursive: bool
    ) -> Cursor:
        """[files] list_folder."""
        if path:
            entry = self._tree.find(path, "path")
            if not entry.is_folder:
                raise ApiError("path", "not_folder")
        lower = lowered(path)
        left = [*self._tree.below(lower, is_recursive=is_recursive)]
        if is_recursive and path:
            left.insert(0, lower)  # a recursive listing has the folder itself, too
        return Cursor(lower, is_recursive, limit, ids, left, len(self._tree.changes))

    def latest(self, begun: Cursor) -> str:
        """[files] list_folder/get_latest_cursor: nothing of what is there now."""
        begun.left = []
        return self.keep(begun)

    def find(self, name: str) -> Cursor:
        """Return a copy of a cursor; each stays good for more than one use."""
        known = self._cursors.get(name)
        if known is None:
            raise ApiError("reset")
        return Cursor(
            known.path,
            known.is_recursive,
            known.limit,
            known.template_ids,
            list(known.left),
            known.seen,
        )

    def forget(self) -> None:
        """Make every cursor invalid, as Dropbox may at any time ([files] reset)."""
        self._cursors.clear()

    def keep(self, cursor: Cursor) -> str:
        """Return the text of a cursor."""
        name = f"AAfake{next(self._numbers)}"
        self._cursors[name] = cursor
        return name

    def page(self, cursor: Cursor) -> tuple[list[str], bool]:
        """Return the next paths of a listing, then changed ones; and if more follow."""
        if not cursor.left:
            cursor.left = self.changed(cursor)
            cursor.seen = len(self._tree.changes)
        page, cursor.left = cursor.left[: cursor.limit], cursor.left[cursor.limit :]
        return page, bool(cursor.left)

    def changed(self, cursor: Cursor) -> list[str]:
        """Return the paths in the listing that changed since, each once, in order."""
        new = self._tree.changes[cursor.seen :]
        return [each for each in dict.fromkeys(new) if self._holds(cursor, each)]

    @staticmethod
    def _holds(cursor: Cursor, lower: str) -> bool:
        if not lower.startswith(cursor.path + "/"):
            return False
        return cursor.is_recursive or "/" not in lower[len(cursor.path) + 1 :]


def check_payload(data: bytes, wanted_hash: str | None) -> None:
    """[files]: "at most 150 MiB", and the hash of the content of this call."""
    if len(data) > PAYLOAD_MAX:
        raise ApiError("payload_too_large")
    if wanted_hash is not None and wanted_hash != content_hash(data):
        raise ApiError("content_hash_mismatch")
