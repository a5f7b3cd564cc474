"""What survives a write although S3 drops it: tags, ACL, storage class and holds.

S3 replaces everything about an object with each PUT, and most of it with each copy. To
carry it over it must be known: storage classes, from listings and answers of the last
minutes, are remembered; tags are asked for where a HEAD has counted some; the ACL only
where the bucket still uses ACLs, which is learnt once.
"""

import dataclasses
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import trio

from mountfs.backends._content_types import guess_type, retyped
from mountfs.backends.s3_client import S3Client
from mountfs.backends.s3_errors import understood
from mountfs.backends.s3_keys import KeySpace
from mountfs.backends.s3_metadata import (
    STANDARD,
    TAG_COUNT,
    merged,
    object_of,
    write_parameters,
)
from mountfs.backends.s3_options import S3Options
from mountfs.storage.errors import NotFound, PermissionDenied, Unsupported
from mountfs.storage.reason import Reason, because
from mountfs.storage.types import Metadata, Object, Version, is_same_state

REMEMBERED_MAX = 16_384
REMEMBERED_S = 600.0
_GRANTS: Mapping[str, str] = {
    "FULL_CONTROL": "GrantFullControl",
    "READ": "GrantRead",
    "READ_ACP": "GrantReadACP",
    "WRITE_ACP": "GrantWriteACP",
}


@dataclass(frozen=True, slots=True)
class NewObject:
    """What an object to be written gets: its metadata, and the parameters for it."""

    metadata: Metadata
    parameters: Mapping[str, object]
    tag_count: str = "0"


_Seen = tuple[Object, str, float]
"""What was heard of an object, its storage class, and when; a plain tuple, because a
page of a listing has a thousand."""


