"""The files with bytes that the store does not have, as they are told to people."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mountfs.cache.dirty import DirtyFile
from mountfs.cache.recovery import FailedFiles


@dataclass(frozen=True, slots=True)
class PendingFile:
    """A file with bytes that the store does not have; `error` if that was tried."""

    key: str
    size: int
    error: str | None = None
    sent: int = 0
    """How much lies in an upload that is not finished."""
    is_local_only: bool = False
    """Whether it is not to be sent, and nothing of its name ever was."""


def pending_files(
    open_files: Iterable[DirtyFile],
    failed: FailedFiles,
    is_local_only: Callable[[DirtyFile], bool],
) -> tuple[PendingFile, ...]:
    """Return the open files that were changed, and those that failed.

    A name that is changed anew stands once.
    """
    changed = [
        PendingFile(
            dirty.key,
            dirty.size,
            sent=dirty.sent_bytes,
            is_local_only=is_local_only(dirty),
        )
        for dirty in open_files
        if dirty.is_changed and not failed.holds(dirty)
    ]
    newer = {file.key for file in changed}
    left = [
        PendingFile(item.dirty.key, item.dirty.size, item.error, item.dirty.sent_bytes)
        for item in failed
        if item.dirty.key not in newer
    ]
    return (*changed, *left)


def oldest_s(
    open_files: Iterable[DirtyFile],
    failed: FailedFiles,
    is_local_only: Callable[[DirtyFile], bool],
) -> float | None:
    """Return when the oldest of the files to be stored began to be changed.

    By the monotonic clock; of what an earlier mount left, when this one found it.
    """
    begun = [
        each.begun_s
        for each in open_files
        if each.is_changed and not is_local_only(each)
    ]
    begun += [item.dirty.begun_s for item in failed]
    return min(begun, default=None)
