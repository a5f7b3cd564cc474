"""Extended attributes (xattr(7)): which names there are, and reading and changing them.

The kernel checks who may do what to `user.*`, `trusted.*` and `security.*`, but for the
list, from which it removes nothing. POSIX access lists are refused: accepting
one without obeying it would open files to the wrong people, and programs that are
refused fall back to the mode.

All attributes of a file are one part of its `Attributes`, so a change of one is a
change like chmod(2) and is stored as such. What is under `user.mountfs.` is told by
`mountfs.vfs.facts`, and never stored.
"""

import errno
from collections.abc import Mapping

from cachetools import TTLCache

from mountfs.storage import xattrs as stored
from mountfs.storage.errors import MetadataTooLarge
from mountfs.storage.types import ObjectKind
from mountfs.vfs.attributes import Change
from mountfs.vfs.errors import fail
from mountfs.vfs.explain import Explainer
from mountfs.vfs.facts import PREFIX, Facts
from mountfs.vfs.inodes import Inode, Node
from mountfs.vfs.resolver import Resolver
from mountfs.vfs.setattr import AttributeChanges
from mountfs.vfs.volume import Volume

NAMESPACES = (b"user.", b"trusted.", b"security.")
TRUSTED = b"trusted."
REFUSED = frozenset({b"security.selinux"})
"""Asked for by ls(1) for every file, unless it is told that there is no such thing."""

LOST_S = 1.0
"""How long nobody asks again for what could not be had: there may be a question for
each write(2)."""
LOST_MAX = 1024

NONE: Mapping[bytes, bytes] = {}


class Xattrs:
    """The extended attributes of one volume."""

    def __init__(
        self,
        volume: Volume,
        resolver: Resolver,
        changes: AttributeChanges,
        explainer: Explainer,
    ) -> None:
        self._volume = volume
        self._resolver = resolver
        self._changes = changes
        self._facts = Facts(volume, resolver, explainer)
        self._lost: TTLCache[Inode, None] = TTLCache(LOST_MAX, LOST_S)

    @property
    def is_on(self) -> bool:
        """Whether there are any: the gate is open, and the store has room for them."""
        return self._volume.store.capabilities.xattrs

    async def get(self, node: Node, name: bytes) -> bytes:
        """As `find`, but raises ENODATA."""
        value = await self.find(node, name)
        if value is None:
            fail(errno.ENODATA)
        return value

    async def find(self, node: Node, name: bytes) -> bytes | None:
        """Return a value, if there is one. Raises EOPNOTSUPP, and EIO if it is lost.

        There is none of what the kernel asks for before every write(2): that is no
        exception.
        """
        _check_name(name)
        if name.startswith(PREFIX):
            return await self._facts.get(node, name.removeprefix(PREFIX))
        known = node.attributes.xattrs
        return (await self._known(node) if known is None else known).get(name)

    async def names(self, node: Node, uid: int) -> tuple[bytes, ...]:
        """Return the names that a user may see."""
        return tuple(
            name
            for name in sorted(await self._known(node))
            if _is_offered(name) and (uid == 0 or not name.startswith(TRUSTED))
        )

    async def set(self, node: Node, name: bytes, value: bytes) -> None:
        """Set a value. Raises EPERM, ENOSPC, EOPNOTSUPP, and what storing raises."""
        self._check_can_change(node, name)
        after = {**await self._known(node), name: value}
        try:
            stored.check_sizes(after)
        except MetadataTooLarge as error:
            fail(errno.ENOSPC, str(error))
        await self._changes.apply(node, Change(xattrs=after), is_echo=False)

    async def remove(self, node: Node, name: bytes) -> None:
        """Remove an attribute. Raises ENODATA, and as `set` does."""
        self._check_can_change(node, name)
        after = dict(await self._known(node))
        if after.pop(name, None) is None:
            fail(errno.ENODATA)
        await self._changes.apply(node, Change(xattrs=after), is_echo=False)

    async def _known(self, node: Node) -> Mapping[bytes, bytes]:
        """Return all attributes of a file, asking if a listing did not tell them.

        Raises EIO if they lie elsewhere in the store and are not there: none would be
        a lie, and whoever copies the file would lose them for good.
        """
        known = self._told(node)
        if known is None and node.inode not in self._lost:
            await self._resolver.ask_again(node)
            known = self._told(node)
        if known is None:
            self._lost[node.inode] = None
            fail(errno.EIO, "the extended attributes are lost")
        return known

    def _told(self, node: Node) -> Mapping[bytes, bytes] | None:
        """Return what is known of a node; None if asking may tell more."""
        object = node.object
        if node.attributes.xattrs is not None:
            return node.attributes.xattrs
        if object is not None and object.is_described and object.attributes is None:
            return NONE  # it carries nothing of ours at all
        return None if self._resolver.may_tell_more(node) else NONE

    def _check_can_change(self, node: Node, name: bytes) -> None:
        self._volume.check_writable()
        _check_name(name)
        if name.startswith(PREFIX):
            fail(errno.EPERM, "this attribute is mountfs' own")
        able = self._volume.store.capabilities
        match node.kind:
            case ObjectKind.DIRECTORY:
                is_root = node.parent is None
                is_kept = able.root_metadata if is_root else able.dir_metadata
            case ObjectKind.LINK:
                is_kept = not able.native_links or able.link_metadata
            case _:
                is_kept = able.set_metadata
        if not is_kept and not self._volume.store.features.loose_operation:
            # Not shown until the kernel forgets the node, as a mode is: whoever sets
            # an attribute wants to find it again.
            fail(errno.EOPNOTSUPP, "the store has no place for it")


def _check_name(name: bytes) -> None:
    """Raise EOPNOTSUPP for what is not offered, EINVAL for an empty name."""
    if not _is_offered(name):
        fail(errno.EOPNOTSUPP)
    if name in NAMESPACES:
        fail(errno.EINVAL)


def _is_offered(name: bytes) -> bool:
    return name.startswith(NAMESPACES) and name not in REFUSED
