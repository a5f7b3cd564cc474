"""The key by which a service encrypts for a customer and forgets the key."""

import base64
import contextlib
import os
from pathlib import Path

from mountfs.storage.errors import InvalidRequest
from mountfs.storage.secrets import remember_secret

VARIABLE = "MOUNTFS_SSE_C_KEY"
_SIZE = 32
_FILE_SIZE_MAX = 1024


def customer_key(file: str | None) -> bytes:
    """Read the key: 32 raw bytes or their base64, of a file or the environment.

    It is never logged. Raises `InvalidRequest` if there is none.
    """
    if file is not None:
        try:
            with Path(file).open("rb") as opened:
                _check_private(file, os.fstat(opened.fileno()).st_mode)
                raw = opened.read(_FILE_SIZE_MAX)
        except OSError as error:
            raise InvalidRequest(
                f"sse_customer_key_file cannot be read: {error.strerror}"
            ) from error
    else:
        raw = os.environb.get(VARIABLE.encode(), b"")
    if len(raw) == _SIZE:
        return _remembered(raw)
    with contextlib.suppress(ValueError):
        decoded = base64.b64decode(raw.strip(), validate=True)
        if len(decoded) == _SIZE:
            return _remembered(decoded)
    raise InvalidRequest(
        "sse=customer needs a key of 32 bytes, raw or in base64, in the file "
        f"sse_customer_key_file or the environment variable {VARIABLE}"
    )


def _remembered(key: bytes) -> bytes:
    remember_secret(base64.b64encode(key).decode(), key.hex(), repr(key)[2:-1])
    return key


def _check_private(file: str, mode: int) -> None:
    if mode & 0o077:
        raise InvalidRequest(
            f"others can read sse_customer_key_file {file}: run `chmod 600` on it"
        )
