"""What the name of a file suggests of its bytes, for stores that keep a media type."""

import dataclasses
import functools
import mimetypes

from mountfs.storage.types import Metadata

_UNTYPED = (None, "binary/octet-stream", "application/octet-stream")
"""The media types that say nothing; S3 gives the second one to who names none."""
_COMPRESSED = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "compress": "application/x-compress",
    "br": "application/x-brotli",
}


def guess_type(key: str) -> str | None:
    """Return the media type that the name of a file suggests."""
    endings = key.rpartition("/")[2].split(".")[1:][-2:]
    return _type_of(".".join(["name", *endings]))


@functools.lru_cache(maxsize=256)
def _type_of(name: str) -> str | None:
    media_type, encoding = mimetypes.guess_type(name)
    return _COMPRESSED.get(encoding, media_type) if encoding else media_type


def retyped(metadata: Metadata | None, source: str, target: str) -> Metadata | None:
    """Return the metadata of a copy whose name suggests another media type.

    Only a type that was guessed from the old name, or none, gives way: editors and
    rsync write `.page.html.Xy12` and rename it. None: the metadata may stay.
    """
    if metadata is None or source.endswith("/") or target.endswith("/"):
        return None
    new, old = guess_type(target), metadata.pairs.get("content-type")
    if new in (None, old) or old not in (*_UNTYPED, guess_type(source)):
        return None
    pairs = {**metadata.pairs, "content-type": str(new)}
    return dataclasses.replace(metadata, pairs=pairs)
