"""The fake Dropbox over TLS: one port stands for all hosts, told apart by `Host`.

Requests look as [requests]
https://www.dropbox.com/developers/documentation/http/documentation#formats says: RPC
with JSON both ways; content uploads and downloads with `Dropbox-API-Arg` and
`Dropbox-API-Result`. Errors are those of [errors] (same page, #error-handling): 400 for
what is no request, 401 for tokens, 409 for what the route refuses, 429 with
`Retry-After`, 5xx.
"""

import json
import re
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl

from tests.fakes.dropbox_account import Account, error_json, summary_of
from tests.fakes.dropbox_tokens import Refused, Tokens
from tests.fakes.dropbox_tree import ApiError

API, CONTENT, NOTIFY = (
    f"{name}.dropboxapi.com" for name in ("api", "content", "notify")
)
_UPLOADS = re.compile(r"files/upload(_session/(start|append_v2|finish))?")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass
class Fault:
    """What the next requests of a route get in place of an answer."""

    status: int = 0
    """0 is no answer: the connection is closed."""
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1
    after: int = 0
    """So many requests pass before it."""
    is_carried_out: bool = False
    """The answer alone is lost."""


@dataclass(frozen=True, slots=True)
class Truth:
    """The answer that a request should get."""

    route: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    elsewhere: str
    """The URL of a server that nobody has allowed anything."""


Lie = Callable[[Truth], Iterable[bytes] | None]
"""What is sent in place of an answer, as bytes of HTTP; None is the truth."""


