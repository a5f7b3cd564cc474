"""Connections with TLS leave nothing open, however they end."""

import os
import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mountfs.backends._held_connections import HeldTLSConnection
from tests.fakes.dropbox_fixtures import make_certificate
from tests.fakes.scripted_server import ScriptedServer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
AT_ONCE = struct.pack("ii", 1, 0)


@pytest.fixture
def resetting_port() -> Iterator[int]:
    """A port whose server resets the one connection that it takes."""

    def reset() -> None:
        connection, _ = listening.accept()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=reset)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


class _LateConnection(HeldTLSConnection):
    """Goes on to TLS only when the connection below has been reset."""

    number = -1

    def _new_conn(self) -> socket.socket:
        made = super()._new_conn()
        self.number = made.fileno()
        hung_up = select.poll()
        hung_up.register(made, 0)
        assert hung_up.poll(10_000)
        return made


@pytest.mark.parametrize("context", [None, ssl.create_default_context()])
def test_a_connection_that_is_reset_before_tls_is_closed(
    resetting_port: int, context: ssl.SSLContext | None
) -> None:
    """At once, though the error that tells of it is still there."""
    connection = _LateConnection("127.0.0.1", resetting_port, ssl_context=context)

    with pytest.raises(ConnectionResetError):
        connection.connect()

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(connection.number)
    connection.close()


def test_certificates_are_looked_at_as_before(tmp_path: Path) -> None:
    """Who is trusted is asked, and nobody else."""
    certificate = make_certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with ScriptedServer([OK], tls) as server:
        stranger = HeldTLSConnection("127.0.0.1", server.port)
        with pytest.raises(ssl.SSLCertVerificationError):
            stranger.connect()
        stranger.close()
        known = HeldTLSConnection("127.0.0.1", server.port, ca_certs=str(certificate))
        known.request("GET", "/")
        assert known.getresponse().data == b"ok"
        assert known.is_verified
        known.close()
        by_name = HeldTLSConnection("localhost", server.port, ca_certs=str(certificate))
        with pytest.raises(ssl.SSLCertVerificationError, match="localhost"):
            by_name.connect()
        by_name.close()
