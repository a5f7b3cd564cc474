"""Metadata as callers mean them, and as the store keeps them.

Pure. One `Translator` knows what a store keeps and which gates are on. Two rules hold
throughout: what is not ours survives, and what cannot be kept is refused, unless
`loose_operation` says to drop it.
"""

import base64
import binascii
import dataclasses
import hashlib
import stat
from collections.abc import Mapping

from mountfs.storage import dialects
from mountfs.storage.errors import Unsupported
from mountfs.storage.types import (
    Attributes,
    Capabilities,
    Features,
    Metadata,
    Object,
    ObjectKind,
)

PAIR_PREFIX = "mountfs-pair-"
COMMIT_NAME = "mountfs-commit"
MD5 = "content-md5"
VIRTUAL_PAIRS = frozenset(
    {
        "content-type",
        "content-encoding",
        "content-language",
        "content-disposition",
        "cache-control",
        "expires",
        MD5,
    }
)
"""The pairs that can be kept as user metadata where the store has no place for them."""


class Translator:
    """Translates metadata for one store and one set of gates."""

    def __init__(self, capabilities: Capabilities, features: Features) -> None:
        self._capabilities = capabilities
        self._features = features
        self._encodes = (
            features.virtual_object_metadata
            and capabilities.metadata
            and not capabilities.attributes
        )

    @property
    def keeps_attributes(self) -> bool:
        """Whether attributes are kept, by the store or in user metadata."""
        return self._encodes or self._capabilities.attributes

    def seen(self, object: Object) -> Object:
        """Return an answer of the store as callers are to see it."""
        if object.metadata is None:
            kind = ObjectKind.DIRECTORY if object.key.endswith("/") else object.kind
            return dataclasses.replace(object, kind=kind)
        decoded = dialects.decode(object.metadata.user)
        metadata = self._decoded(object.metadata, decoded)
        target = object.link_target
        kind = self._kind(object, metadata, decoded)
        if kind is ObjectKind.LINK and target is None:
            target = decoded.link_target
        return dataclasses.replace(
            object, kind=kind, metadata=metadata, link_target=target
        )

    def would_drop(self, metadata: Metadata) -> bool:
        """Tell whether a change to these metadata would come to nothing."""
        return (
            self._features.loose_operation
            and not self.keeps_attributes
            and not metadata.user
            and not metadata.pairs
        )

    def sent(self, metadata: Metadata, kind: ObjectKind) -> Metadata:
        """Return metadata as the store is to keep them.

        Raises `Unsupported` for what it cannot keep.
        """
        user = dict(metadata.user)
        pairs: dict[str, str] = {}
        for name, text in metadata.pairs.items():
            if name in self._capabilities.pairs:
                pairs[name] = text
            elif self._features.virtual_pair and self._capabilities.metadata:
                user[PAIR_PREFIX + name] = text
            else:
                self._refuse(f"the pair {name}")
        attributes = metadata.attributes
        if attributes is not None and not self._capabilities.attributes:
            if self._encodes:
                user.update(dialects.encode(attributes, kind))
            else:
                self._refuse("POSIX attributes")
            attributes = None
        if user and not self._capabilities.metadata:
            self._refuse("user metadata")
            user = {}
        return dataclasses.replace(
            metadata, user=user, pairs=pairs, attributes=attributes
        )

    def linked(self, metadata: Metadata) -> Metadata:
        """Return metadata for the store that make an object a link."""
        known = metadata.attributes or Attributes()
        mode = _link_mode(known.mode)
        if self.keeps_attributes:
            marked = dataclasses.replace(known, mode=mode)
            return self.sent(metadata.with_attributes(marked), ObjectKind.LINK)
        plain = self.sent(metadata, ObjectKind.LINK)
        return dataclasses.replace(plain, user={**plain.user, "mode": str(mode)})

    def _decoded(self, metadata: Metadata, decoded: dialects.Decoded) -> Metadata:
        user = dict(decoded.foreign if self._encodes else metadata.user)
        commit_id = user.pop(COMMIT_NAME, None)
        pairs = dict(metadata.pairs)
        if self._features.virtual_pair:
            for name in [name for name in user if name.startswith(PAIR_PREFIX)]:
                pairs.setdefault(name.removeprefix(PAIR_PREFIX), user.pop(name))
        attributes = metadata.attributes
        if not self._capabilities.attributes:
            attributes = decoded.attributes if self._encodes else None
        return dataclasses.replace(
            metadata,
            user=user,
            pairs=pairs,
            attributes=attributes,
            commit_id=metadata.commit_id or commit_id,
        )

    def _kind(
        self, object: Object, metadata: Metadata, decoded: dialects.Decoded
    ) -> ObjectKind:
        # A directory is a key that ends in a slash, and nothing else: an object
        # without one, whatever its mode says, could not be reached as a directory.
        if object.key.endswith("/"):
            return ObjectKind.DIRECTORY
        if object.kind is not ObjectKind.FILE or not self._features.virtual_link:
            return object.kind
        kind = decoded.kind
        if metadata.attributes is not None and kind is not ObjectKind.LINK:
            kind = dialects.kind_of_mode(metadata.attributes.mode)
        if kind is not ObjectKind.LINK:
            return ObjectKind.FILE
        can_hold_target = (
            object.size is None or 0 < object.size <= dialects.TARGET_SIZE_MAX
        )
        if decoded.link_target is not None or can_hold_target:
            return ObjectKind.LINK
        return ObjectKind.FILE

    def _refuse(self, what: str) -> None:
        if not self._features.loose_operation:
            raise Unsupported(f"this store keeps no {what}")


