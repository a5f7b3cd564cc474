"""What the disk under a spooled file can refuse."""

from pathlib import Path

import pytest

from mountfs.cache.spool import Spool
from mountfs.storage.errors import ObjectTooLarge


async def test_size_that_no_disk_holds_is_too_large(tmp_path: Path) -> None:
    """A size beyond what the file system can count is EFBIG, not a failed disk."""
    spool = Spool(tmp_path / "spool")
    with pytest.raises(ObjectTooLarge):
        await spool.resize(1 << 62)
    await spool.remove()
