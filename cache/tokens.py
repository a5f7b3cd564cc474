"""Tokens: versions made up here, of objects that are not stored yet."""

from mountfs.storage.types import Version

TOKEN_MARK = "~"  # noqa: S105 - the mark of a version that no store has given


def is_token(version: Version | None) -> bool:
    """Tell whether a version is that of a pending entry."""
    return version is not None and version.content.startswith(TOKEN_MARK)
