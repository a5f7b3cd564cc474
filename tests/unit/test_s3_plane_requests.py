"""What the light data plane sends is what botocore would send, byte for byte.

Each operation is prepared twice with the same parameters: by botocore, which is stopped
before it sends, and by the plane. Target and headers must agree, and botocore's own
signer must find the same signature for what the plane is about to send.
"""

import base64
import datetime
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import botocore.session
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mountfs.backends._http import Answer, Connections, Source
from mountfs.backends.s3_options import parse_options
from mountfs.backends.s3_plane import Plane
from mountfs.storage.errors import InvalidRequest

ACCESS, SECRET = "access", "secret+/key"
VOLATILE = frozenset(
    {
        "accept-encoding",
        "amz-sdk-invocation-id",
        "amz-sdk-request",
        "authorization",
        "expect",
        "host",
        "user-agent",
        "x-amz-date",
    }
)
"""What is new in each request, or says nothing to S3."""

Settings: Any = dict
ADDRESSES: dict[str, dict[str, Any]] = {
    "path": {
        "endpoint_url": "http://127.0.0.1:9",
        "config": Config(s3={"addressing_style": "path"}),
    },
    "path-below": {
        "endpoint_url": "http://[::1]:9/below/it",
        "config": Config(s3={"addressing_style": "path"}),
    },
    "virtual": {"config": Config(s3={"addressing_style": "virtual"})},
    "dualstack": {"config": Config(use_dualstack_endpoint=True)},
    "accelerated": {"config": Config(s3=Settings(use_accelerate_endpoint=True))},
    "fips": {"config": Config(use_fips_endpoint=True)},
    "http": {
        "endpoint_url": "http://s3.example.org",
        "config": Config(s3={"addressing_style": "virtual"}),
    },
}

ODD_KEYS = st.sampled_from(
    [
        "a//b",
        "/a",
        "a/",
        "./a",
        "../a",
        "a/../b",
        "a/./b",
        "a+b",
        "a%2Fb",
        "a%b",
        "a b ",
        "a\x01b",
        "a\nb",
        "a\\b",
        "ä\u0308/€/\U0001f600",
        "~a_b-c.d",
        "a?b=c&d#e",
        "*'();:@$,[]!",
        '"<>^`{|}',
    ]
)
KEYS = ODD_KEYS | st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20
)
VALUES = st.text(
    st.characters(codec="ascii", categories=("L", "N", "P", "S", "Zs")), max_size=12
).map(str.strip)


class Sent(Exception):
    """A request that would have been sent now."""

    def __init__(self, head: bytes) -> None:
        super().__init__()
        self.head = head


class Pair:
    """The same client with and without the plane."""

    def __init__(self, address: str, token: str | None = None) -> None:
        session = botocore.session.Session()
        session.set_credentials(ACCESS, SECRET, token)
        self.credentials = Credentials(ACCESS, SECRET, token)
        create: Any = session.create_client
        self.client = create("s3", region_name="eu-west-1", **ADDRESSES[address])
        self.plane = Plane(self.client, session, parse_options({}))
        self.client.meta.events.register("before-send.s3", self._stop)
        self._is_stopping = False
        self._prepared: AWSPreparedRequest | None = None

    def _stop(self, request: AWSPreparedRequest, **_: object) -> None:
        if self._is_stopping:
            self._prepared = request
            raise Sent(b"")

    def theirs(self, operation: str, parameters: dict[str, Any]) -> AWSPreparedRequest:
        """Return what botocore is about to send."""
        self._is_stopping = True
        with pytest.raises(Sent):
            getattr(self.client, operation)(**parameters)
        self._is_stopping = False
        assert self._prepared is not None
        return self._prepared

    def ours(
        self, operation: str, parameters: dict[str, Any]
    ) -> tuple[str, str, dict[str, str]]:
        """Return the method, the target and the headers the plane is about to send."""
        with pytest.raises(Sent) as caught:
            self.plane.send(operation, parameters)
        first, *lines = caught.value.head.decode("latin-1").split("\r\n")[:-2]
        method, target, version = first.split(" ")
        assert version == "HTTP/1.1"
        headers = dict(line.split(": ", 1) for line in lines)
        return method, target, headers


