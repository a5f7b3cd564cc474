"""`mountfs recover`: what earlier mounts left in a state directory, and saving it.

Looks first, explains, and changes something only when told to with `--yes`. The state
directory is locked meanwhile, so that no mount works in it.
"""

import io
import json
import os
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

import trio

from mountfs.backends import open_store
from mountfs.cache import salvage
from mountfs.cache.directory import DirectoryInUse, DirectoryLock
from mountfs.cache.salvage import Kept, Left
from mountfs.configuration.config import MountConfig, identity_of
from mountfs.configuration.values import format_size
from mountfs.errors import UsageError
from mountfs.storage.attempts import RetryPolicy
from mountfs.storage.errors import StoreError
from mountfs.storage.protocol import Storager
from mountfs.storage.retry import RetryStorager
from mountfs.terminal import plain

EXIT_LEFT = 1
READ_SIZE = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be done besides looking."""

    export: Path | None = None
    drop: tuple[str, ...] = ()
    is_rescue: bool = False
    is_agreed: bool = False


def state_dir_of(config: MountConfig) -> Path:
    """Return the state directory of a store."""
    return config.state_dir / identity_of(config)


def state_dirs(place: Path) -> list[Path]:
    """Return the state directories at or just below a path. Raises `UsageError`."""
    found = _found_in(place)
    if not found:
        raise UsageError(
            f"{place} holds no state of a mount: name the URL of the store, its"
            " mount, or the directory that a journal.sqlite lies in"
        )
    return found


def holds_state(place: Path) -> bool:
    """Tell whether there are state directories at or just below a path."""
    return bool(_found_in(place))


def _found_in(place: Path) -> list[Path]:
    return [each for each in (place, *sorted(place.glob("*"))) if _is_one(each)]


def _is_one(place: Path) -> bool:
    return (place / salvage.JOURNAL).exists() or (place / "spool").is_dir()


def recover(
    directories: Sequence[Path],
    wanted: Wanted,
    store: MountConfig | None,
    out: TextIO,
    *,
    as_json: bool = False,
) -> int:
    """Look at each state directory, and do what is wanted; return the exit code.

    0: nothing is left, or all of it was saved as was wanted; 1: something is left, or
    an export has gaps. Raises `UsageError` for what cannot be done.
    """
    with ExitStack() as locks:
        for directory in directories:
            _lock(locks, directory)
        if as_json:
            codes = _recover_for_programs(directories, wanted, store, out)
        else:
            codes = [_recover(each, wanted, store, out) for each in directories]
    return max(codes, default=os.EX_OK)


def _lock(locks: ExitStack, directory: Path) -> None:
    if not directory.is_dir():
        return  # nothing was ever left there
    try:
        locks.enter_context(DirectoryLock(directory))
    except DirectoryInUse as error:
        raise UsageError(
            f"{directory} is in use by process {error.owner}: unmount that first, or"
            " ask it with `mountfs status`"
        ) from error
    except OSError as error:
        raise UsageError(f"cannot use {directory}: {error.strerror}") from error


def _recover(
    directory: Path, wanted: Wanted, store: MountConfig | None, out: TextIO
) -> int:
    left = salvage.look(directory)
    _say(out, _title(directory))
    _list(left, out)
    code = EXIT_LEFT if left.kept or left.damage else os.EX_OK
    if wanted.export is not None:
        code = _export(left, wanted.export, store, out)
    if wanted.is_rescue:
        code = _rescue(directory, left, wanted, out)
    for name in wanted.drop:
        code = _drop(directory, left, name, wanted, out)
    return code


def _recover_for_programs(
    directories: Sequence[Path], wanted: Wanted, store: MountConfig | None, out: TextIO
) -> list[int]:
    """Do the same, and print as JSON what was there before, and what was said."""
    told: list[dict[str, object]] = []
    codes: list[int] = []
    for directory in directories:
        left, said = salvage.look(directory), io.StringIO()
        codes.append(_recover(directory, wanted, store, said))
        told.append(
            {
                "state_dir": str(directory),
                "url": _url(directory),
                "damage": left.damage,
                "renames": left.renames,
                "kept": [
                    {
                        "name": kept.name,
                        "path": kept.key,
                        "what": kept.what,
                        "size": kept.size if kept.has_bytes else None,
                        "reason": kept.reason or None,
                    }
                    for kept in left.kept
                ],
                "exit_code": codes[-1],
                "messages": said.getvalue().splitlines(),
            }
        )
    out.write(json.dumps(told, indent=2) + "\n")
    return codes


# --- looking ------------------------------------------------------------------------


def _title(directory: Path) -> str:
    return f"{directory}, of {_url(directory) or 'an unknown store'}"


def _url(directory: Path) -> str | None:
    try:
        return (directory / "url").read_text().strip()
    except (OSError, ValueError):
        return None


def _list(left: Left, out: TextIO) -> None:
    if left.damage is not None:
        _say(out, f"  No mount takes its journal: {left.damage}.")
        _say(out, "  --rescue puts a new one in its place, with what can be read.")
    if left.renames:
        _say(out, f"  {left.renames} renames that the next mount finishes")
    for kept in left.kept:
        size = f", {format_size(kept.size)}" if kept.has_bytes else ""
        reason = f": {kept.reason}" if kept.reason else ""
        _say(out, f"  {kept.name}  {kept.key}: {kept.what}{size}{reason}")
    if not left.kept and left.damage is None:
        _say(out, "  Nothing is left.")
    waiting = [kept for kept in left.kept if not _is_orphan(kept)]
    if left.damage is None and not all(kept.is_local_only for kept in waiting):
        _say(out, "  The next mount of this store sends what it can of this.")
    if left.damage is None and any(kept.is_local_only for kept in waiting):
        _say(out, "  What is local-only stays, for the next mount with its patterns.")


# --- exporting ----------------------------------------------------------------------


def _export(left: Left, target: Path, config: MountConfig | None, out: TextIO) -> int:
    files = [kept for kept in left.kept if kept.has_bytes]
    try:
        target.mkdir(parents=True, exist_ok=True)
        whole = [
            trio.run(_export_file, kept, _free_name(target, kept), config, out)
            for kept in files
        ]
    except OSError as error:
        raise UsageError(
            f"cannot write to {error.filename or target}: {error.strerror}"
        ) from error
    _say(out, f"  {len(files)} files are in {target}; what was kept is still kept.")
    return os.EX_OK if all(whole) else EXIT_LEFT


def _free_name(target: Path, kept: Kept) -> Path:
    """Return where a file goes: under its key, if that is a path within the target."""
    parts = [part for part in kept.key.split("/") if part not in ("", ".", "..")]
    text = "/".join(parts).replace("\0", "%00") or kept.name
    place, number = target / text, 1
    while place.exists() or place.is_symlink():
        number += 1
        place = target / f"{text} ({number})"
    return place


async def _export_file(
    kept: Kept, place: Path, config: MountConfig | None, out: TextIO
) -> bool:
    """Write one file; return whether every byte of it is there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    missing = list(kept.elsewhere)
    with place.open("xb") as file:
        file.truncate(kept.size)
        for offset, piece in kept.pieces():
            file.seek(offset)
            file.write(piece)
        if kept.gaps:
            async with AsyncExitStack() as stack:
                store = await _opened(stack, config)
                for start, end in kept.gaps:
                    if not await _fetch(store, kept, start, end, file):
                        missing.append((start, end))
        file.flush()
        os.fsync(file.fileno())
    _say(out, f"  {kept.name}  is {place}")
    for start, end in missing:
        _say(
            out,
            f"    bytes {start} to {end} are missing (zeros): {_whose(kept, start)}",
        )
    return not missing


