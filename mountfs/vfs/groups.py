"""Group records: which names are one file.

A group of hard links has a record in the store, `.mountfs/links/<id>`, that lists its
names (keys) and the content version of the object under each. The record is the truth
for the number of links. An object is a name of a group if its metadata carry the id
*and* the record lists its key with just its content version: a copy that another
program made carries the id and is not listed; an object that another program wrote
over a name has another version. Both are files of their own.

Records are changed by compare-and-swap, so that two mounts that link at once lose
neither name. Where a store has no conditional writes there is a moment between reading
and writing in which another mount's change is lost.
"""

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from cachetools import LRUCache

from mountfs.cache.tokens import is_token
from mountfs.storage.body import BytesBody
from mountfs.storage.conditions import look_first
from mountfs.storage.errors import (
    Corrupt,
    NotFound,
    PreconditionFailed,
    VersionChanged,
)
from mountfs.storage.parallel import run_all
from mountfs.storage.protocol import Storager
from mountfs.storage.types import ABSENT, Call, Object, Version

log = logging.getLogger(__name__)

RECORD_SIZE_MAX = 64 << 20
"""Bytes of a record; one of more was not written by us."""
FOLDER = ".mountfs/links/"
FORMAT = 1
_TRIES_MAX = 16
_KNOWN_MAX = 100_000
_APART_MAX = 10_000
_WARNINGS_MAX = 1000

Names = Mapping[str, str]
"""The names of one file: key -> content version of the object there."""


@dataclass(frozen=True, slots=True)
class Group:
    """A record as it was read or written. Without names there is none."""

    id: str
    names: Names = field(default_factory=dict)
    version: Version | None = None
    ctime_ns: int = 0
    """When a name came, went or moved last; later than the objects can tell."""


def encode(names: Names, ctime_ns: int = 0) -> bytes:
    """Return the bytes of a record."""
    document: dict[str, object] = {"format": FORMAT, "names": dict(names)}
    if ctime_ns:
        document["ctime"] = ctime_ns
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def decode(content: bytes, key: str) -> dict[str, str]:
    """Return the names in a record. Raises `Corrupt` for what is none of ours."""
    return _decoded(content, key)[0]


def _decoded(content: bytes, key: str) -> tuple[dict[str, str], int]:
    try:
        document = json.loads(content)
        names = document["names"] if document["format"] == FORMAT else None
        ctime_ns = int(document.get("ctime", 0))
    except (ValueError, KeyError, TypeError, AttributeError):
        names, ctime_ns = None, 0
    if not isinstance(names, dict):
        raise Corrupt("no group record of this version of mountfs", key=key)
    return {str(name): str(version) for name, version in names.items()}, ctime_ns


def _as_it_is(object: Object) -> Object:
    return object


