"""User metadata as a property group: of a template of ours, returned by listings.

A group has at most 32 fields of 1 024 bytes. Two of them are the commit id and the
content hash of the bytes that the group was made for; the others hold the user metadata
as JSON, cut to pieces. Another program that replaces the bytes leaves the group, which
then describes bytes that are gone: the hash tells, and the group counts no more.
"""

import hashlib
import json
import threading
from collections.abc import Mapping
from typing import Any

from dropbox import Dropbox, file_properties

from mountfs.backends.dropbox_errors import translated
from mountfs.storage.errors import (
    MetadataTooLarge,
    PermissionDenied,
    Unsupported,
)
from mountfs.storage.types import NO_METADATA, Metadata

TEMPLATE_NAME = "mountfs"
_TEXT = "What mountfs keeps with a file or folder: see its documentation."
COMMIT, HASH = "commit", "content_hash"
FIELD_SIZE_MAX = 1024
PIECES = tuple(f"user{number:02}" for number in range(30))
TEMPLATES_MAX = 100
"""More of them are not looked at: each is a request, and Dropbox takes fewer."""
USER_SIZE_MAX = 4096
"""Bytes of names and values; as JSON they fit into the pieces unless most are single
control characters, which is refused."""
CONTENT_HASH = "content-hash"
"""The name in `Metadata.system` of the hash of the bytes."""


class Template:
    """The template of ours in one account, looked for once and made if missing."""

    def __init__(self, *, is_wanted: bool) -> None:
        self.is_wanted = is_wanted
        self._id: str | None = None
        self._lock = threading.Lock()

    @property
    def known_id(self) -> str | None:
        """The id, if it was found or made by now."""
        return self._id

    def find(self, api: Dropbox, *, make: bool) -> str | None:
        """Return its id; None if there is none, and none is to be made."""
        if not self.is_wanted:
            return None
        with self._lock:
            if self._id is None:
                self._id = self._existing(api)
            if self._id is None and make:
                self._id = _made(api)
            return self._id

    def filter(self, api: Dropbox) -> Any:
        """Return what asks for our groups alone; None if there can be none."""
        found = self.find(api, make=False)
        if found is None:
            return None
        return file_properties.TemplateFilterBase.filter_some([found])

    @staticmethod
    def _existing(api: Dropbox) -> str | None:
        told = api.file_properties_templates_list_for_user().template_ids
        for each in told[:TEMPLATES_MAX]:
            known = api.file_properties_templates_get_for_user(each)
            names = {known_field.name for known_field in known.fields}
            if known.name == TEMPLATE_NAME and {COMMIT, HASH, *PIECES} <= names:
                return str(each)
        return None


def _made(api: Dropbox) -> str:
    fields = [
        file_properties.PropertyFieldTemplate(
            name, _TEXT, file_properties.PropertyType.string
        )
        for name in (COMMIT, HASH, *PIECES)
    ]
    try:
        with translated():
            made = api.file_properties_templates_add_for_user(
                TEMPLATE_NAME, _TEXT, fields
            )
    except PermissionDenied as error:
        if error.code == "missing_scope":
            raise
        raise Unsupported(
            "this app may keep no properties: open the store with properties=off"
        ) from error
    return str(made.template_id)


def group_of(template_id: str, metadata: Metadata, content_hash: str) -> Any:
    """Return the property group that keeps metadata. Raises `MetadataTooLarge`."""
    texts = {HASH: content_hash}
    if metadata.commit_id is not None:
        texts[COMMIT] = metadata.commit_id
    if metadata.user:
        user = json.dumps(dict(metadata.user), separators=(",", ":"), sort_keys=True)
        pieces = [
            user[at : at + FIELD_SIZE_MAX] for at in range(0, len(user), FIELD_SIZE_MAX)
        ]
        if len(pieces) > len(PIECES):
            raise MetadataTooLarge(f"{len(user)} bytes of metadata as JSON")
        texts.update(zip(PIECES, pieces, strict=False))
    fields = [
        file_properties.PropertyField(name, text)
        for name, text in sorted(texts.items())
        if text
    ]
    return file_properties.PropertyGroup(template_id, fields)


def metadata_of(groups: Any, template_id: str | None, content_hash: str) -> Metadata:
    """Return what the groups of a file or folder say; a folder has no hash."""
    system = {CONTENT_HASH: content_hash} if content_hash else {}
    for group in groups or ():
        if group.template_id != template_id:
            continue
        texts = {each.name: each.value for each in group.fields}
        if texts.get(HASH, "") != content_hash:
            break  # somebody replaced the bytes and left the group
        commit_id = texts.get(COMMIT, "")[:FIELD_SIZE_MAX] or None
        return Metadata(user=_user_of(texts), commit_id=commit_id, system=system)
    return Metadata(system=system) if system else NO_METADATA


def digest_of(metadata: Metadata) -> str:
    """Return what changes with the metadata: the properties change no revision."""
    text = json.dumps([sorted(metadata.user.items()), metadata.commit_id])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _user_of(texts: Mapping[str, str]) -> Mapping[str, str]:
    text = "".join(texts.get(name, "") for name in PIECES)
    if len(text) > len(PIECES) * FIELD_SIZE_MAX:
        return {}
    try:
        user = json.loads(text) if text else {}
    except (ValueError, RecursionError):  # no JSON, or brackets without end
        return {}
    if not isinstance(user, dict):
        return {}
    return {name: str(value) for name, value in user.items()}
