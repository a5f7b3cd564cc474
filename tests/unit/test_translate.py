"""What is translated keeps all that translation does not change."""

import dataclasses

from mountfs.storage.translate import Translator
from mountfs.storage.types import (
    Capabilities,
    Features,
    Metadata,
    Object,
    ObjectKind,
    Version,
)

METADATA = Metadata(
    user={"mode": "33188", "a": "b"},
    pairs={"content-type": "text/plain"},
    commit_id="c",
    system={"crc32c": "AAAA"},
    is_whole=False,
)
ANSWER = Object(
    key="k",
    size=3,
    mtime_ns=5,
    version=Version("a", "b"),
    metadata=METADATA,
    link_target="t",
)


def test_an_answer_keeps_all_that_is_not_translated() -> None:
    """However many fields an object has."""
    service = Capabilities(service="memory", metadata=True)

    seen = Translator(service, Features.for_mounts()).seen(ANSWER)

    assert seen.metadata is not None
    assert seen.metadata.user == {"a": "b"}
    assert seen.attributes is not None
    assert seen.attributes.mode == 33188
    assert seen.kind is ObjectKind.FILE
    same = dataclasses.replace(seen.metadata, user=METADATA.user, attributes=None)
    assert dataclasses.replace(seen, metadata=same) == ANSWER
    assert same.system == METADATA.system
