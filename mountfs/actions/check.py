"""`mountfs check`: compare what is kept here and in the store; mend what can be mended.

A mount that is there does it itself, since it alone may look into its directories.
Otherwise it is done here, with the directories locked meanwhile.
"""

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

import trio

from mountfs import control, mounts
from mountfs.actions.waiting import carry_out
from mountfs.backends import open_store
from mountfs.cache.directory import DirectoryInUse, DirectoryLock
from mountfs.configuration.config import MountConfig, identity_of
from mountfs.control import Request
from mountfs.errors import UsageError
from mountfs.sentences import sentence_about
from mountfs.serving.audit import audit_of
from mountfs.status import Outcome
from mountfs.storage.errors import StoreError
from mountfs.storage.limit import Limits, LimitStorager
from mountfs.storage.vetted import VettedStorager
from mountfs.terminal import plain


def check_mount(
    directory: str, *, is_repair: bool, out: TextIO, as_json: bool = False
) -> int:
    """Let a mount check itself; return the exit code: 1 if anything is wrong.

    Raises `UsageError` if the directory is in no mount of ours.
    """
    found = mounts.find_ours(directory)
    if found is None:
        raise UsageError(
            f"{directory} is not in a mount of mountfs: name one, or the URL of a store"
        )
    entry = found[0]
    socket = control.socket_path(entry.mount_point, uid=entry.user_id)
    request = Request("check", is_repair=is_repair)
    # What is shown meanwhile is no part of an answer for programs.
    outcome = carry_out(
        socket, entry.mount_point, request, sys.stderr if as_json else out
    )
    return _told(outcome, out, as_json=as_json)


def check_store(
    config: MountConfig, *, is_repair: bool, out: TextIO, as_json: bool = False
) -> int:
    """Check a store that is not mounted here; return the exit code."""
    with ExitStack() as locks:
        for directory in (config.state_dir, config.cache_dir):
            _lock(locks, config, directory / identity_of(config))
        try:
            outcome = trio.run(_check, config, is_repair)
        except StoreError as error:
            raise UsageError(sentence_about(config.url, error)) from error
    return _told(outcome, out, as_json=as_json)


async def _check(config: MountConfig, is_repair: bool) -> Outcome:
    store = VettedStorager(open_store(config.url, config.store_options))
    try:
        limited = LimitStorager(store, Limits())
        made = audit_of(limited, config, identity_of(config), is_in_use=False)
        return await made.answer(is_repair=is_repair)
    finally:
        await store.close()


def _lock(locks: ExitStack, config: MountConfig, directory: Path) -> None:
    if not directory.is_dir():
        return
    try:
        locks.enter_context(DirectoryLock(directory))
    except DirectoryInUse as error:
        raise UsageError(
            f"{config.url} is mounted by process {error.owner}: name its mount point"
        ) from error
    except OSError as error:
        raise UsageError(f"cannot use {directory}: {error.strerror}") from error


def _told(outcome: Outcome, out: TextIO, *, as_json: bool) -> int:
    if outcome.error is not None:
        raise UsageError(outcome.error)
    if as_json:
        out.write(json.dumps(outcome.told, indent=2) + "\n")
    else:
        out.writelines(f"{plain(line)}\n" for line in outcome.lines)
    return outcome.code
