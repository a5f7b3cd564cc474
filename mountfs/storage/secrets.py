"""The secrets that this process has read, so that no text for people carries one.

Who reads a secret remembers it here; what writes text (`mountfs.logs`) blots it out,
however it got there: in the message of a foreign library, a URL, a traceback. Patterns
alone would know only what looks like a secret.
"""

from collections import OrderedDict
from urllib.parse import quote

BLOT = "[redacted]"
KEPT_MAX = 64
"""So many are remembered, the newest: credentials are renewed for years."""
SHORTEST = 8
"""What is shorter would be found in innocent words."""

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
