"""What a file is in the store and here: everything that is known of one path, as JSON.

For people who wonder: where a file lies, what stands for it, whence its attributes
come, what of it is here, what is not stored yet and why. The store is asked at most for
what nobody else can tell (the metadata as they lie there), for a short time only, and
not at all while it is out of reach; nothing is changed.
"""

import contextlib
import errno
import os
from dataclasses import asdict, dataclass

import trio

from mountfs.cache.index_format import directory_prefix
from mountfs.cache.knowledge import split_key
from mountfs.cache.records import Record
from mountfs.storage import dialects
from mountfs.storage.deadline import within
from mountfs.storage.errors import NotFound, Offline, StoreError
from mountfs.storage.refusals import Refusal
from mountfs.storage.types import (
    NO_METADATA,
    NO_PAIRS,
    Attributes,
    Object,
    ObjectKind,
)
from mountfs.vfs.files import Files
from mountfs.vfs.forms import NOTHING_YET, Form, form_of
from mountfs.vfs.here import SHOWN_MAX, Here, dirty_of, ranges_of, refusal_of
from mountfs.vfs.names import ShortEntry
from mountfs.vfs.namespace import Namespace
from mountfs.vfs.node import Node
from mountfs.vfs.origins import Told, moment, origins
from mountfs.vfs.volume import RESERVED, Volume

ASK_S = 8.0
"""How long the store is asked for the metadata of one object, at most."""
FIND_S = 12.0
"""How long it takes to find what a path means, at most."""
TEXT_MAX = 1024
"""A store may have metadata of any length."""
KNOWN_S = 1.0
"""How long that is if only what is known here can tell."""


