"""Metadata on the wire: the parameters of a write, and what a reply says.

User metadata must be ASCII in a header, so other texts are sent as an encoded word
(RFC 2047), which is also the form in which S3 returns what others stored as UTF-8.
"""

import base64
import binascii
import contextlib
import functools
import quopri
import re
import time
from collections.abc import Mapping
from datetime import datetime

from mountfs.backends.s3_client import Reply
from mountfs.backends.s3_pages import moment
from mountfs.storage.errors import InvalidRequest, MetadataTooLarge, Unsupported
from mountfs.storage.types import (
    Metadata,
    Object,
    ObjectKind,
    Version,
)

COMMIT_NAME = "mountfs-commit"
METADATA_SIZE_MAX = 2048
STANDARD = "STANDARD"
SECOND_NS = 1_000_000_000

PAIRS: Mapping[str, str] = {
    "content-type": "ContentType",
    "content-encoding": "ContentEncoding",
    "content-language": "ContentLanguage",
    "content-disposition": "ContentDisposition",
    "cache-control": "CacheControl",
    "expires": "Expires",
    "storage-class": "StorageClass",
}
"""The pairs that S3 keeps, and botocore's names for them."""

TAG_COUNT = "TagCount"
_SYSTEM = (
    "ServerSideEncryption",
    "SSEKMSKeyId",
    "BucketKeyEnabled",
    "WebsiteRedirectLocation",
    "ObjectLockMode",
    "ObjectLockRetainUntilDate",
    "ObjectLockLegalHoldStatus",
)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_WORD = re.compile(r"=\?([^?\s]+)\?([bBqQ])\?([^?\s]*)\?=")
_PLAIN = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?|")


def write_parameters(metadata: Metadata) -> dict[str, object]:
    """Return the parameters that store these metadata.

    Raises `MetadataTooLarge`, `InvalidRequest`, `Unsupported` before anything is sent.
    """
    if metadata.attributes is not None:
        raise Unsupported("S3 keeps no POSIX attributes")
    parameters: dict[str, object] = {"Metadata": _encoded_user(metadata)}
    for name, value in metadata.pairs.items():
        if name not in PAIRS:
            raise Unsupported(f"S3 keeps no pair {name!r} with an object")
        if not value.isascii() or not value.isprintable():
            raise InvalidRequest(f"the pair {name!r} must be printable ASCII")
        parameters[PAIRS[name]] = value
    parameters.update(_system_parameters(metadata.system))
    return parameters


def merged(given: Metadata, old: Metadata | None, *, user: bool) -> Metadata:
    """Return `given` with what it does not name taken from an older object.

    `user` says whether the older user metadata are taken over as well.
    """
    if old is None:
        return given
    return Metadata(
        user={**old.user, **given.user} if user else given.user,
        pairs={**old.pairs, **given.pairs},
        attributes=given.attributes,
        commit_id=given.commit_id,
        system=given.system or old.system,
    )


def metadata_of(reply: Reply) -> Metadata:
    """Return the metadata that a HEAD or a GET answered with."""
    user = {
        name.lower(): decode_text(value)
        for name, value in reply.get("Metadata", {}).items()
    }
    commit_id = user.pop(COMMIT_NAME, None)
    pairs = {
        name: str(reply[parameter])
        for name, parameter in PAIRS.items()
        if reply.get(parameter) and name != "expires"
    }
    pairs.setdefault("storage-class", STANDARD)
    expires = _header(reply, "expires")
    if expires:
        pairs["expires"] = expires
    # A client that streams with trailing checksums leaves this word on some servers.
    encoding = pairs.pop("content-encoding", "").replace("aws-chunked", "").strip(", ")
    if encoding:
        pairs["content-encoding"] = encoding
    return Metadata(
        user=user, pairs=pairs, commit_id=commit_id, system=_system_of(reply)
    )


def object_of(key: str, reply: Reply, *, size: int | None = None) -> Object:
    """Return the object that a HEAD or a GET answered with."""
    seconds = _seconds_of(reply.get("LastModified"))
    return Object(
        key=key,
        kind=kind_of(key),
        size=size if size is not None else int(reply.get("ContentLength", 0)),
        mtime_ns=seconds * SECOND_NS if seconds is not None else None,
        version=Version(
            plain_etag(reply.get("ETag")), str(seconds) if seconds is not None else None
        ),
        metadata=metadata_of(reply),
    )


@functools.lru_cache(maxsize=1024)
def listed_time(text: str) -> tuple[int | None, str | None]:
    """Return a time of a listing in nanoseconds, and as a version tells it.

    Raises `ValueError`.
    """
    if not text:
        return None, None
    seconds = int(moment(text).timestamp())
    return seconds * SECOND_NS, str(seconds)


def written_object(
    key: str, reply: Reply, etag: object, size: int | None, metadata: Metadata | None
) -> Object:
    """Return the object that a write made; S3 tells no LastModified for it."""
    return Object(
        key=key,
        kind=kind_of(key),
        size=size,
        mtime_ns=date_ns(reply),
        version=Version(plain_etag(etag)),
        metadata=metadata,
    )


