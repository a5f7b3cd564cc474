"""The text of extended attributes: as s3fs writes it, and for every name and value."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountfs.storage import xattrs
from mountfs.storage.errors import MetadataTooLarge

_raw_names = st.binary(min_size=1, max_size=40).map(
    lambda name: name.replace(b"\0", b".")
)
_telling_names = st.text('\\"{},:/%+u0udc80 \n\x7fä', min_size=1, max_size=12).map(
    str.encode
)
xattr_sets = st.dictionaries(
    _raw_names | _telling_names, st.binary(max_size=40), max_size=5
)


@given(xattr_sets)
def test_every_set_comes_back(known: dict[bytes, bytes]) -> None:
    """Any names and values, UTF-8 or not, survive both forms."""
    assert xattrs.from_json(xattrs.to_json(known)) == known
    assert xattrs.from_header(xattrs.to_header(known)) == known


@given(xattr_sets)
def test_header_is_plain_ascii(known: dict[bytes, bytes]) -> None:
    """What stands in user metadata needs no further encoding on the wire."""
    header = xattrs.to_header(known)

    assert header.isascii()
    assert header.isprintable()
    assert " " not in header


@given(xattr_sets, xattr_sets)
def test_text_says_which_set_it_is(
    a: dict[bytes, bytes], b: dict[bytes, bytes]
) -> None:
    """Two sets have the same text only if they are equal, in whatever order."""
    assert (xattrs.to_json(a) == xattrs.to_json(b)) == (a == b)
    assert xattrs.to_json(dict(reversed(a.items()))) == xattrs.to_json(a)


@given(st.binary(max_size=60) | st.text('{}[]":,\\u09 a', max_size=60).map(str.encode))
def test_garbage_is_never_an_error(text: bytes) -> None:
    """Whatever stands there is understood or not, and what is can be written again."""
    found = xattrs.from_json(text)

    if found is not None:
        assert xattrs.from_json(xattrs.to_json(found)) == found


def test_deep_nesting_is_not_understood() -> None:
    """A text that is made to exhaust a parser is no text of attributes."""
    assert xattrs.from_json(b"[" * 100_000) is None


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        pytest.param("", {}, id="none-left"),
        pytest.param("%7B%7D", {}, id="empty"),
        pytest.param(
            "%7B%22user.k%22%3A%22dg%3D%3D%22%7D", {b"user.k": b"v"}, id="now"
        ),
        pytest.param("%7b%22user.k%22%3a%22%22%7d", {b"user.k": b""}, id="lower-case"),
        pytest.param('{"user.k":"dg=="}', {b"user.k": b"v"}, id="not-encoded"),
        pytest.param('{"user.k":"not base64"}', {b"user.k": b"not base64"}, id="first"),
        pytest.param(
            "%7B%22user.%FF%22%3A%22dg%3D%3D%22%7D", {b"user.\xff": b"v"}, id="bytes"
        ),
        pytest.param(
            "%7B%22user.a:b%5Cc%22%3A%22dg%3D%3D%22%7D",
            {b"user.a:b\\c": b"v"},
            id="raw",
        ),
    ],
)
def test_every_form_of_s3fs_is_read(header: str, wanted: dict[bytes, bytes]) -> None:
    """What some version of s3fs wrote is understood."""
    assert xattrs.from_header(header) == wanted


@pytest.mark.parametrize(
    "text",
    [
        b"nonsense",
        b"[]",
        b'{"user.k":1}',
        b'{"user.k"}',
        b'{"":"dg=="}',
        b'{"a\\u0000":"dg=="}',
        b'{"%s":"dg=="}' % (b"n" * 256),
    ],
)
def test_what_cannot_be_attributes_is_not_understood(text: bytes) -> None:
    """Text that is no object of texts, and names that no file can have, are refused."""
    assert xattrs.from_json(text) is None


def test_text_is_that_of_s3fs() -> None:
    """The order is that of the bytes of the names; a slash stays as it is."""
    known = {b"user.b": b"x/?", b"trusted.a": b"\xff" * 3, b'user.q"': b""}

    header = xattrs.to_header(known)

    assert base64.b64encode(b"x/?") == b"eC8/"
    assert header == (
        "%7B%22trusted.a%22%3A%22////%22%2C%22user.b%22%3A%22eC8/%22"
        "%2C%22user.q%5C%22%22%3A%22%22%7D"
    )


def test_sizes_are_bounded() -> None:
    """More names than can be listed, or a mebibyte in all, are too much."""
    xattrs.check_sizes({b"user.a": bytes(xattrs.TOTAL_SIZE_MAX - 7)})
    for too_large in (
        {b"user.a": bytes(xattrs.TOTAL_SIZE_MAX - 6)},
        {b"user.%060d" % number: b"" for number in range(1000)},
    ):
        with pytest.raises(MetadataTooLarge):
            xattrs.check_sizes(too_large)
