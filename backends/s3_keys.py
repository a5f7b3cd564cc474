"""Keys below a root, as S3 is told them."""

from dataclasses import dataclass
from typing import ClassVar

from mountfs.backends import _keys
from mountfs.backends._keys import KEY_SIZE_MAX

__all__ = ["KEY_SIZE_MAX", "KeySpace"]


@dataclass(frozen=True, slots=True)
class KeySpace(_keys.KeySpace):
    """One bucket, and the root ("" or ending in `/`) below which all keys lie."""

    service: ClassVar[str] = "S3"

    def address(self, key: str) -> dict[str, object]:
        """Return the parameters that name one object."""
        return {"Bucket": self.bucket, "Key": self.full(key)}
