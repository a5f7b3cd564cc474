"""One place that talks to Google Cloud Storage: credentials, policy, requests.

Credentials are those of google-auth (Application Default Credentials). What is sent is
the JSON API, by urllib3; `google.cloud.storage` itself, which takes far longer for a
request, does what is rare (`gcs_service`). A request runs in a worker thread; to cancel
it cuts its connection, and with it ends the thread's waiting. Retries are not made
here.
"""

import base64
import hashlib
import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import google.auth
import trio
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.transport.urllib3 import Request as Transport

from mountfs import __version__
from mountfs.backends._bounded import unzipped
from mountfs.backends._customer_key import customer_key
from mountfs.backends._payload import ExactReader
from mountfs.backends._threads import Threads
from mountfs.backends.gcs_connections import Answer, Connections, Payload
from mountfs.backends.gcs_errors import NOT_UNDERSTOOD, reply_error, translated
from mountfs.backends.gcs_options import SSE_CUSTOMER, GcsOptions
from mountfs.backends.gcs_permissions import needed
from mountfs.backends.gcs_requests import name_of
from mountfs.storage.errors import (
    CredentialsRejected,
    CredentialsRenewed,
    ServiceFailed,
    StoreError,
)
from mountfs.storage.reason import current_reason
from mountfs.storage.secrets import remember_secret
from mountfs.storage.wire import exchange

log = logging.getLogger(__name__)

T = TypeVar("T")
Query = Mapping[str, object]
Reply = Mapping[str, Any]
"""A resource of the JSON API; what is in it, its documentation tells."""

SCOPES = ("https://www.googleapis.com/auth/devstorage.full_control",)
READ_SCOPES = ("https://www.googleapis.com/auth/devstorage.read_only",)
_JSON = "application/json; charset=UTF-8"


