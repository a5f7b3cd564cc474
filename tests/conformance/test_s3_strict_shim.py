"""The strict shim refuses what AWS refuses, and counts."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.fakes.strict_shim import StrictShim

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIB = 1 << 20


@pytest.fixture
def client(s3_shim: StrictShim) -> Iterator["S3Client"]:
    client = s3_shim.server.client()
    yield client
    client.close()


def _code(error: ClientError) -> tuple[int, str]:
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return status, error.response["Error"]["Code"]


@pytest.mark.parametrize(
    ("operation", "parameters", "expected"),
    [
        ("put_object", {"Key": "k" * 1025}, (400, "KeyTooLongError")),
        (
            "put_object",
            {"Key": "k", "Metadata": {"a": "b" * 2048}},
            (400, "MetadataTooLarge"),
        ),
        ("put_object", {"Key": "no", "IfMatch": '"x"'}, (404, "NoSuchKey")),
        ("put_object", {"Key": "there", "IfMatch": '"x"'}, (412, "PreconditionFailed")),
        (
            "put_object",
            {"Key": "there", "IfNoneMatch": "*"},
            (412, "PreconditionFailed"),
        ),
        (
            "delete_object",
            {"Key": "there", "IfMatch": '"x"'},
            (412, "PreconditionFailed"),
        ),
        (
            "copy_object",
            {"Key": "there", "CopySource": "there", "IfNoneMatch": "*"},
            (412, "PreconditionFailed"),
        ),
        (
            "copy_object",
            {"Key": "new", "CopySource": "there", "CopySourceIfMatch": '"x"'},
            (412, "PreconditionFailed"),
        ),
        ("copy_object", {"Key": "new", "CopySource": "no"}, (404, "NoSuchKey")),
    ],
)
def test_the_shim_refuses_what_aws_refuses(
    client: "S3Client",
    s3_bucket: str,
    operation: str,
    parameters: dict[str, Any],
    expected: tuple[int, str],
) -> None:
    """Limits and lost conditions are answered with AWS's status and code."""
    client.put_object(Bucket=s3_bucket, Key="there", Body=b"bytes")
    if "CopySource" in parameters:
        source = {"Bucket": s3_bucket, "Key": parameters["CopySource"]}
        parameters = {**parameters, "CopySource": source}

    with pytest.raises(ClientError) as caught:
        getattr(client, operation)(Bucket=s3_bucket, **parameters)

    assert _code(caught.value) == expected


def test_a_small_part_that_is_not_the_last_is_refused(
    client: "S3Client", s3_bucket: str
) -> None:
    """Completing with a part below 5 MiB before the last fails."""
    address: Any = {"Bucket": s3_bucket, "Key": "key"}
    upload = client.create_multipart_upload(**address)["UploadId"]
    parts: Any = [
        {
            "PartNumber": number,
            "ETag": client.upload_part(
                **address, UploadId=upload, PartNumber=number, Body=b"small"
            )["ETag"],
        }
        for number in (1, 2)
    ]

    with pytest.raises(ClientError) as caught:
        client.complete_multipart_upload(
            **address, UploadId=upload, MultipartUpload={"Parts": parts}
        )

    assert _code(caught.value) == (400, "EntityTooSmall")


def test_listings_come_in_byte_order(client: "S3Client", s3_bucket: str) -> None:
    """A key sorts by its bytes, over all pages, not as a path in a tree."""
    keys = ["a-", "a/x", "a/y", "a0", "b", "é"]
    for key in keys:
        client.put_object(Bucket=s3_bucket, Key=key, Body=b"")

    flat, names, token = [], [], None
    while True:
        extra: Any = {"ContinuationToken": token} if token else {}
        page = client.list_objects_v2(Bucket=s3_bucket, MaxKeys=2, **extra)
        flat += [entry["Key"] for entry in page.get("Contents", ())]
        token = page.get("NextContinuationToken")
        if not token:
            break
    tree = client.list_objects_v2(Bucket=s3_bucket, Delimiter="/")
    names = [entry["Key"] for entry in tree["Contents"]]

    assert flat == keys
    assert names == ["a-", "a0", "b", "é"]
    assert [entry["Prefix"] for entry in tree["CommonPrefixes"]] == ["a/"]


def test_requests_are_counted_by_operation(
    client: "S3Client", s3_bucket: str, s3_shim: StrictShim
) -> None:
    """The log knows each operation, its key and its status."""
    s3_shim.clear()
    client.put_object(Bucket=s3_bucket, Key="key", Body=b"x" * 3 * MIB)
    assert client.get_object(Bucket=s3_bucket, Key="key")["Body"].read() == (
        b"x" * 3 * MIB
    )
    client.delete_objects(Bucket=s3_bucket, Delete={"Objects": [{"Key": "key"}]})

    assert s3_shim.counts(reason=None) == {
        "PutObject": 1,
        "GetObject": 1,
        "DeleteObjects": 1,
    }
    assert [entry.key for entry in s3_shim.requests("PutObject")] == ["key"]