class Explainer:
    """Explains the paths of one volume."""

    def __init__(self, volume: Volume, namespace: Namespace, files: Files) -> None:
        self._volume = volume
        self._namespace = namespace
        self._files = files
        self._here = Here(volume)

    async def explain(self, path: bytes) -> dict[str, object]:
        """Tell of a path below the root. Raises nothing that the store does.

        `found` is None if nobody can say whether it is there.
        """
        names = [name for name in path.split(b"/") if name]
        shown = os.fsdecode(b"/".join(names))
        way = await self._find(names)
        node, error = way.node, way.error
        try:
            if way.depth == len(names):
                told = await self.of(node, trouble=way.trouble)
                return {"path": shown, "found": True, **told}
            why = self._absence(node, names, way.depth, error)
        finally:
            self._volume.inodes.release(node)
        is_known = not isinstance(error, StoreError)
        return {"path": shown, "found": False if is_known else None, **why}

    async def of(self, node: Node, *, trouble: str | None = None) -> dict[str, object]:
        """Tell of a node; `trouble` is why there is no use in asking the store."""
        volume = self._volume
        if node.is_nameless:
            return {"kind": node.kind.value, "state": self._here.state(node)}
        bare = None
        if trouble is None:
            bare, trouble = await self._ask(node)
        key = node.key()
        is_here_only = bool(self._here.is_changed(node))
        told: dict[str, object] = {
            "kind": node.kind.value,
            "object": self._object(node, bare, trouble),
            "form": asdict(self._form(node, bare)),
            "attributes": await self._attributes(node, bare, is_changed=is_here_only),
            "state": self._here.state(node),
            "open": {
                "handles": sum(each.node is node for each in self._files),
                "writing": node.loaded_file.writers if node.loaded_file else 0,
            },
            "cached": ranges_of(self._here.cached(node)),
            "dirty": dirty_of(self._here.dirty(node)),
            "pending": self._here.pending(node),
            "error": self._here.error(node),
            "incident": self._here.incident(key),
        }
        if node.kind is ObjectKind.LINK and node.object is not None:
            told["target"] = node.object.link_target
        if node.group is not None:
            told["hard_links"] = self._here.links(node)
        if volume.index is not None and node.parent is not None:
            told["index"] = directory_prefix(split_key(key)[0])
        if node.is_directory:
            told["pending_below"] = self._here.count_below(key)
        return told

    def _form(self, node: Node, bare: Object | None) -> Form:
        if self._is_new(node, bare):
            return NOTHING_YET
        return form_of(node, bare, self._volume.store.capabilities)

    def _is_new(self, node: Node, bare: Object | None) -> bool:
        """Tell whether the store has never had it, as far as is known here."""
        if bare is not None or not self._here.is_changed(node):
            return False
        return self._here.version(node) is None and not (
            node.is_directory and self._volume.journaled is None
        )

    def _object(
        self, node: Node, bare: Object | None, trouble: str | None
    ) -> dict[str, object]:
        key = node.object.key if node.object is not None else node.key()
        known = bare or node.object
        version = bare.version if bare is not None else None
        metadata = known.metadata if known is not None else None
        pairs = metadata.pairs if metadata is not None else NO_PAIRS
        told: dict[str, object] = {
            "key": key,
            "url": self._volume.url_of(key),
            "in_store": None if trouble is not None else bare is not None,
            "size": bare.size if bare is not None else None,
            "etag": version.content if version is not None else self._here.etag(node),
            "state_version": version.attributes if version is not None else None,
            "modified": moment(bare.mtime_ns) if bare and bare.mtime_ns else None,
            "storage_class": pairs.get("storage-class"),
            "content_type": pairs.get("content-type"),
        }
        if bare is not None and bare.metadata is not None:
            user = sorted(bare.metadata.user.items())
            told["user_metadata"] = {
                name[:TEXT_MAX]: text[:TEXT_MAX] for name, text in user[:SHOWN_MAX]
            }
            told["commit_id"] = bare.metadata.commit_id
        if trouble is not None:
            told["not_asked"] = trouble
        mine = self._here.etag(node)
        if version is not None and mine is not None and version.content != mine:
            told["is_newer_in_store"] = True
        return told

    # --- parts that ask the store -----------------------------------------------------

    async def _ask(self, node: Node) -> tuple[Object | None, str | None]:
        """Return the object as it lies in the store, or why it was not asked for."""
        watched = self._volume.watched
        if node.parent is None:
            return None, None
        if watched is None:
            return node.object, None
        if watched.trouble is not None:
            return None, watched.trouble
        key = node.object.key if node.object is not None else node.key()
        is_native = self._volume.store.capabilities.native_dirs and node.is_directory
        kind = ObjectKind.DIRECTORY if is_native else None
        trouble: str | None = f"no answer within {ASK_S:g} s"
        bare: Object | None = None
        with within(ASK_S):
            try:
                bare, trouble = await watched.stat(key, kind=kind), None
            except NotFound:
                trouble = None
            except StoreError as error:
                trouble = str(error)
        return bare, trouble

    async def _attributes(
        self, node: Node, bare: Object | None, *, is_changed: bool
    ) -> dict[str, object]:
        volume = self._volume
        features = volume.store.features
        base = bare or node.object or Object(key=node.key())
        metadata = bare.metadata if bare is not None else None
        user = metadata.user if metadata is not None else NO_PAIRS
        native = base.attributes if bare is not None else None
        attributes: Attributes | None = native
        is_read = features.virtual_object_metadata or native is not None
        if native is None and is_read:
            attributes = dialects.decode(user, dialects.Fields(posix=True)).attributes
        if bare is None and node.object is not None:
            attributes = node.object.attributes
        told = Told(
            object=Object(
                key=base.key,
                kind=node.kind,
                mtime_ns=base.mtime_ns,
                metadata=(metadata or NO_METADATA).with_attributes(attributes),
            ),
            user=user,
            is_native=native is not None,
            is_read=is_read,
            is_new=self._is_new(node, bare),
            is_asked=bare is not None,
            index=await self._indexed(node),
            commit_id=metadata.commit_id if metadata is not None else None,
        )
        found = origins(node.attributes, told, volume.defaults, is_changed=is_changed)
        return {name: asdict(origin) for name, origin in found.items()}

    async def _indexed(self, node: Node) -> Attributes | None:
        """Return what the attribute index keeps in the store's place."""
        index, watched = self._volume.index, self._volume.watched
        able = self._volume.store.capabilities
        is_root = node.parent is None and able.root_metadata
        if index is None or not (is_root or node.kind in able.indexed):
            return None
        if watched is not None and watched.trouble is not None:
            return None
        record: Record | None = None
        with within(ASK_S), contextlib.suppress(StoreError):
            record = await index.record(*split_key(node.key()))
        return record.attributes if record is not None else None

    # --- finding ----------------------------------------------------------------------

    async def _find(self, names: list[bytes]) -> "_Way":
        """Return how far a path leads; what is known is believed if nobody can say."""
        inodes = self._volume.inodes
        way = _Way(inodes.root)
        inodes.hold(way.node)
        until_s = trio.current_time() + FIND_S
        for name in names:
            try:
                found = await self._child(way, name, until_s)
            except (StoreError, OSError) as error:
                way.error = error
                return way
            if found is None:
                return way
            inodes.hold(found)
            inodes.release(way.node)
            way.node, way.depth = found, way.depth + 1
        return way

    async def _child(self, way: "_Way", name: bytes, until_s: float) -> Node | None:
        parent, watched = way.node, self._volume.watched
        if not parent.is_directory:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if watched is not None and watched.trouble is not None:
            way.trouble = watched.trouble
            until_s = min(until_s, trio.current_time() + KNOWN_S)
        known = parent.children.get(name)
        if known is not None and way.trouble is not None:
            return known
        try:
            with trio.move_on_at(until_s):
                return await self._namespace.lookup(parent, name)
            raise Offline(way.trouble or f"no answer within {FIND_S:g} s")
        except StoreError as error:
            if known is None:
                raise
            way.trouble = error.reason
            return known

    def _absence(
        self,
        parent: Node,
        names: list[bytes],
        depth: int,
        error: StoreError | OSError | None,
    ) -> dict[str, object]:
        """Tell why a path leads nowhere, and where it was looked for."""
        missing = os.fsdecode(b"/".join(names[: depth + 1]))
        told: dict[str, object] = {"missing": missing}
        if isinstance(error, OSError):
            about = os.fsdecode(b"/".join(names[:depth]))
            return {**told, "why": _obstacle(parent, about, error)}
        if missing == RESERVED:
            return {**told, "why": f"{RESERVED} is mountfs' own, and hidden"}
        entry = self._volume.entry(parent, names[depth])
        if isinstance(entry, ShortEntry):
            return {**told, "why": "no name in this directory has this short form"}
        key = parent.key() + entry.component
        told |= self._known_of(key)
        if error is not None:
            told["why"] = f"the store could not be asked: {error.reason}"
            if error.status is not None:
                told["error"] = refusal_of(Refusal(0, error))
        elif self._here.is_removed(key):
            told["why"] = "it was removed here; the store has yet to do so"
        else:
            is_native = self._volume.store.capabilities.native_dirs
            keys = (key,) if is_native else (key, f"{key}/")
            told["why"] = "the store has no object of this key, and nothing below it"
            told["looked_up"] = [self._volume.url_of(each) for each in keys]
        return told

    def _known_of(self, key: str) -> dict[str, object]:
        """Tell what waits for the store under a key, and what went wrong there."""
        told: dict[str, object] = {}
        pending = self._here.pending_at(key)
        if pending:
            told["pending"] = pending
        incident = self._here.incident(key)
        if incident is not None:
            told["incident"] = incident
        return told


@dataclass(slots=True)
class _Way:
    """How far a path led: the last node, held, how many names that is, and the end."""

    node: Node
    depth: int = 0
    error: StoreError | OSError | None = None
    trouble: str | None = None
    """Why the store was not believed, or asked."""


def _obstacle(node: Node, path: str, error: OSError) -> str:
    """Return why a path does not go on behind a node."""
    if not isinstance(error, NotADirectoryError):
        return error.strerror or str(error)
    if node.kind is not ObjectKind.LINK:
        return f"{path} is no directory"
    target = node.object.link_target if node.object is not None else None
    leads = f" to {target}" if target is not None else ""
    return f"{path} is a symbolic link{leads}: ask for what it leads to"
