"""A server that takes connections and requests, and never says a word."""

import contextlib
import socket
import threading
from typing import Self


class SilentServer:
    """Listens on the loopback from construction to `close`."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._connections: list[socket.socket] = []
        self._changed = threading.Condition()
        self._ended = 0
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()
        self.endpoint_url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def wait_for_ended(self, count: int, timeout_s: float) -> bool:
        """Return whether so many connections were ended by the client in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ended >= count, timeout_s)

    def close(self) -> None:
        """Stop, and end every connection."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,)).start()

    def listen_to(self, connection: socket.socket) -> None:
        """Take what is sent, to its end."""
        while connection.recv(1 << 16):
            pass

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            self.listen_to(connection)
        with self._changed:
            self._ended += 1
            self._changed.notify_all()
