"""What is wrong with a store, as one sentence for the user of the command.

The stores speak of parameters (`endpoint_url`) and name keys and codes, for programs
and logs. Here that becomes options and what to do.
"""

import re

from mountfs.configuration.options import OPTIONS
from mountfs.storage.errors import (
    BucketNotFound,
    CredentialsRejected,
    InvalidRequest,
    PermissionDenied,
    StoreError,
    Unreachable,
)

NEEDED = {
    "s3": "docs/how-to/s3-credentials.md",
    "gs": "docs/how-to/google-cloud-storage.md",
    "dropbox": "docs/how-to/dropbox.md",
}
_PARAMETERS = {
    parameter: option.name
    for option in OPTIONS
    if option.is_for_store and "_" in (parameter := option.store_name or option.field)
}
"""Parameters of stores that cannot be mistaken for a word, and their options."""


def sentence_about(url: str, error: StoreError) -> str:
    """Return why the store at `url` cannot be used, and what to do about it."""
    reason = reason_of(error)
    needed = NEEDED.get(url.partition("://")[0], NEEDED["s3"])
    match error:
        case BucketNotFound():
            return (
                f"{url}: the bucket or directory does not exist ({reason}): create it,"
                " or check the name and --endpoint-url"
            )
        case CredentialsRejected():
            return f"{url}: {reason} (see {needed})"
        case PermissionDenied():
            return f"{url} may not be listed ({reason}): {needed} names what is needed"
        case Unreachable():
            return (
                f"{url}: the store cannot be reached ({reason}): check the network and"
                " --endpoint-url"
            )
        case InvalidRequest():
            return f"{url}: {reason}"
        case _:
            return (
                f"{url}: the store failed ({reason}): check --endpoint-url, or try"
                " again later"
            )


def reason_of(error: StoreError) -> str:
    """Return what the store said, in the words of the command line."""
    words = "|".join(map(re.escape, _PARAMETERS))
    return re.sub(
        rf"(?<![\w-])({words})(?!\w)",
        lambda found: f"--{_PARAMETERS[found[1]]}",
        error.reason.rstrip("."),
    )
