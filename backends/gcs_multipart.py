"""Uploads in parts: components that arrive in any order and become the object.

An upload is open as long as its manifest is there: a small hidden object that holds
the resource of the object to be, so that whoever knows key and id can go on with it. A
crash between two steps leaves:

* after the manifest, or a part: an open upload, which is listed, resumed or aborted;
* after the compose: the object, with the commit id of the upload. Completing once more
  finds it, removes the rest and says that the upload is gone;
* amid the removal: the same, or parts without a manifest. Those are listed too, by the
  key that each part carries.
"""

import json
import re
import secrets
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

from mountfs.backends.gcs_client import GcsClient, resource_of
from mountfs.backends.gcs_components import (
    KEY_NAME,
    Components,
    Owner,
    Source,
    pinned,
)
from mountfs.backends.gcs_conditions import condition_query, lost
from mountfs.backends.gcs_keys import KeySpace
from mountfs.backends.gcs_known import Known
from mountfs.backends.gcs_listing import Listings
from mountfs.backends.gcs_objects import COMMIT_NAME, object_of
from mountfs.backends.gcs_options import GcsOptions
from mountfs.backends.gcs_uploads import Uploads
from mountfs.storage.body import Body, BytesBody
from mountfs.storage.errors import (
    InvalidRequest,
    NotFound,
    ObjectTooLarge,
    PreconditionFailed,
    StoreError,
    UploadNotFound,
)
from mountfs.storage.types import (
    Call,
    Condition,
    MultipartLimits,
    Object,
    Part,
    Upload,
)

PART_SIZE_MAX = 5 << 30
PARTS_MAX = 10_000
OBJECT_SIZE_MAX = 5 << 40
OPEN_KNOWN_MAX = 4096
LIMITS = MultipartLimits(
    part_size_min=1, part_size_max=PART_SIZE_MAX, parts_max=PARTS_MAX
)
"""Google sets no limit to parts; ours bound the levels of composing to three."""

_ETAG = re.compile(r"([0-9a-f]{8})\.([0-9]+)\.([0-9a-f]{8}|)")
_NAME = re.compile(r"([0-9]{5})-([0-9a-f]{8})")


@dataclass(slots=True)
class _Open:
    """What is known here of an open upload."""

    owner: Owner
    resource: Mapping[str, object]
    sent: list[str] = field(default_factory=list)
    """The keys in the bucket of what was sent from here."""
    is_all_known: bool = True
    """Whether nobody else, and no lost attempt, can have left a component."""


