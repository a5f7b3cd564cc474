"""The connections of botocore, held on the line of the call that uses them, and lent.

botocore has no public place for either. What is touched are the table of connection
pools by scheme, which all pools of a client are made from, those for proxies included,
and the pool for a URL, so that a connection is made as botocore makes it;
`tests/unit/test_s3_deadlines.py` fails if a version of botocore has them no more.
"""

import socket
from typing import TYPE_CHECKING, Any

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)

from mountfs.backends._bounded import TOLD_MAX, bounded
from mountfs.backends._held_connections import (
    HeldConnection,
    HeldPool,
    HeldTLSConnection,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client as BotoClient
    from urllib3 import BaseHTTPResponse


class _Connection(HeldConnection, AWSHTTPConnection):  # type: ignore[misc]  # as botocore mixes
    pass


class _TLSConnection(HeldTLSConnection, AWSHTTPSConnection):  # type: ignore[misc]  # as botocore mixes
    pass


class _Pool(HeldPool, AWSHTTPConnectionPool):
    ConnectionCls = _Connection  # type: ignore[mutable-override]  # as botocore does

    def urlopen(self, *args: object, **more: object) -> "BaseHTTPResponse":
        return bounded(super().urlopen(*args, **more), TOLD_MAX)  # type: ignore[arg-type]  # as given


class _TLSPool(HeldPool, AWSHTTPSConnectionPool):
    ConnectionCls = _TLSConnection  # type: ignore[mutable-override]  # as botocore does

    def urlopen(self, *args: object, **more: object) -> "BaseHTTPResponse":
        return bounded(super().urlopen(*args, **more), TOLD_MAX)  # type: ignore[arg-type]  # as given


def hold_connections(client: "BotoClient") -> None:
    """Let every connection of a client be held by the call that uses it."""
    endpoint: Any = client._endpoint  # type: ignore[attr-defined]  # see above
    pools: dict[str, type] = endpoint.http_session._pool_classes_by_scheme
    pools.update(http=_Pool, https=_TLSPool)


class Route:
    """How a client reaches one URL: through which proxy, with which certificates."""

    def __init__(self, client: "BotoClient", url: str) -> None:
        session: Any = client._endpoint.http_session  # type: ignore[attr-defined]  # see above
        self.url = url
        self.proxy: str | None = session._proxy_config.proxy_url_for(url)
        manager = session._get_connection_manager(url, self.proxy)
        self._pool = manager.connection_from_url(url)
        session._setup_ssl_cert(self._pool, url, session._verify)
        is_forwarded = session._get_request_target(url, self.proxy) == url
        self.target_prefix: str = url.rstrip("/") if is_forwarded else ""
        """What stands before the path: a proxy that forwards wants the whole URL."""
        headers: dict[str, str] = self._pool.proxy_headers if is_forwarded else {}
        self.proxy_headers = {name.lower(): text for name, text in headers.items()}
        self._is_tunnelled = self.proxy is not None and not is_forwarded

    def connect(self) -> socket.socket:
        """Return a new connection. Raises what urllib3 raises."""
        connection = self._pool._new_conn()
        try:
            if self._is_tunnelled:
                self._pool._prepare_proxy(connection)
            else:
                connection.connect()
        except BaseException:
            connection.close()
            raise
        made: socket.socket = connection.sock
        connection.sock = None  # it is ours now
        return made
