"""`mountfs auth dropbox`, the file it writes, and tokens while a store is open."""

import json
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import trio

from mountfs import cli
from mountfs.backends import open_authorization, open_store
from mountfs.backends.dropbox_options import parse_options
from mountfs.backends.dropbox_tokens import Credentials, credentials_of, save
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import (
    CredentialsRejected,
    CredentialsRenewed,
    InvalidRequest,
    PermissionDenied,
)
from tests.fakes.dropbox_server import DropboxServer


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """Where the token is to be kept."""
    return tmp_path / "config" / "dropbox.json"


def options_of(server: DropboxServer, token_file: Path) -> dict[str, object]:
    """Return the options of a store whose token is in a file."""
    return {
        "endpoint": server.url,
        "ca_file": str(server.certificate),
        "token_file": str(token_file),
    }


def run_auth(
    server: DropboxServer,
    token_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    code: str | None = None,
    more: Sequence[str] = (),
) -> tuple[int, str, str]:
    """Run the command as a user does who opens the URL and allows the app."""

    def approve(question: str) -> str:
        url = capsys.readouterr().out.split()[-1]
        asked = parse_qs(urlsplit(url).query)
        assert asked["client_id"] == ["fakekey"]
        assert asked["token_access_type"] == ["offline"]
        assert asked["code_challenge_method"] == ["S256"]
        return code or f" {server.tokens.approve(asked['code_challenge'][0])}\n"

    monkeypatch.setattr("builtins.input", approve)
    options = [
        f"--dropbox-endpoint={server.url}",
        f"--dropbox-ca-file={server.certificate}",
        f"--dropbox-token-file={token_file}",
        *more,
    ]
    done = cli.main(["auth", "dropbox", "--app-key", "fakekey", *options])
    return done, *capsys.readouterr()


def test_auth_keeps_a_refresh_token_that_opens_stores(
    dropbox_server: DropboxServer,
    token_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The file holds a refresh token and no other, and only its owner can read it."""
    code, said, complaint = run_auth(dropbox_server, token_file, monkeypatch, capsys)

    assert (code, complaint) == (0, "")
    assert str(token_file) in said
    kept = json.loads(token_file.read_text())
    assert set(kept) == {"app_key", "account_id", "refresh_token"}
    assert kept["refresh_token"] not in said
    assert token_file.stat().st_mode & 0o777 == 0o600

    async def use() -> None:
        store = open_store("dropbox:///", options_of(dropbox_server, token_file))
        await store.write("file", BytesBody(b"bytes"))
        await store.close()

    trio.run(use)


class Keyring(types.ModuleType):
    """A keyring that is unlocked, or not."""

    def __init__(self) -> None:
        super().__init__("keyring")
        self.kept: dict[tuple[str, str], str] = {}
        self.is_locked = False

    def set_password(self, service: str, name: str, password: str) -> None:
        self._check()
        self.kept[service, name] = password

    def get_password(self, service: str, name: str) -> str | None:
        self._check()
        return self.kept.get((service, name))

    def _check(self) -> None:
        if self.is_locked:
            raise RuntimeError("locked, with a secret in the text")


def test_a_token_may_be_in_the_keyring(
    dropbox_server: DropboxServer,
    token_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The file tells where it is, and no secret; what goes wrong is one sentence."""
    keyring = Keyring()
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    options = parse_options(options_of(dropbox_server, token_file))
    more = ["--keyring"]

    code, said, _ = run_auth(dropbox_server, token_file, monkeypatch, capsys, more=more)

    assert code == 0
    assert "keyring" in said
    (token,) = keyring.kept.values()
    assert token not in token_file.read_text()
    assert credentials_of(options).refresh_token == token
    keyring.is_locked = True
    with pytest.raises(CredentialsRejected, match="unlock it") as caught:
        credentials_of(options)
    assert "secret" not in str(caught.value)
    code, _, complaint = run_auth(
        dropbox_server, token_file, monkeypatch, capsys, more=more
    )
    assert (code, complaint.count("\n")) == (2, 1)
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(InvalidRequest, match="not installed"):
        credentials_of(options)


def test_a_wrong_code_keeps_nothing(
    dropbox_server: DropboxServer,
    token_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One sentence says why, and an old file stays as it is."""
    save(token_file, Credentials("fakekey", "refresh-0"))
    before = token_file.read_text()

    code, _, complaint = run_auth(
        dropbox_server, token_file, monkeypatch, capsys, code="wrong"
    )

    assert code == 2
    assert complaint.count("\n") == 1
    assert "does not take this code" in complaint
    assert token_file.read_text() == before


def test_an_app_key_and_a_service_are_checked() -> None:
    """Before anything is shown."""
    with pytest.raises(InvalidRequest, match="not the key"):
        open_authorization("dropbox", "no key")
    with pytest.raises(InvalidRequest, match="not one of dropbox"):
        open_authorization("s3", "key")


@pytest.mark.parametrize("text", ["", "[]", '{"app_key": "k"}'])
def test_a_file_without_a_token_is_no_credential(token_file: Path, text: str) -> None:
    """Each sentence says what to run; a file that others can read is refused."""
    options = parse_options({"token_file": str(token_file)})
    with pytest.raises(CredentialsRejected, match="mountfs auth dropbox"):
        credentials_of(options)
    save(token_file, Credentials("key", "token"))
    token_file.write_text(text)
    with pytest.raises(CredentialsRejected, match="mountfs auth dropbox"):
        credentials_of(options)
    token_file.chmod(0o644)
    with pytest.raises(InvalidRequest, match="chmod 600"):
        credentials_of(options)


async def test_a_token_that_ends_is_renewed_unseen(
    dropbox_server: DropboxServer, token_file: Path
) -> None:
    """An access token lasts for hours; a mount lasts for longer."""
    save(token_file, Credentials("fakekey", "refresh-0"))
    store = open_store("dropbox:///", options_of(dropbox_server, token_file))
    await store.write("file", BytesBody(b"bytes"))
    dropbox_server.tokens.expire()

    assert (await store.read("file")).data == b"bytes"

    assert dropbox_server.tokens.refreshes == 2
    await store.close()


async def test_a_revoked_token_is_told_until_there_is_another(
    dropbox_server: DropboxServer, token_file: Path
) -> None:
    """The sentence says what to run, and running it mends the open store."""
    save(token_file, Credentials("fakekey", "refresh-0"))
    store = open_store("dropbox:///", options_of(dropbox_server, token_file))
    await store.write("file", BytesBody(b"bytes"))
    dropbox_server.tokens.revoke()
    for _ in range(2):
        with pytest.raises(CredentialsRejected, match="mountfs auth dropbox") as caught:
            await store.stat("file")
        assert not caught.value.is_retryable

    dropbox_server.tokens.refresh_tokens.add("refresh-9")
    save(token_file, Credentials("fakekey", "refresh-9"))
    with pytest.raises(CredentialsRenewed):
        await store.stat("file")
    assert (await store.stat("file")).size == 5
    await store.close()


async def test_a_missing_permission_is_named(
    dropbox_server: DropboxServer, token_file: Path
) -> None:
    """Not as a wrong token, but with the box to tick."""
    save(token_file, Credentials("fakekey", "refresh-0"))
    store = open_store("dropbox:///", options_of(dropbox_server, token_file))
    dropbox_server.tokens.missing_scope = "files.content.write"

    with pytest.raises(PermissionDenied, match=r"files\.content\.write") as caught:
        await store.stat("file")

    assert not isinstance(caught.value, CredentialsRejected)
    await store.close()
