"""The connections of botocore, held on the line of the call that uses them.

botocore has no public place for this. What is touched is the table of connection
pools by scheme, which all pools of a client are made from, those for proxies included;
`tests/unit/test_s3_deadlines.py` fails if a version of botocore has it no more.
"""

import socket
from typing import TYPE_CHECKING, Any

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)

from mountfs.backends._threads import hold

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client as BotoClient


class _Connection(AWSHTTPConnection):
    def _new_conn(self) -> socket.socket:
        made = super()._new_conn()
        hold(made)
        return made

    def putrequest(
        self,
        method: str,
        url: str,
        skip_host: bool = False,
        skip_accept_encoding: bool = False,
    ) -> None:
        if self.sock is not None:  # it comes from the pool
            hold(self.sock)
        super().putrequest(method, url, skip_host, skip_accept_encoding)


class _TLSConnection(AWSHTTPSConnection):
    def _new_conn(self) -> socket.socket:
        made = super()._new_conn()
        hold(made)
        return made

    def putrequest(
        self,
        method: str,
        url: str,
        skip_host: bool = False,
        skip_accept_encoding: bool = False,
    ) -> None:
        if self.sock is not None:
            hold(self.sock)
        super().putrequest(method, url, skip_host, skip_accept_encoding)


class _Pool(AWSHTTPConnectionPool):
    ConnectionCls = _Connection  # type: ignore[mutable-override]  # as botocore does


class _TLSPool(AWSHTTPSConnectionPool):
    ConnectionCls = _TLSConnection  # type: ignore[mutable-override]  # as botocore does


def hold_connections(client: "BotoClient") -> None:
    """Let every connection of a client be held by the call that uses it."""
    endpoint: Any = client._endpoint  # type: ignore[attr-defined]  # see above
    pools: dict[str, type] = endpoint.http_session._pool_classes_by_scheme
    pools.update(http=_Pool, https=_TLSPool)
