"""An S3 service that takes no writes, and repeats in its refusals all that it was sent.

Services do such things: a signature that does not match is answered with the text that
was to be signed, a proxy that fails shows the request.
"""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.sax.saxutils import escape

_LISTING = (
    '<?xml version="1.0"?><ListBucketResult'
    ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>false</IsTruncated>'
    "<KeyCount>0</KeyCount></ListBucketResult>"
)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, body: str) -> None:
        content = body.encode()
        self.send_response(status)
        self.send_header("x-amz-request-id", "4711")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _refuse(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        self.rfile.read(length)
        told = f"{self.requestline}\n{self.headers}"
        self._answer(
            403,
            "<Error><Code>AccessDenied</Code>"
            f"<Message>no: {escape(told)}</Message></Error>",
        )

    def do_GET(self) -> None:
        """List nothing, have nothing."""
        if "list-type" in self.path:
            self._answer(200, _LISTING)
        else:
            self._answer(404, "<Error><Code>NoSuchKey</Code></Error>")

    do_HEAD = do_GET  # noqa: N815 - http.server's names
    do_PUT = do_POST = do_DELETE = _refuse  # noqa: N815


@contextlib.contextmanager
def echoing_server() -> Iterator[str]:
    """Serve; give the URL of the service."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
