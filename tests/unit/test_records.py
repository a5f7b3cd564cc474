"""Records of objects: what counts for which answer of the store."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountfs.cache.records import Record, gates_of
from mountfs.storage.types import (
    Attributes,
    Features,
    Metadata,
    Object,
    ObjectKind,
    Version,
)

GATES = "al"
KNOWN = Object(
    key="d/a",
    kind=ObjectKind.LINK,
    size=6,
    mtime_ns=5_000_000_000,
    version=Version("etag", "5"),
    metadata=Metadata(
        user={"foreign": "pair"}, attributes=Attributes(mode=0o120777, uid=7)
    ),
    link_target="target",
)
LISTED = replace(KNOWN, kind=ObjectKind.FILE, metadata=None, link_target=None)

texts = st.none() | st.text(max_size=8)
numbers = st.none() | st.integers(min_value=0, max_value=2**63)
records = st.builds(
    Record,
    kind=st.sampled_from(ObjectKind),
    size=numbers,
    time_ns=numbers,
    content=texts,
    state=texts,
    gates=st.sampled_from(["", "al", "alxhs"]),
    attributes=st.none() | st.builds(Attributes, mode=numbers, uid=numbers),
    target=texts,
)


def record_of(object: Object) -> Record:
    record = Record.of(object, GATES)
    assert record is not None
    return record


def test_record_completes_the_state_that_it_is_of() -> None:
    """A listing that shows the same state gets kind, attributes and target."""
    found = record_of(KNOWN).completed(LISTED, GATES)

    assert found is not None
    assert (found.kind, found.link_target) == (ObjectKind.LINK, "target")
    assert found.attributes == KNOWN.attributes


def test_record_is_not_all_of_the_metadata() -> None:
    """Who writes metadata in the place of those of an object must ask for the rest."""
    found = record_of(KNOWN).completed(LISTED, GATES)

    assert found is not None
    assert not found.is_described


@pytest.mark.parametrize(
    "listed",
    [
        replace(LISTED, size=7),
        replace(LISTED, version=Version("other", "5")),
        replace(LISTED, version=Version("etag", "6")),
        replace(LISTED, version=None),
    ],
    ids=["size", "bytes", "metadata", "unknown"],
)
def test_record_does_not_count_for_another_state(listed: Object) -> None:
    """Size and both parts of the version must agree."""
    assert record_of(KNOWN).completed(listed, GATES) is None


def test_record_of_a_write_counts_for_what_did_not_change_after_it() -> None:
    """The answer to a PUT lacks one part of the version; its time stands in."""
    written = record_of(replace(KNOWN, version=Version("etag")))

    assert written.completed(LISTED, GATES) is not None
    later = replace(LISTED, mtime_ns=7_000_000_000, version=Version("etag", "7"))
    assert written.completed(later, GATES) is None


def test_record_made_under_other_gates_does_not_count() -> None:
    """Other gates would have read other things out of the metadata."""
    assert record_of(KNOWN).completed(LISTED, "alx") is None


def test_what_could_never_be_checked_gets_no_record() -> None:
    """Without version, size or metadata there is nothing to keep."""
    assert Record.of(LISTED, GATES) is None
    assert Record.of(replace(KNOWN, version=None), GATES) is None
    assert Record.of(replace(KNOWN, size=None), GATES) is None
    assert Record.of(replace(KNOWN, has_foreign_name=True), GATES) is None
    assert not Record(kind=ObjectKind.DIRECTORY).is_of(LISTED)


def test_attributes_that_could_not_be_read_get_no_record() -> None:
    """Extended attributes that lie elsewhere and are unknown must not become "none"."""
    assert Record.of(KNOWN, "alx") is None


def test_gates_are_those_that_read_metadata() -> None:
    """Gates that change nothing about what metadata mean are not named."""
    assert gates_of(Features.all()) == "alxhs"
    assert gates_of(Features.for_mounts()) == "al"
    assert gates_of(Features(virtual_move=True)) == ""


@given(records)
def test_records_come_back_as_they_were(record: Record) -> None:
    """Nothing is lost on the way through JSON."""
    assert Record.from_json(json.loads(json.dumps(record.to_json()))) == record


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        {"kind": "whale"},
        {"size": "12"},
        {"size": True},
        {"content": 12},
        {"attributes": []},
    ],
)
def test_anything_else_is_refused(told: object) -> None:
    """Damaged text is never half believed."""
    with pytest.raises(ValueError):  # noqa: PT011  # the kind is the contract
        Record.from_json(told)
