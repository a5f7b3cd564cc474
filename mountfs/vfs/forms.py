"""What stands for a file in the store, and which gate lets it. Pure."""

from dataclasses import dataclass

from mountfs.storage import dialects
from mountfs.storage.foreign_names import LINK_SUFFIX
from mountfs.storage.types import Capabilities, Object, ObjectKind
from mountfs.vfs.node import Node


@dataclass(frozen=True, slots=True)
class Form:
    """How a file, directory or link is represented."""

    name: str
    text: str
    gate: str | None = None
    """The gate that makes it so; None: nobody emulates anything."""


ROOT = Form("root", "the root of the mount: no object stands for it")
NOTHING_YET = Form("nothing yet", "it is only here so far")
FILE = Form("object", "a plain object with the bytes of the file")
NAME_OF_MANY = Form(
    "hard link",
    "a plain object with the bytes of the file, one of several names",
    "virtual_hard_link",
)
NATIVE_DIRECTORY = Form("directory", "a directory of the store itself")
MARKER = Form("marker", "an object whose key ends in a slash", "virtual_dir")
IMPLIED = Form("implied", "no object: there are keys below it")
HADOOP = Form("folder object", "an object of Hadoop's, NAME_$folder$", "virtual_dir")
NATIVE_LINK = Form("link", "a link of the store itself")
LINK_IN_METADATA = Form(
    "link in metadata", "an object whose metadata name the target", "virtual_link"
)
LINK_OBJECT = Form(
    "link object",
    "an object whose bytes are the target; its mode says that it is a link",
    "virtual_link",
)
RCLONE_LINK = Form(
    "rclone link",
    f"an object of rclone's, NAME{LINK_SUFFIX}, whose bytes are the target",
    "virtual_link",
)
SPECIAL = Form(
    "special object",
    "an object without bytes; its mode says what it is",
    "virtual_special",
)


def form_of(node: Node, bare: Object | None, able: Capabilities) -> Form:
    """Return what stands for a node. `bare` is its object as it lies in the store."""
    if node.parent is None:
        return ROOT
    match node.kind:
        case ObjectKind.DIRECTORY:
            return _directory(node, bare, able)
        case ObjectKind.LINK:
            return _link(node, bare, able)
        case ObjectKind.SPECIAL:
            return SPECIAL
        case ObjectKind.FILE:
            if bare is None and node.object is None:
                return NOTHING_YET
            return FILE if node.group is None else NAME_OF_MANY


def _directory(node: Node, bare: Object | None, able: Capabilities) -> Form:
    if able.native_dirs:
        return NATIVE_DIRECTORY
    known = node.object
    if known is not None and known.has_foreign_name:
        return HADOOP
    is_marked = bare is not None and bare.version is not None
    is_known = known is not None and known.version is not None
    return MARKER if is_marked or (bare is None and is_known) else IMPLIED


def _link(node: Node, bare: Object | None, able: Capabilities) -> Form:
    known = node.object
    if known is not None and known.has_foreign_name:
        return RCLONE_LINK
    if bare is not None and bare.kind is ObjectKind.LINK and able.native_links:
        return NATIVE_LINK
    if bare is None or bare.metadata is None:
        return LINK_OBJECT
    decoded = dialects.decode(bare.metadata.user, dialects.Fields())
    return LINK_OBJECT if decoded.link_target is None else LINK_IN_METADATA
