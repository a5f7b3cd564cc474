"""What the fake of Google Cloud Storage holds, and its rules for objects.

Each rule says in quotes or in brief where it is documented: *objects* is the page
"Objects | JSON API", *naming* "About Cloud Storage objects", *conditions* "Request
preconditions", *compose* "Compose objects" with "Objects: compose", *csek* "Customer-
supplied encryption keys", all below cloud.google.com/storage/docs.
"""

import base64
import datetime
import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import google_crc32c

KEY_SIZE_MAX = 1024  # naming: "1-1024 bytes" of UTF-8
METADATA_SIZE_MAX = 8192  # "Quotas & limits": custom metadata, 8 KiB an object
SOURCES_MAX = 32  # compose: "between 1 and 32 objects"
CLASSES = frozenset(  # "Storage classes", the older ones included
    {
        "STANDARD",
        "NEARLINE",
        "COLDLINE",
        "ARCHIVE",
        "MULTI_REGIONAL",
        "REGIONAL",
        "DURABLE_REDUCED_AVAILABILITY",
    }
)
WRITABLE = (  # objects: the properties that are marked as writable
    "cacheControl",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "contentType",
    "customTime",
    "eventBasedHold",
    "temporaryHold",
)
_generations = itertools.count(1_700_000_000_000_000)


class Refused(Exception):
    """An error answer."""

    def __init__(self, status: int, reason: str, message: str = "") -> None:
        super().__init__(message or reason)
        self.status = status
        self.reason = reason


@dataclass(slots=True)
class Stored:
    """One live object."""

    name: str
    data: bytes
    properties: dict[str, Any]
    metadata: dict[str, str]
    storage_class: str
    key_sha256: str = ""
    """Of the customer's key that it is encrypted with, if it is."""
    is_composite: bool = False
    generation: int = field(default_factory=lambda: next(_generations))
    metageneration: int = 1
    created: str = ""
    updated: str = ""

    def resource(self, bucket: str, *, has_key: bool) -> dict[str, Any]:
        """Return what the service tells of it."""
        found: dict[str, Any] = {
            "kind": "storage#object",
            "id": f"{bucket}/{self.name}/{self.generation}",
            "name": self.name,
            "bucket": bucket,
            "generation": str(self.generation),
            "metageneration": str(self.metageneration),
            "storageClass": self.storage_class,
            "size": str(len(self.data)),
            "timeCreated": self.created,
            "updated": self.updated,
            **self.properties,
        }
        if self.metadata:
            found["metadata"] = dict(self.metadata)
        if not self.key_sha256 or has_key:  # csek: hashes need the key
            found["crc32c"] = crc32c_of(self.data)
            if not self.is_composite:  # compose: "do not have an MD5 hash"
                found["md5Hash"] = md5_of(self.data)
        if self.key_sha256:
            found["customerEncryption"] = {
                "encryptionAlgorithm": "AES256",
                "keySha256": self.key_sha256,
            }
        return found


def now_text() -> str:
    """Return the time as the service writes it."""
    now = datetime.datetime.now(datetime.UTC)
    return now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")[:-4] + "Z"


def crc32c_of(data: bytes) -> str:
    """Return the checksum as the service writes it."""
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def md5_of(data: bytes) -> str:
    """Return the MD5 as the service writes it."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def made(
    name: str,
    data: bytes,
    resource: Mapping[str, Any],
    *,
    default_class: str,
    key_sha256: str = "",
    is_composite: bool = False,
) -> Stored:
    """Return a new object, if its resource is one that the service takes."""
    size = len(name.encode())
    if not 1 <= size <= KEY_SIZE_MAX or "\r" in name or "\n" in name:
        raise Refused(400, "invalid", "Invalid object name")
    if name in (".", ".."):  # naming: cannot be named . or ..
        raise Refused(400, "invalid", "Invalid object name")
    storage_class = resource.get("storageClass") or default_class
    if storage_class not in CLASSES:
        raise Refused(400, "invalid", "Invalid storage class")
    metadata = checked_metadata(resource.get("metadata") or {})
    if "crc32c" in resource and resource["crc32c"] != crc32c_of(data):
        raise Refused(400, "invalid", "Provided CRC32C doesn't match")
    if "md5Hash" in resource and resource["md5Hash"] != md5_of(data):
        raise Refused(400, "invalid", "Provided MD5 hash doesn't match")
    properties = {n: resource[n] for n in WRITABLE if resource.get(n) is not None}
    if resource.get("kmsKeyName"):
        properties["kmsKeyName"] = f"{resource['kmsKeyName']}/cryptoKeyVersions/1"
    now = now_text()
    return Stored(
        name,
        data,
        properties,
        metadata,
        storage_class,
        key_sha256=key_sha256,
        is_composite=is_composite,
        created=now,
        updated=now,
    )


def patched(stored: Stored, patch: Mapping[str, Any]) -> None:
    """Change metadata as PATCH does: null takes away, what is not named stays."""
    if "storageClass" in patch:  # objects: only a rewrite changes the class
        raise Refused(400, "invalid", "Cannot change the storage class by a patch")
    metadata = dict(stored.metadata)
    for name, value in (patch.get("metadata") or {}).items():
        if value is None:
            metadata.pop(name, None)
        else:
            metadata[name] = value
    stored.metadata = checked_metadata(metadata)
    for name in WRITABLE:
        if name in patch:
            stored.properties.pop(name, None)
            if patch[name] is not None:
                stored.properties[name] = patch[name]
    stored.metageneration += 1
    stored.updated = now_text()


def checked_metadata(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return custom metadata, if they are texts and few enough."""
    if not all(isinstance(value, str) for value in metadata.values()):
        raise Refused(400, "invalid", "Metadata must be strings")
    size = sum(len(f"{name}{value}".encode()) for name, value in metadata.items())
    if size > METADATA_SIZE_MAX:
        raise Refused(400, "invalid", "Metadata too large")
    return dict(metadata)


def check_conditions(
    stored: Stored | None, query: Mapping[str, str], prefix: str = "if"
) -> None:
    """Refuse a request whose preconditions do not hold (conditions).

    `ifGenerationMatch=0` means that there is no live version.
    """
    generation = stored.generation if stored else 0
    metageneration = stored.metageneration if stored else 0
    for name, current in (
        ("Generation", generation),
        ("Metageneration", metageneration),
    ):
        wanted = query.get(f"{prefix}{name}Match")
        if wanted is not None and int(wanted) != current:
            raise Refused(412, "conditionNotMet", "Precondition Failed")
        unwanted = query.get(f"{prefix}{name}NotMatch")
        if unwanted is not None and int(unwanted) == current:
            raise Refused(304, "", "Not Modified")


def selected(value: Any, fields: str | None) -> Any:
    """Return the part of an answer that `fields` asks for."""
    if fields is None:
        return value
    tree, rest = _parsed(fields)
    assert not rest, f"these fields make no sense: {fields}"
    return _cut(value, tree)


def _parsed(text: str) -> tuple[dict[str, Any], str]:
    tree: dict[str, Any] = {}
    while text and text[0] != ")":
        end = min((at for at in map(text.find, ",()") if at >= 0), default=len(text))
        name, text = text[:end], text[end:]
        tree[name] = None
        if text[:1] == "(":
            tree[name], text = _parsed(text[1:])
            text = text[1:]
        text = text.removeprefix(",")
    return tree, text


def _cut(value: Any, tree: dict[str, Any] | None) -> Any:
    if tree is None:
        return value
    if isinstance(value, list):
        return [_cut(each, tree) for each in value]
    return {name: _cut(value[name], sub) for name, sub in tree.items() if name in value}
