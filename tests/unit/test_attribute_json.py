"""Attributes as JSON: nothing is lost, and nothing else is taken for attributes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountfs.cache.attribute_json import from_json, to_json
from mountfs.storage.types import Attributes

numbers = st.none() | st.integers(min_value=0, max_value=2**32 - 1)
times = st.none() | st.integers(min_value=-(2**63), max_value=2**63 - 1)
names = st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name)
attributes = st.builds(
    Attributes,
    mode=numbers,
    uid=numbers,
    gid=numbers,
    rdev=numbers,
    atime_ns=times,
    mtime_ns=times,
    ctime_ns=times,
    xattrs=st.none() | st.dictionaries(names, st.binary(max_size=20), max_size=3),
    group=st.none() | st.text(max_size=10),
)


@given(attributes)
def test_attributes_come_back_as_they_were(known: Attributes) -> None:
    """Every field, and the difference between empty and unknown, survives."""
    assert from_json(json.loads(json.dumps(to_json(known)))) == known


def test_what_is_not_kept_is_left_out() -> None:
    """Attributes that nobody knows take no room."""
    assert to_json(Attributes()) == {}
    assert to_json(Attributes(mode=0o100644, xattrs={})) == {
        "mode": 0o100644,
        "xattrs": "",
    }


def test_names_that_are_not_known_are_passed_over() -> None:
    """A newer writer may tell more."""
    assert from_json({"mode": 1, "colour": "red"}) == Attributes(mode=1)


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        "text",
        {"mode": "33188"},
        {"mode": None},
        {"uid": True},
        {"mtime_ns": 1.5},
        {"group": 7},
        {"xattrs": {}},
        {"xattrs": "nothing of the kind"},
    ],
)
def test_anything_else_is_refused(told: object) -> None:
    """Damaged text is never half believed."""
    with pytest.raises(ValueError):  # noqa: PT011  # the kind is the contract
        from_json(told)
