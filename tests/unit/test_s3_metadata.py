"""Metadata of S3 on the wire."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountfs.backends._content_types import guess_type
from mountfs.backends.s3_metadata import (
    METADATA_SIZE_MAX,
    decode_text,
    encode_text,
    merged,
    metadata_of,
    object_of,
    write_parameters,
)
from mountfs.storage.errors import InvalidRequest, MetadataTooLarge, Unsupported
from mountfs.storage.types import Metadata

TEXTS = st.text(
    st.characters(codec="utf-8")
    | st.sampled_from([chr(0xDC00 + n) for n in range(128, 256)])
) | st.sampled_from(["=?UTF-8?B?w7w=?=", "=?utf-8?q?a?=", " a", "a ", "a\nb", "=? ?="])


@given(TEXTS)
def test_a_text_survives_the_wire(text: str) -> None:
    """Any text, also one of bytes that are not UTF-8, comes back as it was."""
    sent = encode_text(text)

    assert sent.isascii()
    assert sent.strip() == sent
    assert "\n" not in sent
    assert decode_text(sent) == text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("=?UTF-8?Q?=C3=BC_x?=", "ü x"),
        ("=?ISO-8859-1?Q?=FC?=", "ü"),
        ("=?UTF-8?B?w7w=?= =?UTF-8?B?w7w=?=", "üü"),
        ("=?UTF-8?B?%%%?=", "=?UTF-8?B?%%%?="),
        ("=?no-such-charset?Q?a?=", "=?no-such-charset?Q?a?="),
        ("plain", "plain"),
        ("ü €".encode().decode("latin-1"), "ü €"),
        ("\xfc", "ü"),
    ],
)
def test_an_encoded_word_of_others_is_read(value: str, expected: str) -> None:
    """S3 returns what others stored as UTF-8 in the form of RFC 2047."""
    assert decode_text(value) == expected


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        (Metadata(user={"a": "b" * METADATA_SIZE_MAX}), MetadataTooLarge),
        (Metadata(user={"Upper": "x"}), InvalidRequest),
        (Metadata(user={"a b": "x"}), InvalidRequest),
        (Metadata(pairs={"content-md5": "x"}), Unsupported),
        (Metadata(pairs={"content-type": "ü"}), InvalidRequest),
    ],
)
def test_metadata_that_s3_does_not_keep_are_refused(
    metadata: Metadata, error: type[Exception]
) -> None:
    """What would be refused or mangled is not sent."""
    with pytest.raises(error):
        write_parameters(metadata)


def test_the_limit_counts_names_and_values() -> None:
    """2 048 bytes of names and values fit; AWS does not count its own prefix."""
    user = {"name": "v" * (METADATA_SIZE_MAX - 4)}

    assert write_parameters(Metadata(user=user))["Metadata"] == user


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a.txt", "text/plain"),
        ("d/a.tar.gz", "application/gzip"),
        ("a.png", "image/png"),
        ("data:x.html", "text/html"),
        ("Makefile", None),
        ("a.d/noending", None),
        (".png", "image/png"),
    ],
)
def test_the_ending_of_a_name_suggests_its_type(key: str, expected: str | None) -> None:
    """Only the endings of the last name count; what compresses comes first."""
    assert guess_type(key) == expected


def test_a_hold_that_is_over_is_not_renewed() -> None:
    """S3 refuses a retention that ends in the past, so it is left out."""
    past = datetime.now(UTC) - timedelta(days=1)
    future = datetime.now(UTC) + timedelta(days=1)
    hold = {"ObjectLockMode": "GOVERNANCE"}

    over = write_parameters(
        Metadata(system={**hold, "ObjectLockRetainUntilDate": past.isoformat()})
    )
    on = write_parameters(
        Metadata(system={**hold, "ObjectLockRetainUntilDate": future.isoformat()})
    )

    assert "ObjectLockMode" not in over
    assert on["ObjectLockRetainUntilDate"] == future


def test_a_reply_says_everything_about_an_object() -> None:
    """Names are lower case, the commit id is apart, and a version has two parts."""
    found = object_of(
        "key",
        {
            "ETag": '"tag"',
            "ContentLength": 3,
            "LastModified": datetime(2026, 1, 2, tzinfo=UTC),
            "Metadata": {"Mode": "33188", "mountfs-commit": "id"},
            "ContentEncoding": "aws-chunked, gzip",
            "ResponseMetadata": {"HTTPHeaders": {"expires": "0"}},
        },
    )

    assert found.version is not None
    assert (found.version.content, found.version.attributes) == ("tag", "1767312000")
    assert found.metadata is not None
    assert found.metadata.user == {"mode": "33188"}
    assert found.metadata.commit_id == "id"
    assert found.metadata.pairs == {
        "content-encoding": "gzip",
        "expires": "0",
        "storage-class": "STANDARD",
    }


def test_what_is_given_wins_over_what_is_inherited() -> None:
    """An older object fills in only what the caller did not name."""
    old = Metadata(
        user={"theirs": "1", "both": "old"},
        pairs={"content-type": "text/x", "cache-control": "no-store"},
        commit_id="old",
    )
    new = Metadata(user={"both": "new"}, pairs={"content-type": "text/y"})

    with_user = merged(new, old, user=True)

    assert with_user.user == {"theirs": "1", "both": "new"}
    assert with_user.pairs == {"content-type": "text/y", "cache-control": "no-store"}
    assert with_user.commit_id is None
    assert merged(new, old, user=False).user == {"both": "new"}
    assert metadata_of({}).user == {}
