"""The light data plane reads answers as botocore reads them."""

import base64
import datetime
import hashlib
import zlib
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

import botocore.session
import pytest
from botocore.awsrequest import HeadersDict
from botocore.exceptions import ClientError
from botocore.model import OperationModel
from botocore.parsers import ResponseParserError, create_parser
from hypothesis import given, settings
from hypothesis import strategies as st

from mountfs.backends._http import Answer
from mountfs.backends.s3_digests import has_right_checksum
from mountfs.backends.s3_errors import translate
from mountfs.backends.s3_pages import moment, rows_of
from mountfs.backends.s3_wire import HOT, Operation
from mountfs.storage.errors import Corrupt, NotFound, ServiceFailed, StoreError

MODEL = botocore.session.Session().get_service_model("s3")
HEADERS = {"content-type": "application/xml", "x-amz-request-id": "1"}


def model(name: str) -> OperationModel:
    """Return what botocore knows of an operation."""
    return MODEL.operation_model(HOT[name])


def ours(name: str, status: int, headers: dict[str, str], body: bytes) -> Any:
    """Return what the data plane makes of an answer."""
    return Operation(model(name)).reply(Answer(status, headers, body))


def theirs(name: str, status: int, headers: dict[str, str], body: bytes) -> Any:
    """Return what botocore makes of it."""
    shape: Any = model(name).output_shape
    return create_parser("rest-xml").parse(
        {"status_code": status, "headers": HeadersDict(headers), "body": body},
        shape,
    )


def entry(key: str, number: int, style: str) -> str:
    """Return an entry of a listing as one of several services writes it."""
    name = f"<Key>{escape(key)}</Key>"
    time = "<LastModified>2026-11-26T21:00:00.123Z</LastModified>"
    size = f"<Size>{number}</Size>"
    kept = "<StorageClass>STANDARD</StorageClass>"
    checksum = "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm>"
    checksum += "<ChecksumType>FULL_OBJECT</ChecksumType>"
    owner = "<Owner><ID>1</ID><DisplayName>a &amp; b</DisplayName></Owner>"
    match style:
        case "aws":
            inner = [name, time, "<ETag>&quot;a&quot;</ETag>", checksum, size, kept]
        case "seaweedfs":
            inner = [name, "<ETag>&#34;a&#34;</ETag>", size, owner, kept, time]
        case "other order":
            inner = [size, name, kept, "<ETag>&quot;a&quot;</ETag>", time]
        case "spaced":
            inner = ["\n  ", name, "\n", time, '<ETag>"a"</ETag>', size, kept]
        case "no class":
            inner = [name, time, '<ETag>"a"</ETag>', size]
        case _:
            inner = [f"<Key><![CDATA[{key}]]></Key>", time, size, "<ETag>a</ETag>"]
    return f"<Contents>{''.join(inner)}</Contents>"


STYLES = ["aws", "seaweedfs", "other order", "spaced", "no class", "cdata"]
KEYS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")))


@settings(max_examples=60)
@given(
    entries=st.lists(st.tuples(KEYS, st.integers(0, 2**50), st.sampled_from(STYLES))),
    prefixes=st.lists(KEYS, max_size=3),
    is_encoded=st.booleans(),
    token=st.none() | KEYS.filter(bool),
)
def test_a_page_is_read_as_botocore_reads_it(
    entries: list[tuple[str, int, str]],
    prefixes: list[str],
    *,
    is_encoded: bool,
    token: str | None,
) -> None:
    """Whatever the service writes, and in which order."""
    encode = quote if is_encoded else str
    parts = [
        "<Name>b</Name>",
        f"<IsTruncated>{'true' if token else 'false'}</IsTruncated>",
        "<EncodingType>url</EncodingType>" if is_encoded else "",
        f"<NextContinuationToken>{escape(token)}</NextContinuationToken>"
        if token
        else "",
        *(entry(encode(key), number, style) for key, number, style in entries),
        *(
            f"<CommonPrefixes><Prefix>{escape(encode(key))}</Prefix></CommonPrefixes>"
            for key in prefixes
        ),
    ]
    namespace = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
    body = f"<ListBucketResult {namespace}>{''.join(parts)}</ListBucketResult>".encode()

    found = ours("list_objects_v2", 200, HEADERS, body)
    wanted = theirs("list_objects_v2", 200, HEADERS, body)

    assert found["IsTruncated"] == wanted["IsTruncated"]
    assert found.get("EncodingType") == wanted.get("EncodingType")
    assert found.get("NextContinuationToken") == wanted.get("NextContinuationToken")
    assert found.get("CommonPrefixes") == wanted.get("CommonPrefixes")
    assert facts(found) == facts(wanted)


