"""Changes made elsewhere: a cursor of Dropbox, and a question that waits for more.

`list_folder/longpoll` answers when something below the folder has changed, and
`list_folder/continue` then tells what it is now. A cursor that Dropbox has given up
("reset") means that anything may have changed.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import trio
from dropbox import Dropbox, files

from mountfs.backends.dropbox_client import PATIENCE_S, DropboxClient
from mountfs.backends.dropbox_names import component_of
from mountfs.backends.dropbox_objects import Keys, names_below, object_of
from mountfs.backends.dropbox_options import parse_options, root_of
from mountfs.backends.dropbox_pace import PAUSE_MAX_S
from mountfs.backends.dropbox_properties import Template
from mountfs.storage.errors import InvalidRequest, ServiceFailed, TimedOut
from mountfs.storage.events import Change, EventSource

_PAGES_MAX = 1000
CHANGES_MAX = 100_000
"""More at once are told as "anything may have changed"."""
LATE_S = 90.0 + 60.0 + PATIENCE_S
"""How much longer than it was to be a question may stay without its whole answer: what
Dropbox adds, and what a request may wait for its turn."""
_GATHER_S = 0.25
_RESET = "reset"


def open_events(url: str, options: Mapping[str, object]) -> EventSource:
    """Return what tells of changes below the folder of a URL; nothing is sent."""
    known = parse_options(options)
    template = Template(is_wanted=known.properties)
    return DropboxEvents(
        DropboxClient(known), Keys(root_of(url)), template, poll_s=known.poll_s
    )


class DropboxEvents:
    """Tells of changes in one folder of one account."""

    def __init__(
        self, client: DropboxClient, keys: Keys, template: Template, *, poll_s: int
    ) -> None:
        self._client = client
        self._keys = keys
        self._template = template
        self._poll_s = poll_s
        self._cursor: str | None = None
        self._was_reset = False
        self._pause_until = 0.0

    async def changes(self) -> Sequence[Change] | None:
        """Wait for changes; what was before the first call is not told."""
        try:
            with trio.fail_after(self._poll_s + LATE_S):
                return await self._changes()
        except trio.TooSlowError as error:
            raise TimedOut("the changes do not come to an end") from error

    async def _changes(self) -> Sequence[Change] | None:
        await trio.sleep_until(max(self._pause_until, trio.current_time()))
        if self._cursor is None:
            self._cursor = await self._client.call(self._latest)
            was_reset, self._was_reset = self._was_reset, False
            return None if was_reset else ()
        try:
            if not await self._has_changed(self._cursor):
                return ()
            # What follows at once comes along, each file once and as it is by then.
            await trio.sleep(_GATHER_S)
            return await self._told(self._cursor)
        except InvalidRequest as error:
            if error.code != _RESET:
                raise
            # What changed until there is a new one nobody will tell.
            self._cursor, self._was_reset = None, True
            return ()

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()

    async def _has_changed(self, cursor: str) -> bool:
        """Wait a while for a change."""
        told = await self._client.call(
            lambda api: api.files_list_folder_longpoll(cursor, timeout=self._poll_s)
        )
        if told.backoff:
            pause_s = min(float(told.backoff), PAUSE_MAX_S)
            self._pause_until = trio.current_time() + pause_s
        return bool(told.changes)

    async def _told(self, cursor: str) -> Sequence[Change] | None:
        found: list[Change] = []
        for _ in range(_PAGES_MAX):
            reply = await self._client.call(partial(_continued, cursor))
            if reply.has_more and reply.cursor == cursor:
                raise ServiceFailed("the changes have no end")
            found.extend(filter(None, map(self._change, reply.entries)))
            # Only what was told is behind the cursor: an error above asks for it again.
            self._cursor = cursor = str(reply.cursor)
            if len(found) > CHANGES_MAX:
                return None
            if not reply.has_more:
                break
        return found

    def _change(self, known: Any) -> Change | None:
        """Return what an entry tells; None for what no key leads to."""
        root = self._keys.path("")
        if names_below(root, known) is None:
            return None
        names = str(known.path_display or known.path_lower).split("/")[1:]
        parts = [component_of(name) for name in names[root.count("/") :]]
        key = "/".join(part for part in parts if part is not None)
        is_whole = all(part is not None for part in parts)
        if not is_whole or (not key and isinstance(known, files.FileMetadata)):
            return None
        if isinstance(known, files.DeletedMetadata):
            return Change(key, is_gone=True)
        found = object_of(key, known, self._template.known_id)
        return Change(found.key, found)

    def _latest(self, api: Dropbox) -> str:
        reply = api.files_list_folder_get_latest_cursor(
            self._keys.path(""),
            recursive=True,
            include_property_groups=self._template.filter(api),
        )
        return str(reply.cursor)


def _continued(cursor: str, api: Dropbox) -> Any:
    return api.files_list_folder_continue(cursor)
