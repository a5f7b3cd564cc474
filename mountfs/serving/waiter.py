"""Who asks a mount to wait until the store has something: the side of the daemon."""

import os
from collections.abc import Awaitable, Iterable, Sequence
from typing import Protocol

from mountfs.serving.report import Reporter
from mountfs.status import Outcome
from mountfs.storage.errors import StoreError
from mountfs.vfs.filesystem import FileSystem, is_within

FETCH_TIMEOUT_S = 30.0
"""How long the kernel may take to send what programs have written."""
NAMED_MAX = 10


class Fetch(Protocol):
    """Makes the kernel send what it has of these inodes."""

    def __call__(self, inodes: Iterable[int], *, timeout_s: float) -> Awaitable[None]:
        """Return when it has, or the time is over."""
        ...


class Waiter:
    """Carries out `wait` and `flush` on one file system."""

    def __init__(
        self, filesystem: FileSystem, reporter: Reporter, fetch: Fetch
    ) -> None:
        self._fs = filesystem
        self._reporter = reporter
        self._fetch = fetch

    async def wait(self, paths: Sequence[str], *, below: bool) -> Outcome:
        """Return when the store has these paths; with `below`, all under them too.

        All are tried. The outcome tells the first error.
        """
        outcomes = [await self._wait(path, below=below) for path in paths]
        return next((each for each in outcomes if each.error), Outcome())

    async def _wait(self, path: str, *, below: bool) -> Outcome:
        shown = path or "/"
        try:
            key = await self._fs.key_of(os.fsencode(path))
            if below or not (key.endswith("/") or not key):
                await self._fetch(self._fs.open_below(key), timeout_s=FETCH_TIMEOUT_S)
            await self._fs.flush(key, below=below)
        except StoreError as error:
            return _failed(f"{shown} is not in the store: {error.reason}", error)
        except OSError as error:
            return _failed(f"{shown}: {error.strerror or error}", error)
        return self._left(key, below=below)

    def _left(self, key: str, *, below: bool) -> Outcome:
        """Return whether anything is left that no file in use stands for any more."""
        left = [
            each
            for each in self._reporter.pending()
            if each.error is not None
            and (is_within(each.path, key) if below else each.path == key)
        ]
        if not left:
            return Outcome()
        names = ", ".join(f"{each.path} ({each.error})" for each in left[:NAMED_MAX])
        return Outcome(
            error=f"not in the store, and kept in the state directory: {names}",
            is_passing=True,
        )


def _failed(sentence: str, error: StoreError | OSError) -> Outcome:
    is_passing = isinstance(error, StoreError) and error.is_retryable
    return Outcome(error=sentence, is_passing=is_passing)
