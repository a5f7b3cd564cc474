"""Listings of a directory tree in byte order of the keys, page by page.

Every page looks at the disk anew: nothing is kept between two, and a token is the
last key of its page.
"""

from collections.abc import Iterator

from mountfs.backends._tokens import (
    after_all,
    first_after,
    key_bytes,
    key_text,
    token_after,
)
from mountfs.backends.local_objects import object_at
from mountfs.backends.local_paths import Place, Root, names_in
from mountfs.storage.errors import NotFound, WrongKind
from mountfs.storage.types import ListMode, Object, Page


def list_directory(root: Root, prefix: str, token: str | None, limit: int) -> Page:
    """Return one page of the children of a directory."""
    start = first_after(token, ListMode.DIRECTORY) if token is not None else b""
    below = key_bytes(prefix)
    with root.directory(prefix) as fd:
        names = _children(fd, below, start)
        page = names[:limit]
        objects = [_object(fd, below, name) for name in page]
    found = tuple(object for object in objects if object is not None)
    return Page(found, token_after(page[-1]) if len(names) > limit else None)


def list_prefix(root: Root, prefix: str, token: str | None, limit: int) -> Page:
    """Return one page of all keys that start with the prefix, directories too."""
    start = first_after(token, ListMode.PREFIX) if token is not None else b""
    start = max(start, key_bytes(prefix))
    found: list[Object] = []
    last = b""
    for key, object in _walk(root, key_bytes(prefix), start):
        if len(found) == limit:
            return Page(tuple(found), token_after(last))
        if object is not None:
            found.append(object)
        last = key
    return Page(tuple(found), None)


def _walk(
    root: Root, prefix: bytes, start: bytes
) -> Iterator[tuple[bytes, Object | None]]:
    """Yield keys from `start` on, each directory before what is in it.

    A directory is listed when its turn comes, and no two are open at a time, so that
    the depth of a tree costs no descriptors.
    """
    top = prefix[: prefix.rfind(b"/") + 1]
    pending = [top]
    while pending:
        key = pending.pop()
        if key and key >= start and key.startswith(prefix):
            yield key, _object_of(root, key)
        if key.endswith(b"/") or not key:
            children = _look_into(root, key, start)
            pending.extend(
                child
                for child in reversed(children)
                if child.startswith(prefix) or prefix.startswith(child)
            )


def _look_into(root: Root, directory: bytes, start: bytes) -> list[bytes]:
    """Return the children of a directory; one that is gone has none."""
    try:
        with root.directory(key_text(directory)) as fd:
            return _children(fd, directory, start, descend=True)
    except (NotFound, FileNotFoundError, NotADirectoryError):
        return []


def _object_of(root: Root, key: bytes) -> Object | None:
    """Return the object of a key; None if it is gone by now, or is none."""
    text = key_text(key)
    try:
        with root.place(text) as place:
            found = object_at(place, text)
    except (NotFound, WrongKind, FileNotFoundError):
        return None
    return found if found.key == text else None


def _children(
    fd: int, below: bytes, start: bytes, *, descend: bool = False
) -> list[bytes]:
    """Return the keys of the children from `start` on, in byte order.

    To descend is to want also a directory that begins before `start` and ends behind.
    """
    keys = (
        below + name + (b"/" if is_directory else b"")
        for name, is_directory in names_in(fd)
    )
    return sorted(key for key in keys if _is_from(key, start, descend=descend))


def _is_from(key: bytes, start: bytes, *, descend: bool) -> bool:
    if key >= start:
        return True
    return descend and key.endswith(b"/") and start < after_all(key)


def _object(fd: int, below: bytes, key: bytes) -> Object | None:
    """Return the object of a child; None if it is gone by now, or is none."""
    name = key[len(below) :].removesuffix(b"/")
    try:
        found = object_at(Place(fd, name), key_text(key.removesuffix(b"/")))
    except (NotFound, WrongKind):
        return None
    return found