def without_volatile(headers: dict[str, str]) -> dict[str, str]:
    """Return the headers that must agree."""
    return {
        name.lower(): " ".join(value.split())
        for name, value in headers.items()
        if name.lower() not in VOLATILE
    }


def texts_of(request: AWSPreparedRequest) -> dict[str, str]:
    """Return the headers as texts."""
    headers: dict[str, Any] = dict(request.headers.items())
    return {
        name: value.decode("latin-1") if isinstance(value, bytes) else str(value)
        for name, value in headers.items()
    }


@contextmanager
def nothing_is_sent() -> Iterator[None]:
    """Stop the plane just before it sends."""

    def exchange(
        self: Connections,
        head: bytes,
        body: bytes | Source,
        *,
        is_head: bool = False,
        size_max: int | None = None,
    ) -> Answer:
        raise Sent(head)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connections, "exchange", exchange)
        yield


def check(pair: Pair, operation: str, parameters: dict[str, Any]) -> None:
    """Compare the two requests, and let botocore sign the one of the plane."""
    address = {"Bucket": "the-bucket", **parameters}
    with nothing_is_sent():
        method, target, headers = pair.ours(operation, address)
    prepared = pair.theirs(operation, address)
    their_target = canonical("/" + prepared.url.split("://", 1)[1].partition("/")[2])
    their_headers = without_volatile(texts_of(prepared))
    is_upload = operation in {"put_object", "upload_part"}
    if is_upload and prepared.url.startswith("https"):
        # Over TLS botocore sends the checksum behind the body, the plane before it.
        for name in ("x-amz-trailer", "transfer-encoding", "content-encoding"):
            their_headers.pop(name, None)
        their_headers.pop("x-amz-decoded-content-length")
        their_headers["content-length"] = str(len(parameters["Body"]))
        their_headers["x-amz-content-sha256"] = "UNSIGNED-PAYLOAD"
        their_headers["x-amz-checksum-crc32"] = headers["x-amz-checksum-crc32"]
    assert (method, target) == (prepared.method, their_target)
    assert without_volatile(headers) == their_headers
    assert headers["host"] == signed_host(prepared)
    check_signature(pair, (method, target), headers)


def canonical(target: str) -> str:
    """Return a target with its query as it is signed: sorted, and each with a value."""
    path, _, query = target.partition("?")
    pairs = sorted(pair.partition("=")[::2] for pair in query.split("&"))
    sorted_query = "&".join(f"{name}={value}" for name, value in pairs)
    return f"{path}?{sorted_query}" if query else path


def signed_host(prepared: AWSPreparedRequest) -> str:
    """Return the host that botocore signs for a URL."""
    request = AWSRequest("GET", prepared.url)
    nobody = Credentials("", "")
    host: str = S3SigV4Auth(nobody, "s3", "x").headers_to_sign(request)["host"]
    return host


def check_signature(
    pair: Pair, asked: tuple[str, str], headers: dict[str, str]
) -> None:
    """Let botocore's signer sign the request that the plane is about to send."""
    method, target = asked
    words = headers["authorization"].split("Credential=")[1].split(",")[0].split("/")
    auth = S3SigV4Auth(pair.credentials, words[3], words[2])
    names = headers["authorization"].split("SignedHeaders=")[1].split(",")[0]
    signed = {name: headers[name] for name in names.split(";")}
    request = AWSRequest(method, f"https://{headers['host']}{target}", signed)
    request.context["timestamp"] = headers["x-amz-date"]
    canonical = auth.canonical_request(request)
    text = auth.string_to_sign(request, canonical)
    signature = headers["authorization"].rpartition("Signature=")[2]
    assert signature == auth.signature(text, request)
    unsigned = set(headers) - set(signed)
    assert unsigned <= {"authorization", "user-agent", "accept-encoding"}


