"""What a daemon tells of itself for `mountfs bundle`: what no other question shows.

No names of files are in here: frames are told without their variables, and what waits
is counted.
"""

import os
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import trio

from mountfs.configuration.config import MountConfig
from mountfs.configuration.options import OPTIONS
from mountfs.configuration.shown import shown
from mountfs.storage.secrets import redact
from mountfs.vfs.filesystem import FileSystem

DEPTH_MAX = 40
TASKS_MAX = 500


def dump(
    config: MountConfig, filesystem: FileSystem, log_file: Path | None
) -> dict[str, object]:
    """Return it; on the trio thread, in a moment."""
    return {
        "pid": os.getpid(),
        "log_file": str(log_file) if log_file is not None else None,
        "cache_dir": str(config.cache_dir),
        "state_dir": str(config.state_dir),
        "config": _settings(config),
        "journal": _journal(filesystem),
        "tasks": list(_tasks()),
        "threads": list(_threads()),
    }


def _settings(config: MountConfig) -> dict[str, dict[str, str | None]]:
    """Return each option with its value, and who gave it."""
    told: dict[str, dict[str, str | None]] = {}
    for option in OPTIONS:
        given = config.found.settings.get(option.field)
        if option.is_for_store:
            value = given.text if given is not None else None
        else:
            value = shown(config, option.field)
        told[option.name] = {
            "value": redact(value) if value is not None else None,
            "source": redact(given.source) if given is not None else "default",
        }
    return told


def _journal(filesystem: FileSystem) -> dict[str, object]:
    volume = filesystem.volume
    waiting = volume.waiting()
    files = volume.writeback.pending()
    kinds = Counter(type(each.change).__name__ for each in waiting)
    return {
        "changes_by_kind": dict(kinds),
        "changes_with_errors": sum(each.error is not None for each in waiting),
        "changes_bytes": sum(each.size for each in waiting),
        "files": len(files),
        "files_with_errors": sum(each.error is not None for each in files),
        "files_bytes": sum(each.size for each in files),
    }


# --- what it does just now ----------------------------------------------------------


def _tasks() -> Iterator[str]:
    """Yield each task of trio, below the one that waits for it, and where it stands."""
    root = trio.lowlevel.current_root_task()
    waiting = [(root, 0)] if root is not None else []
    for _ in range(TASKS_MAX):
        if not waiting:
            return
        task, depth = waiting.pop()
        indent = "  " * depth
        yield f"{indent}{task.name}"
        for frame, line in list(task.iter_await_frames())[-DEPTH_MAX:]:
            code = frame.f_code
            yield f"{indent}    {_short(code.co_filename)}:{line} {code.co_name}"
        children = [
            child for nursery in task.child_nurseries for child in nursery.child_tasks
        ]
        waiting += [(child, depth + 1) for child in children]


def _threads() -> Iterator[str]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for number, frame in sys._current_frames().items():
        yield names.get(number, str(number))
        for entry in traceback.extract_stack(frame)[-DEPTH_MAX:]:
            yield f"    {_short(entry.filename)}:{entry.lineno} {entry.name}"


def _short(path: str) -> str:
    return "/".join(Path(path).parts[-3:])
