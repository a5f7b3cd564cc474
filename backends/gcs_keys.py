"""Keys below a root, as Google Cloud Storage is told them."""

from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import quote

from mountfs.backends import _keys
from mountfs.backends._keys import KEY_SIZE_MAX
from mountfs.storage.errors import InvalidRequest

__all__ = ["KEY_SIZE_MAX", "UPLOADS", "KeySpace", "is_hidden"]

UPLOADS = ".mountfs-uploads/"
"""Below it lie the parts of open uploads. It is in no listing, at whatever depth."""


@dataclass(frozen=True, slots=True)
class KeySpace(_keys.KeySpace):
    """One bucket, and the root ("" or ending in `/`) below which all keys lie."""

    service: ClassVar[str] = "Google Cloud Storage"

    def full(self, key: str) -> str:
        """Return the key in the bucket. Raises `InvalidRequest`, `KeyTooLong`."""
        # A class with slots is another than the one that `super()` has in mind.
        full = _keys.KeySpace.full(self, key)
        if full in (".", ".."):
            raise InvalidRequest(f"no object can be called {full!r}", key=key)
        if is_hidden(key):
            raise InvalidRequest(f"{UPLOADS} is where mountfs keeps parts", key=key)
        return full

    def prefix(self, prefix: str) -> str:
        """Return a prefix of keys in the bucket, which may be empty."""
        full = _keys.KeySpace.prefix(self, prefix)
        if "\n" in full or "\r" in full:
            raise InvalidRequest(
                f"{self.service} takes no names with line breaks", key=prefix
            )
        return full

    @property
    def objects(self) -> str:
        """The path of the objects of the bucket."""
        return f"/storage/v1/b/{quote(self.bucket, safe='')}/o"

    def path(self, key: str) -> str:
        """Return the path of one object."""
        return self.path_of(self.full(key))

    def path_of(self, full: str) -> str:
        """Return the path of an object by its key in the bucket."""
        return f"{self.objects}/{quote(full, safe='')}"


def is_hidden(key: str) -> bool:
    """Tell whether a key is one of the parts of an upload."""
    return UPLOADS in key and f"/{UPLOADS}" in f"/{key}"
