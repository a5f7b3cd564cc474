"""No secret is in anything that a mount tells, wherever that came from.

Secrets are planted where they are in life: in the environment, in the key of a
customer, in the password of a proxy, in a configuration that somebody got wrong, and in
the refusals of a service that repeats what it was sent. Then everything that can be
asked is asked.
"""

import base64
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from mountfs import mounts
from tests.fakes.echoing_server import echoing_server
from tests.fuse.mounting import Connection

ACCESS_KEY = "AKIAPLANTEDPLANTED99"
SECRETS = {
    "secret key": "planted/Secret+Key0123456789abcdefghijklmn",
    "session token": "PlantedToken//////////wEaCXVzLWVhc3QtMSJHMEUCIQ",
    "customer key": base64.b64encode(b"planted-customer-key-of-32-bytes").decode(),
    "proxy password": "planted-proxy-password",
    "configured": "planted-in-a-config-file",
}
NAME = "planted-name.txt"
SIGNS = ("Signature=", "X-Amz-Signature=", "AWS4-HMAC-SHA256 Credential=A")
"""What a signature that came back would look like, if it was not blotted out."""


class World:
    """A mount whose store refuses everything, and the command in its environment."""

    def __init__(self, base: Path, endpoint: str) -> None:
        self.base = base
        self.endpoint = endpoint
        self.mount_point = base / "mnt"
        self.mount_point.mkdir()
        self.environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRETS["secret key"],
            "AWS_SESSION_TOKEN": SECRETS["session token"],
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_DEFAULT_REGION": "us-east-1",
            "MOUNTFS_SSE_C_KEY": SECRETS["customer key"],
            "HTTPS_PROXY": f"http://user:{SECRETS['proxy password']}@127.0.0.1:9",
            "MOUNTFS_CONFIG": os.devnull,
            "MOUNTFS_STATE_DIR": str(base / "state"),
            "MOUNTFS_CACHE_DIR": str(base / "cache"),
            "MOUNTFS_CACHE_SIZE": "64M",
            "XDG_RUNTIME_DIR": str(base),
        }

    def run(self, *arguments: str | Path) -> str:
        """Run the command; return all that it says."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "mountfs", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment,
            cwd=self.base,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout

    def mount(self) -> str:
        """Mount, so that what programs write waits for a store that refuses it."""
        return self.run(
            *("mount", "--durability=journal", "--log-level=debug", "--sse=customer"),
            "--virtual=dir,move,xattr",
            *(f"--endpoint-url={self.endpoint}", "--addressing-style=path"),
            *("s3://bucket", self.mount_point),
        )


JOURNALS = (".spool", "journal.sqlite", "journal.sqlite-wal")
"""What a small file is kept in until the store has it."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """The world, mounted; nothing of it stays."""
    with echoing_server() as endpoint:
        made = World(tmp_path, endpoint)
        try:
            yield made
        finally:
            entry = mounts.mount_at(made.mount_point)
            connection = Connection(entry) if entry is not None else None
            made.run("umount", "--lazy", made.mount_point)
            if connection is not None:
                connection.abort()


def _told_by(world: World) -> Iterator[tuple[str, str]]:
    """Yield all that can be had of the mount, and where it is from."""
    path = world.mount_point / NAME
    status = world.run("status", world.mount_point)
    yield "status", status
    yield "status --json", world.run("status", "--json")
    yield "explain", world.run("explain", path)
    yield "metrics", world.run("metrics", world.mount_point)
    named = world.base / "named.tar.gz"
    yield "bundle", world.run("bundle", "-o", named, "--with-names", path)
    yield from ((f"bundle: {name}", text) for name, text in _contents(named))
    yield "last error", os.getxattr(path, "user.mountfs.last_error").decode()
    (daemon,) = re.findall(r"process (\d+)", status)
    for name in ("cmdline", "comm", "status"):
        yield f"/proc: {name}", Path(f"/proc/{daemon}/{name}").read_text()
    for file in world.base.rglob("*"):
        if file.is_file() and world.mount_point not in file.parents:
            yield str(file), file.read_bytes().decode("latin-1")


def _contents(bundle: Path) -> Iterator[tuple[str, str]]:
    assert bundle.stat().st_mode & 0o777 == 0o600
    with tarfile.open(bundle) as archive:
        for entry in archive:
            opened = archive.extractfile(entry)
            assert opened is not None
            yield entry.name, opened.read().decode()


def test_no_secret_is_told_anywhere(world: World) -> None:
    """Log, status, explain, journal, metrics, bundle, /proc: all are searched."""
    said = world.mount()
    (world.mount_point / NAME).write_text("the contents of a file")
    world.run("wait", world.mount_point / NAME)
    told = {"mount": said, **dict(_told_by(world))}

    for place in ("status", "status --json", "explain", "last error"):
        assert "no: PUT /bucket/planted" in told[place]
    names = " ".join(told)
    assert ".log" in names
    assert "journal.sqlite" in names
    assert "settings.json" in names
    found = [
        (place, what)
        for place, text in told.items()
        for what, secret in SECRETS.items()
        if secret in text or quote(secret, safe="") in text
    ]
    found += [
        (place, sign)
        for place, text in told.items()
        for sign in (ACCESS_KEY, *SIGNS)
        if sign in text.replace("Signature=[redacted]", "")
    ]
    assert found == []
    assert not [
        place
        for place, text in told.items()
        if "the contents of a file" in text and not place.endswith(JOURNALS)
    ]
    bundle = world.base / "bundle.tar.gz"
    world.run("bundle", "-o", bundle, world.mount_point)
    assert not [place for place, text in _contents(bundle) if NAME in text]


def test_a_secret_in_the_wrong_place_is_refused_and_not_repeated(world: World) -> None:
    """A configuration, or a command line, with a credential is no configuration."""
    config = world.base / "config.toml"
    config.write_text(f'[mount]\nsecret-access-key = "{SECRETS["configured"]}"\n')

    said = world.run("mount", "--config", config, "s3://bucket", world.mount_point)
    said += world.run(
        "mount", f"--password={SECRETS['configured']}", "s3://b", world.mount_point
    )
    said += world.run(
        "mount", f"s3://key:{SECRETS['configured']}@bucket", world.mount_point
    )

    assert "mountfs: " in said
    assert SECRETS["configured"] not in said
