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
from collections.abc import Iterable, Mapping

from mountfs.storage import dialects, foreign_names, xattrs
from mountfs.storage.errors import Unsupported
from mountfs.storage.quick import maker
from mountfs.storage.types import (
    SPECIAL_TYPES,
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

_make_object, _make_metadata = maker(Object), maker(Metadata)
_ALL_FIELDS = dialects.Fields(posix=True, xattrs=True, group=True)


class Translator:
    """Translates metadata for one store and one set of gates."""

    def __init__(self, capabilities: Capabilities, features: Features) -> None:
        self._capabilities = capabilities
        self._features = features
        can_encode = capabilities.metadata and not capabilities.attributes
        self._fields = dialects.Fields(
            posix=can_encode and features.virtual_object_metadata,
            xattrs=can_encode and features.virtual_xattr,
            group=can_encode and features.virtual_hard_link,
        )
        self._marks_specials = can_encode and features.virtual_special
        self.capabilities = self._widened()
        """Those of the store with what the gates add to them."""

    @property
    def keeps_attributes(self) -> bool:
        """Whether mode, owner and times are kept, by the store or in user metadata."""
        return self._fields.posix or self._capabilities.attributes

    def seen_all(self, objects: Iterable[Object]) -> list[Object]:
        """Return a page of answers as callers are to see them.

        Most stores tell no metadata in a listing: there is nothing to do for a file.
        """
        return [
            each if each.metadata is None and each.key[-1:] != "/" else self.seen(each)
            for each in objects
        ]

    def seen(self, object: Object) -> Object:
        """Return an answer of the store as callers are to see it."""
        if object.metadata is None:
            kind = ObjectKind.DIRECTORY if object.key.endswith("/") else object.kind
            if kind is object.kind:
                return object
            return dataclasses.replace(object, kind=kind)
        decoded = dialects.decode(object.metadata.user, self._fields)
        metadata = self._decoded(object.metadata, decoded)
        target = object.link_target
        kind = self._kind(object, metadata, decoded)
        if kind is ObjectKind.LINK and target is None:
            target = decoded.link_target
        if kind is ObjectKind.SPECIAL and not self.keeps_attributes:
            # Without them it could not be told what it is.
            known = metadata.attributes or Attributes()
            metadata = metadata.with_attributes(
                dataclasses.replace(known, mode=decoded.mode, rdev=decoded.rdev)
            )
        has_foreign_name = self._has_foreign_name(object, metadata)
        if has_foreign_name and object.key.endswith(foreign_names.LINK_SUFFIX):
            kind = ObjectKind.LINK
        return _make_object(
            key=object.key,
            kind=kind,
            size=object.size,
            mtime_ns=object.mtime_ns,
            version=object.version,
            metadata=metadata,
            link_target=target,
            has_foreign_name=has_foreign_name,
        )

    def would_drop(self, metadata: Metadata) -> bool:
        """Tell whether a change to these metadata would come to nothing."""
        if not self._features.loose_operation or metadata.user or metadata.pairs:
            return False
        attributes = metadata.attributes
        return attributes is None or self.capabilities.kept(attributes) is None

    def sent(self, metadata: Metadata, kind: ObjectKind) -> Metadata:
        """Return metadata as the store is to keep them.

        Raises `Unsupported` for what it cannot keep.
        """
        user = dict(metadata.user)
        pairs: dict[str, str] = {}
        for name, text in metadata.pairs.items():
            if name in self._capabilities.pairs:
                pairs[name] = text
            elif name in self.capabilities.pairs:
                user[PAIR_PREFIX + name] = text
            else:
                self._refuse(f"the pair {name}")
        attributes = metadata.attributes
        if attributes is not None and not self._capabilities.attributes:
            self._encode(attributes, kind, user)
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

    def _widened(self) -> Capabilities:
        native, features = self._capabilities, self._features
        pairs = native.pairs
        emulates_move = features.virtual_move and native.copy
        if features.virtual_pair and native.metadata:
            pairs |= VIRTUAL_PAIRS
        return dataclasses.replace(
            native,
            attributes=self.keeps_attributes,
            xattrs=native.xattrs or self._fields.xattrs,
            groups=native.groups or self._fields.group,
            specials=native.specials or self._marks_specials,
            move=native.move or emulates_move,
            move_is_copy=native.move_is_copy or (emulates_move and not native.move),
            append=native.append or features.virtual_append,
            pairs=pairs,
        )

    def _encode(
        self, attributes: Attributes, kind: ObjectKind, user: dict[str, str]
    ) -> None:
        """Put attributes into user metadata; refuse those that are not kept."""
        kept = self.capabilities.kept(attributes) or Attributes()
        if kept.xattrs is not None:
            xattrs.check_sizes(kept.xattrs)
            # What lay elsewhere is replaced, even by nothing.
            user.pop(dialects.SIDECAR_NAME, None)
        user.update(dialects.encode(kept, kind, _ALL_FIELDS))
        refused = _unkept(attributes, kept)
        if refused:
            self._refuse(refused)

    def _decoded(self, metadata: Metadata, decoded: dialects.Decoded) -> Metadata:
        user = dict(decoded.foreign)
        commit_id = user.pop(COMMIT_NAME, None)
        pairs = dict(metadata.pairs)
        if self._features.virtual_pair:
            for name in [name for name in user if name.startswith(PAIR_PREFIX)]:
                pairs.setdefault(name.removeprefix(PAIR_PREFIX), user.pop(name))
        attributes = metadata.attributes
        if not self._capabilities.attributes:
            attributes = decoded.attributes
        return _make_metadata(
            user=user,
            pairs=pairs,
            attributes=attributes,
            commit_id=metadata.commit_id or commit_id,
            system=metadata.system,
            is_whole=metadata.is_whole,
        )

    def _kind(
        self, object: Object, metadata: Metadata, decoded: dialects.Decoded
    ) -> ObjectKind:
        # A directory is a key that ends in a slash, and nothing else: an object
        # without one, whatever its mode says, could not be reached as a directory.
        if object.key.endswith("/"):
            return ObjectKind.DIRECTORY
        if object.kind is not ObjectKind.FILE:
            return object.kind
        kind = decoded.kind
        if metadata.attributes is not None and kind is not ObjectKind.LINK:
            mode = metadata.attributes.mode
            kind = dialects.kind_of_mode(decoded.mode if mode is None else mode)
        if kind is ObjectKind.LINK and self._features.virtual_link:
            has_target = decoded.link_target is not None
            return kind if has_target or _can_hold_target(object) else ObjectKind.FILE
        if kind is ObjectKind.SPECIAL and self._features.virtual_special:
            return kind if not object.size else ObjectKind.FILE
        return ObjectKind.FILE

    def _has_foreign_name(self, object: Object, metadata: Metadata) -> bool:
        """Tell whether this is a link of rclone or a directory of Hadoop."""
        wanted = foreign_names.named_key(object.key)
        if wanted is None or metadata.commit_id is not None or object.metadata is None:
            return False
        mode = object.metadata.user.get("mode")
        if wanted.endswith("/"):
            is_read = self._features.virtual_dir and not self._capabilities.native_dirs
            is_one = object.size == 0 and mode is None
        else:
            is_read = (
                self._features.virtual_link and not self._capabilities.native_links
            )
            is_one = _can_hold_target(object) and (
                mode is None or foreign_names.is_mode_of_rclone_link(mode)
            )
        return is_read and is_one

    def _refuse(self, what: str) -> None:
        if not self._features.loose_operation:
            raise Unsupported(f"this store keeps no {what}")


def merged(metadata: Metadata, base: Metadata) -> Metadata:
    """Return metadata for the same bytes, with what `base` has and they do not name.

    Attributes that are not given stay as they are; those that are given replace them,
    but for the file type, which is not to be changed, and extended attributes that are
    None, which may be there and not known.
    """
    given, known = metadata.attributes, base.attributes
    if given is not None and known is not None:
        mode = _retyped(given.mode, known.mode or 0)
        metadata = metadata.with_attributes(dataclasses.replace(given, mode=mode))
    return _over(metadata, base, base.user, base.pairs, known)


def inherited(metadata: Metadata, base: Metadata) -> Metadata:
    """Return metadata for new bytes that take the place of an object with `base`.

    What describes the old bytes (a checksum, being a link, times) does not go on.
    Extended attributes that are None stay, for they may be there and not known.
    """
    attributes = base.attributes
    if attributes is not None:
        mode = attributes.mode
        attributes = Attributes(
            mode=stat.S_IMODE(mode) if mode is not None else None,
            uid=attributes.uid,
            gid=attributes.gid,
            xattrs=attributes.xattrs,
            group=attributes.group,
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
    given = metadata.attributes
    if given is None:
        given = attributes
    elif given.xattrs is None and attributes is not None:
        given = dataclasses.replace(given, xattrs=attributes.xattrs)
    return dataclasses.replace(
        metadata,
        user={**user, **metadata.user},
        pairs={**pairs, **metadata.pairs},
        attributes=given,
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


def _can_hold_target(object: Object) -> bool:
    return object.size is None or 0 < object.size <= dialects.TARGET_SIZE_MAX


def _unkept(attributes: Attributes, kept: Attributes) -> str:
    """Say what of the attributes is not kept; empty if all of it is."""
    if attributes.xattrs and kept.xattrs is None:
        return "extended attributes"
    if attributes.group is not None and kept.group is None:
        return "hard links"
    posix = dataclasses.replace(attributes, xattrs=kept.xattrs, group=kept.group)
    return "POSIX attributes" if posix != kept else ""


def _retyped(mode: int | None, base: int) -> int | None:
    """Return a new mode with the file type that the object has."""
    kind = stat.S_IFMT(base)
    if mode is not None:
        return kind | stat.S_IMODE(mode) if kind else mode
    return base if kind == stat.S_IFLNK or kind in SPECIAL_TYPES else None


def _link_mode(mode: int | None) -> int:
    permissions = stat.S_IMODE(mode) if mode is not None else 0o777
    return stat.S_IFLNK | permissions
