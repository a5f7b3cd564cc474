"""The handlers: decode the kernel's request, call the file system, encode the answer.

No decision is made here but the kernel's own: lookup counts, time-outs, and what the
protocol wants answered to operations that the mount does not offer. Facts about the
kernel's behaviour are in docs/explanation/kernel.md.
"""

import errno
import os
from collections.abc import Sequence
from typing import NoReturn

import pyfuse3
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FileNameT,
    FlagT,
    InodeT,
    ModeT,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
)

from mountfs.fuse.attributes import absent, change_of, entry_of
from mountfs.fuse.description import describe
from mountfs.fuse.guard import handler, unanswered
from mountfs.fuse.meter import OperationMeter
from mountfs.storage.tracing import Tracer
from mountfs.vfs.attributes import stat_of
from mountfs.vfs.filesystem import FileSystem
from mountfs.vfs.inodes import Node
from mountfs.vfs.names import NAME_SIZE_MAX
from mountfs.vfs.namespace import Caller

FREE_SIZE = 1 << 50
"""What statvfs(3) reports as free: object stores do not say. Bytes."""

BLOCK = 4096

_DOTS = (b".", b"..")


class Operations(pyfuse3.Operations):
    """One mounted file system, as pyfuse3 asks for it."""

    supports_dot_lookup = True
    enable_writeback_cache = True
    enable_acl = False

    def __init__(self, filesystem: FileSystem, tracer: Tracer | None = None) -> None:
        super().__init__()
        self._fs = filesystem
        self.activity = filesystem.volume.activity
        self.meter = OperationMeter()
        self.tracer = tracer or Tracer()

    def describe(self, name: str, arguments: Sequence[object]) -> tuple[str, str]:
        """Return what path a handler is called for, and what else matters."""
        return describe(self._fs, name, arguments)

    # --- names ------------------------------------------------------------------

    @handler
    async def lookup(
        self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        """Look a name up; absence is an answer that the kernel may keep."""
        node = await self._fs.namespace.lookup(self._node(parent_inode), name)
        return absent(self._ttl_s()) if node is None else self._hand_out(node)

    @unanswered
    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        """Take back lookup counts."""
        for inode, count in inode_list:
            self._fs.volume.inodes.forget(inode, count)

    @handler
    async def create(
        self,
        parent_inode: InodeT,
        name: FileNameT,
        mode: ModeT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> tuple[FileInfo, EntryAttributes]:
        """Make a file and open it, or open the one that is there."""
        parent = self._node(parent_inode)
        try:
            node = await self._fs.namespace.create(parent, name, mode, _caller(ctx))
            opened = self._fs.files.open_new(node, ctx.pid)
        except FileExistsError:
            found = await self._fs.namespace.lookup(parent, name)
            if flags & os.O_EXCL or found is None:
                raise
            node = found
            opened = await self._fs.files.open(node, flags, ctx.pid, ctx.uid)
        return self._file_info(opened.handle), self._hand_out(node)

    @handler
    async def mkdir(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, ctx: RequestContext
    ) -> EntryAttributes:
        """Make a directory."""
        parent = self._node(parent_inode)
        node = await self._fs.namespace.mkdir(parent, name, mode, _caller(ctx))
        return self._hand_out(node)

    @handler
    async def symlink(
        self,
        parent_inode: InodeT,
        name: FileNameT,
        target: FileNameT,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """Make a symbolic link."""
        parent = self._node(parent_inode)
        node = await self._fs.namespace.symlink(parent, name, target, _caller(ctx))
        return self._hand_out(node)

    @handler
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> FileNameT:
        """Return a link's target."""
        return FileNameT(await self._fs.namespace.readlink(self._node(inode)))

    @handler
    async def unlink(
        self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext
    ) -> None:
        """Remove a file or link."""
        await self._fs.namespace.unlink(self._node(parent_inode), name)

    @handler
    async def rmdir(
        self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext
    ) -> None:
        """Remove an empty directory."""
        await self._fs.namespace.rmdir(self._node(parent_inode), name)

    @handler
    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: FileNameT,
        parent_inode_new: InodeT,
        name_new: FileNameT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> None:
        """Rename a file, link or directory."""
        old = (self._node(parent_inode_old), name_old)
        new = (self._node(parent_inode_new), name_new)
        await self._fs.renames.rename(old, new, flags)

    @handler
    async def link(
        self,
        inode: InodeT,
        new_parent_inode: InodeT,
        new_name: FileNameT,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """Give a file one more name."""
        parent = self._node(new_parent_inode)
        node = await self._fs.namespace.link(self._node(inode), parent, new_name)
        return self._hand_out(node)

    @handler
    async def mknod(
        self,
        parent_inode: InodeT,
        name: FileNameT,
        mode: ModeT,
        rdev: int,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """Make a special file, or a regular one that nobody opens."""
        parent = self._node(parent_inode)
        node = await self._fs.namespace.mknod(parent, name, mode, rdev, _caller(ctx))
        return self._hand_out(node)

    # --- attributes -------------------------------------------------------------

    @handler
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        """Return what is known; the name's own lookup keeps it new."""
        return entry_of(stat_of(self._node(inode)), self._ttl_s())

    @handler
    async def setattr(
        self,
        inode: InodeT,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: FileHandleT | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """Change attributes. With a handle and times it is the kernel's own report."""
        node = self._node(inode)
        await self._fs.attributes.apply(
            node, change_of(attr, fields), is_echo=fh is not None
        )
        return entry_of(stat_of(node), self._ttl_s())

    @handler
    async def access(self, inode: InodeT, mode: ModeT, ctx: RequestContext) -> bool:
        """Allow: the kernel itself checks (default_permissions)."""
        return True

    @handler
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        """Report how full the store is, or a store without an end."""
        space = await self._fs.space.space()
        answer = StatvfsData()
        answer.f_bsize = BLOCK
        answer.f_frsize = BLOCK
        answer.f_blocks = (space.total if space else FREE_SIZE) // BLOCK
        answer.f_bfree = (space.free if space else FREE_SIZE) // BLOCK
        answer.f_bavail = answer.f_bfree
        answer.f_files = 1 << 32
        answer.f_ffree = answer.f_files
        answer.f_favail = answer.f_files
        answer.f_namemax = NAME_SIZE_MAX
        return answer

    # --- extended attributes ----------------------------------------------------
    # Without them ENOSYS on purpose: the kernel stops asking, above all for
    # security.capability before every write(2).

    @handler
    async def getxattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> bytes:
        """Return the value of an extended attribute."""
        self._check_xattrs()
        value = await self._fs.xattrs.find(self._node(inode), name)
        if value is None:
            _refuse(errno.ENODATA)
        return value

    @handler
    async def setxattr(
        self, inode: InodeT, name: bytes, value: bytes, ctx: RequestContext
    ) -> None:
        """Set an extended attribute."""
        self._check_xattrs()
        await self._fs.xattrs.set(self._node(inode), name, value)

    @handler
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[bytes]:
        """Return the names of the extended attributes that a user may see."""
        self._check_xattrs()
        return await self._fs.xattrs.names(self._node(inode), ctx.uid)

    @handler
    async def removexattr(
        self, inode: InodeT, name: bytes, ctx: RequestContext
    ) -> None:
        """Remove an extended attribute."""
        self._check_xattrs()
        await self._fs.xattrs.remove(self._node(inode), name)

    def _check_xattrs(self) -> None:
        if not self._fs.xattrs.is_on:
            _refuse(errno.ENOSYS)

    # --- files ------------------------------------------------------------------

    @handler
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        """Open a file."""
        node = self._node(inode)
        opened = await self._fs.files.open(node, flags, ctx.pid, ctx.uid)
        return self._file_info(opened.handle)

    @handler
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        """Read; a short answer is the end of the file."""
        data = await self._fs.files.read(self._fs.files.get(fh), off, size)
        self.activity.read_bytes += len(data)
        return data  # type: ignore[return-value]  # pyfuse3 takes any buffer

    @handler
    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        """Write all of it or fail: a short answer would lose the rest."""
        written = await self._fs.files.write(self._fs.files.get(fh), off, buf)
        self.activity.written_bytes += written
        return written

    @handler
    async def flush(self, fh: FileHandleT) -> None:
        """Commit at close(2), and give close its error."""
        await self._fs.files.flush(self._fs.files.get(fh))

    @handler
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        """Commit at fsync(2)."""
        await self._fs.files.fsync_open(self._fs.files.get(fh))

    @handler
    async def release(self, fh: FileHandleT) -> None:
        """Take back a handle."""
        await self._fs.files.release(self._fs.files.get(fh))

    # --- directories ------------------------------------------------------------

    @handler
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        """Open a directory."""
        return FileHandleT(self._fs.directories.open(self._node(inode)).handle)

    @handler
    async def readdir(
        self, fh: FileHandleT, start_id: int, token: ReaddirToken
    ) -> None:
        """List entries from a position on, and tell the kernel their attributes."""
        opened = self._fs.directories.get(fh)
        entries = await self._fs.directories.entries(opened, anew=start_id == 0)
        for position in range(start_id, len(entries) + len(_DOTS)):
            if position < len(_DOTS):
                if not self._reply_dot(token, opened.node, position):
                    return
                continue
            name, what = entries[position - len(_DOTS)]
            node = self._fs.directories.node_of(opened.node, name, what)
            if node is None:
                continue
            answer = entry_of(stat_of(node), self._ttl_s())
            if not pyfuse3.readdir_reply(token, FileNameT(name), answer, position + 1):
                self._fs.volume.inodes.drop_if_unused(node)
                return
            node.hand_out()

    @handler
    async def releasedir(self, fh: FileHandleT) -> None:
        """Take back a handle."""
        self._fs.directories.release(fh)

    @handler
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        """Do nothing: every change of a name is in the store when it returns."""

    # --- inside -----------------------------------------------------------------

    def _ttl_s(self) -> float:
        """Return how long the kernel may keep an answer; it can change any time."""
        return self._fs.volume.metadata.ttl_s

    def _node(self, inode: InodeT) -> Node:
        return self._fs.volume.inodes.get(inode)

    def _hand_out(self, node: Node) -> EntryAttributes:
        """Encode a node for an answer that the kernel counts as a lookup."""
        node.hand_out()
        return entry_of(stat_of(node), self._ttl_s())

    def _file_info(self, handle: int) -> FileInfo:
        # keep_cache: a node stands for one version of the bytes, so what the kernel
        # has of it stays right (a foreign change gets another node).
        return FileInfo(
            fh=FileHandleT(handle), direct_io=False, keep_cache=True, nonseekable=False
        )

    def _reply_dot(self, token: ReaddirToken, directory: Node, position: int) -> bool:
        """List `.` or `..`, which the kernel does not count as lookups."""
        node = directory if position == 0 else (directory.parent or directory)
        answer = entry_of(stat_of(node), self._ttl_s())
        return pyfuse3.readdir_reply(
            token, FileNameT(_DOTS[position]), answer, position + 1
        )


def _caller(ctx: RequestContext) -> Caller:
    return Caller(pid=ctx.pid, uid=ctx.uid, gid=ctx.gid)


def _refuse(code: int) -> NoReturn:
    raise pyfuse3.FUSEError(code)
