"""A mount works with the policy that `mountfs doctor --policy` prints."""

import json
import os
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from io import StringIO
from pathlib import Path

import boto3
import pytest

from mountfs.backends.s3_keys import KeySpace
from mountfs.backends.s3_options import parse_options
from mountfs.backends.s3_policy import policy
from mountfs.configuration import config
from mountfs.configuration.settings import Setting
from mountfs.doctor import pace, run
from tests.fakes import s3_servers
from tests.fakes.policy_shim import PolicyShim
from tests.fakes.s3_servers import S3Server
from tests.fuse.conftest import Mounter
from tests.fuse.mounting import run_command
from tests.fuse.stores import S3Objects, Store

MIB = 1 << 20


def policy_for(bucket: str, *, read_only: bool = False) -> str:
    """Return the policy for what lies below `pre/` in a bucket."""
    return policy(KeySpace(bucket, "pre/"), parse_options({}), read_only=read_only)


def do_everything(root: Path) -> None:
    """Do what makes a mount send each kind of request."""
    file, large = root / "dir" / "file", root / "large"
    file.parent.mkdir()
    file.write_bytes(b"bytes")
    with file.open("ab") as appended:
        appended.write(b"more")
    file.chmod(0o600)
    file.rename(root / "moved")
    (root / "link").symlink_to("moved")
    large.write_bytes(os.urandom(18 * MIB))
    with large.open("r+b") as edited:
        edited.seek(9 * MIB)
        edited.write(b"edit")
    (root / "dir" / "one").write_bytes(b"1")
    (root / "dir").rename(root / "other")
    assert sorted(os.listdir(root)) == ["large", "link", "moved", "other"]
    assert (root / "link").read_bytes() == b"bytesmore"
    assert not (root / "absent").exists()
    (root / "other" / "one").unlink()
    (root / "other").rmdir()
    for name in ("large", "link", "moved"):
        (root / name).unlink()


@pytest.fixture
def shim(moto_server: S3Server) -> Iterator[tuple[PolicyShim, str]]:
    """A bucket on moto behind the policy for a mount of it."""
    with (
        s3_servers.bucket(moto_server) as name,
        closing(PolicyShim(moto_server, policy_for(name))) as made,
    ):
        yield made, name


def test_a_whole_mount_needs_no_more(
    shim: tuple[PolicyShim, str],
    mounter: Mounter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every kind of change, under the policy: nothing is refused."""
    made, bucket = shim
    other_side = S3Objects(made.upstream.client(), bucket, "pre/")
    options = (f"--endpoint-url={made.endpoint_url}", "--addressing-style=path")
    store = Store(f"s3://{bucket}/pre", options, other_side)

    mount = mounter(store)
    do_everything(mount.path)
    mount.unmount()
    for name in ("ASKING_S", "RATE_S", "MOVING_S"):
        monkeypatch.setattr(pace, name, 0.05)
    layer = {
        name: Setting(text, "test")
        for name, text in {
            "endpoint_url": made.endpoint_url,
            "addressing_style": "path",
            "state_dir": str(tmp_path),
            "cache_dir": str(tmp_path),
        }.items()
    }
    found = config.mount_config(store.url, "/", layer, config_file=None, environ={})
    told = StringIO()

    assert run.examine(found, as_json=False, out=told) == 0, told.getvalue()
    assert made.refused == []
    assert other_side.listing() == set()


def with_quirk_of_moto(text: str, bucket: str) -> str:
    """Allow deletions of the bucket itself: AWS asks for those of keys, moto for it."""
    document = json.loads(text)
    resource = f"arn:aws:s3:::{bucket}"
    quirk = {"Effect": "Allow", "Action": "s3:DeleteObject", "Resource": resource}
    document["Statement"].append(quirk)
    return json.dumps(document)


@pytest.mark.slow
@pytest.mark.usefixtures("s3_credentials")
def test_moto_enforces_it_likewise(tmp_path: Path, mounter: Mounter) -> None:
    """The same with a server that knows IAM, and signatures, by itself."""
    with (
        s3_servers.moto(tmp_path / "moto") as server,
        s3_servers.bucket(server) as bucket,
    ):
        iam = boto3.client("iam", endpoint_url=server.endpoint_url)
        iam.create_user(UserName="mount")
        document = with_quirk_of_moto(policy_for(bucket), bucket)
        iam.put_user_policy(
            UserName="mount", PolicyName="mount", PolicyDocument=document
        )
        key = iam.create_access_key(UserName="mount")["AccessKey"]
        reset = urllib.request.Request(
            f"{server.endpoint_url}/moto-api/reset-auth",
            data=b"0",
            headers={"content-type": "text/plain"},
        )
        urllib.request.urlopen(reset, timeout=10).close()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
            patch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
            options = (f"--endpoint-url={server.endpoint_url}",)
            other_side = S3Objects(server.client(), bucket, "pre/")
            store = Store(f"s3://{bucket}/pre", options, other_side)
            mount = mounter(store)
            do_everything(mount.path)
            mount.unmount()
            outside = Store(f"s3://{bucket}/other", options, other_side)
            refused = run_command("doctor", *outside.options, outside.url)
    assert refused.returncode == 1, refused.stdout
    assert "s3:PutObject" in refused.stdout
