"""What a mount tells of itself: its status, put together from its parts."""

import dataclasses
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mountfs.cache.budget import Budget
from mountfs.cache.entries import Entry
from mountfs.cache.incidents import Incident, IncidentKind, Incidents
from mountfs.configuration.config import MountConfig
from mountfs.status import (
    INCIDENTS_MAX,
    PENDING_MAX,
    REFUSED_MAX,
    LateError,
    PendingPath,
    Refused,
    State,
    Status,
)
from mountfs.storage.health import Health
from mountfs.vfs.filesystem import FileSystem
from mountfs.vfs.volume import RESERVED


class Reporter:
    """Describes one mount. Nothing here waits, or asks the store."""

    def __init__(
        self,
        config: MountConfig,
        filesystem: FileSystem,
        budget: Budget,
        state_dir: Path,
        *,
        health: Health,
    ) -> None:
        self._config = config
        self._fs = filesystem
        self._budget = budget
        self._state_dir = state_dir
        self._health = health
        self._since_ns = time.time_ns()

    @property
    def _incidents(self) -> Incidents:
        return self._fs.volume.incidents

    def status(self, state: State, *, is_seen: bool = False) -> Status:
        """Return how the mount does; `is_seen`: a person is shown the late errors."""
        local_only = self._local_only()
        pending = self._pending(local_only)
        incidents = self._incidents
        unseen = incidents.unseen()
        if is_seen:
            incidents.mark_seen()
        count = incidents.count
        hearing = self._fs.volume.hearing
        return Status(
            url=self._config.url,
            mount_point=str(self._config.mount_point),
            pid=os.getpid(),
            state=state,
            since_ns=self._since_ns,
            pending_files=len(pending),
            pending_bytes=sum(each.size for each in pending),
            waiting=tuple(each.path for each in pending[:PENDING_MAX]),
            pending=pending[:PENDING_MAX],
            local_only_files=len(local_only),
            local_only_bytes=sum(local_only.values()),
            store_state=self._health.state.value,
            store_reason=self._health.reason or "",
            durability=self._config.durability,
            is_told=hearing is not None and not hearing.trouble,
            untold=hearing.trouble if hearing is not None else "",
            conflicts=count(IncidentKind.CONFLICT),
            late_errors=count(IncidentKind.FAILED) + count(IncidentKind.REFUSED),
            unseen=len(unseen),
            incidents=_late_errors(incidents, unseen),
            refused=self._refused(),
            cache_used=self._budget.clean + self._budget.dirty,
            cache_dirty=self._budget.dirty,
            cache_limit=self._budget.size_max,
            journal_size=_journal_size(self._state_dir),
            names=len(self._fs.volume.inodes),
            state_dir=str(self._state_dir),
            activity=dataclasses.replace(self._fs.volume.activity),
        )

    def _refused(self) -> tuple[Refused, ...]:
        watched = self._fs.volume.watched
        newest = watched.refusals.newest(REFUSED_MAX) if watched is not None else []
        return tuple(
            Refused(
                path=each.error.key or "",
                text=each.error.reason,
                time_ns=each.time_ns,
                code=each.error.code,
                request=each.error.request or None,
                http_status=each.error.status,
                request_id=each.error.request_id or None,
                needs=each.error.permission or None,
            )
            for each in newest
        )

    def pending(self) -> tuple[PendingPath, ...]:
        """Return what the store is to have, without files that were unlinked."""
        return self._pending(self._local_only())

    def _pending(self, local_only: Mapping[str, int]) -> tuple[PendingPath, ...]:
        found: dict[str, PendingPath] = {}
        for file in self._fs.volume.writeback.pending():
            if file.is_local_only:
                continue
            if file.key and not file.key.startswith(f"{RESERVED}/"):
                found[file.key] = PendingPath(
                    path=file.key, size=file.size, error=file.error, sent=file.sent
                )
        for entry in self._fs.volume.waiting():
            if not (entry.is_local_only or entry.key.startswith(f"{RESERVED}/")):
                found[entry.key] = self._waiting(entry)
        for node in self._fs.uncommitted():
            key = node.key()
            if key in local_only and key not in found:
                continue
            known = found.get(key, PendingPath(path=key, size=0))
            size = node.file.size if node.file is not None else 0
            found[key] = dataclasses.replace(known, size=size)
        for link in self._fs.later_links:
            size = link.node.file.size if link.node.file is not None else 0
            found.setdefault(link.key, PendingPath(path=link.key, size=size))
        return tuple(found[key] for key in sorted(found))

    def _local_only(self) -> dict[str, int]:
        """Return the keys of what stays here, and how many bytes each has."""
        found = {
            entry.key: entry.size
            for entry in self._fs.volume.waiting()
            if entry.is_local_only
        }
        for file in self._fs.volume.writeback.pending():
            if file.is_local_only:
                found[file.key] = file.size
        return found

    def _waiting(self, entry: Entry) -> PendingPath:
        journaled = self._fs.volume.journaled
        assert journaled is not None, "it has the entry"
        next_try_s = entry.due_s - journaled.ledger.now_s()
        is_tried = entry.error is not None and math.isfinite(next_try_s)
        return PendingPath(
            path=entry.key,
            size=entry.size,
            error=str(entry.error) if entry.error is not None else None,
            sent=entry.sent_bytes,
            is_sending=entry.flight is not None,
            attempts=entry.attempts,
            next_try_s=round(max(next_try_s, 0.0), 1) if is_tried else None,
        )


def _late_errors(
    incidents: Iterable[Incident], unseen: Sequence[Incident]
) -> tuple[LateError, ...]:
    """Return the newest late errors, and the newest of those that nobody has seen."""
    known = list(incidents)
    shown = {id(each) for each in (*known[-INCIDENTS_MAX:], *unseen[-INCIDENTS_MAX:])}
    news = {id(each) for each in unseen}
    return tuple(
        _late_error(each, is_new=id(each) in news)
        for each in known
        if id(each) in shown
    )


def _late_error(incident: Incident, *, is_new: bool) -> LateError:
    return LateError(
        kind=incident.kind.value,
        path=incident.key,
        text=incident.text,
        time_ns=incident.time_ns,
        kept_as=incident.kept_as,
        is_new=is_new,
    )


def _journal_size(state_dir: Path) -> int:
    """Return what the journal takes of the disk, as far as that can be told."""
    total = 0
    for name in ("journal.sqlite", "journal.sqlite-wal"):
        try:
            total += (state_dir / name).stat().st_size
        except OSError:
            continue
    return total
