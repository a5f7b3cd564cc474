"""Changing attributes: chmod(2), chown(2), utimensat(2), truncate(2), setxattr(2).

The attributes of a file that is not committed yet travel with its bytes. Those of
anything else are changed in the store at once, by one request, unless nothing but the
time of the inode's change would differ.
"""

import errno
from dataclasses import replace

from mountfs.storage.errors import NotFound, VersionChanged
from mountfs.storage.types import Attributes, Object, ObjectKind
from mountfs.vfs.attributes import Change, changed, is_only_ctime
from mountfs.vfs.errors import fail
from mountfs.vfs.files import Files
from mountfs.vfs.filestate import Clean, Dirty
from mountfs.vfs.foreign import take_over
from mountfs.vfs.hardlinks import HardLinks
from mountfs.vfs.inodes import Node
from mountfs.vfs.resolver import Resolver
from mountfs.vfs.tree import changing
from mountfs.vfs.volume import Volume


class AttributeChanges:
    """Changes the attributes of nodes."""

    def __init__(
        self,
        volume: Volume,
        resolver: Resolver,
        files: Files,
        hard_links: HardLinks,
    ) -> None:
        self._volume = volume
        self._resolver = resolver
        self._files = files
        self._hard_links = hard_links

    async def apply(self, node: Node, change: Change, *, is_echo: bool) -> None:
        """Change attributes. `is_echo` marks the kernel's own report of the times of
        bytes that it wrote: it needs no permission of a gate.
        """
        before, after = node.attributes, self._after(node, change)
        is_quiet = is_only_ctime(before, after)
        if change.size is not None or not is_quiet:
            await self._resolver.learn(node)
        if change.size is not None:
            await self._files.truncate(node, change.size, change)
        if node.attributes is not before:
            before, after = node.attributes, self._after(node, change)
            is_quiet = is_only_ctime(before, after)
        if after == before:
            return
        if node.is_nameless or is_quiet:
            node.attributes = after
            self._volume.inodes.keep(node)
            return
        self._volume.check_writable()
        if change.xattrs is None and not self._volume.keeps_attributes:
            self._accept_unkept(node, after, is_echo=is_echo)
            return
        async with changing(node):
            await self._store(node, after)
        # After it: a commit announces itself, and who has done so must never wait.
        if node.file is not None and not node.file.writers:
            await self._files.fsync(node)

    def _after(self, node: Node, change: Change) -> Attributes:
        now_ns = self._volume.now_ns()
        ctime_ns = change.ctime_ns if change.ctime_ns is not None else now_ns
        return changed(node.attributes, change, ctime_ns=ctime_ns)

    def _accept_unkept(self, node: Node, after: Attributes, *, is_echo: bool) -> None:
        """Without the gate: the kernel's own times are shown, all else is refused."""
        if self._volume.store.features.loose_operation:
            return
        if not is_echo:
            fail(errno.EOPNOTSUPP, "virtual_object_metadata is off")
        node.attributes = replace(
            node.attributes, mtime_ns=after.mtime_ns, ctime_ns=after.ctime_ns
        )

    async def _store(self, node: Node, after: Attributes) -> None:
        file = node.file
        if file is None:
            await self._store_object(node, after)
            return
        async with file.lock:
            if isinstance(file.state, Dirty):
                node.attributes = after
                file.has_new_attributes = True
            else:
                await self._store_object(node, after)
                assert node.object is not None
                file.state = Clean(node.object)

    async def _store_object(self, node: Node, after: Attributes) -> None:
        """Change the attributes in the store, then here."""
        if node.is_directory:
            await self._volume.store_directory_attributes(node, after)
            node.attributes = after
            self._volume.touched.drop(node)
            return
        known = node.object
        if known is None:
            fail(errno.ESTALE)
        if known.has_foreign_name:
            await take_over(self._volume, node)
            known = node.object or known
        if known.kind is ObjectKind.LINK and not self._keeps_metadata_of_links():
            # As for directories: a refusal would fail every `cp -a` of a link.
            node.attributes = after
            return
        self._check_can_set()
        async with self._hard_links.following(node, "attributes"):
            await self._change_object(node, known, after)
        node.attributes = after

    async def _change_object(
        self, node: Node, known: Object, after: Attributes
    ) -> None:
        try:
            # Of these bytes only: without a condition a store may take what is newest,
            # and foreign bytes would be mistaken for those that are cached.
            object = await self._volume.store.set_metadata(
                known, self._volume.metadata_with(after), condition=known.version
            )
        except (NotFound, VersionChanged):
            self._volume.metadata.expire(node.key())
            self._volume.say_outdated(node)
            fail(errno.ESTALE, "a foreign client replaced the object")
        # A metadata copy of a multipart object changes its ETag: same bytes, new key.
        self._volume.blocks.rekey(known, object)
        self._volume.adopt(node, self._complete(object, known))

    async def store_times(self, directory: Node) -> None:
        """Store the times of a directory whose entries have changed.

        If it exists by its children alone, its times are kept here alone: a marker is
        not made for them, because other tools would see it.
        """
        if not directory.is_nameless:
            await self._resolver.learn(directory)
        async with changing(directory):
            if directory.is_nameless or not self._has_place(directory):
                return
            await self._volume.store_directory_attributes(
                directory, directory.attributes
            )

    def _has_place(self, directory: Node) -> bool:
        """Tell whether a directory can keep attributes without being given a marker."""
        capabilities = self._volume.store.capabilities
        if directory.parent is None:
            return capabilities.root_metadata
        if ObjectKind.DIRECTORY in capabilities.indexed:
            return True
        return directory.object is not None and directory.object.version is not None

    def _keeps_metadata_of_links(self) -> bool:
        capabilities = self._volume.store.capabilities
        return not capabilities.native_links or capabilities.link_metadata

    def _check_can_set(self) -> None:
        if not self._volume.store.capabilities.set_metadata:
            fail(errno.EOPNOTSUPP, "the store cannot change metadata")

    def _complete(self, object: Object, known: Object) -> Object:
        if object.kind is known.kind and object.size is not None:
            return object
        return replace(
            object,
            kind=known.kind if object.kind is ObjectKind.FILE else object.kind,
            size=object.size if object.size is not None else known.size,
            link_target=object.link_target or known.link_target,
        )
