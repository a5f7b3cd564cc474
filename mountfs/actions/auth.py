"""`mountfs auth`: let mountfs into an account that no other tool has credentials of.

It asks, tells and keeps nothing itself: the store's own authorization does.
"""

from collections.abc import Callable, Mapping
from typing import TextIO

from mountfs.backends import open_authorization
from mountfs.errors import UsageError
from mountfs.sentences import reason_of
from mountfs.storage.errors import StoreError


def authorize(
    service: str,
    app_key: str,
    options: Mapping[str, object],
    *,
    in_keyring: bool = False,
    ask: Callable[[str], str],
    out: TextIO,
) -> int:
    """Show the URL, take the code, say where the token is. Raises `UsageError`."""
    try:
        flow = open_authorization(service, app_key, options, in_keyring=in_keyring)
        out.write(f"Open this in a browser, and allow the app:\n\n  {flow.url}\n\n")
        out.flush()
        code = ask("The code that it shows: ").strip()
        if not code:
            raise UsageError("no code was given, and nothing was kept")
        path = flow.finish(code)
    except StoreError as error:
        raise UsageError(f"{service}: {reason_of(error)}") from error
    except EOFError as error:
        raise UsageError("no code was given, and nothing was kept") from error
    where = "Kept in the keyring; where, is told by" if in_keyring else "Kept in"
    out.write(f"{where} {path}, which only you can read.\n")
    return 0
