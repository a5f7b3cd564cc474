"""Listings: cursors of Dropbox on one side, pages in the order of keys on the other.

Dropbox lists in an order of its own, so a listing is fetched to its end before its
first page is given. What is left of it waits for the pages that follow; a token is the
last key of its page, and works in any process: what is not known there any more is
fetched anew.
"""

import logging
from collections import OrderedDict
from collections.abc import Iterator
from functools import partial
from typing import Any

import trio
from dropbox import Dropbox, files

from mountfs.backends import _checks
from mountfs.backends._tokens import first_after, key_bytes, token_after
from mountfs.backends.dropbox_client import DropboxClient
from mountfs.backends.dropbox_names import component_of
from mountfs.backends.dropbox_objects import Keys, names_below, object_of
from mountfs.backends.dropbox_properties import Template
from mountfs.storage.errors import NotFound, ServiceFailed, WrongKind
from mountfs.storage.types import ListMode, Object, ObjectKind, Page

log = logging.getLogger(__name__)

PAGE_MAX = 10_000
ENTRIES_MAX = 1_000_000
EMPTY_PAGES_MAX = 1000
"""In a row. More of either is no listing, but a server that does not end."""
_FETCH_MAX = 2000
_KEPT_S = 60.0
_KEPT_MAX = 8
_Left = tuple[Object, ...]


class Listings:
    """Lists folders of one store."""

    def __init__(self, client: DropboxClient, keys: Keys, template: Template) -> None:
        self._client = client
        self._keys = keys
        self._template = template
        self._left: OrderedDict[tuple[str, ListMode, str], tuple[float, _Left]] = (
            OrderedDict()
        )

    async def page(
        self, prefix: str, mode: ListMode, token: str | None, limit: int | None
    ) -> Page:
        """Return one page; raises `NotFound` for a folder that is not there."""
        _checks.check_listing(prefix, mode, limit)
        size = min(limit or PAGE_MAX, PAGE_MAX)
        left = self._kept(prefix, mode, token)
        if left is None:
            start = b"" if token is None else first_after(token, mode)
            everything = await self._everything(prefix, mode)
            left = tuple(each for each in everything if key_bytes(each.key) >= start)
        page, rest = left[:size], left[size:]
        if not rest:
            return Page(page, None)
        following = token_after(key_bytes(page[-1].key))
        self._keep(prefix, mode, following, rest)
        return Page(page, following)

    async def has_any(self, key: str) -> bool:
        """Tell whether something is in a folder."""
        path = self._keys.path(key)
        reply = await self._client.call(
            lambda api: api.files_list_folder(path, limit=1), key
        )
        return bool(reply.entries or reply.has_more)

    async def children(self, key: str) -> list[Any]:
        """Return what Dropbox tells of everything in a folder."""
        return await self._fetched(self._keys.path(key), key, is_recursive=False)

    def _kept(self, prefix: str, mode: ListMode, token: str | None) -> _Left | None:
        if token is None:
            return None
        until, left = self._left.pop((prefix, mode, token), (0.0, ()))
        return left if until > trio.current_time() else None

    def _keep(self, prefix: str, mode: ListMode, token: str, rest: _Left) -> None:
        self._left[prefix, mode, token] = (trio.current_time() + _KEPT_S, rest)
        while len(self._left) > _KEPT_MAX:
            self._left.popitem(last=False)

    async def _everything(self, prefix: str, mode: ListMode) -> list[Object]:
        if mode is ListMode.DIRECTORY:
            return await self._children_of(prefix)
        folder = prefix.rpartition("/")[0]
        folder = f"{folder}/" if folder else ""
        try:
            found = await self._below(folder)
        except NotFound:
            return []
        return [each for each in found if each.key.startswith(prefix)]

    async def _children_of(self, prefix: str) -> list[Object]:
        template_id = await self._template_id()
        try:
            known = await self.children(prefix)
        except NotFound:
            if prefix:
                raise
            return []  # the folder of the store is made by the first write
        path = self._keys.path(prefix)
        named = [
            (component_of(each.name), each)
            for names, each in _last_of(known, path).items()
            if len(names) == 1
        ]
        by_name = {name: each for name, each in named if name is not None}
        found = [
            object_of(prefix + name, each, template_id)
            for name, each in by_name.items()
        ]
        _tell_left_out(prefix, sum(name is None for name, _ in named))
        return sorted(found, key=_order)

    async def _below(self, folder: str) -> list[Object]:
        """Return everything below a folder, and the folder itself unless the root."""
        template_id = await self._template_id()
        path = self._keys.path(folder)
        known = await self._fetched(path, folder, is_recursive=True)
        by_key = dict(_keyed(known, path, folder))
        named = _last_of(known, path).values()
        _tell_left_out(folder, sum(component_of(each.name) is None for each in named))
        found = [
            object_of(key, each, template_id)
            for key, each in by_key.items()
            if key  # the root is no object
        ]
        if folder and not any(each.key == folder for each in found):
            found.append(Object(key=folder, kind=ObjectKind.DIRECTORY))
        return sorted(found, key=_order)

    async def _template_id(self) -> str | None:
        return await self._client.call(lambda api: self._template.find(api, make=False))

    async def _fetched(self, path: str, key: str, *, is_recursive: bool) -> list[Any]:
        def begin(api: Dropbox) -> Any:
            return api.files_list_folder(
                path,
                recursive=is_recursive,
                limit=_FETCH_MAX,
                include_property_groups=self._template.filter(api),
            )

        try:
            reply = await self._client.call(begin, key)
            entries, empty = list(reply.entries), 0
            while reply.has_more:
                cursor = reply.cursor
                reply = await self._client.call(partial(_continued, cursor), key)
                entries.extend(reply.entries)
                empty = 0 if reply.entries else empty + 1
                leads_to_itself = reply.has_more and reply.cursor == cursor
                is_endless = len(entries) > ENTRIES_MAX or empty > EMPTY_PAGES_MAX
                if leads_to_itself or is_endless:
                    raise ServiceFailed("the listing has no end", key=key)
        except WrongKind as error:
            raise NotFound("a file is no folder", key=key) from error
        return entries


