"""Files with several names: what is done to one name is done to all.

Each name is a whole object under its own key, readable by every other tool; a group
record (`mountfs.vfs.groups`) says which belong together. So new bytes are one write
and a copy to each other name, and a change of attributes is one request a name.

The journal knows of every change before its first effect. A crash in between leaves
names that differ, or a record that is not right; the next mount with this journal
brings them together (`recover`):

* "bytes", "attributes": the name that was changed first is copied to the others,
  unless somebody changed those meanwhile;
* "names": an object that carries the id and lies under a key of the record, or under
  the key in the journal, is a name; all other keys are taken out of the record.

A foreign program's write to one name makes that name a file of its own.
"""

import contextlib
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Literal

import trio

from mountfs.cache.journal import LinkChange
from mountfs.storage.conditions import look_first
from mountfs.storage.errors import NotFound, PreconditionFailed, StoreError
from mountfs.storage.parallel import run_all
from mountfs.storage.types import (
    ABSENT,
    Attributes,
    Call,
    Object,
    ObjectKind,
    Version,
)
from mountfs.vfs.filestate import Clean
from mountfs.vfs.groups import Group, Names
from mountfs.vfs.inodes import Node
from mountfs.vfs.volume import Volume

log = logging.getLogger(__name__)

Phase = Literal["bytes", "attributes", "names"]

_ROUNDS_MAX = 8
"""How often names that appear while others are brought up to date are followed."""


