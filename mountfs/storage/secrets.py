"""What is secret, so that no text for people carries it.

Who reads a secret remembers it here; what writes text (`mountfs.logs`) blots it out,
however it got there: in the message of a foreign library, a URL, a traceback. Patterns
find what looks like a secret and was read by nobody here: a signature, a header that a
service sends back.
"""

import re
from collections import OrderedDict
from urllib.parse import quote

BLOT = "[redacted]"
KEPT_MAX = 64
"""So many are remembered, the newest: credentials are renewed for years."""
SHORTEST = 8
"""What is shorter would be found in innocent words."""

# What an AWS signature, an access key, a bearer token or our own options look like in
# the text of a foreign library's message. What is kept is the name of the thing.
_NAMED = r"""
    Signature= | Credential= | X-(?:Amz|Goog)-Signature= | X-(?:Amz|Goog)-Credential=
  | X-Amz-Security-Token['"]? \s*[=:]\s* b?['"]?
  | server-side-encryption-customer-key['"]? \s*[=:]\s* b?['"]?
  | SSECustomerKey['"]? \s*[=:]\s* b?['"]?
  | x-goog-(?:copy-source-)?encryption-key['"]? \s*[=:]\s* b?['"]?
  | (?:aws_?)?secret_?(?:access_?)?key['"]? \s*[=:]\s* ['"]?
  | (?:aws_?)?session_?token['"]? \s*[=:]\s* ['"]?
  | (?:refresh|access|id)_token['"]? \s*[=:]\s* ['"]?
  | (?:client|app)_secret['"]? \s*[=:]\s* ['"]?
  | private_key['"]? \s*[=:]\s* ['"]?
  | pass(?:word|wd|phrase)['"]? \s*[=:]\s* ['"]?
  | Bearer\s+ | Authorization['"]? \s*[=:]\s* b?['"]? Basic\s+
  | ://(?=[^/\s@]+@)
"""
SECRETS = re.compile(
    rf"(?P<name>{_NAMED})[^\s,;&'\"@]+"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b"
    r"|-----BEGIN\ [A-Z ]*PRIVATE\ KEY-----.*?(?:-----END\ [A-Z ]*KEY-----|$)",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_SIGNS = (
    *("signature", "credential", "security-token", "customer-key", "customerkey"),
    *("encryption-key", "secret", "session", "_token", "private", "pass", "bearer"),
    *("authorization", "@", "akia", "asia"),
)
"""Without one of these in it a text has nothing for the patterns, which take long."""

_known: OrderedDict[str, None] = OrderedDict()


def remember_secret(*secrets: str | None) -> None:
    """Blot these out from now on, plain and as they stand in a URL."""
    for secret in secrets:
        if secret is None or len(secret) < SHORTEST or secret in _known:
            continue
        for form in (secret, quote(secret, safe="")):
            _known[form] = None
            _known.move_to_end(form)
    while len(_known) > KEPT_MAX:
        _known.popitem(last=False)


def blotted(text: str) -> str:
    """Return the text without the secrets that are remembered."""
    for secret in tuple(_known):
        if secret in text:
            text = text.replace(secret, BLOT)
    return text


def redact(text: str) -> str:
    """Return the text with all that is or looks like a credential blotted out."""
    text = blotted(text)
    lowered = text.lower()
    if not any(sign in lowered for sign in _SIGNS):
        return text
    return SECRETS.sub(lambda found: f"{found['name'] or ''}{BLOT}", text)
