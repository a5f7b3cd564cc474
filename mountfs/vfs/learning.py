"""Learning what a listing does not tell: kinds, attributes, targets of links.

A listing of a key store carries no metadata, and none of directories anywhere: they are
what the keys below have in common. If the mount keeps such things, what was learnt
earlier comes first, from the local disk and then from the attribute index. Of the
entries that are still unknown a sample is asked, and only if any entry has attributes
are the others asked, many at once. A directory that showed none is not sampled again
but for what changed since. What the index lacked it is told.
"""

import dataclasses
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial

from mountfs.cache.index_format import Change, Drop, Learnt
from mountfs.cache.knowledge import Knowledge, split_key
from mountfs.cache.learnt import HAS_ATTRIBUTES
from mountfs.cache.records import Record
from mountfs.storage.errors import NotFound, Offline, StoreError
from mountfs.storage.foreign_names import named_key
from mountfs.storage.parallel import run_all
from mountfs.storage.types import NO_METADATA, Object, ObjectKind
from mountfs.vfs.attributes import effective
from mountfs.vfs.volume import RESERVED, Volume

log = logging.getLogger(__name__)

SAMPLE_SIZE = 32
SETTLED_NS = 2 * 10**9
"""An object that changed longer ago did not change again in the same second."""


class Learning:
    """Completes the listings of one volume."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume

    async def prepare(self, directory: str) -> None:
        """Ask the index of a directory while it is listed for the first time.

        What earlier mounts have learnt of it is enough, mostly: then this does nothing.
        """
        index, learnt = self._volume.index, self._volume.learnt
        metadata = self._volume.metadata
        if index is None or not metadata.ttl_s or not self._is_wanted():
            return
        if metadata.count_listed(directory) is not None:
            return
        if learnt is not None and await learnt.sampled_until(directory) is not None:
            return
        try:
            await index.records(directory)
        except StoreError as error:
            log.debug("the attribute index of %r is not here: %s", directory, error)

    async def completed(
        self, directory: str, listed: Sequence[Object]
    ) -> tuple[Object, ...]:
        """Return the entries of a directory with their metadata, as far as is known.

        `listed` are what the metadata cache has made of a listing just now.
        """
        # Whether such a key is what it seems, only the object itself tells.
        named = [object for object in listed if self._has_foreign_name(object)]
        learnt = await self._ask(named)
        if self._is_wanted():
            rest = [object for object in listed if object.key not in learnt]
            learnt |= await self._learnt(directory, rest)
        return tuple(learnt.get(object.key, object) for object in listed)

    async def learn_root(self) -> None:
        """Take over the attributes of the root, if they are kept anywhere."""
        volume = self._volume
        if not volume.store.capabilities.root_metadata:
            return
        root, before = volume.inodes.root, volume.inodes.root.attributes
        try:
            found = await volume.store.stat("", kind=ObjectKind.DIRECTORY)
        except Offline:
            return  # what is known holds for now
        if found.attributes is not None and root.attributes is before:
            root.attributes = effective(found, volume.defaults)

    async def _learnt(
        self, directory: str, listed: Sequence[Object]
    ) -> dict[str, Object]:
        unknown = [object for object in listed if self._may_have_more(object)]
        learnt = await self._kept(directory, unknown)
        unknown = [object for object in unknown if object.key not in learnt]
        told = await self._told(directory, unknown)
        indexed = self._completed_by(told, unknown)
        learnt |= indexed
        unknown = [object for object in unknown if object.key not in learnt]
        known = [object for object in listed if object.metadata is not None]
        if _has_attributes([*known, *learnt.values()]):
            learnt |= await self._ask(unknown)
        elif unknown:
            learnt |= await self._sampled(directory, listed, unknown)
        if told is not None:
            now = [learnt.get(object.key, object) for object in listed]
            self._complete_index(directory, told, now, right=indexed.keys())
        return learnt

    def _is_wanted(self) -> bool:
        store = self._volume.store
        if not store.capabilities.metadata:
            return False
        able = store.capabilities
        return able.attributes or able.specials or store.features.virtual_link

    def _has_foreign_name(self, object: Object) -> bool:
        features = self._volume.store.features
        if object.metadata is not None or named_key(object.key) is None:
            return False
        return features.virtual_link or features.virtual_dir

    def _may_have_more(self, object: Object) -> bool:
        if object.metadata is not None or object.key == f"{RESERVED}/":
            return False
        if object.kind is ObjectKind.DIRECTORY:
            return self._volume.store.capabilities.dir_metadata
        return True

    async def _kept(
        self, directory: str, unknown: Sequence[Object]
    ) -> dict[str, Object]:
        """Return what earlier mounts have learnt of entries, by key."""
        unknown = [each for each in unknown if each.kind is not ObjectKind.DIRECTORY]
        if self._volume.learnt is None or not unknown:
            return {}
        metadata = self._volume.metadata
        asked_at = {object.key: metadata.moment(object.key) for object in unknown}
        found = await self._volume.learnt.completed(directory, unknown)
        newest = {
            key: metadata.complete(object, asked_at[key])
            for key, object in found.items()
        }
        return _objects(newest)

    async def _told(
        self, directory: str, unknown: Sequence[Object]
    ) -> Mapping[str, Record] | None:
        """Return what the index tells, if it is asked: of directories it cannot."""
        index = self._volume.index
        if index is None or all(each.kind is ObjectKind.DIRECTORY for each in unknown):
            return None
        try:
            return await index.records(directory)
        except StoreError as error:
            log.debug("the attribute index of %r is not used: %s", directory, error)
            return None

    def _completed_by(
        self, told: Mapping[str, Record] | None, unknown: Sequence[Object]
    ) -> dict[str, Object]:
        if not told:
            return {}
        volume = self._volume
        assert volume.index is not None, "somebody has told"
        newest: dict[str, Knowledge] = {}
        for object in unknown:
            record = told.get(split_key(object.key)[1])
            more = record and record.completed(object, volume.index.gates)
            if more:
                asked_at = volume.metadata.moment(object.key)
                newest[object.key] = volume.metadata.complete(more, asked_at)
                if volume.learnt is not None:
                    volume.learnt.note(more)
        return _objects(newest)

    def _complete_index(
        self,
        directory: str,
        told: Mapping[str, Record],
        now: Sequence[Object],
        *,
        right: Collection[str],
    ) -> None:
        """Let the index tell the next mount what this one has learnt.

        Where nothing has attributes there is nothing to tell, nor of the keys of which
        it has told what is `right`.
        """
        index = self._volume.index
        assert index is not None, "somebody has told"
        if not _has_attributes(now):
            return
        changes: dict[str, Change] = {}
        for object in now:
            if object.key in right:
                continue
            name = split_key(object.key)[1]
            record, known = Record.of(object, index.gates), told.get(name)
            if record is None or object.kind is ObjectKind.DIRECTORY:
                continue
            if known is None or known.completed(object, index.gates) is None:
                changes[name] = Learnt(record, over=known)
        names = {split_key(object.key)[1] for object in now}
        stale = {
            name: Drop(over=record)
            for name, record in told.items()
            if name not in names and record.kind is not ObjectKind.DIRECTORY
        }
        if changes or len(stale) > len(names):
            index.note(directory, {**changes, **stale})

    async def _sampled(
        self, directory: str, listed: Sequence[Object], unknown: Sequence[Object]
    ) -> dict[str, Object]:
        """Ask for a sample, and for the rest if the sample shows attributes."""
        learnt = self._volume.learnt
        until = await learnt.sampled_until(directory) if learnt is not None else None
        if until == HAS_ATTRIBUTES:
            return await self._ask(unknown)
        open_questions = [each for each in unknown if _changed_after(each, until)]
        answers = await self._ask(open_questions[:SAMPLE_SIZE])
        if _has_attributes(answers.values()):
            rest = [object for object in unknown if object.key not in answers]
            return answers | await self._ask(rest)
        if learnt is not None and open_questions:
            settled_ns = self._volume.now_ns() - SETTLED_NS
            learnt.note_sample(directory, min(_newest_ns(listed), settled_ns))
        return answers

    async def _ask(self, objects: Sequence[Object]) -> dict[str, Object]:
        deeds = [partial(self._stat, object) for object in objects]
        answers = await run_all(deeds, at_once=self._volume.requests_max)
        return {answer.key: answer for answer in answers}

    async def _stat(self, object: Object) -> Object:
        asked_at = self._volume.metadata.moment(object.key)
        try:
            answer = await self._volume.store.stat(object.key)
        except NotFound:
            if object.kind is ObjectKind.DIRECTORY:
                # No marker: it exists by its children and has no metadata.
                answer = dataclasses.replace(object, metadata=NO_METADATA)
            else:
                return object
        newest = self._volume.metadata.put_answer(object.key, answer, asked_at)
        return newest if isinstance(newest, Object) else object


def _has_attributes(objects: Iterable[Object]) -> bool:
    return any(object.attributes is not None for object in objects)


def _changed_after(object: Object, until_ns: int | None) -> bool:
    """Tell whether an entry is newer than a sample; directories never tell."""
    if until_ns is None:
        return True
    return object.mtime_ns is not None and object.mtime_ns > until_ns


def _newest_ns(objects: Iterable[Object]) -> int:
    return max(
        (each.mtime_ns for each in objects if each.mtime_ns is not None), default=0
    )


def _objects(known: Mapping[str, object]) -> dict[str, Object]:
    return {key: each for key, each in known.items() if isinstance(each, Object)}
