"""Options and URLs of the S3 store: what is taken, and what is refused."""

import base64
import json

import pytest

from mountfs.backends.s3 import open_s3, open_s3_service
from mountfs.backends.s3_keys import KeySpace
from mountfs.backends.s3_options import S3Options, parse_options, split_url
from mountfs.storage.errors import InvalidRequest, KeyTooLong
from mountfs.storage.types import Call


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bucket", ("bucket", "")),
        ("s3://bucket/", ("bucket", "")),
        ("s3://bucket/pre", ("bucket", "pre/")),
        ("s3://bucket/pre/fix/", ("bucket", "pre/fix/")),
        ("s3://bucket/a%20b?c", ("bucket", "a%20b?c/")),
    ],
)
def test_a_url_names_bucket_and_root(url: str, expected: tuple[str, str]) -> None:
    """What follows the bucket is the root of the keys, taken literally."""
    assert split_url(url) == expected


@pytest.mark.parametrize("url", ["s3://", "s3:///a", "s3:bucket", "gs://b", "s3://b c"])
def test_a_url_without_a_bucket_is_refused(url: str) -> None:
    """A URL must name a bucket."""
    with pytest.raises(InvalidRequest, match="s3://BUCKET"):
        open_s3(url, {})


@pytest.mark.parametrize(
    ("bucket", "is_ordered"),
    [
        ("bucket", True),
        ("photos--use1-az4--x-s3", False),
        ("p--use1-az4--xa-s3", False),
    ],
)
def test_directory_buckets_list_in_no_order(bucket: str, is_ordered: bool) -> None:
    """A page of theirs does not tell of what else there is between its keys."""
    assert open_s3(f"s3://{bucket}", {}).capabilities.ordered_pages is is_ordered


def test_an_account_has_no_bucket_in_its_url() -> None:
    """The service is opened by `s3://` alone."""
    with pytest.raises(InvalidRequest):
        open_s3_service("s3://bucket", {})


def test_options_may_be_texts() -> None:
    """What comes from a command line is converted."""
    parsed = parse_options(
        {
            "endpoint_url": "https://host:9000",
            "no_sign_request": "on",
            "checksums": "off",
            "requests_max": "8",
            "read_timeout_s": "2.5",
            "conditions": "write,copy",
            "region": None,
        }
    )

    assert parsed == S3Options(
        endpoint_url="https://host:9000",
        no_sign_request=True,
        checksums=False,
        requests_max=8,
        read_timeout_s=2.5,
        conditions=frozenset({Call.WRITE, Call.COPY}),
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("no_such_option", "x"),
        ("endpoint_url", "host:9000"),
        ("endpoint_url", "https://host:port"),
        ("region", ""),
        ("no_sign_request", "perhaps"),
        ("requests_max", 0),
        ("requests_max", 1.5),
        ("requests_max", True),
        ("requests_max", "inf"),
        ("read_timeout_s", "nan"),
        ("read_timeout_s", "soon"),
        ("read_timeout_s", 0),
        ("addressing_style", "host"),
        ("sse", "rot13"),
        ("conditions", "write,read"),
        ("sse_kms_key_id", "key"),
        ("sse_bucket_key", True),
        ("sse_customer_key_file", "/key"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(name: str, value: object) -> None:
    """The sentence names the option."""
    with pytest.raises(InvalidRequest, match=name):
        parse_options({name: value})


@pytest.mark.parametrize(
    "value", [{"a": "1"}, '{"a": "1"}', "a=1"], ids=["mapping", "json", "pairs"]
)
def test_an_encryption_context_is_sent_as_json(value: object) -> None:
    """A context may be given in three forms."""
    parsed = parse_options({"sse": "aws:kms", "sse_kms_context": value})

    assert parsed.sse_kms_context is not None
    assert json.loads(base64.b64decode(parsed.sse_kms_context)) == {"a": "1"}


@pytest.mark.parametrize("value", ["{", '{"a": 1}', 7, "[]"])
def test_an_encryption_context_of_another_form_is_refused(value: object) -> None:
    """A context maps texts to texts."""
    if value == "[]":
        value = ["a"]
    with pytest.raises(InvalidRequest, match="sse_kms_context"):
        parse_options({"sse": "aws:kms", "sse_kms_context": value})


def test_a_key_lies_below_the_root() -> None:
    """A prefix is a directory: `pre` never holds what is below `pre2`."""
    keys = KeySpace("bucket", "pre/")

    assert keys.full("key") == "pre/key"
    assert keys.relative("pre/key") == "key"


@pytest.mark.parametrize(
    ("key", "error"),
    [("", InvalidRequest), ("\udc80", InvalidRequest), ("é" * 511, KeyTooLong)],
)
def test_a_key_that_s3_does_not_take_is_refused(
    key: str, error: type[Exception]
) -> None:
    """Empty keys, bytes that are not UTF-8 and more than 1 024 bytes go nowhere."""
    with pytest.raises(error):
        KeySpace("bucket", "pre/").full(key)
