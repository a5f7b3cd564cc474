"""Copies, and changes of metadata, which on S3 are copies of an object onto itself."""

import dataclasses
from collections.abc import Mapping

from mountfs.backends.s3_client import Reply, S3Client
from mountfs.backends.s3_conditions import condition_parameters, explained
from mountfs.backends.s3_errors import understood
from mountfs.backends.s3_keys import KeySpace
from mountfs.backends.s3_metadata import (
    SECOND_NS,
    TAG_COUNT,
    kind_of,
    merged,
    plain_etag,
    quoted_etag,
    write_parameters,
    written_metadata,
)
from mountfs.backends.s3_multipart import Multipart
from mountfs.backends.s3_options import S3Options
from mountfs.backends.s3_survivors import Survivors
from mountfs.storage.errors import InvalidRequest, VersionChanged
from mountfs.storage.types import (
    Absent,
    Call,
    Condition,
    Metadata,
    Object,
    Version,
)


@dataclasses.dataclass(frozen=True, slots=True)
class _Plan:
    """One copy: what is known of the source, and what the target gets."""

    source: Object
    target: str
    pin: Version | None
    metadata: Metadata | None
    """All that the target gets; None leaves the copying of metadata to S3."""
    parameters: Mapping[str, object]
    condition: Condition
    conditions: Mapping[str, object]


class Copies:
    """Copies objects inside one bucket."""

    def __init__(
        self,
        client: S3Client,
        keys: KeySpace,
        options: S3Options,
        survivors: Survivors,
        multipart: Multipart,
    ) -> None:
        self._client = client
        self._keys = keys
        self._options = options
        self._survivors = survivors
        self._multipart = multipart

    async def copy(
        self,
        source: str,
        target: str,
        version: Version | None,
        metadata: Metadata | None,
        condition: Condition,
    ) -> Object:
        """Copy one object, and what S3 would leave behind with it."""
        conditions = self._conditions(condition)
        if metadata is None:
            known, storage_class = await self._survivors.source(source, version)
            retyped = self._survivors.retyped(known, target) if version else None
            if retyped is not None:
                plan = await self._changed_plan(known, target, retyped, condition)
            else:
                plan = await self._plain_plan(known, storage_class, target)
            plan = dataclasses.replace(
                plan, pin=version, condition=condition, conditions=conditions
            )
            return await self._carry_out(plan)
        known = await self._survivors.source_with_metadata(source, version)
        return await self._change(known, target, version, metadata, condition)

    async def set_metadata(
        self, object: Object, metadata: Metadata, condition: Condition
    ) -> Object:
        """Copy an object onto itself with other metadata."""
        if isinstance(condition, Absent):
            raise InvalidRequest("what is absent has no metadata", key=object.key)
        known = object
        if known.metadata is None or known.version is None:
            known = await self._survivors.ask(object.key)
        return await self._change(known, object.key, condition, metadata, condition)

    async def _change(
        self,
        known: Object,
        target: str,
        version: Version | None,
        metadata: Metadata,
        condition: Condition,
    ) -> Object:
        """Copy with other metadata, merged with those of the version they belong to.

        The copy is pinned to what is known; if that was old and nobody insists on it,
        the newest is asked for, once.
        """
        try:
            plan = await self._changed_plan(known, target, metadata, condition)
            return await self._carry_out(plan)
        except VersionChanged as error:
            if version is not None or error.key != known.key:
                raise
        known = await self._survivors.ask(known.key)
        plan = await self._changed_plan(known, target, metadata, condition)
        return await self._carry_out(plan)

    async def _plain_plan(
        self, known: Object, storage_class: str, target: str
    ) -> _Plan:
        system = known.metadata.system if known.metadata is not None else {}
        parameters = write_parameters(Metadata(system=system))
        del parameters["Metadata"]
        return _Plan(
            source=known,
            target=target,
            pin=None,
            metadata=None,
            parameters={
                **parameters,
                "StorageClass": storage_class,
                **await self._survivors.grants(known.key),
            },
            condition=None,
            conditions={},
        )

    async def _changed_plan(
        self, known: Object, target: str, metadata: Metadata, condition: Condition
    ) -> _Plan:
        full = merged(metadata, known.metadata, user=False)
        parameters = write_parameters(full)
        return _Plan(
            source=known,
            target=target,
            pin=known.version,
            metadata=full,
            parameters={
                **parameters,
                "MetadataDirective": "REPLACE",
                **await self._survivors.grants(known.key),
            },
            condition=condition,
            conditions=self._conditions(condition),
        )

    async def _carry_out(self, plan: _Plan) -> Object:
        size = plan.source.size
        if size is not None and size > self._options.copy_size_max:
            return await self._copy_in_parts(plan)
        return await self._copy_at_once(plan)

    async def _copy_at_once(self, plan: _Plan) -> Object:
        source, target = plan.source.key, plan.target
        with explained(target, plan.condition, source=source, source_version=plan.pin):
            reply = await self._client.call(
                "copy_object",
                {
                    **self._keys.address(target),
                    "CopySource": self._keys.address(source),
                    "CopySourceIfMatch": quoted_etag(plan.pin) if plan.pin else None,
                    **plan.parameters,
                    **plan.conditions,
                },
                key=source,
            )
        with understood(target):
            found = self._copied(plan, reply)
        self._remember(found, plan)
        return found

    def _copied(self, plan: _Plan, reply: Reply) -> Object:
        result, target = reply["CopyObjectResult"], plan.target
        old = plan.source.metadata
        tag_count = old.system.get(TAG_COUNT, "0") if old is not None else "0"
        metadata = plan.metadata if plan.metadata is not None else old
        if metadata is not None:
            metadata = written_metadata(metadata, reply, tag_count)
        modified = result.get("LastModified")
        return Object(
            key=target,
            kind=kind_of(target),
            size=plan.source.size,
            mtime_ns=int(modified.timestamp()) * SECOND_NS if modified else None,
            version=Version(plain_etag(result["ETag"])),
            metadata=metadata,
        )

    async def _copy_in_parts(self, plan: _Plan) -> Object:
        """Copy what is too large for one request; nothing is carried over by itself."""
        source = plan.source
        if source.metadata is None:
            source = await self._survivors.ask(source.key)
            assert source.metadata is not None
        metadata = plan.metadata if plan.metadata is not None else source.metadata
        parameters = {
            **plan.parameters,
            **write_parameters(metadata),
            **await self._survivors.tagging(source.key, source.metadata),
        }
        parameters.pop("MetadataDirective", None)
        if plan.pin is not None:
            source = dataclasses.replace(source, version=plan.pin)
        found = await self._multipart.copy_whole(
            source, plan.target, parameters, plan.condition
        )
        tag_count = (
            source.metadata.system.get(TAG_COUNT, "0") if source.metadata else ""
        )
        found = dataclasses.replace(
            found, metadata=written_metadata(metadata, {}, tag_count or "0")
        )
        self._remember(found, plan)
        return found

    def _remember(self, found: Object, plan: _Plan) -> None:
        self._survivors.remember(found, str(plan.parameters.get("StorageClass", "")))

    def _conditions(self, condition: Condition) -> dict[str, object]:
        return condition_parameters(condition, Call.COPY, self._options.conditions)
