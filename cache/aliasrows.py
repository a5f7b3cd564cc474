"""The tokens that the journal remembers, and when it may forget them.

The row of a token says which version of the store it stands for. It is written with the
end of the entry that showed under it, and is needed as long as the row of another entry
names the token. Aliases in memory (`mountfs.cache.aliases`) live by a bound of their
own.
"""

from collections.abc import Iterable

from mountfs.cache.aliases import Aliases
from mountfs.cache.entries import EntryTable
from mountfs.cache.journal import AliasRow, Journal
from mountfs.storage.types import Version

NOTED_MAX = 10_000
"""After how many stored entries the journal is rid of tokens that no row names."""


class AliasRows:
    """The rows of tokens in a journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._noted: list[str] = []
        self._noted_before: list[str] = []

    async def load(self, aliases: Aliases) -> None:
        """Let aliases learn what an earlier mount left."""
        for row in await self._journal.aliases():
            aliases.learn(row.token, Version(row.content, row.attributes))
            self._noted.append(row.token)

    def note(self, rows: Iterable[AliasRow]) -> None:
        """Note rows that the journal has by now."""
        self._noted += [row.token for row in rows]

    async def forget(self, table: EntryTable) -> None:
        """Let the journal forget the tokens that no row names any more.

        Those noted lately stay: a row that names one may be about to be written.
        """
        if not (self._noted or self._noted_before):
            return
        if not len(table):
            self._noted, self._noted_before = [], []
            await self._journal.forget_aliases()
        elif len(self._noted) >= NOTED_MAX:
            named = table.tokens()
            kept = [token for token in self._noted_before if token in named]
            gone = [token for token in self._noted_before if token not in named]
            self._noted, self._noted_before = [], [*kept, *self._noted]
            await self._journal.forget_aliases(gone)
