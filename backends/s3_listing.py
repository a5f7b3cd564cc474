"""Listings: from pages of ListObjectsV2 and its relatives to objects in byte order."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote_plus

from mountfs.backends._tokens import in_byte_order
from mountfs.backends.s3_client import Parameters, Reply, S3Client
from mountfs.backends.s3_errors import understood
from mountfs.backends.s3_keys import KeySpace
from mountfs.backends.s3_metadata import STANDARD, listed_time, plain_etag
from mountfs.backends.s3_pages import rows_of
from mountfs.storage.errors import (
    BucketNotFound,
    InvalidRequest,
    NotFound,
    ServiceFailed,
)
from mountfs.storage.quick import maker
from mountfs.storage.types import (
    ListMode,
    Object,
    ObjectKind,
    Page,
    Part,
    Upload,
    Version,
)

PAGE_MAX = 1000
UPLOADS_MAX = 1_000_000
UNORDERED = ("--x-s3", "--xa-s3")
"""How buckets end, and access points, whose keys are listed in no order: those of S3
Express, which are called directory buckets."""
_FILE, _DIRECTORY = ObjectKind.FILE, ObjectKind.DIRECTORY
_make_object, _make_version = maker(Object), maker(Version)
Listed = tuple[Object, str]
"""An object of a listing and its storage class."""


class Listings:
    """Asks for listings below one root."""

    def __init__(self, client: S3Client, keys: KeySpace) -> None:
        self._client = client
        self._keys = keys

    async def page(
        self, prefix: str, mode: ListMode, token: str | None, limit: int | None
    ) -> tuple[Page, Iterable[Listed]]:
        """Return one page, and the storage class of each object in it."""
        is_directory = mode is ListMode.DIRECTORY
        if is_directory and prefix and not prefix.endswith("/"):
            raise InvalidRequest("a directory's key ends in /", key=prefix)
        if limit is not None and limit < 1:
            raise InvalidRequest(f"a page of {limit} objects makes no sense")
        parameters = {
            "Bucket": self._keys.bucket,
            "Prefix": self._keys.prefix(prefix),
            "Delimiter": "/" if is_directory else None,
            "ContinuationToken": token,
            "MaxKeys": min(limit or PAGE_MAX, PAGE_MAX),
            "EncodingType": "url",
        }
        reply = await self._list(parameters, prefix)
        own_key = prefix if is_directory else ""
        with understood(prefix):
            items, classes = self._entries(reply, own_key)
            prefixes = self._prefixes(reply, own_key)
        objects = in_byte_order([*items, *prefixes])
        following = reply.get("NextContinuationToken")
        page = Page(objects, following if reply.get("IsTruncated") else None)
        return page, zip(items, classes, strict=True)

    async def _list(self, parameters: Parameters, prefix: str) -> Reply:
        """Ask for a page; the page of some web server does not pass for one."""
        try:
            reply = await self._client.call("list_objects_v2", parameters, key=prefix)
        except BucketNotFound:
            raise
        except NotFound as error:
            raise BucketNotFound(
                "nothing is at that address", key=prefix, code=error.code
            ) from error
        if "IsTruncated" not in reply and "Name" not in reply:
            raise ServiceFailed("the answer is not that of an S3 service", key=prefix)
        if reply.get("IsTruncated") and not reply.get("NextContinuationToken"):
            # What comes behind must not be taken to be absent.
            raise ServiceFailed("there is more, and no word on how to ask", key=prefix)
        return reply

    async def first_below(self, prefix: str) -> tuple[Object | None, bool]:
        """Return the marker at `prefix`, if there is one, and whether any key is."""
        token = None
        while True:
            page, _ = await self.page(prefix, ListMode.PREFIX, token, 3)
            marker = next((item for item in page.objects if item.key == prefix), None)
            if page.objects or page.token is None:
                return marker, bool(page.objects)
            token = page.token

    async def parts(self, upload: Upload) -> tuple[Part, ...]:
        """Return every part that has arrived, by index."""
        found: list[Part] = []
        marker = 0
        while True:
            reply = await self._client.call(
                "list_parts",
                {
                    **self._keys.address(upload.key),
                    "UploadId": upload.id,
                    "PartNumberMarker": marker,
                },
                key=upload.key,
            )
            entries: list[Mapping[str, Any]] = reply.get("Parts", [])
            with understood(upload.key):
                found.extend(map(_part, entries))
                following = int(reply.get("NextPartNumberMarker") or 0)
            if not reply.get("IsTruncated") or following <= marker:
                return tuple(sorted(found, key=lambda part: part.index))
            marker = following

    async def uploads(self, prefix: str) -> tuple[Upload, ...]:
        """Return every open upload of the keys that start with `prefix`."""
        found: list[Upload] = []
        markers: dict[str, object] = {}
        while True:
            reply = await self._client.call(
                "list_multipart_uploads",
                {
                    "Bucket": self._keys.bucket,
                    "Prefix": self._keys.prefix(prefix),
                    "EncodingType": "url",
                    **markers,
                },
                key=prefix,
            )
            entries: list[Mapping[str, Any]] = reply.get("Uploads", [])
            with understood(prefix):
                found.extend(self._uploads_in(reply, self._keys.prefix(prefix)))
            following: dict[str, object] = {
                "KeyMarker": _decoded(reply, reply.get("NextKeyMarker", "")),
                "UploadIdMarker": reply.get("NextUploadIdMarker"),
            }
            if not reply.get("IsTruncated") or not entries or following == markers:
                return tuple(found)
            if len(found) > UPLOADS_MAX:
                raise ServiceFailed("there are too many open uploads", key=prefix)
            markers = following

    def _uploads_in(self, reply: Reply, full_prefix: str) -> Iterator[Upload]:
        for entry in reply.get("Uploads", ()):
            full = _decoded(reply, entry["Key"])
            if full.startswith(full_prefix) and full != self._keys.root:
                begun = entry.get("Initiated")
                begun_ns = int(begun.timestamp()) * 10**9 if begun else None
                key = self._keys.relative(full)
                yield Upload(key=key, id=entry["UploadId"], begun_ns=begun_ns)

    def _entries(self, reply: Reply, own_key: str) -> tuple[list[Object], list[str]]:
        """Return the objects of a page and their storage classes.

        There are so many that all is done in place.
        """
        is_encoded = reply.get("EncodingType") == "url"
        relative = self._keys.relative
        found: list[Object] = []
        classes: list[str] = []
        for name, modified, etag, size, storage_class in rows_of(reply):
            full = name
            if is_encoded and ("%" in name or "+" in name):
                full = unquote_plus(name, errors="surrogateescape")
            key = relative(full)
            if not key or key == own_key:
                continue
            mtime_ns, second = listed_time(modified)
            item = _make_object(
                key=key,
                kind=_DIRECTORY if key[-1] == "/" else _FILE,
                size=int(size),
                mtime_ns=mtime_ns,
                version=_make_version(etag, second),
            )
            found.append(item)
            classes.append(storage_class or STANDARD)
        return found, classes

    def _prefixes(self, reply: Reply, own_key: str) -> list[Object]:
        decoded = (
            self._keys.relative(_decoded(reply, entry["Prefix"]))
            for entry in reply.get("CommonPrefixes", ())
        )
        return [
            Object(key=key, kind=ObjectKind.DIRECTORY)
            for key in decoded
            if key not in ("", own_key)
        ]


def _part(entry: Mapping[str, Any]) -> Part:
    return Part(
        index=entry["PartNumber"] - 1,
        size=int(entry["Size"]),
        etag=plain_etag(entry["ETag"]),
    )


def _decoded(reply: Reply, name: str) -> str:
    """Decode a name if the service says that it encoded it; not all can."""
    if reply.get("EncodingType") != "url":
        return name
    return unquote_plus(name, errors="surrogateescape")
