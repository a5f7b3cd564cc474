"""What is left out of a bundle, and that it is for its owner."""

import io
import tarfile
from pathlib import Path

import pytest

from mountfs.actions import bundle, overview
from mountfs.actions.bundle import Wanted
from mountfs.actions.nameless import Nameless, names_in, quoted_in
from mountfs.actions.overview import Place
from mountfs.errors import UsageError

STATUS = {
    "url": "s3://bucket/pre",
    "waiting": ["dir/my report.txt"],
    "pending": [{"path": "dir/my report.txt", "size": 3, "error": "no 'x'"}],
    "incidents": [{"text": "PUT /pre/dir/my%20report.txt", "kept_as": "copy"}],
}
LOG = "'it''s mine': refused GET /dir/my%20report.txt of my report.txt, 'x'"


def test_names_are_taken_out_wherever_they_stand() -> None:
    """In fields, in quotes, and in what a service has sent back."""
    nameless = Nameless((*names_in(STATUS), *quoted_in(LOG)))

    assert nameless.value(STATUS) == {
        "url": "s3://bucket/pre",
        "waiting": ["<name>"],
        "pending": [{"path": "<name>", "size": 3, "error": "no <name>"}],
        "incidents": [{"text": "PUT /pre/<name>", "kept_as": "<name>"}],
    }
    assert nameless.text(LOG) == ("<name><name>: refused GET /<name> of <name>, <name>")


def test_a_bundle_of_nothing_known_takes_nothing_out() -> None:
    """No name is no pattern that fits everything."""
    assert Nameless([""]).text("all is well") == "all is well"


def test_a_bundle_is_for_its_owner_and_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a dead mount it says so; a file that is there stays."""
    dead = Place(Path("/mnt/gone"), "s3://bucket", tmp_path / "socket")
    monkeypatch.setattr(overview, "look", lambda *_, **__: [dead])
    wanted = Wanted(file=tmp_path / "b.tar.gz", has_names=False, asks_doctor=True)
    out = io.StringIO()

    assert bundle.bundle(None, wanted, out=out) == 0

    assert "is known of 1 mount;" in out.getvalue()
    assert wanted.file.stat().st_mode & 0o777 == 0o600
    with tarfile.open(wanted.file) as archive:
        names = archive.getnames()
        dump = archive.extractfile("mountfs-bundle/1/dump.txt")
        assert dump is not None
        assert dump.read() == b"the daemon is dead\n"
    assert "mountfs-bundle/host.json" in names
    with pytest.raises(UsageError, match="name another with -o"):
        bundle.bundle(None, wanted, out=out)
