"""What protects the user of a mount: files of secrets, certificates, the terminal.

`docs/explanation/security.md` names the tests that stand behind its claims.
"""

import logging
import os
import re
import ssl
from pathlib import Path

import pytest

from mountfs import cli, logs
from mountfs.backends import open_store
from mountfs.backends._customer_key import customer_key
from mountfs.storage.errors import InvalidRequest, Unreachable
from tests.fakes.dropbox_fixtures import make_certificate
from tests.fakes.scripted_server import ScriptedServer

PAGE = b"<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated>"
PAGE += b"</ListBucketResult>"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(PAGE) + PAGE


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o622])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    """With the command that mends it."""
    file = tmp_path / "key"
    file.write_bytes(bytes(32))
    file.chmod(mode)

    with pytest.raises(InvalidRequest, match="chmod 600"):
        customer_key(str(file))
    file.chmod(0o400)
    assert customer_key(str(file)) == bytes(32)


@pytest.mark.usefixtures("s3_credentials")
@pytest.mark.parametrize("client", ["light", "boto3"])
async def test_certificates_that_cannot_be_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    """What is wrong is on this host, and not the network or the server."""
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    with ScriptedServer([ANSWER] * 4) as server:
        url = server.url.replace("http://", "https://")
        store = open_store("s3://bucket", {"endpoint_url": url, "s3_client": client})
        with pytest.raises(Unreachable) as caught:
            await store.list("")
        await store.close()

    assert "AWS_CA_BUNDLE or ca_bundle names cannot be read" in str(caught.value)


@pytest.mark.usefixtures("s3_credentials")
@pytest.mark.parametrize("client", ["light", "boto3"])
async def test_a_certificate_of_nobody_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    """In one sentence that says what to do; with that file it is accepted."""
    certificate = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with ScriptedServer([ANSWER] * 4, tls=context) as server:
        options = {"endpoint_url": server.url, "s3_client": client}
        refusing = open_store("s3://bucket", options)
        with pytest.raises(Unreachable) as caught:
            await refusing.list("")
        asked_before = len(server.heads)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        trusting = open_store("s3://bucket", options)
        page = await trusting.list("")
        await trusting.close()
        await refusing.close()

    assert "is not trusted (self-signed certificate): AWS_CA_BUNDLE" in str(
        caught.value
    )
    assert asked_before == 0, "something was sent to a server that is not trusted"
    assert page.objects == ()


def test_what_a_command_says_moves_no_cursor(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name with control characters is shown, and not obeyed."""
    assert cli.main(["mount", "s3://b\x1b[2J\x07", "/nowhere"]) != 0

    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert "\x07" not in said


def test_lines_stay_lines() -> None:
    """What consists of several lines keeps them."""
    assert logs.told("one\ntwo\x1b]0;x\x07") == "one\ntwo\\x1b]0;x\\x07"


@pytest.mark.parametrize("is_rotated", [True, False])
def test_a_log_is_its_owners_alone(tmp_path: Path, *, is_rotated: bool) -> None:
    """Whatever the umask: it has the names of files."""
    file = tmp_path / "log"
    before, root = os.umask(0), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        logs.set_up("info", file, is_rotated=is_rotated)
        logging.getLogger("mountfs").info("a line")
        mode = file.stat().st_mode & 0o777
    finally:
        os.umask(before)
        for each in root.handlers[:]:
            root.removeHandler(each)
            each.close()
        for each in handlers:
            root.addHandler(each)
        root.setLevel(level)

    assert mode == 0o600


def test_behind_each_claim_stands_a_test_that_exists() -> None:
    """The page names tests; they are there."""
    checkout = Path(__file__).resolve().parents[2]
    page = (checkout / "docs" / "explanation" / "security.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page)

    assert len(named) > 20
    for file, test in named:
        assert f"def {test or 'test'}" in (checkout / file).read_text(), (file, test)
