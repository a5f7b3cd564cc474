"""The command against a real S3 server: what only the store can find wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes import s3_servers
from tests.fakes.s3_servers import S3Server

pytestmark = pytest.mark.fuse


def run(tmp_path: Path, *arguments: str, **variables: str) -> tuple[int, str, str]:
    """Run the command with directories of its own; return code, stdout and stderr."""
    environment = {
        **os.environ,
        "MOUNTFS_CONFIG": os.devnull,
        "MOUNTFS_STATE_DIR": str(tmp_path / "state"),
        "MOUNTFS_CACHE_DIR": str(tmp_path / "cache"),
        "MOUNTFS_CACHE_SIZE": "64M",
        **variables,
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "mountfs", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        timeout=100,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def mount_point(tmp_path: Path) -> str:
    """An empty directory."""
    (tmp_path / "mnt").mkdir()
    return str(tmp_path / "mnt")


def assert_is_one_sentence(said: str, *words: str) -> None:
    """Check that the command said one sentence with these words, and no secret."""
    assert said.count("\n") == 1
    assert said.startswith("mountfs: ")
    assert "Traceback" not in said
    assert s3_servers.SECRET_KEY not in said
    for word in words:
        assert word in said


def test_a_missing_bucket(
    seaweedfs_server: S3Server, tmp_path: Path, mount_point: str
) -> None:
    """The sentence names the bucket."""
    options = ("--endpoint-url", seaweedfs_server.endpoint_url)

    code, _, said = run(tmp_path, "mount", *options, "s3://no-such-bucket", mount_point)

    assert code == 2
    assert_is_one_sentence(said, "s3://no-such-bucket", "does not exist")


@pytest.mark.parametrize(
    "credentials",
    [
        {"AWS_SECRET_ACCESS_KEY": "not-this-one"},
        {"AWS_ACCESS_KEY_ID": "nobody"},
    ],
)
def test_refused_credentials(
    seaweedfs_server: S3Server,
    tmp_path: Path,
    mount_point: str,
    credentials: dict[str, str],
) -> None:
    """Wrong credentials are told from a missing bucket."""
    options = ("--endpoint-url", seaweedfs_server.endpoint_url)
    with s3_servers.bucket(seaweedfs_server) as bucket:
        code, _, said = run(
            tmp_path, "mount", *options, f"s3://{bucket}", mount_point, **credentials
        )

    assert code == 2
    assert_is_one_sentence(said, "credentials")


def test_missing_credentials(
    seaweedfs_server: S3Server,
    tmp_path: Path,
    mount_point: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without any credentials the sentence says so."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    options = ("--endpoint-url", seaweedfs_server.endpoint_url)

    code, _, said = run(tmp_path, "mount", *options, "s3://bucket", mount_point)

    assert code == 2
    assert_is_one_sentence(said, "credentials")


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:9", "http://no-such-host.invalid"]
)
def test_an_unreachable_endpoint(
    s3_credentials: None, tmp_path: Path, mount_point: str, endpoint: str
) -> None:
    """A refused connection and an unknown host are told as such, soon."""
    options = ("--endpoint-url", endpoint)

    code, _, said = run(tmp_path, "mount", *options, "s3://bucket", mount_point)

    assert code == 69  # and not 2: a service manager tries again
    assert_is_one_sentence(said, "cannot be reached", "--endpoint-url")


def test_an_unknown_profile(
    s3_credentials: None, tmp_path: Path, mount_point: str
) -> None:
    """A slip in the name of the profile is the user's to mend."""
    code, _, said = run(
        tmp_path, "mount", "--profile", "nobody", "s3://bucket", mount_point
    )

    assert code == 2
    assert_is_one_sentence(said, "nobody")


def test_features_of_s3(seaweedfs_server: S3Server, tmp_path: Path) -> None:
    """`features` needs no request to tell what S3 can do."""
    options = ("--json", "--endpoint-url", seaweedfs_server.endpoint_url)

    code, told, said = run(tmp_path, "features", *options, "s3://bucket")

    assert (code, said) == (0, "")
    operations = json.loads(told)["operations"]
    assert operations["multipart"]["how"] == "native"
    assert operations["make_dir"]["gate"] == "virtual_dir"


def test_options_from_a_file(
    seaweedfs_server: S3Server, tmp_path: Path, mount_point: str
) -> None:
    """A section for the bucket in the TOML file is all that a mount needs."""
    with s3_servers.bucket(seaweedfs_server) as bucket:
        (tmp_path / "mountfs.toml").write_text(
            f'[mounts."s3://{bucket}"]\n'
            f'endpoint-url = "{seaweedfs_server.endpoint_url}"\n'
            'addressing-style = "path"\n'
        )
        options = ("--config", "mountfs.toml", f"s3://{bucket}/pre")

        assert run(tmp_path, "mount", *options, mount_point) == (0, "", "")
        Path(mount_point, "file").write_text("text")
        assert run(tmp_path, "umount", mount_point) == (0, "", "")

        found = seaweedfs_server.client().get_object(Bucket=bucket, Key="pre/file")
        assert found["Body"].read() == b"text"
