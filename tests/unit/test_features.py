"""The report on a store follows from its capabilities and the gates."""

import pytest

from mountfs.actions.features import Row, rows
from mountfs.storage.types import Call, Capabilities, Features, MultipartLimits

POOR = Capabilities(service="poor")
RICH = Capabilities(
    service="rich",
    native_dirs=True,
    native_links=True,
    dir_metadata=True,
    root_metadata=True,
    copy=True,
    move=True,
    move_dir=True,
    append=True,
    multipart=MultipartLimits(
        part_size_min=5 << 20, part_size_max=5 << 30, parts_max=10_000, equal_parts=True
    ),
    multipart_copy=True,
    metadata=True,
    metadata_size_max=2048,
    pairs=frozenset({"content-type", "expires"}),
    attributes=True,
    xattrs=True,
    groups=True,
    specials=True,
    list_metadata=True,
    conditions=frozenset({Call.WRITE}),
    set_metadata=True,
    signed_urls=True,
    key_size_max=1024,
    object_size_max=5 << 40,
)


def report(able: Capabilities, features: Features) -> dict[str, Row]:
    """Return the rows by operation."""
    found = rows(able, features)
    assert len({row.operation for row in found}) == len(found)
    return {row.operation: row for row in found}


def test_a_rich_store_does_everything_itself() -> None:
    """What is native needs no gate, whichever are on."""
    found = report(RICH, Features())

    not_native = {name for name, row in found.items() if row.how != "native"}
    assert not_native == {
        "conditional copy",
        "conditional complete",
        "conditional delete",
    }


@pytest.mark.parametrize(
    ("operation", "gate"),
    [
        ("move", "virtual_move"),
        ("move of directories", "virtual_move"),
        ("make_dir", "virtual_dir"),
        ("make_link", "virtual_link"),
        ("append", "virtual_append"),
        ("pairs", "virtual_pair"),
        ("list attributes", "virtual_index"),
    ],
)
def test_what_a_poor_store_lacks_names_its_gate(operation: str, gate: str) -> None:
    """An emulation is shown with the gate that it needs, on or off."""
    off = report(POOR, Features())[operation]
    on = report(POOR, Features.all())[operation]

    assert (off.how, off.gate, off.is_on) == ("virtual", gate, False)
    assert (on.how, on.gate, on.is_on) == ("virtual", gate, True)


@pytest.mark.parametrize(
    ("operation", "gate"),
    [
        ("attributes", "virtual_object_metadata"),
        ("extended attributes", "virtual_xattr"),
        ("hard links", "virtual_hard_link"),
        ("special files", "virtual_special"),
    ],
)
def test_what_rides_in_metadata_needs_them(operation: str, gate: str) -> None:
    """A store that keeps user metadata can be made to keep every attribute."""
    able = Capabilities(service="plain", metadata=True)

    assert report(able, Features())[operation] == Row(operation, "virtual", gate, False)
    assert report(POOR, Features.all())[operation].how == "none"


@pytest.mark.parametrize(
    "operation", ["copy", "multipart", "metadata", "attributes", "sign_read"]
)
def test_what_nobody_emulates_is_none(operation: str) -> None:
    """Attributes need metadata to ride in; the rest has no emulation."""
    assert report(POOR, Features.all())[operation].how == "none"


def test_limits_are_told_for_people() -> None:
    """Sizes have units, and what is special is said."""
    found = report(RICH, Features())

    assert found["multipart"].limits == (
        "parts of 5 MiB to 5 GiB",
        "10000 parts",
        "parts of one size",
    )
    assert found["write"].limits == (
        "objects up to 5 TiB",
        "keys of 1024 bytes",
        "keys are UTF-8",
    )
    assert found["metadata"].limits == ("an object up to 2 KiB",)
    assert found["pairs"].limits == ("content-type, expires",)