def merged(metadata: Metadata, base: Metadata) -> Metadata:
    """Return metadata for the same bytes, with what `base` has and they do not name.

    Attributes that are not given stay as they are.
    """
    return _over(metadata, base, base.user, base.pairs, base.attributes)


def inherited(metadata: Metadata, base: Metadata) -> Metadata:
    """Return metadata for new bytes that take the place of an object with `base`.

    What describes the old bytes (a checksum, being a link, times) does not go on.
    """
    attributes = base.attributes
    if attributes is not None:
        mode = attributes.mode
        attributes = Attributes(
            mode=stat.S_IMODE(mode) if mode is not None else None,
            uid=attributes.uid,
            gid=attributes.gid,
        )
    kept = bequest(base)
    return _over(metadata, base, kept.user, kept.pairs, attributes)


def bequest(base: Metadata) -> Metadata:
    """Return what of an object's metadata new bytes in its place are to keep."""
    pairs = {name: text for name, text in base.pairs.items() if name != MD5}
    return dataclasses.replace(base, user=dialects.without_link(base.user), pairs=pairs)


def _over(
    metadata: Metadata,
    base: Metadata,
    user: Mapping[str, str],
    pairs: Mapping[str, str],
    attributes: Attributes | None,
) -> Metadata:
    is_reused = metadata.commit_id is not None and metadata.commit_id == base.commit_id
    return dataclasses.replace(
        metadata,
        user={**user, **metadata.user},
        pairs={**pairs, **metadata.pairs},
        attributes=attributes if metadata.attributes is None else metadata.attributes,
        commit_id=None if is_reused else metadata.commit_id,
    )


def has_md5(content: bytes, md5: str) -> bool:
    """Tell whether bytes have a base64 MD5; a text that is none holds for all."""
    try:
        wanted = base64.b64decode(md5, validate=True)
    except (binascii.Error, ValueError):
        return True
    if len(wanted) != hashlib.md5(usedforsecurity=False).digest_size:
        return True
    return hashlib.md5(content, usedforsecurity=False).digest() == wanted


def _link_mode(mode: int | None) -> int:
    permissions = stat.S_IMODE(mode) if mode is not None else 0o777
    return stat.S_IFLNK | permissions
