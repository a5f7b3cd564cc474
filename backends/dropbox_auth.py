"""How a user lets mountfs into a Dropbox: OAuth with PKCE, which needs no secret.

The user opens a URL, allows the app, and brings back a code; that becomes a refresh
token, which is all that is kept.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path

import requests
from dropbox import DropboxOAuth2FlowNoRedirect

from mountfs.backends.dropbox_answers import can_be_token, understood
from mountfs.backends.dropbox_client import session_for
from mountfs.backends.dropbox_errors import translated
from mountfs.backends.dropbox_options import parse_options
from mountfs.backends.dropbox_tokens import Credentials, save, token_path
from mountfs.storage.errors import CredentialsRejected, InvalidRequest, StoreError

_ASKED_S = 30.0


class DropboxAuthorization:
    """One run of the flow: `url` is to be opened, and `finish` takes the code."""

    def __init__(
        self, app_key: str, options: Mapping[str, object], *, in_keyring: bool = False
    ) -> None:
        """Nothing is sent. Raises `InvalidRequest`."""
        if not app_key.isalnum():
            raise InvalidRequest(
                f"{app_key!r} is not the key of an app: it is in the app console"
            )
        known = parse_options(options)
        self._app_key, self._in_keyring = app_key, in_keyring
        self._path = token_path(known)
        self._flow = DropboxOAuth2FlowNoRedirect(
            app_key,
            use_pkce=True,
            token_access_type="offline",  # noqa: S106  # no secret: it asks for one
            timeout=_ASKED_S,
        )
        self._session = self._flow.requests_session = session_for(known)

    @property
    def url(self) -> str:
        """What the user opens, in any browser."""
        return str(self._flow.start())

    def finish(self, code: str) -> Path:
        """Turn the code into a token and keep it; return the file. Blocks.

        Raises `CredentialsRejected` for a wrong code, `Unreachable`, `StoreError` if
        the file cannot be written.
        """
        try:
            with contextlib.closing(self._session), translated(), understood():
                given = self._flow.finish(code.strip())
        except StoreError as error:
            cause = error.__cause__
            if isinstance(cause, requests.HTTPError) and _is_refusal(cause):
                raise CredentialsRejected(
                    "Dropbox does not take this code: it is good once, for some"
                    " minutes, and for the URL that was shown with it"
                ) from error
            raise
        if not can_be_token(given.refresh_token):
            raise CredentialsRejected("Dropbox gave no token that lasts")
        kept = Credentials(
            app_key=self._app_key,
            refresh_token=given.refresh_token,
            account_id=given.account_id if can_be_token(given.account_id) else None,
        )
        try:
            save(self._path, kept, in_keyring=self._in_keyring)
        except OSError as error:
            raise InvalidRequest(
                f"cannot write {error.filename} ({error.strerror}); name another"
                " token_file"
            ) from error
        return self._path


def _is_refusal(error: requests.HTTPError) -> bool:
    return error.response is not None and 400 <= error.response.status_code < 500
