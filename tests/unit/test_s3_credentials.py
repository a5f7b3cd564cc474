"""Credentials that are renewed while a store is open are used, without a new mount."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mountfs.backends.s3 import S3Storager, open_s3
from mountfs.storage.attempts import RetryPolicy
from mountfs.storage.errors import (
    CredentialsRejected,
    CredentialsRenewed,
    PermissionDenied,
    StoreError,
)
from mountfs.storage.retry import RetryStorager
from tests.fakes import s3_servers
from tests.fakes.cutting_proxy import CuttingProxy, answer
from tests.fakes.s3_servers import ACCESS_KEY, SECRET_KEY, S3Server


@pytest.fixture
def credentials(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, s3_credentials: None
) -> Path:
    """The file that credentials are taken from."""
    path = tmp_path / "credentials"
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    return path


def keep(path: Path, secret: str) -> None:
    """Put credentials into the file."""
    path.write_text(
        f"[default]\naws_access_key_id={ACCESS_KEY}\naws_secret_access_key={secret}\n"
    )


@pytest.fixture
async def store(seaweedfs_server: S3Server) -> AsyncIterator[S3Storager]:
    """A store on a server that looks at credentials."""
    with s3_servers.bucket(seaweedfs_server) as bucket:
        options = {
            "endpoint_url": seaweedfs_server.endpoint_url,
            "addressing_style": "path",
        }
        store = open_s3(f"s3://{bucket}", options)
        assert isinstance(store, S3Storager)
        yield store
        await store.close()


async def test_new_credentials_are_found_when_the_old_are_refused(
    credentials: Path, store: S3Storager, caplog: pytest.LogCaptureFixture
) -> None:
    """The request that was refused may be sent again, and is by the retries."""
    caplog.set_level(logging.INFO, "mountfs.backends.s3_client")
    keep(credentials, "expired")
    with pytest.raises(CredentialsRejected) as caught:
        await store.list("")
    assert not caught.value.is_retryable

    keep(credentials, SECRET_KEY)
    with pytest.raises(CredentialsRenewed) as renewed:
        await store.list("")
    assert renewed.value.is_retryable
    assert (await store.list("")).objects == ()
    assert len(caplog.messages) == 1
    assert SECRET_KEY not in caplog.text

    keep(credentials, "expired")
    assert (await store.list("")).objects == (), "what works is not looked up again"


async def test_retries_use_them(credentials: Path, store: S3Storager) -> None:
    """With the retries around the store nobody notices."""
    keep(credentials, "expired")
    retried = RetryStorager(store, RetryPolicy(backoff_base_s=0.01))
    with pytest.raises(CredentialsRejected):
        await retried.list("")

    keep(credentials, SECRET_KEY)

    assert (await retried.list("")).objects == ()


async def test_credentials_that_come_later(
    credentials: Path, store: S3Storager
) -> None:
    """None at first is a refusal like any other."""
    with pytest.raises(CredentialsRejected):
        await store.list("")

    keep(credentials, SECRET_KEY)
    with pytest.raises(CredentialsRenewed):
        await store.list("")

    assert (await store.list("")).objects == ()


@pytest.mark.parametrize(
    ("status", "code", "is_unexplained"),
    [(403, "AccessDenied", True), (400, "ExpiredToken", True), (404, "", False)],
)
async def test_a_head_tells_no_reason(
    moto_server: S3Server, status: int, code: str, is_unexplained: bool
) -> None:
    """403 and 400 to a HEAD may be about the credentials; nobody can tell."""
    with s3_servers.bucket(moto_server) as bucket, CuttingProxy(moto_server) as proxy:
        proxy.fail("HeadObject", answer(status, code), is_lasting=True)
        options = {"endpoint_url": proxy.endpoint_url, "addressing_style": "path"}
        store = open_s3(f"s3://{bucket}", options)
        with pytest.raises(StoreError) as caught:
            await store.stat("a")
        await store.close()

    assert caught.value.is_unexplained is is_unexplained


async def test_a_listing_tells_the_reason(moto_server: S3Server) -> None:
    """A refusal with a reason is what it says."""
    with s3_servers.bucket(moto_server) as bucket, CuttingProxy(moto_server) as proxy:
        proxy.fail("ListObjectsV2", answer(403, "AccessDenied"))
        options = {"endpoint_url": proxy.endpoint_url, "addressing_style": "path"}
        store = open_s3(f"s3://{bucket}", options)
        with pytest.raises(PermissionDenied) as caught:
            await store.list("")
        await store.close()

    assert not caught.value.is_unexplained