def written_metadata(metadata: Metadata, reply: Reply, tag_count: str) -> Metadata:
    """Return the metadata that an object has after a write of ours."""
    system = {
        name: metadata.system[name] for name in _SYSTEM if name in metadata.system
    }
    for name in ("ServerSideEncryption", "SSEKMSKeyId", "BucketKeyEnabled"):
        if reply.get(name):
            system[name] = _system_text(reply[name])
    pairs = dict(metadata.pairs)
    pairs.setdefault("storage-class", STANDARD)
    pairs.setdefault("content-type", "binary/octet-stream")
    return Metadata(
        user=metadata.user,
        pairs=pairs,
        attributes=metadata.attributes,
        commit_id=metadata.commit_id,
        system={**system, TAG_COUNT: tag_count},
    )


def kind_of(key: str) -> ObjectKind:
    """Return what a key stands for: a trailing slash makes a directory."""
    return ObjectKind.DIRECTORY if key.endswith("/") else ObjectKind.FILE


def plain_etag(etag: object) -> str:
    """Return an ETag without its quotes; some services forget them here and there."""
    return str(etag or "").strip('"')


def quoted_etag(version: Version) -> str:
    """Return the content version as conditions want it."""
    return f'"{version.content}"'


def date_ns(reply: Reply) -> int | None:
    """Return the Date of a reply in nanoseconds, if it has one."""
    text = _header(reply, "date")
    if not text:
        return None
    try:
        return int(moment(text).timestamp()) * SECOND_NS
    except ValueError:
        return None


def encode_text(text: str) -> str:
    """Return a text as a header can carry it; `decode_text` is the inverse."""
    if _PLAIN.fullmatch(text) and not _WORD.search(text):
        return text
    raw = text.encode("utf-8", "surrogateescape")
    return f"=?UTF-8?B?{base64.b64encode(raw).decode()}?="


def decode_text(value: str) -> str:
    """Return the text of a header; what is not an encoded word stands for itself.

    Some services send back raw what was sent to them raw; a header is Latin-1 by the
    rules of HTTP, and these bytes are UTF-8.
    """
    with contextlib.suppress(UnicodeError):
        value = value.encode("latin-1").decode()
    joined = re.sub(r"(\?=)\s+(=\?)", r"\1\2", value) if "=?" in value else value
    return _WORD.sub(_decoded_word, joined)


def _decoded_word(match: "re.Match[str]") -> str:
    charset, form, text = match.groups()
    try:
        if form in "bB":
            raw = base64.b64decode(text, validate=True)
        else:
            raw = quopri.decodestring(text, header=True)
        is_utf8 = charset.lower() in {"utf-8", "utf8"}
        return raw.decode("utf-8" if is_utf8 else charset, _errors(is_utf8))
    except (binascii.Error, LookupError, UnicodeDecodeError):
        return match.group()


def _errors(is_utf8: bool) -> str:
    return "surrogateescape" if is_utf8 else "strict"


def _encoded_user(metadata: Metadata) -> dict[str, str]:
    pairs = dict(metadata.user)
    if metadata.commit_id is not None:
        pairs[COMMIT_NAME] = metadata.commit_id
    for name in pairs:
        if not _NAME.fullmatch(name):
            raise InvalidRequest(f"S3 takes no user metadata named {name!r}")
    encoded = {name: encode_text(value) for name, value in pairs.items()}
    size = sum(len(name) + len(value) for name, value in encoded.items())
    if size > METADATA_SIZE_MAX:
        raise MetadataTooLarge(
            f"the user metadata take {size} bytes, and S3 keeps {METADATA_SIZE_MAX}"
        )
    return encoded


def _system_of(reply: Reply) -> Mapping[str, str]:
    system = {name: _system_text(reply[name]) for name in _SYSTEM if reply.get(name)}
    return {**system, TAG_COUNT: str(reply.get(TAG_COUNT, 0))}


def _system_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _system_parameters(system: Mapping[str, str]) -> dict[str, object]:
    parameters: dict[str, object] = {
        name: system[name] for name in _SYSTEM if name in system
    }
    if "BucketKeyEnabled" in parameters:
        parameters["BucketKeyEnabled"] = system["BucketKeyEnabled"] == "True"
    until = system.get("ObjectLockRetainUntilDate")
    if until is not None:
        moment = datetime.fromisoformat(until)
        if moment.timestamp() <= time.time():  # S3 refuses to retain into the past
            del parameters["ObjectLockMode"], parameters["ObjectLockRetainUntilDate"]
        else:
            parameters["ObjectLockRetainUntilDate"] = moment
    return parameters


def _seconds_of(moment: object) -> int | None:
    return int(moment.timestamp()) if isinstance(moment, datetime) else None


def _header(reply: Reply, name: str) -> str:
    return str(reply.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get(name, ""))
