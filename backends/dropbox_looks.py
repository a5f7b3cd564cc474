"""Asking Dropbox what is under a key, and remembering the metadata of revisions."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from dropbox import Dropbox, files

from mountfs.backends.dropbox_client import DropboxClient
from mountfs.backends.dropbox_objects import Keys, is_named, object_of
from mountfs.backends.dropbox_properties import CONTENT_HASH, Template, digest_of
from mountfs.storage.errors import NotFound
from mountfs.storage.types import Metadata, Object, ObjectKind, Version

_KNOWN_MAX = 4096


class Looks:
    """What is known of the files of one store, by asking."""

    def __init__(self, client: DropboxClient, keys: Keys, template: Template) -> None:
        self._client = client
        self._keys = keys
        self._template = template
        self._known: OrderedDict[str, Metadata] = OrderedDict()
        self._revs: OrderedDict[str, str] = OrderedDict()

    async def raw(self, key: str) -> Any:
        """Send one get_metadata; raises `NotFound` for an absent path alone."""
        path = self._keys.path(key)

        def ask(api: Dropbox) -> Any:
            return api.files_get_metadata(
                path, include_property_groups=self._template.filter(api)
            )

        known = await self._client.call(ask, key)
        if not isinstance(known, files.FileMetadata | files.FolderMetadata):
            raise NotFound("something was deleted there", key=key)
        return known

    async def found(self, key: str) -> Any:
        """Send one get_metadata; another case of letters is `NotFound`, too."""
        known = await self.raw(key)
        self.check_found(key, known)
        return known

    async def object(self, key: str) -> Object:
        """Return the object under a key."""
        known = await self.found(key)
        made = object_of(key, known, self._template.known_id)
        self.remember([made])
        return made

    @staticmethod
    def check_found(key: str, known: Any) -> None:
        """Raise `NotFound` if an answer is of a name of another case of letters."""
        if not is_named(key, known):
            raise NotFound("a name in another case of letters is there", key=key)
        if key.endswith("/") and isinstance(known, files.FileMetadata):
            raise NotFound("a file is there, and no directory", key=key)

    def noted(self, key: str, known: Any, metadata: Metadata) -> Object:
        """Return the object that was just written with metadata, and remember them."""
        content_hash = getattr(known, "content_hash", None)
        if content_hash:
            metadata = replace(metadata, system={CONTENT_HASH: str(content_hash)})
        if not self._template.is_wanted:
            metadata = replace(metadata, user={}, commit_id=None)
        made = object_of(key, known, None, metadata=metadata)
        self.remember([made])
        return made

    def changed(self, known: Object, metadata: Metadata) -> Object:
        """Return an object whose metadata were just changed, and remember them."""
        version = known.version
        if version is not None:
            time = (version.attributes or "").rpartition("-")[0]
            digest = digest_of(metadata)
            version = Version(version.content, f"{time}-{digest}" if time else digest)
        made = replace(known, metadata=metadata, version=version)
        self.remember([made])
        return made

    def remember(self, objects: Iterable[Object]) -> None:
        """Remember files: their metadata for downloads, which do not tell them, their
        revisions for deletions, which must name them.
        """
        for each in objects:
            if each.kind is ObjectKind.DIRECTORY or each.version is None:
                continue
            self._revs[each.key] = each.version.content
            self._revs.move_to_end(each.key)
            if each.metadata is not None:
                self._known[each.version.content] = each.metadata
                self._known.move_to_end(each.version.content)
        while len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)
        while len(self._revs) > _KNOWN_MAX:
            self._revs.popitem(last=False)

    def take_rev(self, key: str) -> str | None:
        """Return the revision that a file was last known to have, and forget it."""
        return self._revs.pop(key, None)

    def known_metadata(self, rev: str) -> Metadata | None:
        """Return what was told last of a revision."""
        return self._known.get(rev)
