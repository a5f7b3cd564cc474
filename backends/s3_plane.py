"""The light data plane: the hot operations of S3 without the SDK on their way.

boto3 stays where everything is decided: its client finds the endpoint, the region, the
proxy, the certificates and the credentials, and each bucket is asked for once, with a
request that is stopped just before it would be sent. What is hot is then signed, sent
and read here. Whatever says that a bucket is elsewhere is handed back to boto3.

Its scope is `s3_wire.HOT` and nothing else: what a mount sends for each file, page,
range and part, and the begin and the end of an upload in parts, which a program waits
for. What is rare (aborting, open uploads, tags, ACLs, buckets, signed URLs) stays with
boto3.

Every failure is raised as botocore would raise it, so that one table of errors holds
for both.
"""

import base64
import hashlib
import io
import logging
import re
import threading
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import botocore.session
from botocore.exceptions import ClientError, NoCredentialsError

from mountfs.backends._bounded import TOLD_MAX
from mountfs.backends.s3_connections import Route
from mountfs.backends.s3_digests import CheckedBytes, has_right_checksum
from mountfs.backends.s3_http import Connections, Source, pieces_of
from mountfs.backends.s3_options import S3Options
from mountfs.backends.s3_pages import Reply
from mountfs.backends.s3_signing import (
    EMPTY_SHA256,
    UNSIGNED_PAYLOAD,
    Scope,
    Signer,
)
from mountfs.backends.s3_wire import HOT, Operation, Request
from mountfs.storage.errors import InvalidRequest
from mountfs.storage.reason import current_reason

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from mypy_boto3_s3 import S3Client as BotoClient

log = logging.getLogger(__name__)

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
_SIGNED = "AWS4-HMAC-SHA256 Credential="
_OTHER_SIGNATURES = frozenset({"s3express"})
_ELSEWHERE = frozenset(
    {
        "PermanentRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
    }
)


class _StoppedError(Exception):
    """A request of the SDK that was not to be sent."""

    def __init__(self, request: "AWSPreparedRequest") -> None:
        super().__init__()
        self.request = request


class _Endpoint(NamedTuple):
    """How the objects of one bucket are reached."""

    is_secure: bool
    host: str
    path: str
    """What stands before the key."""
    region: str
    agent: str
    signer: Signer | None
    route: Route
    connections: Connections


