"""The seam to the SDK of Dropbox: one client, its threads, its connections and tokens.

Everything the backend sends goes through `DropboxClient`. A request runs in a worker
thread; cancelling cuts its connection. Retries are not made here, but for a token that
has expired, which the SDK renews, and for what Dropbox refused because it was too much:
that waits for its turn (`dropbox_pace`), whatever its deadline, and is sent then. Bytes
have threads of their own, so that a stat waits for no upload.
"""

import contextlib
import logging
import os
import random
import re
import threading
from collections.abc import Callable, Mapping, Sized
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import trio
import urllib3
from dropbox import Dropbox, common, files
from requests.adapters import HTTPAdapter

from mountfs import __version__
from mountfs.backends._bounded import bounded, bytes_max
from mountfs.backends._held_connections import HeldPool, HeldTLSConnection
from mountfs.backends._threads import Threads
from mountfs.backends.dropbox_answers import Api
from mountfs.backends.dropbox_errors import translated
from mountfs.backends.dropbox_options import DropboxOptions
from mountfs.backends.dropbox_pace import EarlyError, Pace
from mountfs.backends.dropbox_tokens import Credentials, account_of, credentials_of
from mountfs.storage import pace
from mountfs.storage.deadline import not_counted
from mountfs.storage.errors import (
    Corrupt,
    CredentialsRejected,
    CredentialsRenewed,
    InvalidRequest,
    StoreError,
    Throttled,
)
from mountfs.storage.reason import Reason, current_reason
from mountfs.storage.secrets import remember_secret
from mountfs.storage.wire import exchange

log = logging.getLogger(__name__)
logging.getLogger("dropbox").setLevel(logging.ERROR)  # it raises what it warns of

T = TypeVar("T")
PATIENCE_S = 900.0
"""How long a request is sent again and again that Dropbox refuses as too much."""
BUSY_NAMESPACE = "too_many_write_operations"
BUSY_S = 0.5
_IN_BACKGROUND = {Reason.BACKGROUND, Reason.PREFETCH, Reason.INDEX}
TEAM_SPACE = "team"
_LENGTH = re.compile(r"[0-9]{1,19}")
_PIECE = 1 << 18
_USER_AGENT = f"mountfs/{__version__}"


class DropboxClient:
    """Sends requests for one account. Nothing is opened before the first."""

    def __init__(self, options: DropboxOptions) -> None:
        self._options = options
        self._threads = Threads(options.requests_max)
        self._byte_threads = Threads(options.requests_max)
        self._lock = threading.Lock()
        self._api: Dropbox | None = None
        self._shows = Credentials()
        self._pace = Pace(f"{options.endpoint or ''} {account_of(options)}")

    async def call(
        self,
        request: Callable[[Dropbox], T],
        key: str | None = None,
        *,
        has_bytes: bool = False,
    ) -> T:
        """Let the SDK carry out a request in a thread. Raises `StoreError`."""
        threads = self._byte_threads if has_bytes else self._threads
        patient_until = trio.current_time() + PATIENCE_S
        while True:
            try:
                return await threads.run(self._in_thread, request, key)
            except EarlyError as error:
                pause_s = error.left_s
            except Throttled as error:
                if trio.current_time() > patient_until:
                    raise
                pause_s = await self._slowed(error)
            with not_counted():
                await trio.sleep(pause_s)

    async def _slowed(self, refusal: Throttled) -> float:
        """Take in a refusal; return how long its request waits at least."""
        if (refusal.code or "").endswith(BUSY_NAMESPACE):
            # Other writes hold the lock of the namespace: reads need not wait.
            spread = random.uniform(0.5, 1.5)  # noqa: S311  # no secret
            return (refusal.retry_after_s or BUSY_S) * spread
        pause_s = await trio.to_thread.run_sync(
            self._pace.slow_down, refusal.retry_after_s
        )
        log.info("Dropbox asks to slow down: nothing is sent for %.1f s", pause_s)
        return 0.0

    async def fetch(
        self, path: str, offset: int, size: int | None, key: str
    ) -> tuple[Any, Mapping[str, str], bytes]:
        """Download a range; return what it is of, the headers, and the bytes."""

        def get(api: Dropbox) -> tuple[Any, Mapping[str, str], bytes]:
            headers = {}
            if offset or size is not None:
                last = "" if size is None else offset + size - 1
                headers["Range"] = f"bytes={offset}-{last}"
            argument = files.DownloadArg(path)
            known, reply = api.request(
                files.download, "files", argument, None, extra_headers=headers
            )
            with contextlib.closing(reply):
                left = max(0, int(known.size) - offset)
                most = left if size is None else min(size, left)
                return known, reply.headers, _content_of(reply, most, key)

        return await self.call(get, key, has_bytes=True)

    @property
    def busy(self) -> int:
        """How many threads wait for the service, abandoned ones included."""
        return self._threads.busy + self._byte_threads.busy

    async def close(self) -> None:
        """Close the connections that are idle."""
        api, self._api = self._api, None
        if api is not None:
            await trio.to_thread.run_sync(api.close)
        self._pace.close()

    def _in_thread(self, request: Callable[[Dropbox], T], key: str | None) -> T:
        self._pace.take(is_urgent=current_reason() not in _IN_BACKGROUND)
        with translated(key):
            api = self._connected()
            try:
                with translated(key):
                    with self._lock:  # one renewal is enough for all threads
                        api.check_and_refresh_access_token()
                    remember_secret(getattr(api, "_oauth2_access_token", None))
                    return request(api)
            except CredentialsRejected as error:
                if not self._renew(api):
                    raise
                raise CredentialsRenewed(
                    error.reason, key=key, code=error.code
                ) from error

    def _connected(self) -> Dropbox:
        api = self._api
        if api is not None:
            return api
        with self._lock:
            if self._api is None:
                self._shows = credentials_of(self._options)
                self._api = self._opened(self._shows)
            return self._api

    def _renew(self, refused: Dropbox) -> bool:
        """Look for other credentials than those refused; tell if there are any."""
        with self._lock:
            if self._api is not refused:
                return self._api is not None  # somebody else has been here
            try:
                found = credentials_of(self._options)
            except StoreError:
                return False
            if found == self._shows:
                return False
            self._api, self._shows = self._opened(found), found
        if refused is not None:
            refused.close()  # what others use of it they close themselves
        log.info("the token was renewed; the new one is used from now on")
        return True

    def _opened(self, credentials: Credentials) -> Dropbox:
        options = self._options
        session = session_for(options)
        opened = Api(
            oauth2_access_token=credentials.access_token,
            oauth2_refresh_token=credentials.refresh_token,
            app_key=credentials.app_key,
            max_retries_on_error=0,
            max_retries_on_rate_limit=0,
            user_agent=_USER_AGENT,
            session=session,
            timeout=(options.connect_timeout_s, options.read_timeout_s),
        )
        if options.path_root is None:
            return opened
        try:
            return opened.with_path_root(_path_root(opened, options.path_root))
        except BaseException:
            opened.close()
            raise