def facts(reply: Any) -> list[tuple[object, ...]]:
    """Return what the store takes from the entries of a page, in any order."""
    return sorted(
        (key, moment(modified) if modified else None, etag, int(size), storage_class)
        for key, modified, etag, size, storage_class in rows_of(reply)
    )


COPIED = (
    b"<CopyObjectResult><LastModified>2026-11-26T21:00:00Z</LastModified>"
    b"<ETag>&quot;a&quot;</ETag></CopyObjectResult>"
)


@pytest.mark.parametrize(
    "headers",
    [
        {"last-modified": "Thu, 26 Nov 2026 21:03:07 GMT", "etag": '"a"'},
        {"last-modified": "Thursday, 26-Nov-26 21:03:07 GMT", "content-length": "7"},
        {
            "x-amz-meta-a": "=?UTF-8?B?w6Q=?=",
            "x-amz-meta-b-c": "",
            "x-amz-tagging-count": "3",
            "x-amz-server-side-encryption-bucket-key-enabled": "true",
            "x-amz-server-side-encryption": "aws:kms",
            "x-amz-object-lock-retain-until-date": "2199-01-02T03:04:05.000Z",
            "x-amz-storage-class": "GLACIER",
            "content-type": "text/plain",
            "cache-control": "no-store",
        },
    ],
)
@pytest.mark.parametrize("name", ["head_object", "put_object", "copy_object"])
def test_headers_are_read_as_botocore_reads_them(
    name: str, headers: dict[str, str]
) -> None:
    """Texts, numbers, switches, times and user metadata."""
    headers = {"etag": '"a"', **headers}
    body = COPIED if name == "copy_object" else b""
    found = ours(name, 200, headers, body)
    wanted = theirs(name, 200, headers, body)

    assert {"Metadata": {}, **found} == {"Metadata": {}, **wanted}


def test_the_answer_to_a_copy_is_read() -> None:
    """What is in its body, too."""
    result = ours("copy_object", 200, HEADERS, COPIED)["CopyObjectResult"]

    moment = datetime.datetime(2026, 11, 26, 21, tzinfo=datetime.UTC)
    assert result == {"ETag": '"a"', "LastModified": moment}


def test_failed_deletions_are_read() -> None:
    """Those that failed alone are told."""
    body = (
        b'<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Error>'
        b"<Key>a&amp;b</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
        b"</DeleteResult>"
    )

    found = ours("delete_objects", 200, HEADERS, body)

    assert found["Errors"] == theirs("delete_objects", 200, HEADERS, body)["Errors"]


def test_the_begin_and_the_end_of_an_upload_are_read() -> None:
    """Also behind the white space that S3 sends while it takes its time."""
    begun = (
        b'<?xml version="1.0"?><InitiateMultipartUploadResult><Bucket>b</Bucket>'
        b"<Key>k</Key><UploadId>a&amp;b</UploadId></InitiateMultipartUploadResult>"
    )
    ended = (
        b"<CompleteMultipartUploadResult><Location>l</Location><Key>k</Key>"
        b"<ETag>&quot;a-1&quot;</ETag></CompleteMultipartUploadResult>"
    )

    upload = ours("create_multipart_upload", 200, HEADERS, begun)
    reply = ours("complete_multipart_upload", 200, HEADERS, b" \r\n " + ended)

    assert upload["UploadId"] == "a&b"
    assert reply["ETag"] == '"a-1"'


