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
from tests.fakes.scripted_server import ScriptedServer

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


async def test_a_listing_without_its_end_is_none(s3_credentials: None) -> None:
    """A service that says there is more must say how to get it."""
    page = (
        b"<ListBucketResult><Name>b</Name><IsTruncated>true</IsTruncated>"
        b"<NextMarker>k</NextMarker></ListBucketResult>"
    )
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(page)
    with ScriptedServer([head + page]) as server:
        store = open_s3(
            "s3://bucket", {"endpoint_url": server.url, "addressing_style": "path"}
        )
        with pytest.raises(ServiceFailed):
            await store.list("")
        await store.close()