def session_for(options: DropboxOptions) -> requests.Session:
    """Return a session whose connections are held by the call that uses them."""
    if options.ca_file is not None and not os.access(options.ca_file, os.R_OK):
        raise InvalidRequest(f"the ca_file {options.ca_file} cannot be read")
    session = _Session(options)
    session.mount("https://", _Adapter(pool_maxsize=2 * options.requests_max))
    return session


def _path_root(api: Dropbox, name: str) -> common.PathRoot:
    """Return where paths begin; of the team space only the account knows the id."""
    if name != TEAM_SPACE:
        return common.PathRoot.namespace_id(name)
    root = api.users_get_current_account().root_info
    return common.PathRoot.root(root.root_namespace_id)


class _Session(requests.Session):
    """Sends all requests to one server, if that stands for Dropbox."""

    def __init__(self, options: DropboxOptions) -> None:
        super().__init__()
        self._endpoint = options.endpoint
        self._ca_file = options.ca_file
        self._open = threading.local()

    def drop_answer(self) -> None:
        """Close the answer that this thread was given last."""
        answer: requests.Response | None = getattr(self._open, "answer", None)
        if answer is not None:
            answer.close()

    def request(  # type: ignore[override]  # passes on whatever there is
        self, method: str, url: str, *args: Any, **kwargs: Any
    ) -> requests.Response:
        """Send to where the options say."""
        if self._endpoint is not None:
            parts = urlsplit(url)
            kwargs["headers"] = {**(kwargs.get("headers") or {}), "Host": parts.netloc}
            url = self._endpoint + parts.path
        if self._ca_file is not None:
            # Of the session alone it would give way to REQUESTS_CA_BUNDLE.
            kwargs["verify"] = self._ca_file
        body = kwargs.get("data")
        size = len(body) if isinstance(body, Sized) else 0
        with exchange(_route_of(url), sent_bytes=size) as told:
            # Dropbox leads nowhere else; who does is to have neither token nor bytes.
            kwargs["allow_redirects"] = False
            self._open.answer = None
            answer = super().request(method, url, *args, **kwargs)
            self._open.answer = answer if kwargs.get("stream") else None
            told.status = answer.status_code
            told.request_id = answer.headers.get("x-dropbox-request-id", "")
            told.received_bytes = _length_of(answer)
        return answer


def _length_of(answer: requests.Response) -> int:
    length = answer.headers.get("content-length", "")
    return int(length) if _LENGTH.fullmatch(length) else 0


def _route_of(url: str) -> str:
    """Return what is asked, in the words of the API: `files/list_folder`."""
    return urlsplit(url).path.removeprefix("/2/").strip("/")


class _Connection(HeldTLSConnection):
    def send(self, data: Any) -> None:
        """Send, no faster than a limit wants."""
        if pace.piece() is None or not isinstance(data, bytes):
            super().send(data)
            return
        for piece in pace.paid(iter([data])):
            super().send(piece)


def _content_of(reply: requests.Response, most: int, key: str) -> bytes:
    """Take a body in, no faster than a limit wants: the server feels it by and by."""
    pieces: list[bytes] = []
    taken = 0
    for piece in reply.iter_content(pace.piece() or _PIECE):
        taken += len(piece)
        if taken > most:
            raise Corrupt(f"more came than the {most} bytes that there are", key=key)
        pieces.append(piece)
        pace.pay(len(piece))
    return b"".join(pieces)


class _Pool(HeldPool, urllib3.HTTPSConnectionPool):
    ConnectionCls = _Connection  # type: ignore[mutable-override]  # as urllib3 does

    def urlopen(self, *args: Any, **more: Any) -> Any:
        """Send a request; of its answer no more is taken in than can be one."""
        url = str(more.get("url") or args[1])
        most = bytes_max(more.get("headers") or {}, is_object="/download" in url)
        answer = super().urlopen(*args, **more)
        if answer.status >= 300:  # no object, whatever was asked for
            most = bytes_max({}, is_object=False)
        return bounded(answer, most)


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        known = self.poolmanager.pool_classes_by_scheme
        self.poolmanager.pool_classes_by_scheme = {**known, "https": _Pool}