class Groups:
    """The records of one store, and what is known of them here.

    A record is for all mounts, and speaks of versions that the store has given.
    `as_stored` returns an object with that version, where this mount knows another.
    """

    def __init__(
        self,
        store: Storager,
        *,
        ttl_s: float,
        requests_max: int = 64,
        believes_all: Callable[[], bool] | None = None,
        as_stored: Callable[[Object], Object] = _as_it_is,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._as_stored = as_stored
        self._ttl_s = ttl_s
        self._requests_max = requests_max
        self._believes_all = believes_all or (lambda: False)
        self._clock = clock
        self._known: LRUCache[str, tuple[Group, float]] = LRUCache(_KNOWN_MAX)
        self._apart: LRUCache[str, tuple[Version | None, float]] = LRUCache(_APART_MAX)
        """The objects whose records were asked for their sake, and when."""
        self._damaged: LRUCache[str, None] = LRUCache(_WARNINGS_MAX)

    def believe_for(self, ttl_s: float) -> None:
        """Believe what is known for another time."""
        self._ttl_s = ttl_s

    def known(self, id: str) -> Group | None:
        """Return what was last known of a group, whatever its age."""
        found = self._known.get(id)
        return found[0] if found is not None else None

    def has(self, group: Group, object: Object) -> bool:
        """Tell whether an object, as it is, is one of the names of a group."""
        version = self._as_stored(object).version
        if version is None:
            return False
        return group.names.get(object.key) == version.content

    def content(self, object: Object) -> str:
        """Return what a record says of a name that leads to an object.

        Raises `VersionChanged` if the store has given it no version.
        """
        version = self._as_stored(object).version
        assert version is not None, "what is in the store has a version"
        if is_token(version):
            raise VersionChanged("the version was never stored", key=object.key)
        return version.content

    async def learn(self, objects: Iterable[Object]) -> None:
        """See that the records of these objects' groups are known, and fresh.

        A record that does not agree with an object is asked for once more, since the
        object may be the newer of the two; then it is a file apart, until it changes.
        """
        asked = [object for object in objects if self._is_open(object)]
        ids = {_id_of(object) or "": None for object in asked}
        deeds = [partial(self._ask_or_none, id) for id in ids]
        await run_all(deeds, at_once=self._requests_max)
        for object in asked:
            self._apart[object.key] = (object.version, self._clock())

    async def _ask_or_none(self, id: str) -> Group:
        """As `ask`; a record that cannot be understood is as if it were not there.

        Then its names are files of their own: one bad record must not make a whole
        directory unreadable. It is left as it is.
        """
        try:
            return await self.ask(id)
        except Corrupt as error:
            if id not in self._damaged:
                self._damaged[id] = None
                log.warning("the names of a file are shown as files apart: %s", error)
            return self._note(Group(id))

    def _is_open(self, object: Object) -> bool:
        """Tell whether an object's record is to be asked for."""
        id = _id_of(object)
        if id is None:
            return False
        found = self._known.get(id)
        if found is None or not self._is_fresh(found[1]):
            return True
        if self.has(found[0], object):
            return False
        version, at_s = self._apart.get(object.key, (None, 0.0))
        return version != object.version or not self._is_fresh(at_s)

    def _is_fresh(self, at_s: float) -> bool:
        return self._clock() - at_s < self._ttl_s or self._believes_all()

    async def ask(self, id: str) -> Group:
        """Ask the store for a record."""
        key = FOLDER + id
        try:
            content = await self._store.read(key, 0, RECORD_SIZE_MAX)
        except NotFound:
            return self._note(Group(id))
        names, ctime_ns = _decoded(content.data, key)
        return self._note(Group(id, names, content.object.version, ctime_ns))

    def begin(self, id: str) -> None:
        """Note a group that was just thought of: it has no record yet."""
        self._note(Group(id))

    def fresh(self, id: str) -> Group | None:
        """Return what is known of a group, if that is not too old."""
        found = self._known.get(id)
        return found[0] if found is not None and self._is_fresh(found[1]) else None

    async def update(
        self, id: str, change: Callable[[Names], Names], *, ctime_ns: int = 0
    ) -> Group:
        """Change a record; `change` is called anew if somebody else was faster.

        `ctime_ns` is the time of the change if it is one of the inode that no object
        tells. A record that is left without names is deleted.
        """
        group = self.known(id) or await self.ask(id)
        for _ in range(_TRIES_MAX):
            names = change(group.names)
            if names == group.names and group.version is not None:
                return group
            try:
                latest_ns = max(group.ctime_ns, ctime_ns)
                return await self._replace(group, names, latest_ns)
            except PreconditionFailed:
                group = await self.ask(id)
        raise PreconditionFailed("the group changes without end", key=FOLDER + id)

    async def _replace(self, group: Group, names: Names, ctime_ns: int) -> Group:
        key = FOLDER + group.id
        if not names:
            if group.version is not None:
                await self._delete(key, group.version)
            return self._note(Group(group.id))
        body = BytesBody(encode(names, ctime_ns))
        known = group.version or ABSENT
        condition = await look_first(self._store, Call.WRITE, key, known)
        written = await self._store.write(key, body, condition=condition)
        return self._note(Group(group.id, names, written.version, ctime_ns))

    async def _delete(self, key: str, version: Version) -> None:
        with contextlib.suppress(NotFound):
            condition = await look_first(self._store, Call.DELETE, key, version)
            await self._store.delete(key, condition=condition)

    def _note(self, group: Group) -> Group:
        self._known[group.id] = (group, self._clock())
        return group

    async def all(self) -> list[Group]:
        """Return every group of the store; only those that changed are read anew."""
        found: list[Object] = []
        token: str | None = None
        while True:
            try:
                page = await self._store.list(FOLDER, token=token)
            except NotFound:  # a store with directories, and this one is not there
                break
            found.extend(page.objects)
            if page.token is None:
                break
            token = page.token
        deeds = [partial(self._current, object) for object in found]
        return await run_all(deeds, at_once=self._requests_max)

    async def _current(self, record: Object) -> Group:
        id = record.key.removeprefix(FOLDER)
        known = self.known(id)
        is_same = (
            known is not None
            and known.version is not None
            and record.version is not None
            and known.version.content == record.version.content
        )
        return known if known is not None and is_same else await self._ask_or_none(id)


def _id_of(object: Object) -> str | None:
    return object.attributes.group if object.attributes is not None else None