def _continued(cursor: str, api: Dropbox) -> Any:
    return api.files_list_folder_continue(cursor)


def _order(object: Object) -> bytes:
    return key_bytes(object.key)


def _last_of(known: list[Any], path: str) -> dict[tuple[str, ...], Any]:
    """Return what is said last of each entry below a folder, by the names to it.

    What changes while it is listed is told again; what is deleted, as that.
    """
    last: dict[tuple[str, ...], Any] = {}
    for each in known:
        names = names_below(path, each)
        if names is None:
            continue
        last.pop(names, None)
        if not isinstance(each, files.DeletedMetadata):
            last[names] = each
    return last


def _keyed(known: list[Any], path: str, folder: str) -> Iterator[tuple[str, Any]]:
    """Yield the entries of a recursive listing with their keys.

    The case of a path is certain in its last name alone, so that keys are put together
    from the folders that the listing itself names. `path` is that of the folder.
    """
    keys: dict[tuple[str, ...], str] = {(): folder}
    last = _last_of(known, path)
    for names in sorted(last, key=len):
        each = last[names]
        if not names:
            if isinstance(each, files.FolderMetadata):
                yield folder, each
            continue
        above, name = keys.get(names[:-1]), component_of(each.name)
        if above is None or name is None:
            continue  # its folder went while it was listed, or no key leads there
        key = above + name
        if isinstance(each, files.FolderMetadata):
            key += "/"
            keys[names] = key
        yield key, each


def _tell_left_out(prefix: str, count: int) -> None:
    if count:
        log.info("%d entries in %r have no key, and are left out", count, prefix)
