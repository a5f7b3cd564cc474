"""Connections of urllib3 that stand on the line of the call that uses them.

Both are to be mixed into a connection, and a pool, of whatever SDK: what is held can be
cut by who waits for the call (`mountfs.backends._threads`), and what goes back into its
pool is let go, because from then on it may be another call's.
"""

import socket
from typing import TYPE_CHECKING

import urllib3
import urllib3.connection

from mountfs.backends._threads import hold, let_go

if TYPE_CHECKING:
    from urllib3._base_connection import BaseHTTPConnection


class HeldConnection(urllib3.connection.HTTPConnection):
    """A connection that is held from its beginning, or from its leaving the pool."""

    _below: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        self._below = super()._new_conn()
        hold(self._below)
        return self._below

    def connect(self) -> None:
        """Connect; TLS takes over the socket, under another object."""
        super().connect()
        below, self._below = self._below, None
        if below is not None and below is not self.sock:
            let_go(below)
            hold(self.sock)

    def putrequest(
        self,
        method: str,
        url: str,
        skip_host: bool = False,
        skip_accept_encoding: bool = False,
    ) -> None:
        """Begin a request; the connection may have come from the pool."""
        if self.sock is not None:
            hold(self.sock)
        super().putrequest(method, url, skip_host, skip_accept_encoding)


class HeldPool(urllib3.HTTPConnectionPool):
    """A pool that takes connections off the line when they come back."""

    def _put_conn(self, conn: "BaseHTTPConnection | None") -> None:
        made = getattr(conn, "sock", None)
        if made is not None:
            let_go(made)
        super()._put_conn(conn)
