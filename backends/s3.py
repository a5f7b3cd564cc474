"""S3: a bucket, or what lies below a prefix of it, as a store.

What S3 does by itself is here, and nothing is emulated: directories, links, moves and
appends are `VirtualStorager`'s. Keys are stored as they are.

Invariants: nothing is sent before a call asks for it; nothing of an object that is not
ours gets lost in a write that was told what it replaces; a store that was opened
read-only sends no request that changes anything.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from mountfs.backends._lacking import Flat, NoAppend
from mountfs.backends._payload import payload_of
from mountfs.backends.s3_client import Reply, S3Client
from mountfs.backends.s3_conditions import condition_parameters, explained
from mountfs.backends.s3_copies import Copies
from mountfs.backends.s3_errors import reply_error, understood
from mountfs.backends.s3_keys import KEY_SIZE_MAX, KeySpace
from mountfs.backends.s3_listing import PAGE_MAX, UNORDERED, Listings
from mountfs.backends.s3_metadata import (
    METADATA_SIZE_MAX,
    PAIRS,
    object_of,
    quoted_etag,
    written_metadata,
    written_object,
)
from mountfs.backends.s3_multipart import OBJECT_SIZE_MAX, PART_SIZE_MAX, Multipart
from mountfs.backends.s3_options import (
    SSE_CUSTOMER,
    S3Options,
    parse_options,
    split_url,
)
from mountfs.backends.s3_service import S3Service
from mountfs.backends.s3_survivors import NewObject, Survivors
from mountfs.storage.body import Body, stated_size
from mountfs.storage.errors import (
    BucketNotFound,
    Corrupt,
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

DELETE_MAX = 1000
SIGNED_S_MAX = 7 * 24 * 3600
_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def open_s3(url: str, options: Mapping[str, object]) -> Storager:
    """Return the store at `s3://bucket` or `s3://bucket/prefix`; nothing is sent.

    Raises `InvalidRequest` for a URL or an option that makes no sense.
    """
    bucket, root = split_url(url)
    return S3Storager(KeySpace(bucket, root), parse_options(options))


def open_s3_service(url: str, options: Mapping[str, object]) -> Servicer:
    """Return the account at `s3://`; nothing is sent."""
    if url.rstrip("/") not in {"s3:", "s3"}:
        raise InvalidRequest(f"{url!r} is no account; write s3://")
    return S3Service(parse_options(options))


class S3Storager(Flat, NoAppend):
    """One bucket below one root."""

    _service = "S3"

    def __init__(self, keys: KeySpace, options: S3Options) -> None:
        self._keys = keys
        self._options = options
        self._client = S3Client(options)
        self._listings = Listings(self._client, keys)
        self._multipart = Multipart(self._client, keys, options)
        self._survivors = Survivors(self._client, keys, options)
        self._copies = Copies(
            self._client, keys, options, self._survivors, self._multipart
        )
        self._capabilities = _capabilities(keys, options, self._multipart)

    @property
    def capabilities(self) -> Capabilities:
        """What a general purpose bucket can do."""
        return self._capabilities

    @property
    def features(self) -> Features:
        """No gate: nothing is emulated here."""
        return Features()

    async def stat(self, key: str, *, kind: ObjectKind | None = None) -> Object:
        """Send a HEAD, or for a directory a LIST, which finds marker and children."""
        if kind is ObjectKind.DIRECTORY:
            return await self._stat_directory(key)
        return await self._survivors.ask(key)

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
        """Send one ListObjectsV2."""
        page, listed = await self._listings.page(prefix, mode, token, limit)
        self._survivors.remember_listed(listed)
        return page

    async def read(
        self,
        key: str,
        offset: int = 0,
        size: int | None = None,
        *,
        version: Version | None = None,
    ) -> Content:
        """Send one GET; a HEAD where there are no bytes to get."""
        if offset < 0 or (size is not None and size < 0):
            raise InvalidRequest(f"no range has {size} bytes from {offset}", key=key)
        if size == 0:
            return await self._read_nothing(key, version)
        parameters = {
            **self._keys.address(key),
            "IfMatch": quoted_etag(version) if version else None,
            "Range": _range(offset, size),
        }
        try:
            with explained(key, None, source=key, source_version=version):
                reply, data = await self._client.fetch(parameters, key=key)
        except InvalidRequest as error:
            if error.code != "InvalidRange":
                raise
            return await self._read_nothing(key, version)
        with understood(key):
            found = object_of(
                key, reply, size=_checked_size(key, reply, offset, size, data)
            )
        self._survivors.remember(found)
        return Content(found, data)

    async def _read_nothing(self, key: str, version: Version | None) -> Content:
        found = await self._survivors.ask(key)
        known = found.version
        if version is not None and known and known.content != version.content:
            raise VersionChanged("the object is another version by now", key=key)
        return Content(found, b"")

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
        """Send one PUT."""
        wanted = stated_size(body, size)
        self._check_write(key)
        if wanted > PART_SIZE_MAX:
            raise ObjectTooLarge(f"one PUT takes {PART_SIZE_MAX} bytes", key=key)
        conditions = self._condition(condition, Call.WRITE)
        new = await self._survivors.replacing(key, metadata, inherit)
        with explained(key, condition):
            async with payload_of(body, wanted) as payload:
                reply = await self._client.call(
                    "put_object",
                    {
                        **self._keys.address(key),
                        "Body": payload,
                        "ContentLength": wanted,
                        **new.parameters,
                        **conditions,
                    },
                    key=key,
                )
        return self._written(key, reply, wanted, new)

    async def delete(self, key: str, *, condition: Condition = None) -> None:
        """Send one DELETE."""
        self._check_write(key)
        parameters = {
            **self._keys.address(key),
            **self._condition(condition, Call.DELETE),
        }
        self._survivors.forget(key)
        try:
            await self._client.call("delete_object", parameters, key=key)
        except BucketNotFound:
            raise
        except NotFound:  # so a condition on an absent key is answered
            return
        except PreconditionFailed as error:
            raise VersionChanged(
                "the object is another version by now", key=key, code=error.code
            ) from error

    async def delete_many(self, keys: Sequence[str]) -> dict[str, Exception]:
        """Send DeleteObjects, up to 1 000 keys each.

        A key that XML cannot hold is deleted by a request of its own.
        """
        failed: dict[str, Exception] = {}
        plain: list[str] = []
        for key in dict.fromkeys(keys):
            try:
                self._check_write(key)
                if _NOT_IN_XML.search(key):
                    await self.delete(key)
                else:
                    plain.append(key)
            except ReadOnlyStore:
                raise
            except StoreError as error:
                failed[key] = error
        for start in range(0, len(plain), DELETE_MAX):
            batch = plain[start : start + DELETE_MAX]
            failed.update(await self._delete_batch(batch))
        return failed

    async def _delete_batch(self, keys: Sequence[str]) -> dict[str, Exception]:
        for key in keys:
            self._survivors.forget(key)
        entries = [{"Key": self._keys.full(key)} for key in keys]
        reply = await self._client.call(
            "delete_objects",
            {
                "Bucket": self._keys.bucket,
                "Delete": {"Objects": entries, "Quiet": True},
            },
        )
        return dict(self._failed_deletions(reply))

    def _failed_deletions(self, reply: Reply) -> Iterator[tuple[str, Exception]]:
        for entry in reply.get("Errors", ()):
            with understood():
                key = self._keys.relative(entry["Key"])
            error = reply_error({"Error": entry}, key)
            if not isinstance(error, NotFound):
                yield key, error

    async def copy(
        self,
        source: str,
        target: str,
        *,
        source_version: Version | None = None,
        metadata: Metadata | None = None,
        condition: Condition = None,
    ) -> Object:
        """Send one CopyObject; part copies for what is too large for one."""
        self._check_write(target)
        return await self._copies.copy(
            source, target, source_version, metadata, condition
        )

    async def set_metadata(
        self, object: Object, metadata: Metadata, *, condition: Condition = None
    ) -> Object:
        """Copy the object onto itself; first a HEAD if its metadata are unknown."""
        self._check_write(object.key)
        return await self._copies.set_metadata(object, metadata, condition)

    async def create_multipart(
        self,
        key: str,
        *,
        metadata: Metadata = NO_METADATA,
        inherit: Object | None = None,
    ) -> Upload:
        """Send one CreateMultipartUpload, which takes all that the object will have."""
        self._check_write(key)
        new = await self._survivors.replacing(key, metadata, inherit)
        return await self._multipart.create(key, new.parameters, metadata.commit_id)

    async def write_part(
        self, upload: Upload, index: int, body: Body, *, size: int | None = None
    ) -> Part:
        """Send one UploadPart."""
        self._check_write(upload.key)
        return await self._multipart.write(upload, index, body, stated_size(body, size))

    async def copy_part(
        self, upload: Upload, index: int, source: Object, offset: int, size: int
    ) -> Part:
        """Send one UploadPartCopy."""
        self._check_write(upload.key)
        return await self._multipart.copy(upload, index, source, offset, size)

    async def list_parts(self, upload: Upload) -> tuple[Part, ...]:
        """Send ListParts until all have come."""
        return await self._listings.parts(upload)

    async def list_uploads(self, prefix: str = "") -> tuple[Upload, ...]:
        """Send ListMultipartUploads until all have come."""
        return await self._listings.uploads(prefix)

    async def complete_multipart(
        self,
        upload: Upload,
        parts: Sequence[Part],
        *,
        inherit: Object | None = None,
        condition: Condition = None,
    ) -> Object:
        """Send one CompleteMultipartUpload."""
        self._check_write(upload.key)
        self._survivors.forget(upload.key)
        return await self._multipart.complete(upload, parts, condition)

    async def abort_multipart(self, upload: Upload) -> None:
        """Send one AbortMultipartUpload."""
        self._check_write(upload.key)
        await self._multipart.abort(upload)

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
        return await self._client.sign(
            "get_object", self._keys.address(key), expires_s=expires_s
        )

    @property
    def busy(self) -> int:
        """How many threads wait for the service, those of abandoned calls included."""
        return self._client.busy

    async def close(self) -> None:
        """Close the idle connections."""
        await self._client.close()

    def _check_write(self, key: str) -> None:
        if self._options.read_only:
            raise ReadOnlyStore("the store was opened read-only", key=key)
        self._keys.full(key)

    def _condition(self, condition: Condition, call: Call) -> dict[str, object]:
        return condition_parameters(condition, call, self._options.conditions)

    def _written(self, key: str, reply: Reply, size: int, new: NewObject) -> Object:
        metadata = written_metadata(new.metadata, reply, new.tag_count)
        with understood(key):
            found = written_object(key, reply, reply["ETag"], size, metadata)
        self._survivors.remember(found)
        return found


def _range(offset: int, size: int | None) -> str | None:
    if offset == 0 and size is None:
        return None
    return f"bytes={offset}-{offset + size - 1 if size is not None else ''}"


def _checked_size(
    key: str, reply: Reply, offset: int, size: int | None, data: bytes
) -> int:
    """Return the size of the whole object, if the right bytes of it have come."""
    match = _CONTENT_RANGE.fullmatch(str(reply.get("ContentRange", "")))
    if match is None:
        start, total = 0, int(reply.get("ContentLength", len(data)))
    else:
        start, total = int(match[1]), int(match[3])
    wanted = total - offset if size is None else min(size, total - offset)
    if start != offset or len(data) != wanted:
        raise Corrupt(
            f"{wanted} bytes from {offset} were asked for, "
            f"and {len(data)} from {start} came",
            key=key,
        )
    return total


def _capabilities(
    keys: KeySpace, options: S3Options, multipart: Multipart
) -> Capabilities:
    return Capabilities(
        service="s3",
        copy=True,
        multipart=multipart.limits,
        multipart_copy=True,
        metadata=True,
        metadata_size_max=METADATA_SIZE_MAX,
        pairs=frozenset(PAIRS),
        dir_metadata=True,
        conditions=options.conditions,
        set_metadata=True,
        signed_urls=not options.no_sign_request and options.sse != SSE_CUSTOMER,
        key_size_max=KEY_SIZE_MAX - len(keys.root.encode()),
        object_size_max=OBJECT_SIZE_MAX,
        write_size_max=PART_SIZE_MAX,
        copy_size_max=options.copy_size_max,
        list_page_max=PAGE_MAX,
        ordered_pages=not keys.bucket.endswith(UNORDERED),
        delete_many_max=DELETE_MAX,
    )
