"""A web server at the endpoint is not taken for an S3 service."""

import pytest

from mountfs.backends.s3 import open_s3
from mountfs.storage.errors import (
    BucketNotFound,
    InvalidRequest,
    ServiceFailed,
    StoreError,
    Throttled,
)
from tests.fakes.http_proxy import HttpProxy, Reply, Request
from tests.fakes.s3_servers import S3Server

PAGE = b"<html><body>Welcome</body></html>"


class WebServer(HttpProxy):
    """Answers everything with one page."""

    def __init__(self, status: int) -> None:
        super().__init__(S3Server("none", "http://127.0.0.1:9"))
        self._status = status

    def answer(self, request: Request) -> Reply:
        """Return the page, whatever was asked for."""
        request.drain()
        body = b"" if request.method == "HEAD" else PAGE
        return Reply(self._status, [("Content-Type", "text/html")], body)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, ServiceFailed),
        (301, InvalidRequest),
        (404, BucketNotFound),
        (503, Throttled),
    ],
)
async def test_a_web_server_is_no_empty_bucket(
    status: int, expected: type[StoreError]
) -> None:
    """Its answer to a listing is an error of the store, whatever its status."""
    with WebServer(status) as server:
        options = {
            "endpoint_url": server.endpoint_url,
            "no_sign_request": True,
            "region": "us-east-1",
        }
        store = open_s3("s3://bucket/prefix", options)
        with pytest.raises(StoreError) as caught:
            await store.list("", limit=1)
        await store.close()

    assert type(caught.value) is expected