@pytest.fixture(scope="module", params=ADDRESSES)
def pair(request: pytest.FixtureRequest) -> Pair:
    return Pair(request.param)


few = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@few
@given(key=KEYS, source=KEYS)
def test_any_key_is_sent_as_botocore_sends_it(
    pair: Pair, key: str, source: str
) -> None:
    """In the path, in the source of a copy and in the XML of a deletion."""
    check(pair, "head_object", {"Key": key})
    check(pair, "get_object", {"Key": key, "Range": "bytes=3-7", "IfMatch": '"e"'})
    check(pair, "delete_object", {"Key": key, "IfMatch": '"e"'})
    copied = {"Bucket": "the-bucket", "Key": source}
    check(pair, "copy_object", {"Key": key, "CopySource": copied})


@few
@given(prefix=KEYS, token=st.none() | VALUES)
def test_any_prefix_is_asked_for_as_botocore_does(
    pair: Pair, prefix: str, token: str | None
) -> None:
    """The query is sorted and encoded alike."""
    parameters: dict[str, Any] = {
        "Prefix": prefix,
        "Delimiter": "/",
        "MaxKeys": 1000,
        "EncodingType": "url",
    }
    if token is not None:
        parameters["ContinuationToken"] = token
    check(pair, "list_objects_v2", parameters)


@few
@given(
    body=st.binary(max_size=40),
    names=st.dictionaries(
        st.text("abcxyz-_0", min_size=1, max_size=8), VALUES, max_size=3
    ),
    kind=VALUES.filter(bool),
    upload=KEYS,
)
def test_uploads_are_sent_as_botocore_sends_them(
    pair: Pair, body: bytes, names: dict[str, str], kind: str, upload: str
) -> None:
    """Metadata, checksums, sizes and the hash of the body."""
    size = {"Body": body, "ContentLength": len(body)}
    check(
        pair,
        "put_object",
        {"Key": "k", **size, "Metadata": names, "ContentType": kind},
    )
    check(
        pair, "upload_part", {"Key": "k", **size, "PartNumber": 7, "UploadId": upload}
    )


