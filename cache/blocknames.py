"""Under which names the blocks of an object are kept, whatever it is called now.

A name belongs to the content: a digest of the key and version under which it was first
seen. If the same bytes get another key or version (a move, a change of metadata), an
alias leads from there to the blocks that are here already.
"""

from collections import OrderedDict

from mountfs.cache.blockfiles import BlockName, content_digest
from mountfs.storage.types import Object

_ALIASES_MAX = 10_000


class BlockNames:
    """The names of blocks of one size. Pure, but for the aliases that it remembers."""

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._aliases: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def of(self, object: Object, index: int) -> BlockName:
        """Return the name of one block. The object has a version."""
        return BlockName(self.content(object), index)

    def content(self, object: Object) -> bytes:
        """Return what all blocks of an object share. It has a version."""
        assert object.version is not None
        alias = self._aliases.get((object.key, object.version.content))
        return alias if alias is not None else self._digest(object)

    def rekey(self, old: Object, new: Object) -> None:
        """Note that the same bytes have another key or version now."""
        if old.version is None or new.version is None:
            return
        content = self.content(old)
        alias = (new.key, new.version.content)
        self._aliases.pop(alias, None)
        if content != self._digest(new):
            self._aliases[alias] = content
            if len(self._aliases) > _ALIASES_MAX:
                self._aliases.popitem(last=False)  # its blocks are fetched again

    def forget(self, object: Object) -> bytes:
        """Forget what an object is an alias of; return what its blocks shared."""
        assert object.version is not None
        content = self.content(object)
        self._aliases.pop((object.key, object.version.content), None)
        return content

    def _digest(self, object: Object) -> bytes:
        assert object.version is not None
        return content_digest(object.key, object.version.content, self._block_size)
