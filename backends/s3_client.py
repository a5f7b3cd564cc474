"""The seam to boto3: one client, its threads, and what every request carries.

Everything the backend sends goes through `S3Client.call` or `S3Client.fetch`, where the
lighter data plane of `s3_plane` takes boto3's place for the hot operations. A request
runs in a worker thread; cancelling cuts its connection, and with it ends the thread's
waiting. Retries are not made here.
"""

import base64
import contextlib
import io
import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import boto3
import botocore.loaders
import botocore.session
import trio
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from mountfs import __version__
from mountfs.backends._bounded import bytes_max
from mountfs.backends._customer_key import customer_key
from mountfs.backends._http import Source
from mountfs.backends._threads import Threads
from mountfs.backends.s3_connections import hold_connections
from mountfs.backends.s3_digests import check_bytes, md5_of
from mountfs.backends.s3_errors import translated
from mountfs.backends.s3_options import LIGHT, SSE_CUSTOMER, S3Options
from mountfs.backends.s3_permissions import needed
from mountfs.backends.s3_plane import Plane
from mountfs.backends.s3_records import recorded
from mountfs.storage.errors import (
    Corrupt,
    CredentialsRejected,
    CredentialsRenewed,
    PermissionDenied,
)
from mountfs.storage.reason import current_reason
from mountfs.storage.secrets import remember_secret

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from mypy_boto3_s3 import S3Client as BotoClient

log = logging.getLogger(__name__)
logging.getLogger("botocore").setLevel(logging.WARNING)

T = TypeVar("T")
Parameters = Mapping[str, object]
Reply = Mapping[str, Any]
"""botocore's replies are mappings whose shape only its models know."""

_LOADER = botocore.loaders.create_loader()
"""Shared by all stores: reading the models takes most of a client's creation."""
_READS_WITH_KEY: Mapping[str, str] = {
    "head_object": "SSECustomer",
    "get_object": "SSECustomer",
    "copy_object": "CopySourceSSECustomer",
    "upload_part_copy": "CopySourceSSECustomer",
}
"""The operations that read an object, and the parameters with the key to it."""
_OWN_ENCRYPTION = ("ServerSideEncryption", "SSEKMSKeyId", "BucketKeyEnabled")


class _Link(NamedTuple):
    """A client of the SDK, and the data plane with its settings, if there is one."""

    client: "BotoClient"
    plane: Plane | None


