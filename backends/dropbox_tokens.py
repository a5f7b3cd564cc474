"""What a store shows Dropbox to be let in, and the file that it is kept in.

The file holds a refresh token and the key of the app that it was given to, and nothing
that expires; only its owner can read it. It is read again when the token in it is
refused, so that `mountfs auth dropbox` mends a mount that is running. If the user
wants, the token itself is in the keyring of the desktop, and the file says so.
"""

import importlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mountfs.backends.dropbox_options import DropboxOptions, default_token_file
from mountfs.storage.errors import CredentialsRejected, InvalidRequest
from mountfs.storage.secrets import remember_secret

RUN_AUTH = "run `mountfs auth dropbox`"
_SERVICE = "mountfs"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A token that is renewed by its app, or one that just lasts for hours."""

    app_key: str | None = None
    refresh_token: str | None = field(default=None, repr=False)
    access_token: str | None = field(default=None, repr=False)
    account_id: str | None = None
    """Whose it is, if that was told."""


def credentials_of(options: DropboxOptions) -> Credentials:
    """Return what to show. Raises `CredentialsRejected` if there is nothing."""
    if options.access_token is not None:
        remember_secret(options.access_token)
        return Credentials(access_token=options.access_token)
    path = token_path(options)
    try:
        with path.open("rb") as file:
            _check_private(path, os.fstat(file.fileno()).st_mode)
            return _parsed(path, file.read())
    except FileNotFoundError as error:
        raise CredentialsRejected(f"there is no {path}: {RUN_AUTH}") from error
    except OSError as error:
        raise CredentialsRejected(
            f"{path} cannot be read ({error.strerror}): {RUN_AUTH}"
        ) from error


def token_path(options: DropboxOptions) -> Path:
    """Return where the credentials are kept."""
    if options.token_file is not None:
        return Path(options.token_file)
    return default_token_file(os.environ)


def account_of(options: DropboxOptions) -> str:
    """Return what all that use the same account have in common, as far as is known."""
    if options.access_token is not None:
        return options.access_token
    path = token_path(options)
    with suppress(OSError, ValueError):
        known = json.loads(path.read_bytes())
        if isinstance(known, dict) and known.get("account_id"):
            return str(known["account_id"])
    return str(path)


def save(path: Path, credentials: Credentials, *, in_keyring: bool = False) -> None:
    """Keep credentials in a file of mode 0600, in place of those that are there.

    With `in_keyring` the token goes there, and the file tells under which name.
    Raises `InvalidRequest` if there is no keyring that takes it.
    """
    kept = {"app_key": credentials.app_key}
    if credentials.account_id is not None:
        kept["account_id"] = credentials.account_id
    if in_keyring:
        name = f"dropbox {credentials.account_id or credentials.app_key}"
        _put_into_keyring(name, credentials.refresh_token or "")
        kept["keyring"] = name
    else:
        kept["refresh_token"] = credentials.refresh_token
    text = json.dumps(kept)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    # A crash before the rename leaves the old file and one beside it of mode 0600.
    with os.fdopen(fd, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _check_private(path: Path, mode: int) -> None:
    if mode & 0o077:
        raise InvalidRequest(f"others can read {path}: run `chmod 600` on it")


def _parsed(path: Path, raw: bytes) -> Credentials:
    try:
        known = json.loads(raw)
    except ValueError:
        known = None
    match known:
        case {"app_key": str(app_key), "refresh_token": str(token)}:
            remember_secret(token)
            return Credentials(app_key=app_key, refresh_token=token)
        case {"app_key": str(app_key), "keyring": str(name)}:
            token = _from_keyring(name)
            remember_secret(token)
            return Credentials(app_key=app_key, refresh_token=token)
        case {"access_token": str(token)}:
            remember_secret(token)
            return Credentials(access_token=token)
        case _:
            raise CredentialsRejected(f"{path} holds no token: {RUN_AUTH}")


def _keyring() -> Any:
    """Return the library that knows the keyrings, which only those need who use one."""
    try:
        return importlib.import_module("keyring")
    except ImportError as error:
        raise InvalidRequest(
            "the token is to be in a keyring, and the Python package `keyring` is not"
            " installed"
        ) from error


def _put_into_keyring(name: str, token: str) -> None:
    keyring = _keyring()
    try:
        keyring.set_password(_SERVICE, name, token)
    except Exception as error:  # each keyring has errors of its own
        raise InvalidRequest(
            f"the keyring did not take the token: {type(error).__name__}"
        ) from error


def _from_keyring(name: str) -> str:
    keyring = _keyring()
    try:
        token = keyring.get_password(_SERVICE, name)
    except Exception as error:  # each keyring has errors of its own
        raise CredentialsRejected(
            f"the keyring did not give the token ({type(error).__name__}): unlock it,"
            f" or {RUN_AUTH}"
        ) from error
    if not token:
        raise CredentialsRejected(f"the keyring has no {name!r}: {RUN_AUTH}")
    return str(token)
