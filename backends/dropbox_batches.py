"""Many changes of names by one request.

Each of them locks its namespace for a moment, and Dropbox refuses writes when too many
wait for that ("too_many_write_operations"). So files that are written at once are
uploaded to sessions, which lock nothing, and whatever sessions are complete while one
batch is under way are finished together by the next. It is the same with folders.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio
from dropbox import Dropbox, files

from mountfs.backends.dropbox_client import DropboxClient
from mountfs.backends.dropbox_errors import union_error
from mountfs.storage.errors import ServiceFailed, StoreError, TimedOut, Unreachable

BATCH_MAX = 1000
_PAUSE_S, _PAUSE_MAX_S, _JOB_S = 0.05, 2.0, 60.0


class _Waiting:
    """One change, and what becomes of it."""

    def __init__(self, key: str, argument: Any) -> None:
        self.key = key
        self.argument = argument
        self.is_called = trio.Event()
        """Set when it is done, or when it is the turn of this one to send."""
        self.made: Any = None
        self.error: StoreError | None = None

    @property
    def is_done(self) -> bool:
        """Whether there is an answer."""
        return self.made is not None or self.error is not None

    def fail(self, error: StoreError) -> None:
        """Take an error for the answer."""
        self.error = error
        self.is_called.set()


class Batches:
    """Carries out changes of one kind, those that wait together in one request."""

    def __init__(
        self, carry_out: Callable[[Sequence[Any]], Awaitable[Sequence[Any]]]
    ) -> None:
        """`carry_out` returns the entries that answer some arguments, in order."""
        self._carry_out = carry_out
        self._waiting: list[_Waiting] = []
        self._is_sending = False

    async def add(self, key: str, argument: Any) -> Any:
        """Let a change be carried out with others; return what Dropbox says of it."""
        mine = _Waiting(key, argument)
        self._waiting.append(mine)
        while not mine.is_done:
            if self._is_sending:
                await self._wait(mine)
            else:
                await self._send_next()
        if mine.error is not None:
            raise mine.error
        return mine.made

    async def _wait(self, mine: _Waiting) -> None:
        mine.is_called = trio.Event()
        try:
            await mine.is_called.wait()
        except trio.Cancelled:
            if mine in self._waiting:  # else it is on its way
                self._waiting.remove(mine)
                self._call_next()  # it may have been the turn of this one
            raise

    async def _send_next(self) -> None:
        batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
        self._is_sending = True
        try:
            await self._send(batch)
        except StoreError as error:
            for each in batch:
                each.fail(error)
        except BaseException:
            # Whoever sends was cancelled. The others must look whether it was done.
            for each in batch:
                each.fail(Unreachable("a batch was given up", key=each.key))
            raise
        finally:
            self._is_sending = False
            self._call_next()

    def _call_next(self) -> None:
        """Let the first of those that wait send the next batch."""
        if self._waiting and not self._is_sending:
            self._waiting[0].is_called.set()

    async def _send(self, batch: Sequence[_Waiting]) -> None:
        entries = await self._carry_out([each.argument for each in batch])
        if len(entries) != len(batch):
            raise ServiceFailed("a batch was answered in part")
        for each, entry in zip(batch, entries, strict=True):
            if entry.is_success():
                each.made = entry.get_success()
            elif entry.is_failure():
                each.error = union_error(entry.get_failure(), each.key)
            else:
                each.error = ServiceFailed("a change has no answer", key=each.key)
            each.is_called.set()


def finish_argument(session_id: str, size: int, commit: files.CommitInfo) -> Any:
    """Return what finishes one session of a batch."""
    cursor = files.UploadSessionCursor(session_id, size)
    return files.UploadSessionFinishArg(cursor, commit)


async def result_of_job(
    client: DropboxClient, launch: Any, check: Callable[[Dropbox, str], Any]
) -> Any:
    """Wait for a job of Dropbox, and return the entries of its result."""
    if launch.is_complete():
        return launch.get_complete().entries
    if not launch.is_async_job_id():
        raise ServiceFailed("a batch has no answer", is_ambiguous=True)
    job = str(launch.get_async_job_id())
    pause_s, until = _PAUSE_S, trio.current_time() + _JOB_S
    while trio.current_time() < until:
        status = await client.call(lambda api: check(api, job))
        if status.is_complete():
            return status.get_complete().entries
        if not status.is_in_progress():
            raise ServiceFailed("Dropbox gave up a batch", is_ambiguous=True)
        await trio.sleep(pause_s)
        pause_s = min(pause_s * 2, _PAUSE_MAX_S)
    raise TimedOut("a batch takes too long", is_ambiguous=True)
