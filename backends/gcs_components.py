"""Components: hidden objects that become one object, or a part of one, by compose.

All components of one upload lie below `.mountfs-uploads/ID/`, and carry the key of the
object that they are for. Each attempt to send one has a name of its own, so that a late
one never takes the place of another. A compose takes up to 32 sources; more of them are
composed to larger components first.
"""

import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

import trio

from mountfs.backends import gcs_crc32c
from mountfs.backends.gcs_batch import BATCH_MAX, delete_batch
from mountfs.backends.gcs_client import GcsClient, Query
from mountfs.backends.gcs_keys import UPLOADS, KeySpace
from mountfs.backends.gcs_objects import COMMIT_NAME, FIELDS, object_of
from mountfs.backends.gcs_options import GcsOptions
from mountfs.backends.gcs_uploads import OCTETS, Uploads
from mountfs.storage.body import Body
from mountfs.storage.errors import Corrupt, StoreError
from mountfs.storage.types import Object

log = logging.getLogger(__name__)

SOURCES_MAX = 32
"""The most that one compose takes."""
KEY_NAME = "mountfs-key"
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Source:
    """An object, pinned, whose bytes go into a compose."""

    full: str
    generation: str
    size: int
    checksum: int | None
    """None where the service told none."""

    @property
    def entry(self) -> dict[str, object]:
        """What a compose says of it."""
        return {"name": self.full, "generation": self.generation}


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose components: an upload, the object that it is for, and its class."""

    id: str
    key: str
    commit_id: str | None
    storage_class: object
    """All sources of a compose must have the class of what becomes of them."""

    @property
    def resource(self) -> dict[str, object]:
        """The resource of a component."""
        user = {KEY_NAME: quote(self.key, safe="/")}
        if self.commit_id is not None:
            user[COMMIT_NAME] = self.commit_id
        resource: dict[str, object] = {"metadata": user}
        if self.storage_class is not None:
            resource["storageClass"] = self.storage_class
        return resource


class Components:
    """Sends, joins and removes components below one root."""

    def __init__(
        self, client: GcsClient, keys: KeySpace, options: GcsOptions, uploads: Uploads
    ) -> None:
        self._client = client
        self._keys = keys
        self._options = options
        self._uploads = uploads

    def folder(self, id: str = "") -> str:
        """Return the prefix of the components of an upload, or of all of them."""
        return f"{self._keys.root}{UPLOADS}{id}{'/' if id else ''}"

    async def send(self, owner: Owner, name: str, body: Body, size: int) -> Source:
        """Make a component of exactly `size` bytes."""
        full = self.folder(owner.id) + name
        reply = await self._client.run(
            lambda: self._uploads.insert(
                full, body, size, owner.resource, {}, owner.key
            ),
            owner.key,
        )
        return _source_of(full, object_of(owner.key, reply))

    async def compose(
        self,
        owner: Owner,
        sources: Sequence[Source],
        resource: Mapping[str, object],
        conditions: Query,
    ) -> tuple[Object, list[str]]:
        """Make an object of sources, whatever their number.

        Returns the object, and the keys in the bucket of components that were made on
        the way. Raises `StoreError` if the object is not what its sources are: it loses
        its commit id then, so that nobody takes it for what was to be stored.
        """
        made: list[str] = []
        wanted, level = list(sources), 0
        while len(wanted) > SOURCES_MAX:
            wanted = await self._joined(owner, wanted, level)
            made.extend(each.full for each in wanted)
            level += 1
        found = await self._compose(
            self._keys.full(owner.key), owner.key, wanted, resource, conditions
        )
        try:
            _check(found, sources)
        except Corrupt as error:
            await self._disown(found)
            raise StoreError(error.reason, key=owner.key) from error
        return found, made

    async def _disown(self, made: Object) -> None:
        try:
            await self._client.call(
                "PATCH",
                self._keys.path(made.key),
                {"ifGenerationMatch": made.version.content if made.version else None},
                {"metadata": {COMMIT_NAME: None}},
                key=made.key,
            )
        except StoreError as error:
            log.warning("%r holds wrong bytes under our name: %s", made.key, error)

    async def remove(self, fulls: Sequence[str], key: str) -> None:
        """Delete components; one that is gone is success. Raises the first error."""
        for start in range(0, len(fulls), BATCH_MAX):
            batch = fulls[start : start + BATCH_MAX]
            deletion = partial(delete_batch, self._client, self._keys, batch)
            failed = await self._client.run(deletion, key)
            for error in failed.values():
                raise error

    async def remove_later(self, fulls: Sequence[str], key: str) -> bool:
        """Delete components that are of no use any more; tell whether all are gone."""
        try:
            await self.remove(fulls, key)
        except StoreError as error:
            log.info("parts of %r are left over for now: %s", key, error)
            return False
        return True

    async def _joined(
        self, owner: Owner, sources: Sequence[Source], level: int
    ) -> list[Source]:
        """Compose each 32 sources to one component."""
        groups = [
            sources[start : start + SOURCES_MAX]
            for start in range(0, len(sources), SOURCES_MAX)
        ]
        found: dict[int, Source] = {}
        failures: list[Exception] = []
        limiter = trio.CapacityLimiter(_AT_ONCE)

        async def join(number: int, group: Sequence[Source]) -> None:
            async with limiter:
                if failures:
                    return
                name = f"{level}-{number:05}-{secrets.token_hex(4)}"
                full = self.folder(owner.id) + name
                try:
                    made = await self._compose(
                        full, owner.key, group, owner.resource, {}
                    )
                    _check(made, group)
                except Exception as error:  # noqa: BLE001 - raised again below
                    failures.append(error)
                else:
                    found[number] = _source_of(full, made)

        async with trio.open_nursery() as nursery:
            for number, group in enumerate(groups):
                nursery.start_soon(join, number, group)
        if failures:  # one plain exception, where a nursery would raise a group
            raise failures[0]
        return [found[number] for number in range(len(groups))]

    async def _compose(
        self,
        full: str,
        key: str,
        sources: Sequence[Source],
        resource: Mapping[str, object],
        conditions: Query,
    ) -> Object:
        content = {
            "sourceObjects": [source.entry for source in sources],
            "destination": {"contentType": OCTETS, **resource},
        }
        query = {
            "fields": FIELDS,
            "kmsKeyName": self._options.kms_key,
            **conditions,
        }

        def send() -> Object:
            reply = self._client.send_json(
                "POST",
                f"{self._keys.path_of(full)}/compose",
                query,
                content,
                self._client.key_headers(),
                key,
            )
            return object_of(key, reply)

        return await self._client.run(send, key)


def pinned(full: str, item: Object) -> Source:
    """Return an object of the store as a source."""
    return _source_of(full, item)


def _source_of(full: str, item: Object) -> Source:
    assert item.version is not None
    told = item.metadata.system.get("crc32c", "") if item.metadata is not None else ""
    return Source(full, item.version.content, item.size or 0, gcs_crc32c.decoded(told))


def _check(made: Object, sources: Sequence[Source]) -> None:
    """Compare what was composed with what it was composed of."""
    told = made.metadata.system.get("crc32c", "") if made.metadata is not None else ""
    value = gcs_crc32c.decoded(told)
    parts = [
        (source.checksum, source.size)
        for source in sources
        if source.checksum is not None
    ]
    is_known = value is not None and len(parts) == len(sources)
    if made.size != sum(source.size for source in sources) or (
        is_known and gcs_crc32c.joined(parts) != value
    ):
        raise Corrupt("what was composed is not what its parts are", key=made.key)
