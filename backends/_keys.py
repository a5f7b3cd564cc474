"""Keys below a root: what the bucket calls them, and what the store calls them."""

from dataclasses import dataclass
from typing import ClassVar

from mountfs.storage.errors import InvalidRequest, KeyTooLong, ServiceFailed

KEY_SIZE_MAX = 1024
"""What S3 takes, and Google Cloud Storage, in bytes."""


@dataclass(frozen=True, slots=True)
class KeySpace:
    """One bucket, and the root ("" or ending in `/`) below which all keys lie."""

    service: ClassVar[str]
    """What sentences call it."""

    bucket: str
    root: str

    def full(self, key: str) -> str:
        """Return the key in the bucket. Raises `InvalidRequest`, `KeyTooLong`."""
        if not key:
            raise InvalidRequest("an object has a key that is not empty")
        return self.prefix(key)

    def prefix(self, prefix: str) -> str:
        """Return a prefix of keys in the bucket, which may be empty."""
        full = self.root + prefix
        try:
            size = len(full.encode())
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                f"{self.service} takes only names that are valid UTF-8", key=prefix
            ) from error
        if size > KEY_SIZE_MAX:
            raise KeyTooLong(
                f"the key takes {size} bytes, and {self.service} takes {KEY_SIZE_MAX}",
                key=prefix,
            )
        return full

    def relative(self, full: str) -> str:
        """Return the store's key for a key in the bucket, which is below the root.

        Raises `ServiceFailed` for one that lies elsewhere.
        """
        if not full.startswith(self.root):
            raise ServiceFailed("the answer has a key that was not asked for", key=full)
        return full[len(self.root) :]