class Survivors:
    """Knows, or finds out, what a write of ours must carry over."""

    def __init__(self, client: S3Client, keys: KeySpace, options: S3Options) -> None:
        self._client = client
        self._keys = keys
        self._options = options
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._lock = trio.Lock()
        self._has_acls: bool | None = None

    async def ask(self, key: str) -> Object:
        """Return what a HEAD says of an object, and remember it."""
        reply = await self._client.call("head_object", self._keys.address(key), key=key)
        with understood(key):
            found = object_of(key, reply)
        self.remember(found)
        return found

    def remember(self, item: Object, storage_class: str = "") -> None:
        """Remember what was just heard of an object."""
        if item.metadata is not None:
            storage_class = item.metadata.pairs.get("storage-class", STANDARD)
        self.remember_listed([(item, storage_class)])

    def remember_listed(self, listed: Iterable[tuple[Object, str]]) -> None:
        """Remember objects and their storage classes.

        A listing, which tells little, does not push out more that still holds.
        """
        now, seen = time.monotonic(), self._seen
        for item, storage_class in listed:
            key, known = item.key, item
            old = seen.pop(key, None)
            if (
                old is not None
                and item.metadata is None
                and old[0].metadata is not None
                and old[1] == storage_class
                and is_same_state(old[0], item)
            ):
                known = old[0]
            seen[key] = known, storage_class, now
        while len(seen) > REMEMBERED_MAX:
            seen.popitem(last=False)

    def forget(self, key: str) -> None:
        """Forget an object that was removed or replaced."""
        self._seen.pop(key, None)

    async def source(self, key: str, version: Version | None) -> tuple[Object, str]:
        """Return what is known of an object to copy, at least its storage class."""
        seen = self._seen.get(key)
        if seen is not None and _still_holds(seen, version):
            return seen[:2]
        await self.ask(key)
        return self._seen[key][:2]

    async def source_with_metadata(self, key: str, version: Version | None) -> Object:
        """Return what is known of an object to copy, with all its metadata."""
        seen = self._seen.get(key)
        if (
            seen is not None
            and seen[0].metadata is not None
            and _still_holds(seen, version)
        ):
            return seen[0]
        return await self.ask(key)

    async def replacing(
        self, key: str, metadata: Metadata, inherit: Object | None
    ) -> NewObject:
        """Return what a new object gets that takes the place of `inherit`."""
        old = await self._with_metadata(inherit)
        known = old.metadata if old is not None else None
        full = self._with_defaults(key, merged(metadata, known, user=True))
        parameters = write_parameters(full)
        if old is None or known is None:
            return NewObject(full, parameters)
        tagging = await self.tagging(old.key, known)
        grants = await self.grants(old.key)
        count = known.system.get(TAG_COUNT, "0") if tagging else "0"
        return NewObject(full, {**parameters, **tagging, **grants}, count)

    async def _with_metadata(self, inherit: Object | None) -> Object | None:
        if inherit is None or inherit.metadata is not None:
            return inherit
        try:
            return await self.source_with_metadata(inherit.key, inherit.version)
        except NotFound:
            return None

    def _with_defaults(self, key: str, metadata: Metadata) -> Metadata:
        pairs = dict(metadata.pairs)
        if self._options.storage_class is not None:
            pairs.setdefault("storage-class", self._options.storage_class)
        if self._options.content_types and not key.endswith("/"):
            media_type = guess_type(key)
            if media_type is not None:
                pairs.setdefault("content-type", media_type)
        return dataclasses.replace(metadata, pairs=pairs)

    def retyped(self, known: Object, target: str) -> Metadata | None:
        """Return the metadata of a copy whose name suggests another media type."""
        if not self._options.content_types:
            return None
        return retyped(known.metadata, known.key, target)

    async def tagging(self, key: str, metadata: Metadata) -> dict[str, object]:
        """Return the parameter that gives a new object the tags of `key`."""
        if metadata.system.get(TAG_COUNT, "0") == "0":
            return {}
        try:
            reply = await self._client.call(
                "get_object_tagging", self._keys.address(key), key=key
            )
        except (PermissionDenied, NotFound):
            return {}
        tags = [(tag["Key"], tag["Value"]) for tag in reply.get("TagSet", ())]
        return {"Tagging": urlencode(tags)} if tags else {}

    async def grants(self, key: str) -> dict[str, object]:
        """Return the parameters that give a new object the ACL of `key`."""
        if not await self._bucket_has_acls():
            return {}
        try:
            reply = await self._client.call(
                "get_object_acl", self._keys.address(key), key=key
            )
        except (PermissionDenied, Unsupported):
            self._has_acls = False
            return {}
        except NotFound:
            return {}
        return _grant_parameters(reply)

    async def _bucket_has_acls(self) -> bool:
        async with self._lock:
            if self._has_acls is None:
                with because(Reason.PROBE):
                    self._has_acls = await self._ask_for_ownership()
            return self._has_acls

    async def _ask_for_ownership(self) -> bool:
        try:
            reply = await self._client.call(
                "get_bucket_ownership_controls", {"Bucket": self._keys.bucket}
            )
        except (PermissionDenied, NotFound):
            return True
        except Unsupported:
            return False
        rules = reply.get("OwnershipControls", {}).get("Rules", ())
        return not any(
            rule["ObjectOwnership"] == "BucketOwnerEnforced" for rule in rules
        )


def _still_holds(seen: _Seen, version: Version | None) -> bool:
    item, _, at = seen
    if time.monotonic() - at > REMEMBERED_S:
        return False
    known = item.version
    return version is None or (known is not None and known.content == version.content)


def _grant_parameters(reply: Mapping[str, Any]) -> dict[str, object]:
    """Return the grants as headers of a write; those of the owner alone as none."""
    owner = reply.get("Owner", {}).get("ID")
    grants = [
        (grant["Permission"], grant["Grantee"]) for grant in reply.get("Grants", ())
    ]
    if all(
        permission == "FULL_CONTROL" and grantee.get("ID") == owner
        for permission, grantee in grants
    ):
        return {}
    found: dict[str, list[str]] = {}
    for permission, grantee in grants:
        name = _GRANTS.get(permission)
        if name and grantee.get("ID"):
            found.setdefault(name, []).append(f'id="{grantee["ID"]}"')
        elif name and grantee.get("URI"):
            found.setdefault(name, []).append(f'uri="{grantee["URI"]}"')
    return {name: ", ".join(grantees) for name, grantees in found.items()}
