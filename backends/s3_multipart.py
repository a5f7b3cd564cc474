"""Uploads and copies in parts.

Part numbers of S3 count from one, indexes of the contract from zero.
"""

from collections.abc import Mapping, Sequence

import trio

from mountfs.backends._payload import payload_of
from mountfs.backends.s3_client import S3Client
from mountfs.backends.s3_conditions import condition_parameters, explained
from mountfs.backends.s3_errors import understood
from mountfs.backends.s3_keys import KeySpace
from mountfs.backends.s3_metadata import plain_etag, quoted_etag, written_object
from mountfs.backends.s3_options import S3Options
from mountfs.storage.body import Body
from mountfs.storage.errors import InvalidRequest, ObjectTooLarge, UploadNotFound
from mountfs.storage.types import (
    Call,
    Condition,
    MultipartLimits,
    Object,
    Part,
    Upload,
)

PART_SIZE_MIN = 5 << 20
PART_SIZE_MAX = 5 << 30
PARTS_MAX = 10_000
OBJECT_SIZE_MAX = 5 << 40
COPY_PART_SIZE = 512 << 20
COPIES_AT_ONCE = 8
ABORT_S = 10


class Multipart:
    """Sends the requests of multipart uploads below one root."""

    def __init__(self, client: S3Client, keys: KeySpace, options: S3Options) -> None:
        self._client = client
        self._keys = keys
        self._options = options

    @property
    def limits(self) -> MultipartLimits:
        """The limits of the service."""
        return MultipartLimits(
            part_size_min=PART_SIZE_MIN,
            part_size_max=PART_SIZE_MAX,
            parts_max=PARTS_MAX,
            equal_parts=self._options.equal_parts,
        )

    async def create(
        self, key: str, parameters: Mapping[str, object], commit_id: str | None
    ) -> Upload:
        """Begin an upload whose object will have what `parameters` say."""
        reply = await self._client.call(
            "create_multipart_upload",
            {**self._keys.address(key), **parameters},
            key=key,
        )
        with understood(key):
            return Upload(key=key, id=reply["UploadId"], commit_id=commit_id)

    async def write(self, upload: Upload, index: int, body: Body, size: int) -> Part:
        """Send one part of exactly `size` bytes."""
        _check_part(upload, index, size)
        async with payload_of(body, size) as payload:
            reply = await self._client.call(
                "upload_part",
                {
                    **self._address(upload, index),
                    "Body": payload,
                    "ContentLength": size,
                },
                key=upload.key,
            )
        with understood(upload.key):
            return Part(index=index, size=size, etag=plain_etag(reply["ETag"]))

    async def copy(
        self, upload: Upload, index: int, source: Object, offset: int, size: int
    ) -> Part:
        """Make a part of a range of an object, pinned by its version if known."""
        _check_part(upload, index, size)
        if offset < 0 or size < 1:
            raise InvalidRequest(f"no range has {size} bytes from {offset}")
        if source.size is not None and offset + size > source.size:
            raise InvalidRequest("the range is not in the source", key=source.key)
        version = source.version
        with explained(
            upload.key, None, source=source.key, source_version=source.version
        ):
            reply = await self._client.call(
                "upload_part_copy",
                {
                    **self._address(upload, index),
                    "CopySource": self._keys.address(source.key),
                    "CopySourceIfMatch": quoted_etag(version) if version else None,
                    "CopySourceRange": f"bytes={offset}-{offset + size - 1}",
                },
                key=source.key,
            )
        with understood(upload.key):
            etag = plain_etag(reply["CopyPartResult"]["ETag"])
        return Part(index=index, size=size, etag=etag)

    async def complete(
        self, upload: Upload, parts: Sequence[Part], condition: Condition
    ) -> Object:
        """Make the parts the object."""
        if not parts:
            raise InvalidRequest("an upload has at least one part", key=upload.key)
        ordered = sorted(parts, key=lambda part: part.index)
        size = sum(part.size for part in ordered)
        parameters = {
            **self._keys.address(upload.key),
            "UploadId": upload.id,
            "MultipartUpload": {
                "Parts": [
                    {"PartNumber": part.index + 1, "ETag": f'"{part.etag}"'}
                    for part in ordered
                ]
            },
            **condition_parameters(condition, Call.COMPLETE, self._options.conditions),
        }
        with explained(upload.key, condition):
            reply = await self._client.call(
                "complete_multipart_upload", parameters, key=upload.key
            )
        with understood(upload.key):
            return written_object(upload.key, reply, reply["ETag"], size, None)

    async def abort(self, upload: Upload) -> None:
        """Drop an upload; one that is gone already is success."""
        try:
            await self._client.call(
                "abort_multipart_upload",
                {**self._keys.address(upload.key), "UploadId": upload.id},
                key=upload.key,
            )
        except UploadNotFound:
            return

    async def copy_whole(
        self,
        source: Object,
        target: str,
        parameters: Mapping[str, object],
        condition: Condition,
    ) -> Object:
        """Copy an object that is too large for one request.

        The upload is dropped when anything fails, so that no parts are left to pay.
        """
        assert source.size is not None
        upload = await self.create(target, parameters, None)
        try:
            parts = await self._copy_parts(upload, source, source.size)
            return await self.complete(upload, parts, condition)
        except BaseException:
            with trio.move_on_after(ABORT_S, shield=True):
                await self.abort(upload)
            raise

    async def _copy_parts(
        self, upload: Upload, source: Object, size: int
    ) -> Sequence[Part]:
        part_size = max(
            min(COPY_PART_SIZE, self._options.copy_size_max), -(-size // PARTS_MAX)
        )
        offsets = range(0, size, part_size)
        parts: list[Part] = []
        limiter = trio.CapacityLimiter(COPIES_AT_ONCE)
        failures: list[Exception] = []

        async def copy_one(index: int, offset: int) -> None:
            async with limiter:
                if failures:
                    return
                try:
                    parts.append(
                        await self.copy(
                            upload, index, source, offset, min(part_size, size - offset)
                        )
                    )
                except Exception as error:  # noqa: BLE001 - raised again below
                    failures.append(error)

        async with trio.open_nursery() as nursery:
            for index, offset in enumerate(offsets):
                nursery.start_soon(copy_one, index, offset)
        if failures:  # one plain exception, where a nursery would raise a group
            raise failures[0]
        return parts

    def _address(self, upload: Upload, index: int) -> dict[str, object]:
        return {
            **self._keys.address(upload.key),
            "UploadId": upload.id,
            "PartNumber": index + 1,
        }


def _check_part(upload: Upload, index: int, size: int) -> None:
    if not 0 <= index < PARTS_MAX:
        raise InvalidRequest(
            f"parts have indexes from 0 to {PARTS_MAX - 1}, not {index}", key=upload.key
        )
    if size > PART_SIZE_MAX:
        raise ObjectTooLarge(
            f"a part of {size} bytes is over {PART_SIZE_MAX}", key=upload.key
        )
