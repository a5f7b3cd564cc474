"""A multipart upload that a plan has begun, so that it can be gone on with later.

What makes it safe: from the first part on, the bytes of the file do not change. Whoever
is about to change them gives the attempt up first, in the journal as well. So every
part that the store has under the upload's id, in the place and of the size that the
pieces say, holds the right bytes, whichever process has sent it.

Pure: no I/O.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mountfs.cache import attribute_json
from mountfs.cache.plan import CopyPart, Piece, SendPart
from mountfs.storage.types import Metadata, Object, Part, Upload


@dataclass(slots=True)
class Attempt:
    """One upload, its pieces, and which of them the store has."""

    upload: Upload
    pieces: tuple[Piece, ...]
    mark: str
    """Of what it makes an object; see `mark_of`."""
    parts: dict[int, Part] = field(default_factory=dict)

    def missing(self) -> list[tuple[int, Piece]]:
        """Return the pieces that the store does not have, with their indexes."""
        return [
            (index, piece)
            for index, piece in enumerate(self.pieces)
            if index not in self.parts
        ]

    def take(self, parts: Iterable[Part]) -> None:
        """Note the parts that the store has; what fits no piece is sent again."""
        for part in parts:
            index = part.index
            if index < len(self.pieces) and self.pieces[index].size == part.size:
                self.parts[index] = part

    def ordered(self) -> list[Part]:
        """Return all parts, every one of which must be there."""
        return [self.parts[index] for index in range(len(self.pieces))]

    def to_text(self) -> str:
        """Return what the journal keeps of it, besides the upload."""
        pieces = [
            [int(isinstance(piece, CopyPart)), piece.offset, piece.size]
            for piece in self.pieces
        ]
        return json.dumps({"mark": self.mark, "pieces": pieces, "parts": self._etags()})

    def _etags(self) -> dict[str, str]:
        """Return the parts that are sure to be there, for a store that lists none.

        The last one, if it is smaller than others, may wait for the completion.
        """
        size = self.pieces[0].size if self.pieces else 0
        return {
            str(index): part.etag
            for index, part in self.parts.items()
            if part.size == size
        }


def from_text(upload: Upload, text: str) -> Attempt | None:
    """Return the attempt that a text describes; None if it cannot be understood."""
    try:
        told = json.loads(text)
        pieces = tuple(_piece(*each) for each in told["pieces"])
        found = Attempt(upload, pieces, str(told["mark"]))
        for text_index, etag in told.get("parts", {}).items():
            index = int(text_index)
            found.parts[index] = Part(index, pieces[index].size, str(etag))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None
    return found


def _piece(is_copy: int, offset: int, size: int) -> Piece:
    return CopyPart(offset, size) if is_copy else SendPart(offset, size)


def mark_of(
    key: str,
    size: int,
    base: Object | None,
    base_size: int,
    metadata: Metadata,
    inherit: Object | None,
) -> str:
    """Return a word for the object that an upload is to make, but for its bytes.

    The time of the last access is left out: reading alone is no other object.
    """
    attributes = metadata.attributes
    if attributes is not None:
        attributes = dataclasses.replace(attributes, atime_ns=None)
    told = [
        key.encode("utf-8", "surrogateescape").hex(),
        size,
        _identity(base),
        base_size,
        _identity(inherit),
        _sorted(metadata.user),
        _sorted(metadata.pairs),
        None if attributes is None else attribute_json.to_json(attributes),
    ]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _identity(object: Object | None) -> list[str] | None:
    if object is None or object.version is None:
        return None
    key = object.key.encode("utf-8", "surrogateescape").hex()
    return [key, object.version.content]


def _sorted(pairs: Mapping[str, str]) -> list[tuple[str, str]]:
    return sorted(pairs.items())
