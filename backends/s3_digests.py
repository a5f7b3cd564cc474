"""Whether the bytes of an answer are those that were stored.

Where S3 sends a checksum of the whole object along, botocore compares it, or the light
data plane with `has_right_checksum`. Where it does not, the ETag of an object that came
in one piece and is not encrypted with a key of KMS or of the customer is its MD5, and
is compared here. A range of a larger object comes with neither: what protects it on its
way is TLS.
"""

import base64
import hashlib
import io
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from botocore.httpchecksum import StreamingChecksumBody

from mountfs.storage.errors import Corrupt

_MD5 = re.compile(r'"?([0-9a-f]{32})"?')
_WHOLE = re.compile(r"bytes 0-(\d+)/(\d+)")


_CHECKSUMS: tuple[tuple[str, Callable[[bytes], bytes]], ...] = (
    ("ChecksumCRC32", lambda data: zlib.crc32(data).to_bytes(4, "big")),
    ("ChecksumSHA1", lambda data: hashlib.sha1(data, usedforsecurity=False).digest()),
    ("ChecksumSHA256", lambda data: hashlib.sha256(data).digest()),
    ("ChecksumSHA512", lambda data: hashlib.sha512(data).digest()),
)
"""Those that botocore can compute, too, in its order."""


class CheckedBytes(io.BytesIO):
    """A body that has been compared with its checksum."""


def md5_of(data: bytes) -> str:
    """Return an MD5 as headers have it: against accidents, and for older services."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def has_right_checksum(reply: Mapping[str, Any], data: bytes) -> bool:
    """Compare a whole object with the checksum that came along, if one did.

    Raises `Corrupt`.
    """
    told = _WHOLE.fullmatch(str(reply.get("ContentRange", "")))
    if "ContentRange" in reply and (told is None or int(told[2]) != len(data)):
        return False
    for member, compute in _CHECKSUMS:
        expected = str(reply.get(member, "-"))
        if "-" in expected:  # none, or a checksum of those of the parts
            continue
        if base64.b64encode(compute(data)).decode() != expected:
            raise Corrupt("the bytes that came do not have the checksum of the object")
        return True
    return False


def check_bytes(reply: Mapping[str, Any], data: bytes) -> None:
    """Compare the bytes of a GET with the digest that came along, if one did.

    Raises `Corrupt`.
    """
    if isinstance(reply.get("Body"), StreamingChecksumBody | CheckedBytes):
        return  # that was done while it was read
    digest = _digest_of(reply, len(data))
    if digest is None:
        return
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != digest:
        raise Corrupt(
            "the bytes that came are not those of the ETag (if the ETags of this"
            " service are no MD5, set the option checksums to off)"
        )


def _digest_of(reply: Mapping[str, Any], size: int) -> str | None:
    """Return the MD5 of an object, if the reply tells it and has all of its bytes."""
    match = _MD5.fullmatch(str(reply.get("ETag", "")))
    if match is None or reply.get("SSECustomerAlgorithm"):
        return None
    if reply.get("ServerSideEncryption") not in (None, "AES256"):
        return None
    if told := reply.get("ContentRange"):
        whole = _WHOLE.fullmatch(str(told))
        if whole is None or int(whole[1]) + 1 != int(whole[2]):
            return None
        return match[1] if size == int(whole[2]) else None
    return match[1] if size == reply.get("ContentLength") else None
