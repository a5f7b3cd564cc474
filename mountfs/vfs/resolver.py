"""Finding the object that a name stands for, with as few requests as may be.

What is freshly known costs nothing. An unknown name costs one HEAD and one LIST at the
same time: an object of this key is a file, any key below it a directory. A name that
was known is asked for as what it was. In a directory that is changed much one listing
tells of all names (`mountfs.vfs.neighbours`), and of a small tree in all directories of
which names are asked for (`mountfs.vfs.subtrees`).

Unknown is never absent: only an answer of the store that says so makes a name absent;
every other failure is raised. An answer that a change of our own overtook is not
believed.
"""

import errno
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from mountfs.cache.knowledge import Knowledge, split_key
from mountfs.storage.errors import BucketNotFound, NotFound, StoreError
from mountfs.storage.foreign_names import other_key, shown_as
from mountfs.storage.parallel import run_all
from mountfs.storage.types import ABSENT, Absent, Object, ObjectKind
from mountfs.vfs.errors import fail
from mountfs.vfs.inodes import Node
from mountfs.vfs.names import Entry
from mountfs.vfs.neighbours import Neighbours
from mountfs.vfs.subtrees import Subtrees
from mountfs.vfs.volume import RESERVED, Volume

_Ask = Callable[[], Awaitable[Object | None]]


