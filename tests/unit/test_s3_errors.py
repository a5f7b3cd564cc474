"""The error tables of the S3 backend, and the page that shows them."""

import errno
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.exceptions as sdk
import pytest
import urllib3.exceptions
from botocore.parsers import ResponseParserError

from mountfs.backends.s3_errors import (
    CLASSES,
    CODES,
    STATUSES,
    reply_error,
    translate,
    translated,
)
from mountfs.fuse.errnos import errno_of
from mountfs.storage import errors
from mountfs.storage.errors import StoreError

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"
Row = tuple[str, str, str, bool, bool]


def _rows(heading: str) -> Iterator[Row]:
    """Give each name of a table of the page, with its error, errno and marks."""
    section = PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|") or cells[0] in {"code", "status", "exception"}:
            continue
        names = re.findall(r"[\w.]+", cells[0])
        if set(cells[0]) == {"-"}:
            continue
        for name in names:
            error = cells[1].strip("`")
            yield name, error, cells[2], cells[3] == "yes", cells[4] == "yes"


def _shown(error: StoreError) -> tuple[str, str, bool, bool]:
    number = errno.errorcode[errno_of(error)]
    return type(error).__name__, number, error.is_retryable, error.is_ambiguous


def _client_error(code: str, status: int = 400, **told: str) -> sdk.ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": "text", **told},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {}},
    }
    return sdk.ClientError(response, "PutObject")


@pytest.mark.parametrize("row", list(_rows("By error code")), ids=lambda row: row[0])
def test_a_code_means_what_the_page_says(row: Row) -> None:
    """Each error code becomes the error and the errno of its row."""
    name, *expected = row

    assert list(_shown(translate(_client_error(name)))) == expected


@pytest.mark.parametrize("row", list(_rows("By HTTP status")), ids=lambda row: row[0])
def test_a_status_means_what_the_page_says(row: Row) -> None:
    """An answer without a known code goes by its status."""
    name, *expected = row

    error = translate(_client_error(name, int(name)))

    assert list(_shown(error)) == expected


def _exception(name: str) -> Exception:
    cls = {
        "HTTPError": urllib3.exceptions.HTTPError,
        "ResponseParserError": ResponseParserError,
    }.get(name) or getattr(sdk, name)
    assert issubclass(cls, Exception)
    error: Exception = cls.__new__(cls)
    Exception.__init__(error, "text")
    if isinstance(error, sdk.BotoCoreError):
        error.kwargs = {"endpoint_url": "http://host"}
    return error


@pytest.mark.parametrize(
    "row", list(_rows("By exception of botocore")), ids=lambda row: row[0]
)
def test_an_exception_means_what_the_page_says(row: Row) -> None:
    """A request without an answer goes by botocore's exception."""
    name, *expected = row

    assert list(_shown(translate(_exception(name)))) == expected


def test_the_page_shows_every_row() -> None:
    """No code, status or exception of the tables is missing from the page."""
    assert {row[0] for row in _rows("By error code")} == set(CODES)
    assert {row[0] for row in _rows("By HTTP status")} == {
        *map(str, STATUSES),
        "500",
    }
    assert {row[0] for row in _rows("By exception of botocore")} == {
        known.__name__ for known, _, _ in CLASSES
    }


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (_client_error("RequestTimeTooSkewed", 403), "clock"),
        (_client_error("ExpiredToken"), "renew"),
        (_client_error("PermanentRedirect", 301, Region="eu-west-1"), "eu-west-1"),
        (
            _client_error("AuthorizationHeaderMalformed", Region="eu-west-1"),
            "eu-west-1",
        ),
        (_client_error("400"), "expired token"),
        (sdk.NoCredentialsError(), "aws configure"),
        (sdk.ProfileNotFound(profile="mine"), "mine"),
        (sdk.NoRegionError(), "AWS_DEFAULT_REGION"),
        (sdk.EndpointConnectionError(endpoint_url="http://host:1/x"), "host:1"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_refusal_says_what_to_do(error: Exception, words: str) -> None:
    """What a user can mend is one sentence that says how."""
    assert words in str(translate(error))


def test_a_pause_that_the_service_asks_for_is_kept() -> None:
    """Retry-After travels with the error."""
    error = reply_error(
        {
            "Error": {"Code": "SlowDown"},
            "ResponseMetadata": {
                "HTTPStatusCode": 503,
                "HTTPHeaders": {"retry-after": "7"},
            },
        }
    )

    assert isinstance(error, errors.Throttled)
    assert error.retry_after_s == 7


def test_our_own_error_passes_through_botocore() -> None:
    """A body that stops a request is reported as itself, however botocore wraps it."""
    wrapped = sdk.HTTPClientError(error="ended")
    wrapped.__context__ = errors.BodyTooShort("ended")

    assert translate(wrapped) is wrapped.__context__


def test_a_mistake_of_ours_is_not_hidden() -> None:
    """An exception that is not the SDK's leaves as it is."""
    with pytest.raises(KeyError), translated():
        raise KeyError("a bug")
