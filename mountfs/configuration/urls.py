"""The URLs of stores, as far as they can be checked without a store."""

from mountfs.backends import STORES
from mountfs.configuration.values import suggestion
from mountfs.errors import UsageError

SCHEMES = tuple(scheme for scheme, opener in STORES.items() if opener is not None)


def is_url(text: str) -> bool:
    """Tell whether this is meant as a URL, and not as a name or a directory."""
    return "://" in text


def checked_url(url: str) -> str:
    """Return the URL of a store, if it looks like one. Raises `UsageError`."""
    scheme, colon, rest = url.partition("://")
    if not colon:
        raise UsageError(
            f"{url!r} is not the URL of a store: write s3://BUCKET/PREFIX,"
            " file:///DIRECTORY or memory://"
        )
    if scheme not in SCHEMES:
        raise UsageError(
            f"this version knows no {scheme}:// URLs{suggestion(scheme, SCHEMES)};"
            f" there are {', '.join(each + '://' for each in SCHEMES)}"
        )
    if scheme in ("s3", "gs"):
        _check_bucket(url, rest)
    if scheme == "file" and not rest.removeprefix("localhost").startswith("/"):
        raise UsageError(
            f"{url!r} needs an absolute path: file:///{rest or 'DIRECTORY'}"
        )
    return url


def _check_bucket(url: str, rest: str) -> None:
    bucket = rest.partition("/")[0]
    if not bucket:
        scheme = url.partition("://")[0]
        raise UsageError(f"{url!r} names no bucket: write {scheme}://BUCKET/PREFIX")
    if "@" in bucket:
        raise UsageError(
            "a URL must not carry credentials, because every user of this host can"
            " read a command line: put them where the tools of the service look for"
            " them"
        )
