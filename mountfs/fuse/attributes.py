"""Attributes between the file system's form and pyfuse3's."""

import pyfuse3

from mountfs.vfs.attributes import BLOCK_SIZE, Change, Stat

IO_SIZE = 1 << 20
"""What stdio and Python take as their buffer size: fewer, larger writes."""


def entry_of(stat: Stat, ttl_s: float) -> pyfuse3.EntryAttributes:
    """Return the kernel's form of an answer to stat(2), good for `ttl_s` seconds."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(stat.inode)
    entry.generation = stat.generation
    entry.entry_timeout = ttl_s
    entry.attr_timeout = ttl_s
    entry.st_mode = pyfuse3.ModeT(stat.mode)
    entry.st_nlink = stat.links
    entry.st_uid = stat.uid
    entry.st_gid = stat.gid
    entry.st_rdev = stat.rdev
    entry.st_size = stat.size
    entry.st_blksize = IO_SIZE
    entry.st_blocks = -(-stat.size // BLOCK_SIZE)
    entry.st_atime_ns = stat.atime_ns
    entry.st_mtime_ns = stat.mtime_ns
    entry.st_ctime_ns = stat.ctime_ns
    return entry


def absent(ttl_s: float) -> pyfuse3.EntryAttributes:
    """Return the answer that a name does not exist, to be remembered."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(0)
    entry.entry_timeout = ttl_s
    return entry


def change_of(
    attributes: pyfuse3.EntryAttributes, fields: pyfuse3.SetattrFields
) -> Change:
    """Return what a SETATTR request wants changed."""
    return Change(
        mode=attributes.st_mode if fields.update_mode else None,
        uid=attributes.st_uid if fields.update_uid else None,
        gid=attributes.st_gid if fields.update_gid else None,
        size=attributes.st_size if fields.update_size else None,
        atime_ns=attributes.st_atime_ns if fields.update_atime else None,
        mtime_ns=attributes.st_mtime_ns if fields.update_mtime else None,
        ctime_ns=attributes.st_ctime_ns if fields.update_ctime else None,
    )
