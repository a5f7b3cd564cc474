"""What becomes of a commit that lost a race: the policy `--conflict`, and the copies.

A race is lost when somebody else changed the object since the file was opened. By the
policy `copy` our bytes become a file beside it, `NAME (conflict HOST TIME)`, and the
commit has succeeded; `fail` raises, and the bytes go to the state directory;
`overwrite` never looks. An object that is merely gone is made anew: nobody's bytes are
lost by that.

If a part of our file lies in an upload that only its own key can have, the names are
dealt the other way round: the other's object is copied beside, and ours has the name.

What cannot be made whole is never stored. If a file is an edit of a version that the
store does not have any more, and the cache does not hold the rest of it, the race ends
as by `fail`.
"""

import dataclasses
import enum
import logging
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from mountfs.cache.commits import Commits
from mountfs.cache.dirty import DirtyFile
from mountfs.cache.incidents import IncidentKind, Incidents
from mountfs.cache.phases import reached
from mountfs.cache.streamer import Streamer
from mountfs.storage.conditions import look_first
from mountfs.storage.errors import (
    AlreadyExists,
    BucketNotFound,
    KeyTooLong,
    NotFound,
    PreconditionFailed,
    VersionChanged,
)
from mountfs.storage.protocol import Storager
from mountfs.storage.types import ABSENT, Call, Condition, Metadata, Object, Version

log = logging.getLogger(__name__)

NAME_SIZE_MAX = 255
HOST_SIZE_MAX = 64
NAMES_MAX = 100
"""So many names are tried for one copy."""


class Policy(enum.Enum):
    """What happens to the bytes of a commit that lost a race."""

    COPY = "copy"
    FAIL = "fail"
    OVERWRITE = "overwrite"


