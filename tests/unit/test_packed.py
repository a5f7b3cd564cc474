"""Objects as byte strings: nothing is lost, and those of listings are small."""

import sys
from types import MappingProxyType

from hypothesis import given
from hypothesis import strategies as st

from mountfs.cache.packed import pack, unpack
from mountfs.storage.types import (
    NO_METADATA,
    Attributes,
    Metadata,
    Object,
    ObjectKind,
    Version,
)

# Lone surrogates are bytes of keys that are not UTF-8.
texts = st.text(st.characters(exclude_categories=()), max_size=8)
numbers = st.none() | st.integers(0, 1 << 70)
pairs = st.dictionaries(texts, texts, max_size=2).map(MappingProxyType)
digests = st.text("0123456789abcdef", min_size=32, max_size=32)
versions = st.builds(
    Version,
    texts
    | digests
    | st.builds("{}-{}".format, digests, st.integers(0, 1 << 20) | st.just("01")),
    st.none() | texts | st.integers(0, 1 << 33).map(str),
)
attributes = st.builds(
    Attributes,
    mode=numbers,
    uid=numbers,
    gid=numbers,
    atime_ns=numbers | st.integers(),
    mtime_ns=numbers,
    ctime_ns=numbers,
    rdev=numbers,
    xattrs=st.none() | st.dictionaries(st.binary(max_size=4), st.binary(max_size=4)),
    group=st.none() | texts,
)
metadata = st.just(NO_METADATA) | st.builds(
    Metadata,
    user=pairs,
    pairs=pairs,
    attributes=st.none() | attributes,
    commit_id=st.none() | texts,
    system=pairs,
    is_whole=st.booleans(),
)
objects = st.builds(
    Object,
    key=texts,
    kind=st.sampled_from(ObjectKind),
    size=numbers,
    mtime_ns=numbers | st.integers(0, 1 << 33).map(lambda seconds: seconds * 10**9),
    version=st.none() | versions,
    metadata=st.none() | metadata,
    link_target=st.none() | texts,
    has_foreign_name=st.booleans(),
)


@given(objects)
def test_an_object_comes_out_as_it_went_in(object: Object) -> None:
    """Whatever is known of it, what only the backend reads included."""
    found = unpack(object.key, pack(object))

    assert found == object
    if object.metadata is not None:
        assert found.metadata is not None
        assert found.metadata.system == object.metadata.system


@given(
    seconds=st.integers(0, (1 << 32) - 1),
    size=st.integers(0, 1 << 50),
    parts=st.sampled_from(["", "-1", "-9999"]),
    is_plain=st.booleans(),
)
def test_what_a_listing_tells_is_small(
    seconds: int, size: int, parts: str, *, is_plain: bool
) -> None:
    """A million of them are 64 MB, those that were stored in parts as well."""
    object = Object(
        key="d/name",
        size=size,
        mtime_ns=seconds * 10**9,
        version=Version("0123456789abcdef" * 2 + parts, str(seconds)),
        metadata=NO_METADATA if is_plain else None,
    )
    packed = pack(object)

    assert sys.getsizeof(packed) <= 64
    assert unpack("d/name", packed) == object
