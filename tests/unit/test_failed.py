"""What the journal says of a file that could not be stored."""

from pathlib import Path

import pytest

from mountfs.cache import failed
from mountfs.cache.dirty import DirtyFile
from mountfs.cache.spool import Spool
from mountfs.cache.streaming import Ladder
from mountfs.storage.types import Attributes, Metadata


def _no_ladder() -> Ladder:
    raise AssertionError("there is no upload to go on with")


@pytest.mark.parametrize(
    "xattrs", [None, {}, {b"user.\xff": b"\0\xff", b"trusted.a": b""}]
)
def test_attributes_survive_a_restart(
    tmp_path: Path, xattrs: dict[bytes, bytes] | None
) -> None:
    """Names and values of any bytes come back, and "none" stays apart from unknown."""
    known = Attributes(mode=0o100600, mtime_ns=1, rdev=5, xattrs=xattrs, group="g")
    spool = Spool(tmp_path, "spool")
    dirty = DirtyFile("key", None, 0, spool)

    text = failed.describe(dirty, Metadata(attributes=known), "no space")
    _, metadata, error = failed.restore(text, "key", spool, _no_ladder)

    assert metadata.attributes == known
    assert error == "no space"
