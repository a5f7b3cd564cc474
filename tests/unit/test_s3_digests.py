"""Bytes that came damaged are noticed wherever the answer tells enough."""

import hashlib

import pytest

from mountfs.backends.s3_digests import check_bytes
from mountfs.storage.errors import Corrupt

BYTES = b"what was stored"
ETAG = f'"{hashlib.md5(BYTES).hexdigest()}"'
WHOLE = f"bytes 0-{len(BYTES) - 1}/{len(BYTES)}"


@pytest.mark.parametrize(
    "reply",
    [
        {"ETag": ETAG, "ContentLength": len(BYTES)},
        {"ETag": ETAG, "ContentLength": len(BYTES), "ServerSideEncryption": "AES256"},
        {"ETag": ETAG, "ContentLength": len(BYTES), "ContentRange": WHOLE},
    ],
)
def test_the_etag_is_compared(reply: dict[str, object]) -> None:
    """A plain object that came in one piece, by a range or not."""
    check_bytes(reply, BYTES)
    with pytest.raises(Corrupt, match="checksums"):
        check_bytes(reply, b"what was stoned")


@pytest.mark.parametrize(
    "reply",
    [
        {"ETag": f'{ETAG[:-1]}-2"', "ContentLength": len(BYTES)},
        {"ETag": ETAG, "ContentLength": len(BYTES), "ServerSideEncryption": "aws:kms"},
        {"ETag": ETAG, "ContentLength": len(BYTES), "SSECustomerAlgorithm": "AES256"},
        {"ETag": ETAG, "ContentLength": 3, "ContentRange": "bytes 0-2/15"},
        {"ETag": ETAG, "ContentLength": 15, "ContentRange": "bytes 5-19/20"},
        {"ContentLength": len(BYTES)},
        {"ETag": ETAG, "ContentLength": len(BYTES) + 1},
    ],
    ids=["parts", "kms", "customer", "head", "tail", "none", "short"],
)
def test_what_is_no_md5_of_it_is_not(reply: dict[str, object]) -> None:
    """A part of the bytes, or an ETag that is no MD5, tells nothing of them.

    (That too few have come is found by their number.)
    """
    check_bytes(reply, b"anything of it!")