class S3Client:
    """Sends requests to one service, with the policy of one store.

    Nothing is created before the first request: a boto3 client takes a tenth of a
    second of CPU, and looking for credentials may take a network request.
    """

    def __init__(self, options: S3Options) -> None:
        self._options = options
        self._threads = Threads(options.requests_max)
        self._lock = threading.Lock()
        self._link: _Link | None = None
        self._signs_with: tuple[str, ...] | None = None
        """The credentials that the client found when it was made."""
        self._policy: Parameters = {}
        self._accepted: dict[str, frozenset[str]] = {}
        self._sending = threading.local()

    async def call(
        self, operation: str, parameters: Parameters, *, key: str | None = None
    ) -> Reply:
        """Send one request and return the reply. Raises `StoreError`."""
        return await self._in_thread(
            lambda: self._send(operation, parameters),
            key,
            partial(needed, operation, parameters, self._options.region),
        )

    async def fetch(
        self, parameters: Parameters, *, key: str | None = None
    ) -> tuple[Reply, bytes]:
        """Send a GET and return the reply and its whole body.

        Raises `Corrupt` if it is not what was stored, as far as that can be told.
        """

        def get() -> tuple[Reply, bytes]:
            reply = self._send("get_object", parameters)
            asked = {"Range": str(parameters.get("Range", ""))}
            with contextlib.closing(reply["Body"]) as body:
                data = _taken_in(body, bytes_max(asked, is_object=True))
            if self._options.checksums:
                check_bytes(reply, data)
            return reply, data

        needs = partial(needed, "get_object", parameters, self._options.region)
        return await self._in_thread(get, key, needs)

    async def sign(
        self, operation: str, parameters: Parameters, *, expires_s: int
    ) -> str:
        """Return a URL that carries out the operation until it expires."""

        def generate() -> str:
            client = self._connected().client
            full = self._with_policy(operation, parameters)
            return client.generate_presigned_url(
                operation, Params=full, ExpiresIn=expires_s
            )

        return await self._in_thread(generate, None)

    @property
    def busy(self) -> int:
        """How many threads wait for the service, abandoned ones included."""
        return self._threads.busy

    async def close(self) -> None:
        """Close the connections that are idle; a request under way keeps its own."""
        link, self._link = self._link, None
        if link is not None:
            await trio.to_thread.run_sync(_close, link)

    async def _in_thread(
        self,
        function: Callable[[], T],
        key: str | None,
        needs: Callable[[], str] = str,
    ) -> T:
        """Call what sends a request; `needs` tells what must be allowed for it."""

        def translated_function() -> T:
            link = self._link
            try:
                with translated(key):
                    return function()
            except CredentialsRejected as error:
                if link is None or not self._renew(link):
                    raise
                raise CredentialsRenewed(
                    error.reason, key=key, code=error.code
                ) from error
            except PermissionDenied as error:
                error.permission = needs()
                raise

        return await self._threads.run(translated_function)

    def _send(self, operation: str, parameters: Parameters) -> Reply:
        if callable(body := parameters.get("Body")):
            parameters = {**parameters, "Body": body()}
        try:
            return self._send_once(operation, parameters)
        except ClientError as error:
            if not self._may_be_unencrypted(operation, error):
                raise
        # S3 refuses a customer's key for an object that was stored without one.
        return self._send_once(operation, parameters, _READS_WITH_KEY[operation])

    def _may_be_unencrypted(self, operation: str, error: ClientError) -> bool:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        has_key = self._options.sse == SSE_CUSTOMER and operation in _READS_WITH_KEY
        return has_key and status == 400

    def _send_once(
        self, operation: str, parameters: Parameters, without: str = ""
    ) -> Reply:
        client, plane = self._connected()
        full = self._with_policy(operation, parameters, without)
        if plane is not None and plane.takes(operation, full):
            try:
                return recorded(operation, full, lambda: plane.send(operation, full))
            except ClientError as error:
                if not plane.endpoints.is_elsewhere(error, str(full["Bucket"])):
                    raise
            # The SDK finds out where the bucket is, and sends.
            plane.endpoints.forget(str(full["Bucket"]))
            _rewind(full.get("Body"))
        # botocore knows only well-formed dates; a header of Expires may be any text.
        expires = full.pop("Expires", None)
        self._sending.headers = {"Expires": expires} if expires is not None else {}
        return recorded(operation, full, lambda: getattr(client, operation)(**full))

    def _with_policy(
        self, operation: str, parameters: Parameters, without: str = ""
    ) -> dict[str, object]:
        """Add what the store's policy says to the parameters that can carry it.

        Names that start with `without` are left out of the policy.
        """
        accepted = self._accepted_by(operation)
        full = {name: value for name, value in parameters.items() if value is not None}
        if "ServerSideEncryption" in self._policy or "SSECustomerKey" in self._policy:
            for name in _OWN_ENCRYPTION:
                full.pop(name, None)
        full.update(
            (name, value)
            for name, value in self._policy.items()
            if name in accepted and not (without and name.startswith(without))
        )
        return full

    def _accepted_by(self, operation: str) -> frozenset[str]:
        known = self._accepted.get(operation)
        if known is None:
            meta = self._connected().client.meta
            model = meta.service_model.operation_model(
                meta.method_to_api_mapping[operation]
            )
            known = frozenset(model.input_shape.members if model.input_shape else ())
            self._accepted[operation] = known
        return known

    def _connected(self) -> _Link:
        link = self._link
        if link is not None:
            return link
        with self._lock:
            if self._link is None:
                self._policy = _policy(self._options)
                session = new_session(self._options.profile)
                self._link = self._create(session)
                self._signs_with = _credentials_of(session)
            return self._link

    def _renew(self, refused: _Link) -> bool:
        """Look for other credentials than those that were refused; tell if there are.

        The SDK reads files and asks providers once per session.
        """
        if self._options.no_sign_request:
            return False
        with self._lock:
            if self._link is not refused:
                return self._link is not None  # somebody else has been here
            session = new_session(self._options.profile)
            found = _credentials_of(session)
            if found is None or found == self._signs_with:
                return False
            self._link, self._signs_with = self._create(session), found
        _close(refused)  # requests under way keep their connections
        log.info("the credentials were renewed; the new ones are used from now on")
        return True

    def _create(self, core: botocore.session.Session) -> _Link:
        options = self._options
        session = boto3.session.Session(
            botocore_session=core, region_name=options.region
        )
        client = session.client(
            "s3", endpoint_url=options.endpoint_url, config=_config(options)
        )
        hold_connections(client)
        events = client.meta.events
        events.register("before-call.s3", self._add_headers)
        events.register("before-send.s3", _add_reason)
        if not options.checksums:
            events.register("before-call.s3.DeleteObjects", _use_content_md5)
        is_light = options.s3_client == LIGHT
        return _Link(client, Plane(client, core, options) if is_light else None)

    def _add_headers(self, params: dict[str, Any], **_: object) -> None:
        params["headers"].update(getattr(self._sending, "headers", {}))


