"""Links of rclone and directories of Hadoop among our own: shown, and taken over.

A foreign tool keeps them under keys that are not their names
(`mountfs.storage.foreign_names`). They are shown under their names, unless something
else has the name; their objects are left as they are while they are only read. What is
about to be renamed, linked or changed gets our form first, under the key of its name:
then the foreign object goes. A crash between the two leaves both, and shows what the
name means as before.
"""

from collections.abc import Iterable, Iterator

from mountfs.storage.conditions import look_first
from mountfs.storage.foreign_names import directory_of, other_key, shown_as
from mountfs.storage.types import ABSENT, Call, Object, ObjectKind
from mountfs.vfs.inodes import Node
from mountfs.vfs.pages import component_of
from mountfs.vfs.volume import Volume


def shown(objects: Iterable[Object]) -> Iterator[tuple[str, Object]]:
    """Yield what a directory shows: the component whose name it has, and the object.

    A directory of Hadoop that has no key of its own is yielded as that directory.
    """
    objects = tuple(objects)
    components = [component_of(object) for object in objects]
    taken = set(components)
    directories = {each.key for each in objects if each.kind is ObjectKind.DIRECTORY}
    for component, object in zip(components, objects, strict=True):
        wanted = shown_as(object)
        if wanted is None:
            yield component, object
        elif wanted.endswith("/"):
            if wanted not in directories:
                directory = directory_of(object)
                yield component_of(directory), directory
        else:
            stem = wanted.rpartition("/")[2]
            yield (component if stem in taken else stem), object


async def take_over(volume: Volume, *nodes: Node | None) -> None:
    """Give what a foreign tool keeps our own form; the caller holds `changing`."""
    for node in nodes:
        if node is None or node.parent is None:
            continue
        if node.is_directory:
            await _take_directory(volume, node)
        elif node.object is not None and node.object.has_foreign_name:
            await _take_link(volume, node, node.object)


async def drop_folder(volume: Volume, key: str) -> None:
    """Delete the object by which Hadoop keeps a directory, if it is known."""
    folder = _folder(volume, key)
    if folder is not None:
        await volume.store.delete(folder.key)
        volume.metadata.put_absent(folder.key)


def _folder(volume: Volume, key: str) -> Object | None:
    known = volume.metadata.last_known(other_key(key))
    return known if isinstance(known, Object) and known.has_foreign_name else None


async def _take_directory(volume: Volume, node: Node) -> None:
    key = node.key()
    if _folder(volume, key) is None:
        return
    if node.object is None or node.object.version is None:
        marker = await volume.store.make_dir(key, metadata=volume.metadata_of(node))
        volume.adopt(node, marker)
    await drop_folder(volume, key)


async def _take_link(volume: Volume, node: Node, known: Object) -> None:
    store = volume.store
    target = known.link_target or (await store.stat(known.key)).link_target or ""
    key = shown_as(known) or known.key
    component = key.rpartition("/")[2]
    if volume.names.name(component) != node.name:
        # Something else has that name: shown under that of its key.
        key, component = known.key, node.component
    condition = known.version if key == known.key else ABSENT
    made = await store.make_link(
        key,
        target,
        metadata=volume.metadata_of(node),
        condition=await look_first(store, Call.WRITE, key, condition),
    )
    node.component = component
    volume.adopt(node, made)
    if key != known.key:
        await store.delete(known.key)
        volume.metadata.put_absent(known.key)