async def _opened(stack: AsyncExitStack, config: MountConfig | None) -> Storager | None:
    if config is None:
        return None
    try:
        store = open_store(config.url, config.store_options)
    except StoreError:
        return None
    stack.push_async_callback(store.close)
    return RetryStorager(store, RetryPolicy(attempts=3))


async def _fetch(
    store: Storager | None, kept: Kept, start: int, end: int, file: BinaryIO
) -> bool:
    base = kept.base
    if store is None or base is None or base.version is None:
        return False
    try:
        for offset in range(start, end, READ_SIZE):
            size = min(READ_SIZE, end - offset)
            content = await store.read(base.key, offset, size, version=base.version)
            file.seek(offset)
            file.write(content.data)
    except StoreError:
        return False
    return True


def _whose(kept: Kept, start: int) -> str:
    if any(first <= start < end for first, end in kept.elsewhere):
        return "they are in an upload that was not finished; mount the store to go on"
    base = kept.base
    version = base.version.content if base and base.version else "?"
    key = base.key if base is not None else kept.key
    return f"they are those of version {version} of {key} in the store; name its URL"


# --- changing -----------------------------------------------------------------------


def _rescue(directory: Path, left: Left, wanted: Wanted, out: TextIO) -> int:
    if left.damage is None:
        _say(out, "  The journal is in order: there is nothing to rescue.")
        return EXIT_LEFT if left.kept else os.EX_OK
    orphans = sum(map(_is_orphan, left.kept))
    _say(
        out,
        f"  A new journal gets the {len(left.kept) - orphans} entries that can be read;"
        f" {orphans} files without an entry go to {directory / salvage.ORPHANS}; the"
        " old journal is kept. Renames that cannot be read stay half done.",
    )
    if not wanted.is_agreed:
        _say(out, "  Nothing was changed: say --yes to do it.")
        return EXIT_LEFT
    old = salvage.rescue(directory, time.strftime("%Y%m%d-%H%M%S"))
    _say(out, f"  Done; the old journal is {old}.")
    return os.EX_OK


def _drop(directory: Path, left: Left, name: str, wanted: Wanted, out: TextIO) -> int:
    found = next((kept for kept in left.kept if kept.name == name), None)
    if found is None:
        raise UsageError(f"nothing is kept under the name {name} in {directory}")
    if left.damage is not None and not _is_orphan(found):
        raise UsageError("the journal must be rescued first: see --rescue")
    _say(
        out,
        f"  {name} is given up for good: {found.what}, of {found.key}. The store keeps"
        " what it has under that key; changes that build on this one may fail.",
    )
    if not wanted.is_agreed:
        _say(out, "  Nothing was changed: say --yes to do it, and --export to save it.")
        return EXIT_LEFT
    salvage.drop(directory, found)
    _say(out, "  Done.")
    return os.EX_OK


def _is_orphan(kept: Kept) -> bool:
    return kept.name.startswith("orphan-")


def _say(out: TextIO, text: str) -> None:
    out.write(f"{plain(text)}\n")
