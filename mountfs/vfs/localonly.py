"""Which names are of files that stay here: those that match a pattern of the user's.

Patterns are those of the shell, and are held against the last name of a path as
programs see it, case and all.
"""

import fnmatch
import os
import re
from collections.abc import Sequence

from mountfs.vfs.names import Names
from mountfs.vfs.volume import EXCHANGES, RESERVED


class LocalOnlyNames:
    """Tells of a key whether its name matches."""

    def __init__(self, patterns: Sequence[str], names: Names) -> None:
        self._names = names
        self._pattern = re.compile("|".join(map(fnmatch.translate, patterns)))
        self._is_any = bool(patterns)

    def __call__(self, key: str) -> bool:
        """Tell whether a key is that of a file whose name matches."""
        if not self._is_any or not (component := key.rpartition("/")[2]):
            return False
        if key.startswith(f"{EXCHANGES}/"):
            return True  # half way of an exchange, whatever its name is in the end
        if key.startswith(f"{RESERVED}/"):
            return False
        return bool(self._pattern.match(os.fsdecode(self._names.name(component))))