ERROR = b"<Error><Code>NoSuchKey</Code><Message>m</Message><Key>k</Key></Error>"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, ERROR),
        (404, b""),
        (403, b"<html>no"),
        (503, b"<html><body>later</body></html>"),
        (
            412,
            b"<Error><Code>PreconditionFailed</Code><Condition>x</Condition></Error>",
        ),
        (301, b"<Error><Code>PermanentRedirect</Code><Endpoint>e</Endpoint></Error>"),
        (500, b""),
    ],
)
def test_an_error_is_read_as_botocore_reads_it(status: int, body: bytes) -> None:
    """The same code, message and details, and so the same error of the store."""
    headers = {"retry-after": "3"}
    with pytest.raises(ClientError) as caught:
        ours("get_object", status, headers, body)

    wanted = theirs("get_object", status, headers, body)
    assert caught.value.response["Error"] == wanted["Error"]
    error = translate(caught.value, "k")
    assert type(error) is type(translate(ClientError(wanted, "GetObject"), "k"))
    assert isinstance(error, StoreError)
    assert error.retry_after_s == 3


def test_an_error_may_come_with_success() -> None:
    """S3 begins to answer a copy, or the end of an upload, before it knows its own."""
    failed = ERROR.replace(b"NoSuchKey", b"InternalError")
    for name in ("copy_object", "complete_multipart_upload"):
        for body in (failed, b"\n" + failed, b"<CopyObj", b" \n"):
            with pytest.raises(ClientError) as caught:
                ours(name, 200, HEADERS, body)
            assert isinstance(translate(caught.value), ServiceFailed)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("put_object", b""),
        ("put_object", b"<html><body>Log in</body></html>"),
        ("upload_part", b""),
        ("copy_object", b""),
        ("upload_part_copy", b""),
        ("delete_objects", b"<html><body>Log in</body></html>"),
        ("create_multipart_upload", b"<html><body>Log in</body></html>"),
        ("create_multipart_upload", b""),
        ("complete_multipart_upload", b"<html><body>Log in</body></html>"),
        ("complete_multipart_upload", b""),
    ],
)
def test_the_page_of_some_web_server_is_no_success(name: str, body: bytes) -> None:
    """What was asked for may have been done, or not."""
    with pytest.raises(ResponseParserError) as caught:
        ours(name, 200, {"content-type": "text/html"}, body)

    assert isinstance(error := translate(caught.value), ServiceFailed)
    assert error.is_ambiguous


def test_a_head_without_a_body_is_not_found() -> None:
    """Nothing but the status tells it."""
    with pytest.raises(ClientError) as caught:
        ours("head_object", 404, {}, b"")

    assert isinstance(translate(caught.value), NotFound)


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_a_checksum_is_compared(algorithm: str) -> None:
    """With all bytes of the object, and with nothing less."""
    data = b"what was stored"
    raw = {
        "CRC32": zlib.crc32(data).to_bytes(4, "big"),
        "SHA1": hashlib.sha1(data).digest(),
        "SHA256": hashlib.sha256(data).digest(),
    }[algorithm]
    reply = {f"Checksum{algorithm}": base64.b64encode(raw).decode()}

    assert has_right_checksum(reply, data)
    assert has_right_checksum({**reply, "ContentRange": "bytes 0-14/15"}, data)
    assert not has_right_checksum({**reply, "ContentRange": "bytes 0-14/20"}, data)
    assert not has_right_checksum({f"Checksum{algorithm}": "AAAA-2"}, data)
    with pytest.raises(Corrupt):
        has_right_checksum(reply, b"what was stoned")