def new_session(profile: str | None) -> botocore.session.Session:
    """Return a session of botocore that looks for credentials anew."""
    core = botocore.session.Session(profile=profile)
    core.register_component("data_loader", _LOADER)
    return core


def _close(link: _Link) -> None:
    if link.plane is not None:
        link.plane.endpoints.close()
    link.client.close()


def _taken_in(body: Source, most: int | None) -> bytes:
    """Read a body, and no more of it than can be an answer."""
    if most is None or isinstance(body, io.BytesIO):
        return body.read()
    data = bytearray()
    # To the end, and not only what is wanted: there a checksum is compared.
    while piece := body.read(most + 1 - len(data)):
        data += piece
        if len(data) > most:
            raise Corrupt("more bytes came than were asked for")
    return bytes(data)


def _rewind(body: object) -> None:
    if body is not None and not isinstance(body, bytes):
        body.seek(0)  # type: ignore[attr-defined]  # an ExactReader


def _credentials_of(session: botocore.session.Session) -> tuple[str, ...] | None:
    """Return the key, the secret and the token that a session signs with."""
    try:
        found = session.get_credentials()
        if found is None:
            return None
        frozen = found.get_frozen_credentials()
    except (BotoCoreError, ClientError):  # the next refusal asks again
        return None
    remember_secret(frozen.secret_key, frozen.token)
    return tuple(each or "" for each in frozen)


def _config(options: S3Options) -> Config:
    checksums: Literal["when_supported", "when_required"] = (
        "when_supported" if options.checksums else "when_required"
    )
    return Config(
        signature_version=UNSIGNED if options.no_sign_request else "s3v4",
        s3={"addressing_style": options.addressing_style},
        retries={"total_max_attempts": 1},
        max_pool_connections=options.requests_max,
        connect_timeout=options.connect_timeout_s,
        read_timeout=options.read_timeout_s,
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
        tcp_keepalive=True,
        user_agent_extra=f"mountfs/{__version__}",
    )


def _policy(options: S3Options) -> Parameters:
    """Return the parameters that every request carries, if its operation has them."""
    found: dict[str, object] = {}
    if options.request_payer:
        found["RequestPayer"] = "requester"
    if options.expected_bucket_owner:
        found["ExpectedBucketOwner"] = options.expected_bucket_owner
        found["ExpectedSourceBucketOwner"] = options.expected_bucket_owner
    if options.sse == SSE_CUSTOMER:
        key = customer_key(options.sse_customer_key_file)
        for prefix in ("", "CopySource"):
            found[f"{prefix}SSECustomerAlgorithm"] = "AES256"
            found[f"{prefix}SSECustomerKey"] = base64.b64encode(key).decode()
            found[f"{prefix}SSECustomerKeyMD5"] = md5_of(key)
    elif options.sse is not None:
        found["ServerSideEncryption"] = options.sse
        if options.sse_kms_key_id:
            found["SSEKMSKeyId"] = options.sse_kms_key_id
        if options.sse_kms_context:
            found["SSEKMSEncryptionContext"] = options.sse_kms_context
        if options.sse_bucket_key:
            found["BucketKeyEnabled"] = True
    return found


def _add_reason(request: "AWSPreparedRequest", **_: object) -> None:
    """Say on the wire what the request is for; S3 does not sign the User-Agent."""
    agent = request.headers.get("User-Agent", b"")
    text = agent.decode() if isinstance(agent, bytes) else str(agent)
    request.headers["User-Agent"] = f"{text} reason/{current_reason().value}"


def _use_content_md5(params: dict[str, Any], **_: object) -> None:
    """Send Content-MD5, which older services demand, in place of the newer checksum."""
    params.get("context", {}).get("checksum", {}).pop("request_algorithm", None)
    headers = params["headers"]
    headers.pop("x-amz-sdk-checksum-algorithm", None)
    headers["Content-MD5"] = md5_of(params["body"])