@few
@given(key=KEYS, upload=KEYS, etags=st.lists(KEYS.filter(str.isprintable), min_size=1))
def test_uploads_in_parts_begin_and_end_as_botocore_does(
    pair: Pair, key: str, upload: str, etags: list[str]
) -> None:
    """Nothing but what the object will have, and then the list of its parts."""
    parts = [
        {"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)
    ]
    check(pair, "create_multipart_upload", {"Key": key})
    address = {"Key": key, "UploadId": upload}
    check(
        pair,
        "complete_multipart_upload",
        {**address, "MultipartUpload": {"Parts": parts}},
    )


@few
@given(keys=st.lists(KEYS.filter(lambda key: key.isprintable()), min_size=1))
def test_deletions_are_sent_as_botocore_sends_them(pair: Pair, keys: list[str]) -> None:
    """The body, and so its hash and its checksum, is the same."""
    objects = [{"Key": key} for key in keys]
    check(pair, "delete_objects", {"Delete": {"Objects": objects, "Quiet": True}})


def test_every_policy_is_sent_as_botocore_sends_it(pair: Pair) -> None:
    """Encryption, payer, owner, holds, grants, tags, directives, conditions."""
    key = bytes(range(32))
    ours = {f"SSECustomer{name}": value for name, value in customer(key)}
    theirs = {f"CopySourceSSECustomer{name}": value for name, value in customer(key)}
    common = {"RequestPayer": "requester", "ExpectedBucketOwner": "123456789012"}
    until = datetime.datetime(2199, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    written = {
        "StorageClass": "STANDARD_IA",
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": "arn:aws:kms:eu-west-1:1:key/a",
        "SSEKMSEncryptionContext": base64.b64encode(b'{"a": "b"}').decode(),
        "BucketKeyEnabled": True,
        "Tagging": "a=b%20c&d=",
        "GrantRead": 'id="1", uri="http://x/y"',
        "ObjectLockMode": "GOVERNANCE",
        "ObjectLockRetainUntilDate": until,
        "ObjectLockLegalHoldStatus": "ON",
        "WebsiteRedirectLocation": "/elsewhere",
        "ContentDisposition": "inline;  filename=a",
        "IfNoneMatch": "*",
    }
    started = {name: value for name, value in written.items() if name != "IfNoneMatch"}
    body = {"Body": b"bytes", "ContentLength": 5}
    source = {"CopySource": {"Bucket": "the-bucket", "Key": "s"}}
    check(pair, "put_object", {"Key": "k", **body, **common, **written})
    check(pair, "put_object", {"Key": "k", **body, **ours})
    check(pair, "get_object", {"Key": "k", **common, **ours})
    check(pair, "head_object", {"Key": "k", **common, **ours})
    copied = {**source, "CopySourceIfMatch": '"e"', **common, **theirs, **ours}
    directives = {"MetadataDirective": "REPLACE", "Metadata": {"a": "b"}}
    owner = {"ExpectedSourceBucketOwner": "123456789012"}
    check(pair, "copy_object", {"Key": "k", **copied, **directives, **owner})
    check(pair, "copy_object", {"Key": "k", **source, **written})
    part = {"PartNumber": 1, "UploadId": "u"}
    range_ = {"CopySourceRange": "bytes=0-9"}
    check(pair, "upload_part_copy", {"Key": "k", **copied, **owner, **part, **range_})
    check(pair, "upload_part", {"Key": "k", **body, **part, **common, **ours})
    check(pair, "create_multipart_upload", {"Key": "k", **common, **started})
    check(pair, "create_multipart_upload", {"Key": "k", **ours, "Metadata": {"a": "b"}})
    parts = {"Parts": [{"PartNumber": 1, "ETag": '"e"'}]}
    completed = {"Key": "k", "UploadId": "u", "MultipartUpload": parts}
    check(pair, "complete_multipart_upload", {**completed, **common, **ours})
    for condition in ({"IfMatch": '"e"'}, {"IfNoneMatch": "*"}):
        check(pair, "complete_multipart_upload", {**completed, **condition})
    check(pair, "list_objects_v2", {"Prefix": "", "EncodingType": "url", **common})


def customer(key: bytes) -> list[tuple[str, object]]:
    """Return what says that a customer has the key, as a store says it."""
    text, digest = (
        base64.b64encode(each).decode() for each in (key, hashlib.md5(key).digest())
    )
    return [("Algorithm", "AES256"), ("Key", text), ("KeyMD5", digest)]


@pytest.mark.parametrize("token", ["token+/=", "a  b"])
def test_a_session_token_is_signed(token: str) -> None:
    """Temporary credentials have one."""
    check(Pair("path", token), "head_object", {"Key": "k"})


@pytest.mark.parametrize("line_break", ["\r\n", "\n", "\r"])
def test_a_line_break_gets_into_no_header(line_break: str) -> None:
    """Nothing that a server or a file told can add a header to a request."""
    with nothing_is_sent(), pytest.raises(InvalidRequest):
        Pair("path").plane.send(
            "head_object",
            {"Bucket": "b", "Key": "k", "IfMatch": f"a{line_break}x-amz-acl: b"},
        )


def test_express_buckets_are_left_to_the_sdk() -> None:
    """They want sessions of their own."""
    pair = Pair("virtual")
    event = {"Bucket": "the-bucket", "Key": "k"}
    assert pair.plane.takes("head_object", event)
    assert not pair.plane.takes("get_object_tagging", event)
