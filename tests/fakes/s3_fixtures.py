"""The S3 servers as pytest fixtures, one of each per session and worker.

`tests/conftest.py` makes them known to every test folder. A test asks for
`seaweedfs_server`, `moto_server` or `s3_server` (both in turn), and for a bucket of its
own with `s3_bucket`. `s3_shim` is a strict shim before `s3_server`, `moto_shim` one
before moto, where requests are counted; both are fresh for each test.
"""

import contextlib
import os
from collections.abc import Iterator

import pytest

from tests.fakes import s3_servers
from tests.fakes.s3_servers import S3Server
from tests.fakes.strict_shim import StrictShim


@pytest.fixture(scope="session")
def s3_credentials() -> Iterator[None]:
    """Put the servers' credentials where boto3's chain finds them, and no others."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in s3_servers.aws_environment().items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def seaweedfs_server(
    tmp_path_factory: pytest.TempPathFactory, s3_credentials: None
) -> Iterator[S3Server]:
    """A SeaweedFS that lives as long as the session."""
    directory = tmp_path_factory.mktemp("seaweedfs")
    with s3_servers.seaweedfs(directory / "server") as server:
        yield server


@pytest.fixture(scope="session")
def moto_server(
    tmp_path_factory: pytest.TempPathFactory, s3_credentials: None
) -> Iterator[S3Server]:
    """A moto server that lives as long as the session."""
    with s3_servers.moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(params=["seaweedfs", "moto"])
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    """Both servers in turn."""
    server = request.getfixturevalue(f"{request.param}_server")
    assert isinstance(server, S3Server)
    return server


@pytest.fixture
def s3_bucket(s3_server: S3Server) -> Iterator[str]:
    """A bucket on `s3_server`, for one test."""
    with s3_servers.bucket(s3_server) as name:
        yield name


@pytest.fixture
def s3_shim(s3_server: S3Server) -> Iterator[StrictShim]:
    """A strict shim before each server in turn."""
    with contextlib.closing(StrictShim(s3_server)) as shim:
        yield shim


@pytest.fixture
def moto_shim(moto_server: S3Server) -> Iterator[StrictShim]:
    """A strict shim before moto."""
    with contextlib.closing(StrictShim(moto_server)) as shim:
        yield shim


@pytest.fixture
def moto_bucket(moto_server: S3Server) -> Iterator[str]:
    """A bucket on `moto_server`, for one test."""
    with s3_servers.bucket(moto_server) as name:
        yield name


@pytest.fixture(scope="session")
def seaweedfs_strict_server(seaweedfs_server: S3Server) -> Iterator[S3Server]:
    """SeaweedFS behind a strict shim that lives as long as the session."""
    with contextlib.closing(StrictShim(seaweedfs_server)) as shim:
        yield shim.server


@pytest.fixture(scope="session")
def moto_strict_server(moto_server: S3Server) -> Iterator[S3Server]:
    """A moto behind a strict shim that lives as long as the session."""
    with contextlib.closing(StrictShim(moto_server)) as shim:
        yield shim.server
