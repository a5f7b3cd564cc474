"""The connections to Google Cloud Storage: urllib3's, held on the line of their call.

google-cloud-storage sends its requests with `requests`; urllib3 alone, which lies
below that, takes a fraction of the time of a small request. Proxies and certificates
are found where `requests` finds them.
"""

import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi
import urllib3

from mountfs.backends._bounded import bounded, bytes_max
from mountfs.backends._held_connections import (
    HeldConnection,
    HeldPool,
    HeldTLSConnection,
)
from mountfs.backends._payload import ExactReader
from mountfs.storage import pace

_BLOCK = 1 << 18
"""So much is read of a body for one send."""
_CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")

Payload = bytes | ExactReader | None


class Answer(NamedTuple):
    """A whole answer. The names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Pool(HeldPool):
    ConnectionCls = HeldConnection  # type: ignore[mutable-override]  # as urllib3 does


class _TLSPool(HeldPool, urllib3.HTTPSConnectionPool):
    ConnectionCls = HeldTLSConnection  # type: ignore[mutable-override]  # as urllib3 does


class Connections:
    """The pools of connections; they send what they are told, once.

    google-auth sends its own requests over them too (`request`).
    """

    def __init__(
        self, *, connect_timeout_s: float, read_timeout_s: float, count: int
    ) -> None:
        self._settings: dict[str, Any] = {
            "num_pools": 8,
            "timeout": urllib3.Timeout(connect=connect_timeout_s, read=read_timeout_s),
            "maxsize": count,
            "block": False,
            "retries": False,
            "blocksize": _BLOCK,
            "ca_certs": _certificates(),
        }
        self._lock = threading.Lock()
        self._proxies: dict[str, str | None] = {}
        self._managers: dict[str | None, urllib3.PoolManager] = {}

    def exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: Payload
    ) -> Answer:
        """Send one request and return the answer to it, as it came.

        Raises what urllib3 raises.
        """
        most = pace.piece()
        sent: Payload | Iterator[bytes | memoryview] = body
        if most is not None and body:
            # The size of what has no length must be said, or it would go in chunks.
            headers = {"content-length": str(_size_of(body)), **headers}
            sent = pace.paid(_pieces_of(body))
        response = self.request(
            method,
            url,
            body=sent,
            headers=headers,
            decode_content=False,
            redirect=False,
            preload_content=False,
        )
        is_object = "alt=media" in url
        bounded(response, bytes_max(headers, is_object=is_object))
        told = {name.lower(): text for name, text in response.headers.items()}
        if most is None:
            data = b"".join(response.stream(_BLOCK, decode_content=False))
        else:
            data = _taken_slowly(response, most)
        return Answer(response.status, told, data)

    def request(
        self, method: str, url: str, **more: object
    ) -> urllib3.BaseHTTPResponse:
        """Send a request as a manager of urllib3 does, over the proxy for its URL."""
        return self._manager_for(url).request(method, url, **more)  # type: ignore[arg-type]  # as given

    def close(self) -> None:
        """Close what is idle."""
        for manager in self._managers.values():
            manager.clear()

    def _manager_for(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        place = f"{parts.scheme}://{parts.netloc}"
        with self._lock:
            if place not in self._proxies:
                self._proxies[place] = _proxy_for(parts.scheme, parts.hostname or "")
            proxy = self._proxies[place]
            manager = self._managers.get(proxy)
            if manager is None:
                manager = self._managers[proxy] = self._new_manager(proxy)
            return manager

    def _new_manager(self, proxy: str | None) -> urllib3.PoolManager:
        made = (
            urllib3.PoolManager(**self._settings)
            if proxy is None
            else urllib3.ProxyManager(proxy, **self._settings)
        )
        made.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
        return made


def _size_of(body: bytes | ExactReader) -> int:
    return len(body) - (body.tell() if isinstance(body, ExactReader) else 0)


def _pieces_of(body: bytes | ExactReader) -> Iterator[bytes]:
    if isinstance(body, bytes):
        yield body
        return
    while piece := body.read(_BLOCK):
        yield piece


def _taken_slowly(response: urllib3.BaseHTTPResponse, most: int) -> bytes:
    """Take a body in no faster than a limit wants; the server feels it by and by."""
    pieces: list[bytes] = []
    try:
        for piece in response.stream(most, decode_content=False):
            pieces.append(piece)
            pace.pay(len(piece))
    except BaseException:
        response.close()
        raise
    response.release_conn()
    return b"".join(pieces)


def _proxy_for(scheme: str, host: str) -> str | None:
    """Return the proxy that the environment names for a host."""
    if proxy_bypass(host):
        return None
    found = getproxies()
    return found.get(scheme) or found.get("all")


def _certificates() -> str:
    for name in _CERTIFICATES:
        if path := os.environ.get(name):
            return path
    return certifi.where()
