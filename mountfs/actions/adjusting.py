"""`mountfs set`: change settings of a mount while it lives."""

import os
from collections.abc import Sequence
from typing import TextIO

from mountfs import control, mounts
from mountfs.actions.waiting import carry_out
from mountfs.control import Request
from mountfs.errors import EXIT_FAILED, UsageError
from mountfs.terminal import plain


def adjust(directory: str, pairs: Sequence[str], *, out: TextIO, errors: TextIO) -> int:
    """Set these in the mount of a directory, all or none; return the exit code.

    Without any, tell what could be set. Raises `UsageError` for what cannot.
    """
    place = mounts.find_ours(directory)
    if place is None:
        raise UsageError(
            f"{directory} is not in a mount of mountfs: name a path in one"
        )
    entry = place[0]
    request = Request("set", settings=read_pairs(pairs))
    socket = control.socket_path(entry.mount_point, uid=entry.user_id)
    outcome = carry_out(socket, entry.mount_point, request, errors)
    for line in outcome.lines:
        out.write(f"{plain(line)}\n")
    if outcome.error is None:
        return os.EX_OK
    errors.write(f"mountfs: {plain(outcome.error)}\n")
    return outcome.code or EXIT_FAILED


def read_pairs(pairs: Sequence[str]) -> dict[str, str]:
    """Return what is to be set, by name. Raises `UsageError`."""
    settings: dict[str, str] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"{pair!r} sets nothing: write NAME=VALUE, as in ttl=10s")
        settings[name.removeprefix("--")] = text
    return settings
