"""What the name of a file suggests of its bytes, for stores that keep a media type."""

import mimetypes

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
    media_type, encoding = mimetypes.guess_type(".".join(["name", *endings]))
    return _COMPRESSED.get(encoding, media_type) if encoding else media_type