class Resolver:
    """Finds objects by directory and name."""

    def __init__(self, volume: Volume, subtrees: Subtrees) -> None:
        self._volume = volume
        self._metadata = volume.metadata
        self._subtrees = subtrees
        self._neighbours = Neighbours(volume)

    async def child(self, parent: Node, entry: Entry) -> Object | None:
        """Return the object of a name in a directory, or None if there is none."""
        return await self._volume.believed(partial(self._child, parent, entry))

    async def _child(self, parent: Node, entry: Entry) -> Object | None:
        prefix = parent.key()
        if not prefix and entry.component == RESERVED:
            return None
        key = prefix + entry.component
        if self._volume.store.capabilities.native_dirs:
            return None if entry.is_shadowed else await self._native(key)
        if entry.is_shadowed:
            return await self._shadowed(key)
        if not entry.component:
            return await self._directory(key + "/")
        return await self._flat(key)

    def known(self, parent: Node, entry: Entry) -> Object | Absent | None:
        """Return what a name means as far as that is known, None if it is not.

        Then `child` returns the same, after more work.
        """
        key = parent.key() + entry.component
        if entry.is_shadowed or not entry.component or key == RESERVED:
            return None
        found = self._meaning(
            key, self._metadata.lookup(key), self._metadata.lookup(f"{key}/")
        )
        if found is not None:
            self._volume.activity.metadata_hits += 1
        return found

    def confirms(self, parent: Node, entry: Entry, node: Node) -> bool:
        """Tell whether a name is known to mean just what its node is.

        Then `known` returns that object, and it brings nothing new. Of a directory,
        and of what may have several names, this is not told.
        """
        key = parent.key() + entry.component
        if entry.is_shadowed or node.is_directory or key == RESERVED:
            return False
        packed = self._metadata.fresh(key)
        if packed is None or not node.is_just(packed):
            return False
        if self._metadata.fresh(f"{key}/") is not None:
            return False
        self._volume.activity.metadata_hits += 1
        return True

    def knows(self, parent: Node, entry: Entry) -> bool:
        """Tell whether a name can be found without a question to the store."""
        key = parent.key() + entry.component
        return any(self._metadata.lookup(each) for each in (key, f"{key}/"))

    async def renew_directory(self, key: str, time_s: float) -> None:
        """Ask again about a directory, unless what is known is good for so long."""
        known = self._metadata.last_known(key)
        if isinstance(known, Object) and not self._metadata.is_good_for(key, time_s):
            await self._ask_directory(key)

    async def renew_names(self, prefix: str, time_s: float) -> None:
        """List a directory again, unless what is known is good for so long."""
        await self._neighbours.renew_ahead(prefix, time_s)

    async def ask_ahead(self, key: str) -> None:
        """Ask about a file before a program does, unless that is known."""
        if self._metadata.lookup(key) is None:
            await self._ask_file(key)

    async def newest(self, object: Object) -> Object | None:
        """Ask the store for the newest state of an object, whatever is known."""
        if object.kind is ObjectKind.DIRECTORY:
            return await self._ask_directory(object.key)
        return await self._ask_file(object.key)

    async def learn(self, node: Node) -> None:
        """Ask for attributes that a listing did not tell, before they are changed.

        Until then programs see the defaults of the mount; to store those would undo
        what another mount has set. Raises ESTALE if the object is another by now.
        """
        if node.object is not None and node.object.metadata is None:
            await self.ask_again(node)

    async def ask_again(self, node: Node) -> None:
        """Ask for all that the store knows of a node; it may have been known in part.

        Raises ESTALE if the object is another by now.
        """
        known, parent = node.object, node.parent
        if known is None or parent is None:
            return
        if node.is_nameless or not self.may_tell_more(node):
            return
        newest = await self.newest(known)
        if newest is not None:
            await self._volume.groups.learn([newest])
        if node.object != known or node.parent is not parent:
            return  # changed here while we asked
        if newest is None:
            self._volume.say_outdated(node)
            fail(errno.ESTALE, "a foreign client removed the object")
        found = self._volume.attach(parent, node.name, newest)
        if found is not node:
            self._volume.inodes.drop_if_unused(found)
            fail(errno.ESTALE, "a foreign client replaced the object")

    def may_tell_more(self, node: Node) -> bool:
        """Tell whether the store keeps attributes of such a node."""
        able = self._volume.store.capabilities
        if not (able.attributes or able.xattrs):
            return False
        if node.is_directory:
            return able.dir_metadata and node.parent is not None
        return able.metadata

    async def _flat(self, key: str) -> Object | None:
        """Find a name on a store that has keys and no directories."""
        file, directory = self._known(key)
        if _leaves_open(file, directory) and await self._renewed(key):
            file = self._metadata.lookup(key)
            directory = self._metadata.lookup(f"{key}/")
        found = self._meaning(key, file, directory)
        if found is not None:
            return _object(found)
        if file is None and directory is None:
            return await self._unknown(key)
        if file is None:
            return await self._ask_file(key)
        return await self._ask_directory(key + "/")

    def _meaning(
        self, key: str, file: Knowledge | None, directory: Knowledge | None
    ) -> Knowledge | None:
        """Return what a key means by what is known of it, None if that is open."""
        if isinstance(directory, Object):
            return directory
        if isinstance(file, Object):
            return file
        if file is None or directory is None:
            return None
        link = self._metadata.lookup(other_key(key))
        return link if isinstance(link, Object) and link.has_foreign_name else ABSENT

    async def _renewed(self, key: str) -> bool:
        """List the directory of a key, if that is worth it; tell if it was listed."""
        prefix, _ = split_key(key)
        if self._metadata.is_renewed(prefix):
            return False  # it was just listed, and that left this open
        if await self._subtrees.renew(prefix):
            return True
        # A listing of it alone does not settle what a directory is: that is asked for.
        was_directory = isinstance(self._metadata.last_known(f"{key}/"), Object)
        return not was_directory and await self._neighbours.renew(key)

    async def _unknown(self, key: str) -> Object | None:
        if isinstance(self._metadata.last_known(key + "/"), Object):
            return await self._ask_directory(key + "/") or await self._ask_file(key)
        if isinstance(self._metadata.last_known(key), Object):
            return await self._ask_file(key) or await self._ask_directory(key + "/")
        file, directory = await run_all(
            [
                partial(self._ask_file, key),
                partial(self._ask_directory, key + "/"),
            ],
            at_once=2,
        )
        return directory or file

    async def _shadowed(self, key: str) -> Object | None:
        """Find a file whose name a directory has taken."""
        if await self._directory(key + "/") is None:
            return None
        file = self._metadata.lookup(key)
        return await self._ask_file(key) if file is None else _object(file)

    async def _directory(self, key: str) -> Object | None:
        known = self._metadata.lookup(key)
        return await self._ask_directory(key) if known is None else _object(known)

    async def _native(self, key: str) -> Object | None:
        """Find a name on a store where one name is one thing."""
        file, directory = self._known(key)
        if isinstance(directory, Object):
            return directory
        if isinstance(file, Object):
            return file
        if file is ABSENT and directory is ABSENT:
            return None
        moments = {each: self._metadata.moment(each) for each in (key, key + "/")}
        found: dict[str, Object | Absent] = dict.fromkeys(moments, ABSENT)
        try:
            object = await self._volume.store.stat(key)
        except BucketNotFound:
            raise
        except NotFound:
            pass
        else:
            found[object.key] = object
        known = [
            self._metadata.put_answer(each, found[each], moment)
            for each, moment in moments.items()
        ]
        return next(filter(None, map(_object, reversed(known))), None)

    def _known(self, key: str) -> tuple[Knowledge | None, Knowledge | None]:
        """Return what is known of a key, as a file and as a directory; count that."""
        file, directory = self._metadata.lookup(key), self._metadata.lookup(key + "/")
        is_known = isinstance(directory, Object) or isinstance(file, Object)
        if is_known or (file is ABSENT and directory is ABSENT):
            self._volume.activity.metadata_hits += 1
        else:
            self._volume.activity.metadata_misses += 1
        return file, directory

    async def _ask_file(self, key: str) -> Object | None:
        return await self._ask(key, None)

    async def _ask_directory(self, key: str) -> Object | None:
        """Ask whether a directory is there; if it was, for its attributes as well.

        Those that the index keeps, that is, which would else be asked for afterwards.
        """
        ask = partial(self._ask, key, ObjectKind.DIRECTORY)
        indexed = self._volume.store.capabilities.indexed
        was_there = isinstance(self._metadata.last_known(key), Object)
        is_kept = ObjectKind.DIRECTORY in indexed and self._metadata.ttl_s > 0
        if not (was_there and is_kept):
            return await ask()
        deeds: list[_Ask] = [ask, partial(self._ask_index, key)]
        found, _ = await run_all(deeds, at_once=2)
        return found

    async def _ask_index(self, key: str) -> None:
        """Have the index here that keeps the attributes of a directory."""
        assert self._volume.index is not None, "it keeps some"
        with suppress(StoreError):  # who needs it asks again, and is told
            await self._volume.index.record(*split_key(key))

    async def _ask(self, key: str, kind: ObjectKind | None) -> Object | None:
        asked_at = self._metadata.moment(key)
        answer: Object | Absent = ABSENT
        try:
            answer = await self._volume.store.stat(key, kind=kind)
        except BucketNotFound:
            raise
        except NotFound:
            pass
        if isinstance(answer, Object) and shown_as(answer) == key:
            # The key that a foreign tool gave a link of this name.
            self._metadata.put_answer(key, ABSENT, asked_at)
            return self._metadata.put(answer)
        return _object(self._metadata.put_answer(key, answer, asked_at))


def _leaves_open(file: Knowledge | None, directory: Knowledge | None) -> bool:
    """Tell whether the store must be asked what a name means."""
    if isinstance(directory, Object) or isinstance(file, Object):
        return False
    return file is None or directory is None


def _object(known: Object | Absent) -> Object | None:
    return known if isinstance(known, Object) else None
