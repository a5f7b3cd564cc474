"""A mount that is told what others change in its bucket."""

import contextlib
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.s3_servers import S3Server
from tests.fakes.sqs import Queue
from tests.fuse.mounting import TEST_S, Mount


def _wait_for(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_what_others_change_is_seen_at_once(
    moto_server: S3Server,
    moto_bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the time to live; and the queue is empty afterwards."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", moto_server.endpoint_url)
    name = f"changes-{uuid.uuid4().hex[:12]}"
    options = (
        f"--endpoint-url={moto_server.endpoint_url}",
        "--cache-size=64M",
        "--ttl=1h",
        f"--events=sqs://{name}",
    )
    with (
        contextlib.closing(Queue(moto_server, name)) as queue,
        contextlib.closing(moto_server.client()) as other,
    ):
        queue.hear_of(moto_server, moto_bucket)
        url = f"s3://{moto_bucket}/pre"
        with Mount(url, tmp_path / "m", options, life_s=TEST_S) as mounted:
            path, new = mounted.path / "a file", mounted.path / "dir" / "new"
            path.write_bytes(b"ours")
            assert not new.exists()
            assert path.read_bytes() == b"ours"
            other.put_object(Bucket=moto_bucket, Key="pre/a file", Body=b"their bytes")
            other.put_object(Bucket=moto_bucket, Key="pre/dir/new", Body=b"new")

            _wait_for(lambda: path.read_bytes() == b"their bytes")
            _wait_for(new.exists)
            other.delete_object(Bucket=moto_bucket, Key="pre/dir/new")
            _wait_for(lambda: not new.exists())
            _wait_for(lambda: not queue.waiting)
            assert "their changes are told" in mounted.look()
            mounted.check_log()
