"""Google Cloud Storage: a bucket, or what lies below a prefix of it, as a store.

What the service does by itself is here, and nothing is emulated: directories, links
and moves are `VirtualStorager`'s. Keys are stored as they are.

Invariants: nothing is sent before a call asks for it; nothing of an object that is not
ours gets lost in a write that was told what it replaces; a store that was opened
read-only sends no request that changes anything; the parts of open uploads, below
`.mountfs-uploads/`, are in no listing.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial

from mountfs.backends._content_types import guess_type
from mountfs.backends._lacking import Flat
from mountfs.backends.gcs_appends import APPEND_MIN, Appends, GcsAppend
from mountfs.backends.gcs_batch import BATCH_MAX, delete_batch
from mountfs.backends.gcs_client import GcsClient
from mountfs.backends.gcs_components import Components
from mountfs.backends.gcs_conditions import condition_query, explained
from mountfs.backends.gcs_copies import Copies
from mountfs.backends.gcs_keys import KEY_SIZE_MAX, KeySpace
from mountfs.backends.gcs_known import Known
from mountfs.backends.gcs_leftovers import Leftovers
from mountfs.backends.gcs_listing import PAGE_MAX, Listings
from mountfs.backends.gcs_multipart import LIMITS, OBJECT_SIZE_MAX, Multipart
from mountfs.backends.gcs_objects import (
    CLASS,
    METADATA_SIZE_MAX,
    PAIRS,
    merged,
    object_of,
    resource_of,
)
from mountfs.backends.gcs_options import GcsOptions, parse_options, split_url
from mountfs.backends.gcs_reads import Reads
from mountfs.backends.gcs_uploads import Uploads
from mountfs.storage.body import Body, stated_size
from mountfs.storage.errors import (
    InvalidRequest,
    NotFound,
    ObjectTooLarge,
    PreconditionFailed,
    ReadOnlyStore,
    StoreError,
    Unsupported,
    VersionChanged,
)
from mountfs.storage.protocol import Servicer, Storager
from mountfs.storage.types import (
    NO_METADATA,
    Append,
    Call,
    Capabilities,
    Condition,
    Content,
    Features,
    ListMode,
    Metadata,
    Object,
    ObjectKind,
    Page,
    Part,
    Upload,
    Version,
)

SIGNED_S_MAX = 7 * 24 * 3600


def open_gcs(url: str, options: Mapping[str, object]) -> Storager:
    """Return the store at `gs://bucket` or `gs://bucket/prefix`; nothing is sent.

    Raises `InvalidRequest` for a URL or an option that makes no sense.
    """
    bucket, root = split_url(url)
    return GcsStorager(KeySpace(bucket, root), parse_options(options))


def open_gcs_service(url: str, options: Mapping[str, object]) -> Servicer:
    """Return the account at `gs://`; nothing is sent."""
    if url.rstrip("/") not in {"gs:", "gs"}:
        raise InvalidRequest(f"{url!r} is no account; write gs://")
    # The SDK, which it is for, takes a quarter of a second to import.
    from mountfs.backends.gcs_service import GcsService

    return GcsService(parse_options(options))


class GcsStorager(Flat):
    """One bucket below one root."""

    _service = "Google Cloud Storage"

    def __init__(self, keys: KeySpace, options: GcsOptions) -> None:
        self._keys = keys
        self._options = options
        client = self._client = GcsClient(options)
        self._listings = Listings(client, keys)
        self._known = Known(client, keys)
        self._reads = Reads(client, keys, options, self._known)
        self._uploads = Uploads(client, keys, options)
        components = Components(client, keys, options, self._uploads)
        self._multipart = Multipart(
            client,
            keys,
            options,
            self._uploads,
            components=components,
            listings=self._listings,
            known=self._known,
        )
        self._appends = Appends(
            client,
            keys,
            options,
            self._uploads,
            components=components,
            known=self._known,
        )
        self._leftovers = Leftovers(self._multipart, self._listings, self._known)
        self._copies = Copies(client, keys, options, self._known)
        self._capabilities = _capabilities(keys, options)

    @property
    def capabilities(self) -> Capabilities:
        """What a bucket can do."""
        return self._capabilities

    @property
    def features(self) -> Features:
        """No gate: nothing is emulated here."""
        return Features()

    async def stat(self, key: str, *, kind: ObjectKind | None = None) -> Object:
        """Ask for an object, or for a directory list it: marker and children."""
        if kind is ObjectKind.DIRECTORY:
            return await self._stat_directory(key)
        return await self._known.ask(key)

    async def _stat_directory(self, key: str) -> Object:
        prefix = key if not key or key.endswith("/") else f"{key}/"
        marker, has_keys = await self._listings.first_below(prefix)
        if marker is not None:
            return marker
        if prefix and not has_keys:
            raise NotFound("there is no such directory", key=key)
        return Object(key=prefix, kind=ObjectKind.DIRECTORY)

    async def list(
        self,
        prefix: str,
        *,
        mode: ListMode = ListMode.DIRECTORY,
        token: str | None = None,
        limit: int | None = None,
    ) -> Page:
        """Send one request for a page; its objects come with all their metadata."""
        page = await self._listings.page(prefix, mode, token, limit)
        self._known.remember(page.objects)
        return page

    async def read(
        self,
        key: str,
        offset: int = 0,
        size: int | None = None,
        *,
        version: Version | None = None,
    ) -> Content:
        """Send one request for bytes, or for the object where there are none."""
        return await self._reads.read(key, offset, size, version)

    async def write(
        self,
        key: str,
        body: Body | None,
        *,
        size: int | None = None,
        metadata: Metadata = NO_METADATA,
        inherit: Object | None = None,
        condition: Condition = None,
    ) -> Object:
        """Send all bytes in one request, or, if they are many, in a session."""
        wanted = stated_size(body, size)
        full = self._check_write(key)
        if wanted > OBJECT_SIZE_MAX:
            raise ObjectTooLarge(f"an object takes {OBJECT_SIZE_MAX} bytes", key=key)
        conditions = condition_query(
            key, condition, Call.WRITE, self._options.conditions
        )
        await self._leftovers.before_a_write()
        resource = await self._new_resource(key, metadata, inherit)
        self._known.forget(key)
        with explained(key, condition):
            reply = await self._client.run(
                lambda: self._uploads.insert(
                    full, body, wanted, resource, conditions, key
                ),
                key,
            )
        written = object_of(key, reply)
        self._known.remember([written])
        return written

    async def delete(self, key: str, *, condition: Condition = None) -> None:
        """Send one request; after a lost condition one more."""
        self._check_write(key)
        query = condition_query(key, condition, Call.DELETE, self._options.conditions)
        self._known.forget(key)
        try:
            await self._client.call("DELETE", self._keys.path(key), query, key=key)
        except NotFound:
            return
        except PreconditionFailed as error:
            try:
                await self._known.ask(key)
            except NotFound:
                return
            raise VersionChanged(
                "the object is another version by now", key=key, code=error.code
            ) from error

    async def delete_many(self, keys: Sequence[str]) -> dict[str, Exception]:
        """Send batches of up to 100 deletions."""
        failed: dict[str, Exception] = {}
        fulls: dict[str, str] = {}
        for key in keys:
            try:
                fulls[self._check_write(key)] = key
                self._known.forget(key)
            except ReadOnlyStore:
                raise
            except StoreError as error:
                failed[key] = error
        wanted = list(fulls)
        for start in range(0, len(wanted), BATCH_MAX):
            batch = wanted[start : start + BATCH_MAX]
            deletion = partial(delete_batch, self._client, self._keys, batch)
            for full, refusal in (await self._client.run(deletion)).items():
                refusal.key = fulls[full]
                failed[fulls[full]] = refusal
        return failed

    async def copy(
        self,
        source: str,
        target: str,
        *,
        source_version: Version | None = None,
        metadata: Metadata | None = None,
        condition: Condition = None,
    ) -> Object:
        """Let the service rewrite the object, in as many calls as it takes."""
        self._check_write(target)
        return await self._copies.copy(
            source, target, source_version, metadata, condition
        )

    async def set_metadata(
        self, object: Object, metadata: Metadata, *, condition: Condition = None
    ) -> Object:
        """Patch the metadata; the bytes and their version stay."""
        self._check_write(object.key)
        return await self._copies.set_metadata(object, metadata, condition)

    async def create_multipart(
        self,
        key: str,
        *,
        metadata: Metadata = NO_METADATA,
        inherit: Object | None = None,
    ) -> Upload:
        """Write the manifest of an upload: all that its object will have."""
        self._check_write(key)
        await self._leftovers.before_parts()
        resource = await self._new_resource(key, metadata, inherit)
        return await self._multipart.create(key, resource, metadata.commit_id)

    async def write_part(
        self, upload: Upload, index: int, body: Body, *, size: int | None = None
    ) -> Part:
        """Send one component."""
        self._check_write(upload.key)
        return await self._multipart.write(upload, index, body, stated_size(body, size))

    async def copy_part(
        self, upload: Upload, index: int, source: Object, offset: int, size: int
    ) -> Part:
        """Refuse: the service copies whole objects only."""
        raise Unsupported(
            "Google Cloud Storage copies no ranges of objects", key=source.key
        )

    async def list_parts(self, upload: Upload) -> tuple[Part, ...]:
        """List the components of an upload until all have come."""
        return await self._multipart.parts(upload)

    async def list_uploads(self, prefix: str = "") -> tuple[Upload, ...]:
        """List the manifests of open uploads."""
        return await self._multipart.uploads(prefix)

    async def complete_multipart(
        self,
        upload: Upload,
        parts: Sequence[Part],
        *,
        inherit: Object | None = None,
        condition: Condition = None,
    ) -> Object:
        """Compose the components, and remove them."""
        self._check_write(upload.key)
        self._known.forget(upload.key)
        made = await self._multipart.complete(upload, parts, condition)
        self._known.remember([made])
        return made

    async def abort_multipart(self, upload: Upload) -> None:
        """Remove the components of an upload, and its manifest."""
        self._check_write(upload.key)
        await self._multipart.abort(upload)

    async def create_append(
        self,
        key: str,
        *,
        base: Object | None = None,
        metadata: Metadata = NO_METADATA,
    ) -> Append:
        """Begin an append; nothing is written."""
        self._check_write(key)
        given = self._with_defaults(key, metadata) if base is None else metadata
        return await self._appends.create(key, base, given)

    async def write_append(self, append: Append, body: Body) -> Append:
        """Send one component."""
        self._check_write(append.key)
        assert isinstance(append, GcsAppend)
        await self._leftovers.before_parts()
        return await self._appends.write(append, body)

    async def commit_append(self, append: Append) -> Object:
        """Compose the old object and the components."""
        self._check_write(append.key)
        assert isinstance(append, GcsAppend)
        self._known.forget(append.key)
        return await self._appends.commit(append)

    async def sign_read(self, key: str, *, expires_s: int) -> str:
        """Sign a URL here; nothing is sent, except perhaps for credentials."""
        if not 0 < expires_s <= SIGNED_S_MAX:
            raise InvalidRequest(
                f"a signed URL lasts from 1 to {SIGNED_S_MAX} seconds, not {expires_s}"
            )
        if not self._capabilities.signed_urls:
            raise Unsupported(
                "a URL can be signed only with credentials, and without sse=customer"
            )
        # The SDK, which signs, takes a quarter of a second to import.
        from mountfs.backends.gcs_service import signed_url

        return await self._client.run(
            lambda: signed_url(self._client, self._options, self._keys, key, expires_s),
            key,
        )

    @property
    def busy(self) -> int:
        """How many threads wait for the service, those of abandoned calls included."""
        return self._client.busy

    async def close(self) -> None:
        """Remove what could not be removed before, and close the idle connections."""
        await self._leftovers.before_the_end()
        await self._client.close()

    def _check_write(self, key: str) -> str:
        if self._options.read_only:
            raise ReadOnlyStore("the store was opened read-only", key=key)
        return self._keys.full(key)

    async def _new_resource(
        self, key: str, metadata: Metadata, inherit: Object | None
    ) -> Mapping[str, object]:
        """Return the resource of a new object that takes the place of `inherit`."""
        old = inherit.metadata if inherit is not None else None
        if inherit is not None and old is None:
            try:
                old = (await self._known.source(inherit.key, inherit.version)).metadata
            except NotFound:
                old = None
        full = self._with_defaults(key, merged(metadata, old, user=True))
        resource = resource_of(full)
        if self._options.kms_key or self._options.sse:
            resource.pop("kmsKeyName", None)
        return resource

    def _with_defaults(self, key: str, metadata: Metadata) -> Metadata:
        pairs = dict(metadata.pairs)
        if self._options.storage_class is not None:
            pairs.setdefault(CLASS, self._options.storage_class)
        if self._options.content_types and not key.endswith("/"):
            media_type = guess_type(key)
            if media_type is not None:
                pairs.setdefault("content-type", media_type)
        return dataclasses.replace(metadata, pairs=pairs)


def _capabilities(keys: KeySpace, options: GcsOptions) -> Capabilities:
    return Capabilities(
        service="gs",
        copy=True,
        append=True,
        append_size_min=APPEND_MIN,
        multipart=LIMITS,
        metadata=True,
        metadata_size_max=METADATA_SIZE_MAX,
        pairs=frozenset(PAIRS),
        dir_metadata=True,
        list_metadata=True,
        conditions=options.conditions,
        set_metadata=True,
        signed_urls=not options.no_sign_request and options.sse is None,
        key_size_max=KEY_SIZE_MAX - len(keys.root.encode()),
        key_check=keys.full,
        object_size_max=OBJECT_SIZE_MAX,
        write_size_max=OBJECT_SIZE_MAX,
        list_page_max=PAGE_MAX,
        delete_many_max=BATCH_MAX,
    )
