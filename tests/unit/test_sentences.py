"""What the user is told of a store that cannot be used."""

import pytest

from mountfs.sentences import reason_of, sentence_about
from mountfs.storage import errors
from mountfs.storage.errors import StoreError


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (errors.BucketNotFound("gone", key=""), "create it, or check the name"),
        (errors.CredentialsRejected("S3 rejects them", key=""), "s3-credentials.md"),
        (errors.PermissionDenied("Access Denied.", key=""), "names what is needed"),
        (errors.TimedOut("no answer", key=""), "check the network and --endpoint-url"),
        (errors.ServiceFailed("Service Unavailable", key="", code="503"), "try again"),
        (errors.InvalidRequest("set region to it", key=""), "set region to it"),
    ],
)
def test_each_failure_says_what_to_do(error: StoreError, advice: str) -> None:
    """The sentence has the URL, the reason and the way out, and no key or code."""
    said = sentence_about("s3://bucket", error)

    assert said.startswith("s3://bucket")
    assert error.reason.rstrip(".") in said
    assert advice in said
    assert "key ''" not in said
    assert "503" not in said


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("use no_sign_request", "use --no-sign-request"),
        ("endpoint_url must be a URL", "--endpoint-url must be a URL"),
        ("request_payer is needed", "--requester-pays is needed"),
        ("set MOUNTFS_endpoint_url_x", "set MOUNTFS_endpoint_url_x"),
        ("no profile in this region", "no profile in this region"),
    ],
)
def test_parameters_of_stores_become_options(reason: str, told: str) -> None:
    """The words are those of the command line."""
    assert reason_of(StoreError(reason)) == told
