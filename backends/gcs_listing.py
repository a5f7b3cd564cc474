"""Listings: pages of objects, in byte order, with all that is known of them."""

from collections.abc import Iterator
from urllib.parse import quote, unquote

from mountfs.backends._tokens import in_byte_order
from mountfs.backends.gcs_client import GcsClient, Query, Reply
from mountfs.backends.gcs_errors import understood
from mountfs.backends.gcs_keys import KeySpace, is_hidden
from mountfs.backends.gcs_objects import FIELDS, object_of
from mountfs.storage.errors import (
    BucketNotFound,
    InvalidRequest,
    NotFound,
    ServiceFailed,
)
from mountfs.storage.types import ListMode, Object, ObjectKind, Page

PAGE_MAX = 1000
_KIND = "storage#objects"


class Listings:
    """Asks for listings below one root."""

    def __init__(self, client: GcsClient, keys: KeySpace) -> None:
        self._client = client
        self._keys = keys
        self.has_shown_parts = False
        """Whether parts of uploads were left out of a listing."""

    async def page(
        self, prefix: str, mode: ListMode, token: str | None, limit: int | None
    ) -> Page:
        """Return one page.

        A directory that has a marker comes with what the marker keeps: it costs
        nothing more.
        """
        is_directory = mode is ListMode.DIRECTORY
        if is_directory and prefix and not prefix.endswith("/"):
            raise InvalidRequest("a directory's key ends in /", key=prefix)
        if limit is not None and limit < 1:
            raise InvalidRequest(f"a page of {limit} objects makes no sense")
        before, page_token = _token_parts(token)
        full = self._keys.prefix(prefix)

        def fetch() -> Page:
            reply = self._send(
                full,
                prefix,
                delimiter="/" if is_directory else None,
                includeTrailingDelimiter="true" if is_directory else None,
                maxResults=min(limit or PAGE_MAX, PAGE_MAX),
                pageToken=page_token,
            )
            with understood(prefix):
                return self._page(reply, prefix, before, is_directory=is_directory)

        # A thousand objects take their time to be made: not that of everybody else.
        return await self._client.run(fetch, prefix)

    def _page(
        self, reply: Reply, prefix: str, before: str, *, is_directory: bool
    ) -> Page:
        found: dict[str, Object] = {}
        if is_directory:
            found.update(self._prefixes(reply))
        found.update((item.key, item) for item in self._items(reply))
        if is_directory:
            found.pop(prefix, None)
        # A marker and the prefix that it makes are two results; one of them may have
        # come at the end of the page before.
        found.pop(before, None)
        objects = in_byte_order(found.values())
        following = reply.get("nextPageToken")
        if not following:
            return Page(objects, None)
        last = objects[-1].key if objects else before
        return Page(objects, _joined_token(last, str(following)))

    async def first_below(self, prefix: str) -> tuple[Object | None, bool]:
        """Return the marker at `prefix`, if there is one, and whether any key is."""
        token = None
        while True:
            page = await self.page(prefix, ListMode.PREFIX, token, 3)
            marker = next((item for item in page.objects if item.key == prefix), None)
            if page.objects or page.token is None:
                return marker, bool(page.objects)
            token = page.token

    async def ask(self, full_prefix: str, key: str, **query: object) -> Reply:
        """Send one request; the page of some web server does not pass for one."""
        return await self._client.run(
            lambda: self._send(full_prefix, key, **query), key
        )

    def _send(self, full_prefix: str, key: str, **query: object) -> Reply:
        full: Query = {
            "prefix": full_prefix or None,
            "fields": f"kind,nextPageToken,prefixes,items({FIELDS})",
            **query,
        }
        try:
            reply = self._client.send_json("GET", self._keys.objects, full, key=key)
        except NotFound as error:
            raise BucketNotFound(
                "there is no such bucket", key=key, code=error.code
            ) from error
        if reply.get("kind") != _KIND:
            raise ServiceFailed(
                "the answer is not that of Google Cloud Storage", key=key
            )
        return reply

    def _items(self, reply: Reply) -> Iterator[Object]:
        for item in reply.get("items", ()):
            key = self._keys.relative(item["name"])
            if is_hidden(key):
                self.has_shown_parts = True
            elif key:
                yield object_of(key, item)

    def _prefixes(self, reply: Reply) -> Iterator[tuple[str, Object]]:
        for name in reply.get("prefixes", ()):
            key = self._keys.relative(name)
            if is_hidden(key):
                self.has_shown_parts = True
            elif key:
                yield key, Object(key=key, kind=ObjectKind.DIRECTORY)


def _token_parts(token: str | None) -> tuple[str, str | None]:
    if token is None:
        return "", None
    last, colon, rest = token.partition(":")
    if not colon:
        raise InvalidRequest(f"{token!r} is no token of a listing")
    return unquote(last), rest


def _joined_token(last: str, token: str) -> str:
    return f"{quote(last, safe='') if last.endswith('/') else ''}:{token}"
