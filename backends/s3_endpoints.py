"""Where boto3 finds the buckets: how each is reached, and how requests are signed.

Each bucket is asked for once, with a request that is stopped just before it would be
sent: what boto3 prepared and signed tells the host, the path, the region, and through
which proxy and with which certificates it would have gone.
"""

import logging
import threading
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from mountfs.backends._http import Connections
from mountfs.backends.s3_connections import Route
from mountfs.backends.s3_signing import Signer

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from mypy_boto3_s3 import S3Client as BotoClient

log = logging.getLogger(__name__)

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


class Endpoint(NamedTuple):
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


class Endpoints:
    """The endpoints of the buckets that one boto3 client has to do with."""

    def __init__(self, client: "BotoClient", read_timeout_s: float) -> None:
        self._client = client
        self._read_timeout_s = read_timeout_s
        self._known: dict[str, Endpoint | None] = {}
        self._lock = threading.Lock()
        self._is_stopping = threading.local()
        client.meta.events.register_first("before-send.s3.HeadObject", self._stop)

    def of(self, bucket: str) -> Endpoint | None:
        """Return how a bucket is reached; None if boto3 has to send all itself."""
        with self._lock:
            if bucket in self._known:
                return self._known[bucket]
        request = self._stopped(bucket)
        with self._lock:
            if bucket not in self._known:
                self._known[bucket] = self._endpoint_of(request)
            return self._known[bucket]

    def forget(self, bucket: str) -> None:
        """Ask the SDK again where a bucket is."""
        with self._lock:
            endpoint = self._known.pop(bucket, None)
        if endpoint is not None:
            endpoint.connections.close()

    def close(self) -> None:
        """Close the idle connections."""
        for bucket in tuple(self._known):
            self.forget(bucket)

    def is_elsewhere(self, error: ClientError, bucket: str) -> bool:
        """Whether an error says that the bucket has another address or region."""
        endpoint = self._known.get(bucket)
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

    def _endpoint_of(self, request: "AWSPreparedRequest") -> Endpoint | None:
        """Return what a prepared request tells; None if it is signed in another way."""
        signer, region = None, ""
        authorization = _header(request, "Authorization")
        if authorization:
            words = authorization.removeprefix(_SIGNED).partition(",")[0].split("/")
            is_other = not authorization.startswith(_SIGNED)
            if is_other or words[-2] in _OTHER_SIGNATURES:
                return None
            region, service = words[-3:-1]
            signer = Signer(region, service)
        parts = urlsplit(request.url)
        is_secure = parts.scheme == "https"
        host = parts.netloc.lower().removesuffix(":443" if is_secure else ":80")
        try:
            route = Route(self._client, f"{parts.scheme}://{parts.netloc}")
        except (AttributeError, TypeError) as error:  # see s3_connections
            log.warning("this botocore is another inside; it sends all: %s", error)
            return None
        return Endpoint(
            is_secure=is_secure,
            host=host,
            path=parts.path.removesuffix("key"),
            region=region,
            agent=_header(request, "User-Agent"),
            signer=signer,
            route=route,
            connections=Connections(route, self._read_timeout_s),
        )


def _header(request: "AWSPreparedRequest", name: str) -> str:
    value: object = request.headers.get(name, "")
    return value.decode() if isinstance(value, bytes) else str(value)
