"""Objects on the wire: the resource of a write, and what a resource says.

The content version is the generation, which changes with the bytes; the attributes
version is the metageneration, which changes with the metadata.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from mountfs.backends import gcs_dialect
from mountfs.backends._checks import user_size
from mountfs.backends.gcs_client import Reply
from mountfs.backends.gcs_errors import MALFORMED, NOT_UNDERSTOOD
from mountfs.storage.errors import (
    InvalidRequest,
    MetadataTooLarge,
    ServiceFailed,
    Unsupported,
)
from mountfs.storage.quick import maker
from mountfs.storage.types import NO_PAIRS, Metadata, Object, ObjectKind, Version

COMMIT_NAME = "mountfs-commit"
METADATA_SIZE_MAX = 8192 - gcs_dialect.RESERVE
STANDARD = "STANDARD"
CLASS = "storage-class"
SECOND_NS = 1_000_000_000

PAIRS: Mapping[str, str] = {
    "content-type": "contentType",
    "content-encoding": "contentEncoding",
    "content-language": "contentLanguage",
    "content-disposition": "contentDisposition",
    "cache-control": "cacheControl",
    CLASS: "storageClass",
}
"""The pairs that are kept, and the fields that keep them."""

_make_object, _make_version = maker(Object), maker(Version)
_make_metadata = maker(Metadata)
_PAIR_FIELDS = tuple(PAIRS.items())
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SYSTEM = ("customTime", "kmsKeyName")
"""What a write of ours carries over besides."""
_TOLD = (*_SYSTEM, "crc32c")
FIELDS = ",".join(
    (
        "name,size,generation,metageneration,updated,metadata,crc32c",
        "customTime,kmsKeyName",
        *PAIRS.values(),
    )
)
"""What is asked for of an object."""


def resource_of(metadata: Metadata) -> dict[str, object]:
    """Return the resource that stores these metadata.

    Raises `MetadataTooLarge`, `InvalidRequest`, `Unsupported` before anything is sent.
    """
    if metadata.attributes is not None:
        raise Unsupported("Google Cloud Storage keeps no POSIX attributes")
    resource: dict[str, object] = {}
    for name, value in metadata.pairs.items():
        if name not in PAIRS:
            raise Unsupported(f"Google Cloud Storage keeps no pair {name!r}")
        resource[PAIRS[name]] = value
    for name in _SYSTEM:
        if name in metadata.system:
            resource[name] = metadata.system[name]
    if user := user_of(metadata):
        resource["metadata"] = user
    return resource


def user_of(metadata: Metadata) -> dict[str, str]:
    """Return the custom metadata as they are kept: with the commit id, for gcsfuse too.

    Raises `MetadataTooLarge`, `InvalidRequest` if they cannot be.
    """
    user = dict(metadata.user)
    if metadata.commit_id is not None:
        user[COMMIT_NAME] = metadata.commit_id
    size = user_size(user)
    if size > METADATA_SIZE_MAX:
        raise MetadataTooLarge(
            f"the custom metadata take {size} bytes, and {METADATA_SIZE_MAX} are kept"
        )
    try:
        for name, value in user.items():
            (name + value).encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest("custom metadata must be valid UTF-8") from error
    return {**user, **gcs_dialect.added(user)}


def merged(given: Metadata, old: Metadata | None, *, user: bool) -> Metadata:
    """Return `given` with what it does not name taken from an older object.

    `user` says whether the older custom metadata are taken over as well.
    """
    if old is None:
        return given
    return Metadata(
        user={**old.user, **given.user} if user else given.user,
        pairs={**old.pairs, **given.pairs},
        attributes=given.attributes,
        commit_id=given.commit_id,
        system={**old.system, **given.system},
    )


def object_of(key: str, resource: Reply) -> Object:
    """Return the object that a resource tells of, with all that it says.

    Raises `ServiceFailed` for a resource that is none.
    """
    try:
        return _object_of(key, resource)
    except MALFORMED as error:
        raise ServiceFailed(NOT_UNDERSTOOD, key=key) from error


def _object_of(key: str, resource: Reply) -> Object:
    user = gcs_dialect.removed(resource.get("metadata") or NO_PAIRS)
    commit_id = user.pop(COMMIT_NAME, None)
    pairs = {CLASS: STANDARD}
    for name, field in _PAIR_FIELDS:
        if value := resource.get(field):
            pairs[name] = str(value)
    system: dict[str, str] = {}
    for name in _TOLD:
        if value := resource.get(name):
            system[name] = str(value)
    if "kmsKeyName" in system:
        system["kmsKeyName"] = _plain_key(system["kmsKeyName"])
    return _make_object(
        key=key,
        kind=kind_of(key),
        size=int(resource.get("size", 0)),
        mtime_ns=time_ns(resource.get("updated")),
        version=_make_version(
            str(resource.get("generation", "")), str(resource.get("metageneration", ""))
        ),
        metadata=_make_metadata(
            user=user, pairs=pairs, commit_id=commit_id, system=system
        ),
    )


def kind_of(key: str) -> ObjectKind:
    """Return what a key stands for: a trailing slash makes a directory."""
    return ObjectKind.DIRECTORY if key.endswith("/") else ObjectKind.FILE


def time_ns(text: object) -> int | None:
    """Return a time of the service, which is RFC 3339 in UTC, as nanoseconds."""
    if not isinstance(text, str) or not text:
        return None
    try:
        past = datetime.fromisoformat(text) - _EPOCH
    except (ValueError, TypeError):  # no time, or one of no zone
        return None
    seconds = past.days * 86_400 + past.seconds
    return seconds * SECOND_NS + past.microseconds * 1000


def _plain_key(name: str) -> str:
    """Return the name of a KMS key without the version that encrypted the object."""
    return name.partition("/cryptoKeyVersions/")[0]
