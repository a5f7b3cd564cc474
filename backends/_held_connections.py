"""Connections of urllib3 that stand on the line of the call that uses them.

Both are to be mixed into a connection, and a pool, of whatever SDK: what is held can be
cut by who waits for the call (`mountfs.backends._threads`), and what goes back into its
pool is let go, because from then on it may be another call's.
"""

import socket
import ssl
from typing import TYPE_CHECKING

import urllib3
import urllib3.connection
from urllib3.util.ssl_ import create_urllib3_context, resolve_cert_reqs

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


class HeldTLSConnection(HeldConnection, urllib3.connection.HTTPSConnection):
    """A held connection with TLS, of which nothing stays open if it cannot be made."""

    def connect(self) -> None:
        """Connect, with a socket that closes itself."""
        if self.ssl_context is None:  # urllib3 would make the same one
            self.ssl_context = create_urllib3_context(
                cert_reqs=resolve_cert_reqs(self.cert_reqs)
            )
            if not (self.ca_certs or self.ca_cert_dir or self.ca_cert_data):
                self.ssl_context.load_default_certs()
        self.ssl_context.sslsocket_class = _TLSSocket
        super().connect()


class _TLSSocket(ssl.SSLSocket):
    """A socket that is closed when it turns out to be reset.

    A connection may be reset, or cut by us, before TLS takes it over. `SSLSocket` looks
    then for what came before the end, and CPython before February 2024 forgets the new
    socket, open, if that fails (https://github.com/python/cpython/issues/113280).
    """

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except ConnectionError:
            self.close()
            raise


class HeldPool(urllib3.HTTPConnectionPool):
    """A pool that takes connections off the line when they come back."""

    def _put_conn(self, conn: "BaseHTTPConnection | None") -> None:
        made = getattr(conn, "sock", None)
        if made is not None:
            let_go(made)
        super()._put_conn(conn)