class HardLinks:
    """The groups of one volume, as its nodes need them."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._groups = volume.groups

    async def others(self, node: Node, key: str) -> Names:
        """Return the names of a file besides one key, as the store knows them now.

        If nobody needs the file here: as it knew them a time to live ago, or later.
        """
        id = node.group
        if id is None:
            return {}
        is_needed = node.opens or node.holds_changes
        known = None if is_needed else self._groups.fresh(id)
        group = known or await self._groups.ask(id)
        return {name: seen for name, seen in group.names.items() if name != key}

    # --- making and losing names ------------------------------------------------

    async def add(self, node: Node, key: str) -> None:
        """Make one more object for a stored file, and enter it in the record.

        The caller holds the file's lock and has seen that the key is free. Raises
        `AlreadyExists`.
        """
        id = node.group or self._new_id()
        # Crash after this: the key has no object, so it is no name.
        change = await self._volume.journal.begin_link(id, key, "names")
        try:
            await self._mark(node, id)
            # Crash after this: a group of one name, which does no harm.
            copied = await self._copy(node, key)
            try:
                # Crash before this is in the store: recovery finds the object by its
                # id and enters it.
                group = await self._enter(node, id, copied)
            except BaseException:
                with trio.CancelScope(shield=True), contextlib.suppress(StoreError):
                    await self._volume.direct.delete(key)
                raise
        finally:
            with trio.CancelScope(shield=True):
                await self._volume.journal.end_link(change)
        node.links = len(group.names)

    def _new_id(self) -> str:
        id = secrets.token_hex(16)
        self._groups.begin(id)
        return id

    async def _mark(self, node: Node, id: str) -> None:
        """Let a file that has one name carry the id of a group."""
        if node.group == id:
            return
        known = _stored(node)
        await self._groups.update(
            id, lambda names: {**names, known.key: self._groups.content(known)}
        )
        attributes = replace(node.attributes, group=id)
        marked = await self._volume.direct.set_metadata(
            known, self._volume.metadata_with(attributes), condition=known.version
        )
        marked = replace(
            marked, size=known.size, kind=known.kind, link_target=known.link_target
        )
        self._take_over(node, marked)
        node.attributes = attributes
        self._volume.inodes.join_group(node, id)

    async def add_by_keys(self, source: str, key: str) -> None:
        """As `add`, for a file that no node stands for: in recovery."""
        direct = self._volume.direct
        known = await direct.stat(source)
        attributes = known.attributes or Attributes()
        id = attributes.group or secrets.token_hex(16)
        # Crash from here on: recovery enters whichever of the two carries the id.
        changes = [
            await self._volume.journal.begin_link(id, each, "names")
            for each in (source, key)
        ]
        if attributes.group is None:
            known = await direct.set_metadata(
                known,
                self._volume.metadata_with(replace(attributes, group=id)),
                condition=known.version,
            )
        await direct.copy(
            source,
            key,
            source_version=known.version,
            condition=await look_first(direct, Call.COPY, key, ABSENT),
        )
        await self._verify(id, {}, {each: each for each in (source, key)})
        for change in changes:
            await self._volume.journal.end_link(change)
        self._volume.metadata.expire(source)
        self._volume.metadata.expire(key)

    async def _copy(self, node: Node, key: str) -> Object:
        known, store = _stored(node), self._volume.direct
        if known.kind is ObjectKind.LINK and store.capabilities.native_links:
            # What the store itself knows as a link is no object that it could copy.
            assert known.link_target is not None, "its mark has told of the whole link"
            copied = await store.make_link(
                key,
                known.link_target,
                metadata=self._volume.metadata_with(node.attributes),
                condition=await look_first(store, Call.WRITE, key, ABSENT),
            )
        else:
            copied = await store.copy(
                known.key,
                key,
                source_version=known.version,
                condition=await look_first(store, Call.COPY, key, ABSENT),
            )
        return self._volume.metadata.put(_like(copied, known, key))

    async def _enter(self, node: Node, id: str, copied: Object) -> Group:
        known = _stored(node)
        added = {
            known.key: self._groups.content(known),
            copied.key: self._groups.content(copied),
        }
        return await self._groups.update(
            id,
            lambda names: {**names, **added},
            ctime_ns=self._volume.now_ns(),
        )

    @asynccontextmanager
    async def losing(self, node: Node, key: str) -> AsyncIterator[None]:
        """Take a key out of a file's record when the block has deleted its object."""
        id = node.group
        if id is None:
            yield
            return
        change = await self._volume.journal.begin_link(id, key, "names")
        # Crash in the block: recovery looks whether the object is there.
        async with self._ended_if_refused(change):
            yield
        await self._replace_names(node, id, {key: None})
        await self._volume.journal.end_link(change)

    @asynccontextmanager
    async def moving(self, node: Node, old: str, new: str) -> AsyncIterator[None]:
        """Follow in the record when the block has moved a file's object.

        The block leaves the version of the moved object in the metadata cache.
        """
        id = node.group
        if id is None:
            yield
            return
        change = await self._volume.journal.begin_link(id, new, "names")
        async with self._ended_if_refused(change):
            yield
        moved = self._volume.metadata.last_known(new)
        assert isinstance(moved, Object)
        await self._replace_names(
            node, id, {old: None, new: self._groups.content(moved)}
        )
        await self._volume.journal.end_link(change)

    @asynccontextmanager
    async def _ended_if_refused(self, change: int) -> AsyncIterator[None]:
        """Forget a change that certainly was not carried out.

        Else a program that tries again and again would fill the journal. What may have
        been carried out is for recovery to find out.
        """
        try:
            yield
        except (StoreError, OSError) as error:
            if not (isinstance(error, StoreError) and error.is_ambiguous):
                with trio.CancelScope(shield=True):
                    await self._volume.journal.end_link(change)
            raise

    async def _replace_names(
        self, node: Node, id: str, changed: dict[str, str | None]
    ) -> None:
        group = await self._groups.update(
            id, partial(_changed, changed), ctime_ns=self._volume.now_ns()
        )
        node.links = max(1, len(group.names))

    # --- changing all names -----------------------------------------------------

    @asynccontextmanager
    async def following(self, node: Node, phase: Phase) -> AsyncIterator[None]:
        """Bring what the block does to a file's object to its other names as well.

        If the block fails nothing was done to the others. If a copy fails, the error
        is raised and the journal keeps the change: the next mount goes on with it.
        """
        id = node.group
        if id is None or node.object is None:
            yield
            return
        before = _stored(node)
        change = await self._volume.journal.begin_link(id, before.key, phase)
        try:
            yield
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._volume.journal.end_link(change)
            raise
        # The record, and the copies, are of what the store has.
        await self._volume.store_has(node)
        await self._spread(node, id, before, phase)
        await self._volume.journal.end_link(change)

    async def _spread(self, node: Node, id: str, before: Object, phase: Phase) -> None:
        known = _stored(node)
        done: dict[str, str | None] = {known.key: self._groups.content(known)}
        group = self._groups.known(id)
        if group is None or phase == "attributes":
            # New bytes change the record, and so learn of names made elsewhere; a
            # change of attributes may leave it as it is.
            group = await self._groups.ask(id)
        for _ in range(_ROUNDS_MAX):
            # Names that another mount makes meanwhile are copies of the old bytes.
            others = [item for item in group.names.items() if item[0] not in done]
            if not others and self._groups.has(group, known):
                break
            deeds = [
                partial(self._follow, known, before, key, seen, phase)
                for key, seen in others
            ]
            contents = await run_all(deeds, at_once=self._volume.requests_max)
            done |= {
                key: content for (key, _), content in zip(others, contents, strict=True)
            }
            group = await self._groups.update(id, partial(_changed, done))
        else:
            # The journal keeps the change: the next mount goes on with it.
            raise PreconditionFailed("names are made without end", key=known.key)
        node.links = max(1, len(group.names))

    async def _follow(
        self, known: Object, before: Object, key: str, seen: str, phase: Phase
    ) -> str | None:
        """Make one name like another; None if it is no name of the file any more."""
        store = self._volume.direct
        try:
            if phase == "attributes":
                name = replace(before, key=key, version=Version(seen))
                assert known.attributes is not None
                changed = await store.set_metadata(
                    name,
                    self._volume.metadata_with(known.attributes),
                    condition=Version(seen),
                )
            elif Call.COPY in store.capabilities.conditions:
                changed = await store.copy(
                    known.key,
                    key,
                    source_version=known.version,
                    condition=Version(seen),
                )
            elif await self._is_still(key, seen):
                changed = await store.copy(known.key, key, source_version=known.version)
            else:
                self._note_lost(key)
                return None
        except (PreconditionFailed, NotFound):
            if await self._is_still(key, seen):
                raise  # it is the source that is another by now
            self._note_lost(key)
            return None
        return self._groups.content(
            self._volume.metadata.put(_like(changed, known, key))
        )

    async def _is_still(self, key: str, seen: str) -> bool:
        try:
            found = await self._volume.direct.stat(key)
        except NotFound:
            return False
        return found.version is not None and found.version.content == seen

    def _note_lost(self, key: str) -> None:
        log.info("%r was changed by another program: it is a file of its own now", key)
        self._volume.metadata.expire(key)

    # --- renamed directories, and crashes ---------------------------------------

    async def all_groups(self) -> list[Group]:
        """Return every group of the store, of which there are none without the gate."""
        if not self._volume.direct.features.virtual_hard_link:
            return []
        return await self._groups.all()

    async def moved(
        self, prefixes: "dict[str, str]", groups: "list[Group] | None" = None
    ) -> None:
        """Follow in every record when all keys below some prefixes have moved.

        `groups` are all that there are, if that is known.
        """
        for group in await self.all_groups() if groups is None else groups:
            targets = {
                key: target
                for key in group.names
                if (target := _moved(key, prefixes)) != key
            }
            if targets:
                await self._verify(group.id, {**dict.fromkeys(targets)}, targets)

    async def recover(self) -> int:
        """Finish the changes that a crash cut short; return how many."""
        changes = await self._volume.journal.links()
        for change in changes:
            await self._recover(change)
            await self._volume.journal.end_link(change.id)
        return len(changes)

    async def _recover(self, change: LinkChange) -> None:
        group = await self._groups.ask(change.group)
        if change.phase != "names":
            source = await self._name(change.group, change.key)
            if source is not None and group.version is not None:
                await self._finish(group, source, change.phase)
            return
        await self._verify(change.group, dict(group.names), {change.key: change.key})

    async def _finish(self, group: Group, source: Object, phase: str) -> None:
        # The bytes of a link never change.
        way: Phase = "attributes" if source.kind is ObjectKind.LINK else "bytes"
        is_new = group.names.get(source.key) != self._groups.content(source)
        if phase == "bytes" and not is_new:
            return  # the crash came before the bytes
        done: dict[str, str | None] = {source.key: self._groups.content(source)}
        for key, seen in group.names.items():
            if key == source.key:
                continue
            name = await self._name(group.id, key)
            if name is not None and _is_copy(name, source):
                done[key] = self._groups.content(name)  # the crash came after this one
            else:
                done[key] = await self._follow(source, source, key, seen, way)
        await self._groups.update(group.id, partial(_changed, done))

    async def _verify(
        self, id: str, gone: "dict[str, str | None]", targets: dict[str, str]
    ) -> None:
        """Enter in a record what is there of some keys, and take out what is not."""
        found: dict[str, str | None] = dict.fromkeys(gone)
        for key in {*gone, *targets.values()}:
            name = await self._name(id, key)
            found[key] = self._groups.content(name) if name is not None else None
        await self._groups.update(id, partial(_changed, found))

    async def _name(self, id: str, key: str) -> Object | None:
        """Return the object of a key if it carries the id of a group."""
        try:
            found = await self._volume.direct.stat(key)
        except NotFound:
            return None
        attributes = found.attributes
        return found if attributes is not None and attributes.group == id else None

    # --- here -------------------------------------------------------------------

    def point(self, node: Node) -> None:
        """Point what is known of a file to its first name, when that has changed."""
        known = node.object
        group = self._volume.group_of(node)
        if known is None or group is None or not group.names:
            return
        key = next(iter(group.names)) if node.is_nameless else node.key()
        if key == known.key or key not in group.names:
            return
        version = Version(group.names[key])
        self._take_over(node, replace(known, key=key, version=version))

    def _take_over(self, node: Node, object: Object) -> None:
        known = _stored(node)
        self._volume.blocks.rekey(known, object)
        self._volume.adopt(node, object)
        if node.file is not None and node.object is not None:
            assert isinstance(node.file.state, Clean)
            node.file.state = Clean(node.object)


def _changed(changed: "dict[str, str | None]", names: Names) -> Names:
    """Return names with some entered or taken out."""
    kept = {key: seen for key, seen in names.items() if key not in changed}
    return kept | {key: seen for key, seen in changed.items() if seen is not None}


def _is_copy(name: Object, source: Object) -> bool:
    """Tell whether a name has been brought up to date before a crash."""
    copied, original = name.metadata, source.metadata
    if copied is None or original is None or copied.commit_id is None:
        return False
    return copied.commit_id == original.commit_id


def _moved(key: str, prefixes: "dict[str, str]") -> str:
    for old, new in prefixes.items():
        if key == old or (old.endswith("/") and key.startswith(old)):
            return new + key.removeprefix(old)
    return key


def _stored(node: Node) -> Object:
    assert node.object is not None, "a file of several names is in the store"
    return node.object


def _like(answer: Object, known: Object, key: str) -> Object:
    """Complete an answer about a name by what is known of another."""
    return replace(
        answer,
        key=key,
        kind=known.kind,
        size=known.size,
        metadata=answer.metadata if answer.metadata is not None else known.metadata,
        link_target=known.link_target,
    )