def copy_keys(
    key: str, host: str, time_ns: int, key_size_max: int | None = None
) -> Iterator[str]:
    """Yield the keys that a conflict copy of `key` may have, the best one first.

    The name is cut where it would be longer than 255 bytes, or the key than the store
    takes. Raises `KeyTooLong` if there is no room for a name at all.
    """
    moment = datetime.fromtimestamp(time_ns / 1e9, UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    folder, slash, name = key.rpartition("/")
    host = _cut(_encoded(_printable(host)), HOST_SIZE_MAX)
    room = NAME_SIZE_MAX
    if key_size_max is not None:
        room = min(room, key_size_max - len(_encoded(folder + slash)))
    for number in range(1, NAMES_MAX + 1):
        counter = f" {number}" if number > 1 else ""
        suffix = f" (conflict {host} {moment}{counter})"
        left = room - len(_encoded(suffix))
        if left < 1:
            raise KeyTooLong("a conflict copy has no room for its name", key=key)
        yield f"{folder}{slash}{_cut(_encoded(name), left)}{suffix}"


class Conflicts:
    """Settles lost races by one policy."""

    def __init__(
        self,
        store: Storager,
        commits: Commits,
        streamer: Streamer,
        incidents: Incidents,
        policy: Policy,
        *,
        host: str | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._commits = commits
        self._streamer = streamer
        self._incidents = incidents
        self.policy = policy
        self._host = host if host is not None else socket.gethostname()
        self._now_ns = now_ns

    async def settle(
        self, dirty: DirtyFile, metadata: Metadata, lost: PreconditionFailed
    ) -> Object:
        """Do with a file that lost a race as the policy says; its lock is held.

        Returns the object that has its bytes, which is a copy if its key is another
        than the file had: then the file goes on as that. Raises `lost` if its bytes
        are to be kept here.
        """
        if self.policy is Policy.FAIL:
            raise lost
        if self.policy is Policy.OVERWRITE:
            # Its base is another by now, or an earlier mount had another policy.
            return await self._replace(dirty, metadata, lost, None)
        if isinstance(dirty.condition, Version) and await self._is_gone(dirty.key):
            try:
                made = await self._replace(dirty, metadata, lost, ABSENT)
            except AlreadyExists:
                log.debug("%r was taken again", dirty.key)
            else:
                log.info(
                    "%r was deleted by another client while it was written here;"
                    " it is back",
                    dirty.key,
                )
                return made
        return await self.store_copy(dirty, metadata, lost)

    async def store_copy(
        self, dirty: DirtyFile, metadata: Metadata, lost: PreconditionFailed
    ) -> Object:
        """Store a file beside the object that took its name; its lock is held.

        The file then has the key of the copy, and the copy as its base. Says so in
        the log and among the incidents. After an error the file is as it was: `lost`
        is raised if there never can be a copy, anything else if there may be later.
        """
        if dirty.stream is not None and dirty.stream.punched:
            return await self._set_theirs_aside(dirty, metadata, lost)
        key, condition = dirty.key, dirty.condition
        self._streamer.abandon(dirty)
        attributes = metadata.attributes
        if attributes is not None:
            # It is no name of a file with several.
            attributes = dataclasses.replace(attributes, group=None)
            metadata = metadata.with_attributes(attributes)
        try:
            copy = await self._store_beside(dirty, metadata, lost)
        except BaseException:
            dirty.key, dirty.condition = key, condition
            raise
        # Crash after this: nobody was told. The copy is there; if the bytes lie in the
        # state directory as well, the next mount makes another.
        reached("conflict-copied")
        log.warning(
            "%r was changed by another client while it was open here (%s): it keeps"
            " what that one stored, and the bytes written here are in %r; compare"
            " the two, and remove one",
            key,
            lost,
            copy.key,
        )
        self._incidents.note(IncidentKind.CONFLICT, key, str(lost), kept_as=copy.key)
        return copy

    async def _set_theirs_aside(
        self, dirty: DirtyFile, metadata: Metadata, lost: PreconditionFailed
    ) -> Object:
        """Copy the other's object beside, then take its place if it is still that."""
        if not self._store.capabilities.copy:
            raise lost
        key, theirs = dirty.key, await self._store.stat(dirty.key)
        aside = await self.copy_beside(theirs, theirs.key, lost)
        # Crash after this: their bytes are under both names, ours in the upload.
        reached("conflict-set-aside")
        stored = await self._replace(dirty, metadata, lost, theirs.version)
        log.warning(
            "%r was changed by another client while it was written here (%s): as a part"
            " of ours was in the store already, it has our bytes, and what that one"
            " stored is in %r; compare the two, and remove one",
            key,
            lost,
            aside.key,
        )
        self._incidents.note(IncidentKind.CONFLICT, key, str(lost), kept_as=aside.key)
        return stored

    async def copy_beside(
        self, object: Object, key: str, lost: PreconditionFailed
    ) -> Object:
        """Copy an object of the store to a name beside a key that it cannot have."""
        limit = self._store.capabilities.key_size_max
        try:
            for name in copy_keys(key, self._host, self._now_ns(), limit):
                try:
                    return await self._store.copy(
                        object.key,
                        name,
                        source_version=object.version,
                        condition=await look_first(
                            self._store, Call.COPY, name, ABSENT
                        ),
                    )
                except AlreadyExists:
                    continue
        except KeyTooLong:
            raise lost from None
        raise lost

    async def _store_beside(
        self, dirty: DirtyFile, metadata: Metadata, lost: PreconditionFailed
    ) -> Object:
        key = dirty.key
        limit = self._store.capabilities.key_size_max
        try:
            for name in copy_keys(key, self._host, self._now_ns(), limit):
                dirty.key, dirty.condition = name, ABSENT
                try:
                    return await self._complete(dirty, metadata, lost)
                except AlreadyExists:
                    continue
        except KeyTooLong:
            raise lost from None
        raise lost

    async def _replace(
        self,
        dirty: DirtyFile,
        metadata: Metadata,
        lost: PreconditionFailed,
        condition: Condition,
    ) -> Object:
        """Store a file under its own key, on another condition."""
        before, dirty.condition = dirty.condition, condition
        try:
            if dirty.stream is not None:
                return await self._commits.store(dirty, metadata)
            return await self._complete(dirty, metadata, lost)
        except BaseException:
            dirty.condition = before
            raise

    async def _complete(
        self, dirty: DirtyFile, metadata: Metadata, lost: PreconditionFailed
    ) -> Object:
        """Store all bytes, with none from a base that has gone. Raises `lost` then."""
        try:
            return await self._commits.store_elsewhere(dirty, metadata)
        except VersionChanged as gone:
            raise lost from gone

    async def _is_gone(self, key: str) -> bool:
        try:
            await self._store.stat(key)
        except BucketNotFound:
            raise
        except NotFound:
            return True
        return False


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _cut(text: bytes, size: int) -> str:
    """Return the first bytes of a text, without a character that is cut in two."""
    end = size
    while len(text) > end > 0 and text[end] & 0xC0 == 0x80 and size - end < 3:
        end -= 1
    return text[:end].decode("utf-8", "surrogateescape")


def _printable(host: str) -> str:
    """Return a host's name as a part of a file's name."""
    return "".join(each if each.isprintable() and each != "/" else "_" for each in host)
