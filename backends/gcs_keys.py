"""Keys below a root: what the bucket calls them, and what the store calls them."""

from dataclasses import dataclass
from urllib.parse import quote

from mountfs.storage.errors import InvalidRequest, KeyTooLong

KEY_SIZE_MAX = 1024
UPLOADS = ".mountfs-uploads/"
"""Below it lie the parts of open uploads. It is in no listing, at whatever depth."""


@dataclass(frozen=True, slots=True)
class KeySpace:
    """One bucket, and the root ("" or ending in `/`) below which all keys lie."""

    bucket: str
    root: str

    def full(self, key: str) -> str:
        """Return the key in the bucket. Raises `InvalidRequest`, `KeyTooLong`."""
        if not key:
            raise InvalidRequest("an object has a key that is not empty")
        full = self.prefix(key)
        if full in (".", ".."):
            raise InvalidRequest(f"no object can be called {full!r}", key=key)
        if is_hidden(key):
            raise InvalidRequest(f"{UPLOADS} is where mountfs keeps parts", key=key)
        return full

    def prefix(self, prefix: str) -> str:
        """Return a prefix of keys in the bucket, which may be empty."""
        full = self.root + prefix
        try:
            size = len(full.encode())
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                "Google Cloud Storage takes only names that are valid UTF-8", key=prefix
            ) from error
        if size > KEY_SIZE_MAX:
            raise KeyTooLong(
                f"the key takes {size} bytes, and Google Cloud Storage takes"
                f" {KEY_SIZE_MAX}",
                key=prefix,
            )
        if "\n" in full or "\r" in full:
            raise InvalidRequest(
                "Google Cloud Storage takes no names with line breaks", key=prefix
            )
        return full

    def relative(self, full: str) -> str:
        """Return the store's key for a key in the bucket, which is below the root."""
        return full[len(self.root) :]

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
