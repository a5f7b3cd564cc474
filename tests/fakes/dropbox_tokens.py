"""Tokens of the fake Dropbox: OAuth with PKCE, refresh, expiry, revocation, scopes.

[auth] https://developers.dropbox.com/oauth-guide and
https://www.dropbox.com/developers/documentation/http/documentation#oauth2-token
"""

import base64
import hashlib
import itertools
import time
from collections.abc import Mapping

LIFE_S = 14_400
"""[auth] "expires_in" of a short-lived token, as the guide shows it."""


class Refused(Exception):
    """An answer that is not 200, with its status and its JSON."""

    def __init__(self, status: int, body: Mapping[str, object]) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


class Tokens:
    """What an app with one key and one user has been given."""

    def __init__(self, app_key: str = "fakekey") -> None:
        self.app_key = app_key
        self.codes: dict[str, str] = {}
        """The PKCE challenge of each code that was not used yet."""
        self.refresh_tokens: set[str] = {"refresh-0"}
        self.access_tokens: dict[str, float] = {}
        """When each ends."""
        self.life_s = float(LIFE_S)
        self.missing_scope: str | None = None
        self.refreshes = 0
        self._numbers = itertools.count(1)

    def approve(self, challenge: str) -> str:
        """Return the code that a user is shown who has approved the app."""
        code = f"code-{next(self._numbers)}"
        self.codes[code] = challenge
        return code

    def new_access_token(self) -> str:
        """Return a token that is good for its life."""
        token = f"sl.fake-{next(self._numbers)}"
        self.access_tokens[token] = time.time() + self.life_s
        return token

    def expire(self) -> None:
        """End every access token."""
        self.access_tokens = dict.fromkeys(self.access_tokens, 0.0)

    def revoke(self) -> None:
        """Take back all tokens, as a user does who disconnects the app."""
        self.access_tokens.clear()
        self.refresh_tokens.clear()

    def exchange(self, form: Mapping[str, str]) -> dict[str, object]:
        """[auth] /oauth2/token. Raises `Refused`."""
        if form.get("client_id") != self.app_key:
            raise _bad("invalid_client", "Invalid client_id or client_secret")
        match form.get("grant_type"):
            case "authorization_code":
                return self._of_code(form)
            case "refresh_token":
                return self._of_refresh_token(form)
            case _:
                raise _bad("unsupported_grant_type", "unknown grant type")

    def check(self, authorization: str) -> None:
        """Raise `Refused` unless a request carries a good token."""
        token = authorization.removeprefix("Bearer ")
        ends = self.access_tokens.get(token)
        if ends is None:
            raise _unauthorized("invalid_access_token")
        if ends <= time.time():
            raise _unauthorized("expired_access_token")
        if self.missing_scope is not None:
            raise _unauthorized("missing_scope", required_scope=self.missing_scope)

    def _of_code(self, form: Mapping[str, str]) -> dict[str, object]:
        challenge = self.codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        proven = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if challenge is None or challenge != proven:
            raise _bad("invalid_grant", "code doesn't exist or has expired")
        refresh_token = f"refresh-{next(self._numbers)}"
        self.refresh_tokens.add(refresh_token)
        return {**self._given(), "refresh_token": refresh_token}

    def _of_refresh_token(self, form: Mapping[str, str]) -> dict[str, object]:
        if form.get("refresh_token") not in self.refresh_tokens:
            raise _bad("invalid_grant", "refresh token is invalid or revoked")
        self.refreshes += 1
        return self._given()

    def _given(self) -> dict[str, object]:
        return {
            "access_token": self.new_access_token(),
            "token_type": "bearer",
            "expires_in": int(self.life_s),
            "account_id": "dbid:fake",
            "uid": "1",
            "scope": "files.content.read files.content.write",
        }


def _bad(error: str, description: str) -> Refused:
    return Refused(400, {"error": error, "error_description": description})


def _unauthorized(tag: str, **value: str) -> Refused:
    error = {".tag": tag, **value}
    return Refused(401, {"error_summary": f"{tag}/..", "error": error})
