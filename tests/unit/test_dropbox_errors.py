"""The errors of Dropbox: tables that agree with their page, and what is told apart."""

import errno
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import urllib3.exceptions
from dropbox import exceptions as sdk
from dropbox import files

from mountfs.backends.dropbox_errors import (
    CLASSES,
    STATUSES,
    TAGS,
    translate,
    translated,
    union_error,
)
from mountfs.backends.dropbox_pace import PAUSE_MAX_S
from mountfs.fuse.errnos import errno_of
from mountfs.storage import errors
from mountfs.storage.errors import StoreError

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"


def _rows(title: str) -> Iterator[tuple[str, str, str, bool, bool]]:
    text = PAGE.read_text().partition("## Dropbox")[2]
    section = text.partition(f"### {title}\n")[2].partition("\n### ")[0]
    for line in re.findall(r"^\| (.*) \|$", section, re.MULTILINE)[1:]:
        cells = [cell.strip() for cell in line.split("|")]
        if set(cells[0]) <= {"-"}:
            continue
        for name in cells[0].replace("`", "").split(", "):
            error = cells[1].strip("`")
            yield name, error, cells[2], cells[3] == "yes", cells[4] == "yes"


def _shown(
    kind: type[StoreError], *, is_ambiguous: bool | None = None
) -> tuple[str, str, bool, bool]:
    error = kind("x", is_ambiguous=is_ambiguous)
    number = errno.errorcode[errno_of(error)]
    return kind.__name__, number, error.is_retryable, error.is_ambiguous


def test_the_page_shows_the_tables() -> None:
    """Tags, statuses and exceptions, each with what becomes of it."""
    assert {row[0]: row[1:] for row in _rows("By tag")} == {
        tag: _shown(kind) for tag, kind in TAGS.items()
    }
    assert {row[0]: row[1:] for row in _rows("By status")} == {
        **{str(status): _shown(kind) for status, kind in STATUSES.items()},
        "500": _shown(errors.ServiceFailed),
    }
    assert [row for row in _rows("By exception")] == [
        (known.__name__, *_shown(kind, is_ambiguous=is_ambiguous))
        for known, kind, is_ambiguous in CLASSES
    ]


@pytest.mark.parametrize(
    ("union", "kind"),
    [
        (files.GetMetadataError.path(files.LookupError.not_found), errors.NotFound),
        (
            files.UploadError.path(
                files.UploadWriteFailed(
                    files.WriteError.conflict(files.WriteConflictError.folder), "id"
                )
            ),
            errors.WrongKind,
        ),
        (
            files.RelocationError.to(
                files.WriteError.conflict(files.WriteConflictError.file)
            ),
            errors.PreconditionFailed,
        ),
        (files.DeleteError.too_many_write_operations, errors.Throttled),
        (files.UploadError.content_hash_mismatch, errors.Corrupt),
        (files.ListFolderContinueError.reset, errors.InvalidRequest),
    ],
)
def test_the_last_known_tag_decides(union: object, kind: type[StoreError]) -> None:
    """Structs on the way are gone through."""
    error = union_error(union, "key")

    assert type(error) is kind
    assert error.key == "key"
    assert error.code


def test_a_connection_that_was_never_made_sent_nothing() -> None:
    """One that broke may have carried the request."""
    refused = urllib3.exceptions.MaxRetryError(
        None,  # type: ignore[arg-type]  # nobody looks at the pool
        "/",
        urllib3.exceptions.NewConnectionError(None, "refused"),  # type: ignore[arg-type]  # nor here
    )

    never = translate(requests.exceptions.ConnectionError(refused))
    broken = translate(requests.exceptions.ConnectionError("reset"))

    assert type(never) is type(broken) is errors.Unreachable
    assert not never.is_ambiguous
    assert broken.is_ambiguous


@pytest.mark.parametrize(
    ("status", "kind"), [(503, errors.ServiceFailed), (409, errors.InvalidRequest)]
)
def test_statuses_without_tags(status: int, kind: type[StoreError]) -> None:
    """A text of Dropbox is told only for a request that was wrong."""
    with pytest.raises(kind) as caught, translated("key"):
        raise sdk.HttpError("id", status, "text")

    assert caught.value.code == str(status)


def test_what_is_not_known_is_a_bug() -> None:
    """It is not taken for an error of the store."""
    with pytest.raises(ZeroDivisionError), translated():
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("told", "pause_s"),
    [(None, None), (7, 7.0), (-5, 0.0), (10**400, PAUSE_MAX_S)],
)
def test_nobody_waits_for_years(told: int | None, pause_s: float | None) -> None:
    """Neither a moment that was, nor one that nobody lives to see, is believed."""
    error = sdk.RateLimitError("request", None, told)

    assert translate(error).retry_after_s == pause_s