class Multipart:
    """Uploads in parts below one root."""

    def __init__(
        self,
        client: GcsClient,
        keys: KeySpace,
        options: GcsOptions,
        uploads: Uploads,
        *,
        components: Components,
        listings: Listings,
        known: Known,
    ) -> None:
        self._client = client
        self._keys = keys
        self._options = options
        self._uploads = uploads
        self._components = components
        self._listings = listings
        self._known = known
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self.has_failed_to_remove = False
        """Whether parts of a finished upload may still be there."""

    async def create(
        self, key: str, resource: Mapping[str, object], commit_id: str | None
    ) -> Upload:
        """Write the manifest of an upload whose object will have this resource."""
        id = secrets.token_hex(16)
        owner = Owner(id, key, commit_id, resource.get("storageClass"))
        manifest = json.dumps(resource, ensure_ascii=False).encode()
        about = {**owner.resource, "storageClass": "STANDARD"}
        await self._client.run(
            lambda: self._uploads.insert(
                self._manifest(id),
                BytesBody(manifest),
                len(manifest),
                about,
                {"ifGenerationMatch": "0"},
                key,
            ),
            key,
        )
        self._remember(id, _Open(owner, resource))
        return Upload(key=key, id=id, commit_id=commit_id)

    async def write(self, upload: Upload, index: int, body: Body, size: int) -> Part:
        """Send one part of exactly `size` bytes."""
        _check_part(upload, index, size)
        known = await self._find(upload)
        nonce = secrets.token_hex(4)
        name = f"{index:05}-{nonce}"
        try:
            sent = await self._components.send(known.owner, name, body, size)
        except BaseException:
            known.is_all_known = False  # it may have arrived
            raise
        known.sent.append(sent.full)
        return Part(index, size, _etag(nonce, sent.generation, sent.checksum))

    async def parts(self, upload: Upload) -> tuple[Part, ...]:
        """Return the parts that have arrived, by index; of two the newer one."""
        await self._find(upload, is_asked=True)
        newest: dict[int, tuple[int, Part]] = {}
        for full, item in await self._listed(upload.id):
            match = _NAME.fullmatch(full.rpartition("/")[2])
            if match is None or item.version is None or item.size is None:
                continue
            index, generation = int(match[1]), int(item.version.content)
            source = pinned(full, item)
            etag = _etag(match[2], source.generation, source.checksum)
            part = Part(index, item.size, etag)
            if newest.get(index, (0, part))[0] < generation:
                newest[index] = (generation, part)
        return tuple(newest[index][1] for index in sorted(newest))

    async def uploads(self, prefix: str) -> tuple[Upload, ...]:
        """Return the open uploads of keys that start with `prefix`.

        Components that have lost their manifest are an upload, too.
        """
        found, orphans = await self.found()
        return tuple(each for each in (*found, *orphans) if each.key.startswith(prefix))

    async def found(self) -> tuple[Sequence[Upload], Sequence[Upload]]:
        """Return the open uploads, and what is left of those that are no more."""
        found, folders = await self._manifests()
        return found, await self._orphans(folders - {each.id for each in found})

    def is_ours(self, upload: Upload) -> bool:
        """Tell whether this process has to do with an open upload."""
        return upload.id in self._open

    async def _manifests(self) -> tuple[list[Upload], set[str]]:
        """Return the uploads that have a manifest, and the ids of all components."""
        folder, token = self._components.folder(), None
        found: list[Upload] = []
        folders: set[str] = set()
        while True:
            reply = await self._listings.ask(folder, "", delimiter="/", pageToken=token)
            found += [
                _upload_of(item["name"][len(folder) :], object_of("", item))
                for item in reply.get("items", ())
            ]
            folders |= {
                name[len(folder) :].rstrip("/") for name in reply.get("prefixes", ())
            }
            token = reply.get("nextPageToken")
            if not token:
                return found, folders

    async def _orphans(self, ids: set[str]) -> tuple[Upload, ...]:
        found: list[Upload] = []
        for id in sorted(ids):
            found += [_upload_of(id, item) for _, item in await self._listed(id, 1)]
        return tuple(found)

    async def complete(
        self, upload: Upload, parts: Sequence[Part], condition: Condition
    ) -> Object:
        """Make the parts the object, then remove what it was made of."""
        conditions = condition_query(
            upload.key, condition, Call.COMPLETE, self._options.conditions
        )
        known = await self._find(upload, is_asked=not self._open.get(upload.id))
        sources = list(self._sources(upload, parts))
        try:
            made, joined = await self._components.compose(
                known.owner, sources, known.resource, conditions
            )
        except (NotFound, PreconditionFailed) as error:
            raise await self._explained(upload, known, condition, error) from error
        known.sent.extend(joined)
        await self._clean_up(upload, known, {source.full for source in sources})
        return made

    async def abort(self, upload: Upload) -> None:
        """Remove the parts, and last the manifest."""
        self._open.pop(upload.id, None)
        fulls = [full for full, _ in await self._listed(upload.id)]
        await self._components.remove(fulls, upload.key)
        await self._components.remove([self._manifest(upload.id)], upload.key)

    def _sources(self, upload: Upload, parts: Sequence[Part]) -> Iterator[Source]:
        if not parts:
            raise InvalidRequest("an upload has at least one part", key=upload.key)
        for part in sorted(parts, key=lambda part: part.index):
            match = _ETAG.fullmatch(part.etag)
            if match is None:
                raise InvalidRequest(f"part {part.index} is not known", key=upload.key)
            full = f"{self._components.folder(upload.id)}{part.index:05}-{match[1]}"
            checksum = int(match[3], 16) if match[3] else None
            yield Source(full, match[2], part.size, checksum)

    async def _explained(
        self, upload: Upload, known: _Open, condition: Condition, error: StoreError
    ) -> StoreError:
        """Say why an upload could not be completed."""
        key = upload.key
        try:
            there = await self._known.ask(key)
        except NotFound:
            there = None
        commit_id = known.owner.commit_id
        made = there.metadata if there is not None else None
        if made is not None and commit_id is not None and made.commit_id == commit_id:
            # It was completed, and a crash came before the parts were removed.
            await self._clean_up(upload, known, set(), is_all_known=False)
            return UploadNotFound("the upload was completed before", key=key)
        if isinstance(error, PreconditionFailed):
            return lost(key, condition, error)
        try:
            await self._manifest_of(upload)
        except UploadNotFound as gone:
            return gone
        return InvalidRequest("a part is not known", key=key, code=error.code)

    async def _clean_up(
        self,
        upload: Upload,
        known: _Open,
        used: set[str],
        *,
        is_all_known: bool = True,
    ) -> None:
        self._open.pop(upload.id, None)
        fulls = set(known.sent) | used
        if not (is_all_known and known.is_all_known):
            try:
                fulls |= {full for full, _ in await self._listed(upload.id)}
            except StoreError:
                self.has_failed_to_remove = True  # the manifest leads to what is left
                return
        # The manifest goes with the last of them.
        ordered = [*sorted(fulls), self._manifest(upload.id)]
        if not await self._components.remove_later(ordered, upload.key):
            self.has_failed_to_remove = True

    async def _find(self, upload: Upload, *, is_asked: bool = False) -> _Open:
        """Return what is known of an upload. Raises `UploadNotFound`."""
        known = self._open.get(upload.id)
        if known is not None and not is_asked:
            return known
        found = await self._manifest_of(upload)
        if known is None:
            known = found
            self._remember(upload.id, known)
        return known

    async def _manifest_of(self, upload: Upload) -> _Open:
        path = self._keys.path_of(self._manifest(upload.id))

        def fetch() -> Mapping[str, object]:
            url = self._client.url(path, {"alt": "media"})
            headers = self._client.key_headers()
            return resource_of(self._client.send("GET", url, headers, key=upload.key))

        try:
            resource = await self._client.run(fetch, upload.key)
        except NotFound as error:
            self._open.pop(upload.id, None)
            raise UploadNotFound("there is no such upload", key=upload.key) from error
        user = resource.get("metadata")
        commit_id = user.get(COMMIT_NAME) if isinstance(user, Mapping) else None
        owner = Owner(upload.id, upload.key, commit_id, resource.get("storageClass"))
        return _Open(owner, resource, is_all_known=False)

    async def _listed(
        self, id: str, limit: int | None = None
    ) -> list[tuple[str, Object]]:
        """Return the components of an upload, with their keys in the bucket."""
        folder, token = self._components.folder(id), None
        found: list[tuple[str, Object]] = []
        while True:
            reply = await self._listings.ask(
                folder, "", pageToken=token, maxResults=limit
            )
            found += [
                (item["name"], object_of("", item)) for item in reply.get("items", ())
            ]
            token = reply.get("nextPageToken")
            if not token or (limit is not None and found):
                return found

    def _manifest(self, id: str) -> str:
        return f"{self._components.folder()}{id}"

    def _remember(self, id: str, known: _Open) -> None:
        self._open[id] = known
        while len(self._open) > OPEN_KNOWN_MAX:
            self._open.popitem(last=False)


def _etag(nonce: str, generation: str, checksum: int | None) -> str:
    return f"{nonce}.{generation}.{'' if checksum is None else f'{checksum:08x}'}"


def _upload_of(id: str, item: Object) -> Upload:
    metadata = item.metadata
    user = metadata.user if metadata is not None else {}
    return Upload(
        key=unquote(user.get(KEY_NAME, "")),
        id=id,
        commit_id=metadata.commit_id if metadata is not None else None,
        begun_ns=item.mtime_ns,
    )


def _check_part(upload: Upload, index: int, size: int) -> None:
    if not 0 <= index < PARTS_MAX:
        raise InvalidRequest(
            f"parts have indexes from 0 to {PARTS_MAX - 1}, not {index}", key=upload.key
        )
    if size > PART_SIZE_MAX:
        raise ObjectTooLarge(
            f"a part of {size} bytes is over {PART_SIZE_MAX}", key=upload.key
        )
