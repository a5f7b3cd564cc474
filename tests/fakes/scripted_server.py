"""A server on the loopback that answers each request with the next of some bytes."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import BinaryIO, Self


class ScriptedServer:
    """Answers the requests of all connections with its script, one after the other.

    A request ends with its head, and its body if it has a `content-length`. An answer
    of None is no answer: the connection is closed without a word.
    """

    def __init__(
        self, script: Sequence[bytes | None], tls: ssl.SSLContext | None = None
    ) -> None:
        self._script = list(script)
        self._tls = tls
        self.heads: list[bytes] = []
        """What was asked."""
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._start(self._accept)
        scheme = "https" if tls else "http"
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{scheme}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in tuple(self._threads):
            thread.join(timeout=5)

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.settimeout(5)
                self.connections += 1
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection, connection.makefile("rb") as reader:
                while self._script and (head := self._read_head(reader)):
                    self.heads.append(head)
                    answer = self._script.pop(0)
                    if answer is None:
                        return
                    connection.sendall(answer)
                    if b"connection: close" in answer.lower():
                        return

    def _read_head(self, reader: BinaryIO) -> bytes:
        lines = []
        while line := reader.readline():
            lines.append(line)
            if line == b"\r\n":
                break
        head = b"".join(lines)
        for line in lines:
            if line.lower().startswith(b"content-length:"):
                reader.read(int(line.split(b":")[1]))
        return head
