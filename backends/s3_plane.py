"""The light data plane: the hot operations of S3 without the SDK on their way.

boto3 stays where everything is decided: its client finds the endpoint, the region, the
proxy, the certificates (`s3_endpoints`) and the credentials. What is hot is then signed
(`s3_signing`), sent (`_http`) and read (`s3_wire`, `s3_pages`). Whatever says that a
bucket is elsewhere is handed back to boto3.

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
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.exceptions import NoCredentialsError

from mountfs.backends._bounded import bytes_max
from mountfs.backends._http import Source, pieces_of
from mountfs.backends.s3_digests import CheckedBytes, has_right_checksum, md5_of
from mountfs.backends.s3_endpoints import Endpoint, Endpoints
from mountfs.backends.s3_options import S3Options
from mountfs.backends.s3_pages import Reply
from mountfs.backends.s3_signing import UNSIGNED_PAYLOAD
from mountfs.backends.s3_wire import HOT, Operation, Request
from mountfs.storage.errors import InvalidRequest
from mountfs.storage.reason import current_reason

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client as BotoClient


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
        self.endpoints = Endpoints(client, options.read_timeout_s)
        config: Mapping[str, Any] = getattr(client.meta.config, "s3", None) or {}
        self._signs_payload: bool | None = config.get("payload_signing_enabled")

    def takes(self, operation: str, parameters: Mapping[str, object]) -> bool:
        """Whether the operation is one for this plane; the rest is for boto3."""
        if operation not in HOT:
            return False
        return self.endpoints.of(str(parameters["Bucket"])) is not None

    def send(self, name: str, parameters: Mapping[str, object]) -> Reply:
        """Send one request and return the reply, as the SDK would return it.

        Raises `Corrupt` if a body came with a checksum and is not what it is of.
        """
        is_get, is_checked = name == "get_object", self._options.checksums
        if is_get and is_checked:
            parameters = {**parameters, "ChecksumMode": "ENABLED"}
        operation = self._operation(name)
        request = operation.request(parameters)
        endpoint = self.endpoints.of(str(parameters["Bucket"]))
        assert endpoint is not None, "`takes` was asked first"
        answer = endpoint.connections.exchange(
            self._head(operation, request, endpoint),
            request.body,
            is_head=operation.method == "HEAD",
            size_max=bytes_max(request.headers, is_object=is_get),
        )
        reply = operation.reply(answer)
        if is_get:
            has_checksum = is_checked and has_right_checksum(reply, answer.body)
            body_type = CheckedBytes if has_checksum else io.BytesIO
            reply["Body"] = body_type(answer.body)
        return reply

    def _operation(self, name: str) -> Operation:
        known = self._operations.get(name)
        if known is None:
            model = self._client.meta.service_model.operation_model(HOT[name])
            known = self._operations[name] = Operation(model)
        return known

    def _head(
        self, operation: Operation, request: Request, endpoint: Endpoint
    ) -> bytes:
        method, headers = operation.method, request.headers
        headers["host"] = endpoint.host
        payload = self._digests(operation, request, endpoint)
        path = endpoint.path + request.path
        if not request.path:
            path = path.rstrip("/") or "/"
        if endpoint.signer is not None:
            credentials = self._session.get_credentials()
            if credentials is None:
                raise NoCredentialsError
            frozen, target = credentials.get_frozen_credentials(), (path, request.query)
            endpoint.signer.sign(frozen, method, target, headers, payload)
        headers["user-agent"] = f"{endpoint.agent} reason/{current_reason().value}"
        headers["accept-encoding"] = "identity"
        headers.update(endpoint.route.proxy_headers)
        query = f"?{request.query}" if request.query else ""
        first = f"{method} {endpoint.route.target_prefix}{path}{query} HTTP/1.1"
        lines = [f"{name}: {value}" for name, value in headers.items()]
        text = "\r\n".join([first, *lines, "", ""])
        if not text.count("\n") == text.count("\r") == len(lines) + 2:
            raise InvalidRequest("a header cannot hold a line break")
        try:
            return text.encode("latin-1")
        except UnicodeEncodeError as error:
            raise InvalidRequest("a header must be Latin-1") from error

    def _digests(
        self, operation: Operation, request: Request, endpoint: Endpoint
    ) -> str:
        """Add what protects the body, and return what the signature says of it."""
        headers, body = request.headers, request.body
        if isinstance(body, bytes) and operation.method not in {"GET", "HEAD"}:
            headers["content-length"] = str(len(body))
        if not operation.sends_checksum:
            assert isinstance(body, bytes), "only parts and whole objects are streamed"
            return hashlib.sha256(body).hexdigest()
        # Over TLS the checksum of a body that is streamed is enough.
        is_signed = self._signs_payload
        if is_signed is None:
            is_covered = self._options.checksums and operation.has_body
            is_signed = not (endpoint.is_secure and is_covered)
        checksum, digest = _read_through(body, is_hashed=is_signed)
        if self._options.checksums:
            headers["x-amz-sdk-checksum-algorithm"] = "CRC32"
            headers["x-amz-checksum-crc32"] = checksum
        elif isinstance(body, bytes) and operation.name == "DeleteObjects":
            headers["content-md5"] = md5_of(body)
        return digest if is_signed else UNSIGNED_PAYLOAD


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