class Plane:
    """Sends the hot operations with the settings of one boto3 client."""

    def __init__(
        self,
        client: "BotoClient",
        session: botocore.session.Session,
        options: S3Options,
    ) -> None:
        self._client = client
        self._session = session
        self._options = options
        self._operations: dict[str, Operation] = {}
        self._endpoints: dict[str, _Endpoint | None] = {}
        self._lock = threading.Lock()
        self._is_stopping = threading.local()
        config: Mapping[str, Any] = getattr(client.meta.config, "s3", None) or {}
        self._signs_payload: bool | None = config.get("payload_signing_enabled")
        client.meta.events.register_first("before-send.s3.HeadObject", self._stop)

    def takes(self, operation: str, parameters: Mapping[str, object]) -> bool:
        """Whether the operation is one for this plane; the rest is for boto3."""
        if operation not in HOT:
            return False
        return self._endpoint(str(parameters["Bucket"])) is not None

    def send(self, name: str, parameters: Mapping[str, object]) -> Reply:
        """Send one request and return the reply, as the SDK would return it.

        Raises `Corrupt` if a body came with a checksum and is not what it is of.
        """
        is_get, is_checked = name == "get_object", self._options.checksums
        if is_get and is_checked:
            parameters = {**parameters, "ChecksumMode": "ENABLED"}
        operation = self._operation(name)
        request = operation.request(parameters)
        endpoint = self._endpoint(str(parameters["Bucket"]))
        assert endpoint is not None, "`takes` was asked first"
        head = self._head(operation, request, endpoint)
        answer = endpoint.connections.exchange(
            head,
            request.body,
            is_head=operation.method == "HEAD",
            size_max=size_max(name, parameters),
        )
        reply = operation.reply(answer)
        if is_get:
            has_checksum = is_checked and has_right_checksum(reply, answer.body)
            body_type = CheckedBytes if has_checksum else io.BytesIO
            reply["Body"] = body_type(answer.body)
        return reply

    def forget(self, bucket: str) -> None:
        """Ask the SDK again where a bucket is."""
        with self._lock:
            endpoint = self._endpoints.pop(bucket, None)
        if endpoint is not None:
            endpoint.connections.close()

    def close(self) -> None:
        """Close the idle connections."""
        for bucket in tuple(self._endpoints):
            self.forget(bucket)

    def is_elsewhere(self, error: ClientError, bucket: str) -> bool:
        """Whether an error says that the bucket has another address or region."""
        endpoint = self._endpoints.get(bucket)
        about = error.response["ResponseMetadata"]
        told = about["HTTPHeaders"].get("x-amz-bucket-region")
        is_other = endpoint is not None and told not in (None, endpoint.region)
        status = about["HTTPStatusCode"]
        code = error.response.get("Error", {}).get("Code")
        return (
            code in _ELSEWHERE
            or status in (301, 302, 307)
            or (status == 400 and is_other)
        )

    def _operation(self, name: str) -> Operation:
        known = self._operations.get(name)
        if known is None:
            model = self._client.meta.service_model.operation_model(HOT[name])
            known = self._operations[name] = Operation(model)
        return known

    def _head(
        self, operation: Operation, request: Request, endpoint: _Endpoint
    ) -> bytes:
        headers = request.headers
        headers["host"] = endpoint.host
        payload = self._digests(operation, request, endpoint)
        path = endpoint.path + request.path
        if not operation.has_key:
            path = path.rstrip("/") or "/"
        if endpoint.signer is not None:
            credentials = self._session.get_credentials()
            if credentials is None:
                raise NoCredentialsError
            endpoint.signer.sign(
                credentials.get_frozen_credentials(),
                operation.method,
                (path, request.query),
                headers,
                payload,
            )
        headers["user-agent"] = f"{endpoint.agent} reason/{current_reason().value}"
        headers["accept-encoding"] = "identity"
        headers.update(endpoint.route.proxy_headers)
        target = endpoint.route.target_prefix + path
        if request.query:
            target = f"{target}?{request.query}"
        lines = [f"{name}: {value}" for name, value in headers.items()]
        text = "\r\n".join([f"{operation.method} {target} HTTP/1.1", *lines, "", ""])
        if not text.count("\n") == text.count("\r") == len(lines) + 2:
            raise InvalidRequest("a header cannot hold a line break")
        try:
            return text.encode("latin-1")
        except UnicodeEncodeError as error:
            raise InvalidRequest("a header must be Latin-1") from error

    def _digests(
        self, operation: Operation, request: Request, endpoint: _Endpoint
    ) -> str:
        """Add what protects the body, and return what the signature says of it."""
        headers, body = request.headers, request.body
        if isinstance(body, bytes) and operation.method not in {"GET", "HEAD"}:
            headers["content-length"] = str(len(body))
        if not operation.sends_checksum:
            assert isinstance(body, bytes), "only parts and whole objects are streamed"
            return hashlib.sha256(body).hexdigest() if body else EMPTY_SHA256
        # Over TLS the checksum of a body that is streamed is enough.
        is_signed = self._signs_payload
        if is_signed is None:
            is_covered = self._options.checksums and operation.has_body
            is_signed = not (endpoint.is_secure and is_covered)
        checksum, digest = _read_through(body, is_hashed=is_signed)
        if self._options.checksums:
            headers["x-amz-sdk-checksum-algorithm"] = "CRC32"
            headers["x-amz-checksum-crc32"] = checksum
        elif operation.name == "DeleteObjects":
            assert isinstance(body, bytes)
            md5 = hashlib.md5(body, usedforsecurity=False).digest()
            headers["content-md5"] = base64.b64encode(md5).decode()
        return digest if is_signed else UNSIGNED_PAYLOAD

    def _endpoint(self, bucket: str) -> _Endpoint | None:
        with self._lock:
            if bucket in self._endpoints:
                return self._endpoints[bucket]
        request = self._stopped(bucket)
        with self._lock:
            if bucket not in self._endpoints:
                self._endpoints[bucket] = self._endpoint_of(request)
            return self._endpoints[bucket]

    def _stopped(self, bucket: str) -> "AWSPreparedRequest":
        """Let the SDK prepare and sign a request, and stop it there."""
        self._is_stopping.now = True
        try:
            self._client.head_object(Bucket=bucket, Key="key")
        except _StoppedError as stopped:
            return stopped.request
        finally:
            self._is_stopping.now = False
        raise AssertionError("a request was sent that was to be stopped")

    def _stop(self, request: "AWSPreparedRequest", **_: object) -> None:
        if getattr(self._is_stopping, "now", False):
            raise _StoppedError(request)

    def _endpoint_of(self, request: "AWSPreparedRequest") -> _Endpoint | None:
        """Return what a prepared request tells; None if it is signed in another way."""
        scope: Scope | None = None
        authorization = _header(request, "Authorization")
        if authorization:
            words = authorization.removeprefix(_SIGNED).partition(",")[0].split("/")
            is_other = not authorization.startswith(_SIGNED)
            if is_other or words[-2] in _OTHER_SIGNATURES:
                return None
            scope = Scope(region=words[-3], service=words[-2])
        parts = urlsplit(request.url)
        is_secure = parts.scheme == "https"
        host = parts.netloc.lower().removesuffix(":443" if is_secure else ":80")
        try:
            route = Route(self._client, f"{parts.scheme}://{parts.netloc}")
        except (AttributeError, TypeError) as error:  # see s3_connections
            log.warning("this botocore is another inside; it sends all: %s", error)
            return None
        return _Endpoint(
            is_secure=is_secure,
            host=host,
            path=parts.path.removesuffix("key"),
            region=scope.region if scope else "",
            agent=_header(request, "User-Agent"),
            signer=Signer(scope) if scope else None,
            route=route,
            connections=Connections(route, self._options.read_timeout_s),
        )


def size_max(name: str, parameters: Mapping[str, object]) -> int | None:
    """Return how long an answer may be: a server that knows no ranges sends it all."""
    if name != "get_object":
        return TOLD_MAX
    asked = _RANGE.fullmatch(str(parameters.get("Range", "")))
    return max(TOLD_MAX, int(asked[2]) - int(asked[1]) + 1) if asked else None


def _header(request: "AWSPreparedRequest", name: str) -> str:
    value: object = request.headers.get(name, "")
    return value.decode() if isinstance(value, bytes) else str(value)


def _read_through(body: bytes | Source, *, is_hashed: bool) -> tuple[str, str]:
    """Return the CRC32 and the SHA-256 of a body, which is at its start again."""
    crc, sha = 0, hashlib.sha256()
    for piece in pieces_of(body):
        crc = zlib.crc32(piece, crc)
        if is_hashed:
            sha.update(piece)
    if not isinstance(body, bytes):
        body.seek(0)
    return base64.b64encode(crc.to_bytes(4, "big")).decode(), sha.hexdigest()