class DropboxServer:
    """One account at `https://127.0.0.1:PORT`."""

    def __init__(self, certificate: Path) -> None:
        self.account = Account()
        self.tokens = Tokens()
        self.latency_s = 0.0
        self.damages_downloads = False
        self.namespaces: frozenset[str] = frozenset()
        """What `Dropbox-API-Path-Root` may name; all show the same files."""
        self.routes: list[str] = []
        """Every request that has come, in order."""
        self.lie: Lie | None = None
        self.elsewhere = "https://127.0.0.1:9"
        self.lies = 0
        self.lied = 0
        """How many lies were told, and how many bytes of them."""
        self._faults: dict[str, list[Fault]] = {}
        self._lock = threading.Lock()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._http = _Listener(context, self)
        self.certificate = certificate
        self.url = f"https://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def reset(self) -> None:
        """Begin anew, with an empty account."""
        self.account, self.tokens = Account(), Tokens()
        self.latency_s = 0.0
        self.routes.clear()
        self._faults.clear()

    @property
    def counts(self) -> Counter[str]:
        """How many requests each route had."""
        return Counter(self.routes)

    # --- faults -------------------------------------------------------------------

    def add_fault(self, route: str, fault: Fault) -> None:
        """Let the next requests of a route ("*": of any) fail."""
        with self._lock:
            self._faults.setdefault(route, []).append(fault)

    def throttle(
        self,
        route: str = "*",
        *,
        times: int = 1,
        retry_after_s: int = 0,
        reason: str = "too_many_requests",
    ) -> None:
        """[errors] 429: too many requests, or too many writes at once."""
        error = {"reason": {".tag": reason}, "retry_after": retry_after_s}
        body = json.dumps({"error_summary": f"{reason}/..", "error": error}).encode()
        headers = {
            "Retry-After": str(retry_after_s),
            "Content-Type": "application/json",
        }
        self.add_fault(route, Fault(429, body, headers, times))

    def lose_answer(self, route: str) -> None:
        """Carry out the next request of a route, and answer nothing."""
        self.add_fault(route, Fault(is_carried_out=True))

    def fault_of(self, route: str) -> Fault | None:
        """Return the fault that a request gets, and count it."""
        with self._lock:
            for name in (route, "*"):
                waiting = self._faults.get(name)
                if not waiting:
                    continue
                fault = waiting[0]
                if fault.after > 0:
                    fault.after -= 1
                    continue
                fault.times -= 1
                if fault.times <= 0:
                    waiting.pop(0)
                return fault
        return None


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, tls: ssl.SSLContext, server: DropboxServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.tls = tls
        self.fake = server

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands in the thread of the connection."""
        request.settimeout(30)
        with self.tls.wrap_socket(request, server_side=True) as wrapped:
            super().finish_request(wrapped, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that clients have cut."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener  # type: ignore[mutable-override]  # nothing else makes one

    def do_POST(self) -> None:
        fake = self.server.fake
        data = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        route = self.path.removeprefix("/2/").lstrip("/")
        fake.routes.append(route)
        if fake.latency_s:
            time.sleep(fake.latency_s)
        fault = fake.fault_of(route)
        if fault is not None and not fault.is_carried_out:
            self._give_fault(fault)
            return
        try:
            send = self._carried_out(route, data)
        except Refused as error:
            send = self._json_sender(error.status, error.body)
        except ApiError as error:
            body = {"error_summary": summary_of(error), "error": error_json(error)}
            send = self._json_sender(409, body)
        except (KeyError, TypeError, ValueError, AssertionError) as error:
            text = f"Error in call to API function {route!r}: {error!r}".encode()
            send = self._sender(400, text, {"Content-Type": "text/plain"})
        if fault is not None:
            self._give_fault(fault)
            return
        send()

    def _carried_out(self, route: str, data: bytes) -> Callable[[], None]:
        fake = self.server.fake
        if route == "oauth2/token":
            form = dict(parse_qsl(data.decode()))
            return self._json_sender(200, fake.tokens.exchange(form))
        if route != "files/list_folder/longpoll":  # [files]: "No Authentication"
            fake.tokens.check(self.headers.get("Authorization", ""))
        if not fake.account.knows(route):
            raise ValueError("unknown route")
        self._check_path_root()
        self._check_host(route)
        is_upload = _UPLOADS.fullmatch(route) is not None
        is_content = is_upload or route == "files/download"
        text = self.headers["Dropbox-API-Arg"] if is_content else data.decode()
        arg = json.loads(text) or {}
        shown, content = fake.account.answer(route, arg, data if is_upload else b"")
        if route == "files/download":
            return self._download_sender(shown, content)
        return self._json_sender(200, shown)

    def _check_host(self, route: str) -> None:
        """[requests]: each route has its host; on another it is unknown."""
        host = API
        if _UPLOADS.fullmatch(route) or route == "files/download":
            host = CONTENT
        elif route == "files/list_folder/longpoll":
            host = NOTIFY
        if self.headers["Host"] != host:
            raise ValueError(f"this route is on {host}, not {self.headers['Host']}")

    def _check_path_root(self) -> None:
        """https://developers.dropbox.com/dbx-team-files-guide: 422 for a wrong root."""
        text = self.headers["Dropbox-API-Path-Root"]
        root = json.loads(text) if text else {}
        tag = root.get(".tag")
        if tag and root[tag] not in self.server.fake.namespaces:
            error = {".tag": "no_permission"}
            body = {"error_summary": "path_root/no_permission/..", "error": error}
            raise Refused(422, body)

    def _download_sender(self, shown: Any, content: bytes) -> Callable[[], None]:
        """[requests]: "Range Retrieval Requests" as in HTTP."""
        headers = {
            "Content-Type": "application/octet-stream",
            "Dropbox-API-Result": json.dumps(shown),
            "ETag": f'W/"{shown["rev"]}"',
            "Accept-Ranges": "bytes",
        }
        if self.server.fake.damages_downloads and content:
            content = bytes([content[0] ^ 1]) + content[1:]
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        if match is None:
            return self._sender(200, content, headers)
        start, last = int(match[1]), int(match[2] or len(content))
        if start >= len(content):
            headers = {"Content-Range": f"bytes */{len(content)}"}
            return self._sender(416, b"", headers)
        last = min(last, len(content) - 1)
        headers["Content-Range"] = f"bytes {start}-{last}/{len(content)}"
        return self._sender(206, content[start : last + 1], headers)

    def _give_fault(self, fault: Fault) -> None:
        if fault.status == 0:
            self.close_connection = True
            return
        self._sender(fault.status, fault.body, fault.headers)()

    def _json_sender(self, status: int, body: object) -> Callable[[], None]:
        headers = {"Content-Type": "application/json"}
        return self._sender(status, json.dumps(body).encode(), headers)

    def _sender(
        self, status: int, body: bytes, headers: dict[str, str]
    ) -> Callable[[], None]:
        def send() -> None:
            fake = self.server.fake
            route = self.path.removeprefix("/2/").lstrip("/")
            if fake.lie is not None:
                lied = fake.lie(Truth(route, status, headers, body, fake.elsewhere))
                if lied is not None:
                    self._lie(lied)
                    return
            self.send_response(status)
            self.send_header("X-Dropbox-Request-Id", "fake")
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        return send

    def _lie(self, pieces: Iterable[bytes]) -> None:
        fake = self.server.fake
        fake.lies += 1
        self.close_connection = True
        for piece in pieces:
            self.wfile.write(piece)
            fake.lied += len(piece)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
