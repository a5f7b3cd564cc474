"""Signature Version 4 of a request whose payload is told by its hash.

The same bytes are signed as by botocore's `S3SigV4Auth`, and a property test holds the
two together. The key derived from the secret changes once a day.
"""

import hashlib
import hmac
import time

from botocore.credentials import ReadOnlyCredentials

from mountfs.storage.secrets import remember_secret

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"


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
        names = sorted(headers)
        lines = [f"{name}:{' '.join(headers[name].split())}" for name in names]
        signed = ";".join(names)
        request = "\n".join([method, *target, *lines, "", signed, payload])
        scope = f"{moment[:8]}/{self._scope}"
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"
        key = self._key(credentials.secret_key or "", scope)
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={signed}, "
            f"Signature={hmac.digest(key, text.encode(), 'sha256').hex()}"
        )

    def _key(self, secret: str, scope: str) -> bytes:
        known_secret, known_scope, key = self._derived
        if (known_secret, known_scope) == (secret, scope):
            return key
        remember_secret(secret)
        key = f"AWS4{secret}".encode()
        for word in scope.split("/"):
            key = hmac.digest(key, word.encode(), "sha256")
        self._derived = (secret, scope, key)
        return key
