"""Commands that ask one mount one question, and print what it answers."""

import json
import os
from typing import TextIO

from mountfs import control, mounts
from mountfs.control import Request
from mountfs.errors import UsageError
from mountfs.status import Outcome
from mountfs.terminal import plain


def show(directory: str, request: Request, *, as_json: bool, out: TextIO) -> int:
    """Print what the mount of a directory answers; return the exit code.

    Raises `UsageError` if it is in no mount of ours, or nobody answers there.
    """
    outcome = ask(directory, request)
    if outcome.error is not None:
        raise UsageError(outcome.error)
    if as_json:
        out.write(f"{json.dumps(outcome.told, indent=2)}\n")
    else:
        out.writelines(f"{plain(line)}\n" for line in outcome.lines)
    return outcome.code or os.EX_OK


def ask(directory: str, request: Request) -> Outcome:
    """Return what the mount of a directory answers. Raises `UsageError`."""
    found = mounts.find_ours(directory)
    if found is None:
        raise UsageError(f"{directory} is not in a mount of mountfs")
    entry = found[0]
    socket = control.socket_path(entry.mount_point, uid=entry.user_id)
    try:
        for said in control.carry_out(socket, request):
            if isinstance(said, Outcome):
                return said
    except TimeoutError as error:
        raise UsageError(
            f"the daemon of {entry.mount_point} does not answer; its log may say why"
        ) from error
    raise UsageError(
        f"nobody serves {entry.mount_point}, or its daemon is of an older version:"
        " mount it again"
    )
