"""Signature Version 4 of a request whose payload is told by its hash.

The same bytes are signed as by botocore's `S3SigV4Auth`, and a property test holds the
two together; what is left out is all that is the same for many requests. The key
derived from the secret changes once a day.
"""

import hashlib
import hmac
import time
from collections.abc import Mapping

from botocore.credentials import ReadOnlyCredentials

from mountfs.storage.secrets import remember_secret

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


class Signer:
    """Signs for one service in one region."""

    def __init__(self, region: str, service: str) -> None:
        self._scope = f"{region}/{service}/aws4_request"
        self._derived: tuple[str, str, bytes] = ("", "", b"")

    def sign(
        self,
        credentials: ReadOnlyCredentials,
        method: str,
        target: tuple[str, str],
        headers: dict[str, str],
        payload: str,
    ) -> None:
        """Add the headers that make up the signature.

        `target` are the path and the query, both encoded, the query sorted by its
        names. All of `headers`, whose names are in lower case, are signed.
        """
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers["x-amz-date"] = moment
        headers["x-amz-content-sha256"] = payload
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
        names, request = canonical_request(method, target, headers, payload)
        day = moment[:8]
        scope = f"{day}/{self._scope}"
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"
        key = self._key(credentials.secret_key or "", day)
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}"
        )

    def _key(self, secret: str, day: str) -> bytes:
        known_secret, known_day, key = self._derived
        if (known_secret, known_day) == (secret, day):
            return key
        remember_secret(secret)
        key = f"AWS4{secret}".encode()
        for word in (day, *self._scope.split("/")):
            key = hmac.digest(key, word.encode(), "sha256")
        self._derived = (secret, day, key)
        return key


def canonical_request(
    method: str, target: tuple[str, str], headers: Mapping[str, str], payload: str
) -> tuple[str, str]:
    """Return the names of the signed headers, and the text whose hash is signed."""
    ordered = sorted(headers)
    lines = [f"{name}:{' '.join(headers[name].split())}" for name in ordered]
    names = ";".join(ordered)
    path, query = target
    return names, "\n".join([method, path, query, *lines, "", names, payload])