class GcsClient:
    """Sends requests to one service, with the policy of one store.

    Nothing is looked for before the first request: the credentials may be a network
    request away.
    """

    def __init__(
        self, options: GcsOptions, *, scopes: Sequence[str] | None = None
    ) -> None:
        self._options = options
        self._scopes = scopes or (READ_SCOPES if options.read_only else SCOPES)
        self._threads = Threads(options.requests_max)
        self._lock = threading.Lock()
        self._connections: Connections | None = None
        self._credentials: Credentials | None = None
        self._customer_key: bytes | None = None

    # --- sending, from trio -------------------------------------------------------

    async def run(self, function: Callable[[], T], key: str | None = None) -> T:
        """Call a function that sends requests in a worker thread.

        Raises `StoreError`.
        """

        def translated_function() -> T:
            used = self._credentials
            try:
                with translated(key):
                    return function()
            except CredentialsRejected as error:
                if used is None or not self._renew(used):
                    raise
                raise CredentialsRenewed(
                    error.reason, key=key, code=error.code
                ) from error

        return await self._threads.run(translated_function)

    async def call(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        content: object = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send one request of the JSON API and return the resource in its answer."""
        return await self.run(
            lambda: self.send_json(method, path, query, content, headers, key), key
        )

    # --- sending, in a thread -----------------------------------------------------

    def send_json(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        content: object = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
    ) -> Reply:
        """Send a request with or without a resource; return that of the answer."""
        sent = dict(headers or {})
        body = b""
        if content is not None:
            body = json.dumps(content, ensure_ascii=False).encode()
            sent["content-type"] = _JSON
        answer = self.send(method, self.url(path, query), sent, body, key=key)
        return resource_of(answer, key)

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Payload = b"",
        *,
        key: str | None = None,
        expected: tuple[int, ...] = (200, 204, 206),
    ) -> Answer:
        """Send a request and return its answer. Raises what an error answer means."""
        connections, credentials = self._connected()
        sent = {
            "user-agent": f"mountfs/{__version__} reason/{current_reason().value}",
            # What is stored compressed comes as it is stored.
            "accept-encoding": "gzip",
            **headers,
        }
        if isinstance(body, ExactReader):
            sent["content-length"] = str(len(body) - body.tell())
        if not isinstance(credentials, AnonymousCredentials) and self._is_home(url):
            self._authorize(credentials, method, url, sent)
        size = len(body) if body else 0
        with exchange(name_of(method, url), sent_bytes=size) as told:
            answer = connections.exchange(method, url, sent, body or None)
            told.status = answer.status
            told.request_id = answer.headers.get("x-guploader-uploadid", "")
            told.received_bytes = len(answer.body)
        answer = _unzipped(answer)
        if answer.status not in expected:
            error = reply_error(answer.status, answer.headers, answer.body, key)
            error.request = name_of(method, url)
            if answer.status == 403:
                error.permission = needed(method, url)
            raise error
        return answer

    def _is_home(self, url: str) -> bool:
        """Tell whether a URL is one of the service: who else gets no token.

        The URL of an upload session, which the service gives, needs none.
        """
        return url.startswith(f"{self._options.endpoint_url}/")

    def url(self, path: str, query: Query | None = None) -> str:
        """Return the URL of a request; what is None in the query is left out."""
        given = {name: each for name, each in (query or {}).items() if each is not None}
        if self._options.user_project is not None:
            given["userProject"] = self._options.user_project
        tail = f"?{urlencode(given, quote_via=quote)}" if given else ""
        return f"{self._options.endpoint_url}{path}{tail}"

    # --- policy -------------------------------------------------------------------

    def key_headers(self, *, is_source: bool = False) -> Mapping[str, str]:
        """Return the headers with the customer's key, if the store has one."""
        if self._options.sse != SSE_CUSTOMER:
            return {}
        if self._customer_key is None:
            self._customer_key = customer_key(self._options.sse_customer_key_file)
        key = self._customer_key
        prefix = "x-goog-copy-source-encryption" if is_source else "x-goog-encryption"
        digest = hashlib.sha256(key).digest()
        return {
            f"{prefix}-algorithm": "AES256",
            f"{prefix}-key": base64.b64encode(key).decode(),
            f"{prefix}-key-sha256": base64.b64encode(digest).decode(),
        }

    @property
    def credentials(self) -> Credentials:
        """The credentials, found where google-auth looks. Call it in a thread."""
        return self._connected()[1]

    @property
    def busy(self) -> int:
        """How many threads wait for the service, abandoned ones included."""
        return self._threads.busy

    async def close(self) -> None:
        """Close the connections that are idle; a request under way keeps its own."""
        connections, self._connections = self._connections, None
        if connections is not None:
            await trio.to_thread.run_sync(connections.close)

    def _connected(self) -> tuple[Connections, Credentials]:
        with self._lock:
            if self._connections is None:
                options = self._options
                self._connections = Connections(
                    connect_timeout_s=options.connect_timeout_s,
                    read_timeout_s=options.read_timeout_s,
                    count=options.requests_max,
                )
            if self._credentials is None:
                self._credentials = self._find_credentials()
            return self._connections, self._credentials

    def _find_credentials(self) -> Credentials:
        if self._options.no_sign_request:
            return AnonymousCredentials()  # type: ignore[no-untyped-call]  # google-auth has no types here
        found, _ = google.auth.default(scopes=self._scopes)
        return found

    def _authorize(
        self,
        credentials: Credentials,
        method: str,
        url: str,
        headers: dict[str, str],
    ) -> None:
        """Add the token, after its renewal if it is about to expire."""
        assert self._connections is not None
        request = _transport(self._connections)
        with self._lock:  # one renewal serves all
            credentials.before_request(request, method, url, headers)  # type: ignore[no-untyped-call]  # google-auth has few types
        remember_secret(credentials.token)

    def _renew(self, refused: Credentials) -> bool:
        """Look for other credentials than those that were refused; tell if there are.

        google-auth reads its files once.
        """
        if isinstance(refused, AnonymousCredentials):
            return False
        with self._lock:
            if self._credentials is not refused:
                return True  # somebody else has been here
            assert self._connections is not None
            request = _transport(self._connections)
            old = refused.token
            try:
                with translated():
                    found = self._find_credentials()
                    found.refresh(request)  # type: ignore[no-untyped-call]  # see above
            except StoreError:  # the next refusal asks again
                return False
            if found.token == old:
                return False
            self._credentials = found
        log.info("the credentials were renewed; the new ones are used from now on")
        return True


def _transport(connections: Connections) -> Transport:
    """Return what google-auth sends its own requests with."""
    return Transport(connections)  # type: ignore[no-untyped-call]  # google-auth has few types


def resource_of(answer: Answer, key: str | None = None) -> Reply:
    """Return the resource in an answer. Raises `ServiceFailed` if there is none."""
    if answer.body.strip() in (b"", b"null"):  # an emulator's word for nothing
        return {}
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise ServiceFailed(NOT_UNDERSTOOD, key=key) from error
    if not isinstance(found, dict):
        raise ServiceFailed(NOT_UNDERSTOOD, key=key)
    return found


def _unzipped(answer: Answer) -> Answer:
    """Unpack what was packed for the way alone, and not what is stored so."""
    stored = answer.headers.get("x-goog-stored-content-encoding", "identity")
    if answer.headers.get("content-encoding") != "gzip" or stored != "identity":
        return answer
    return answer._replace(body=unzipped(answer.body))
