"""`mountfs bundle`: what somebody needs who is to find out what is wrong, in one file.

Everything in it is text, and goes through the blotter of secrets; names of files are
replaced unless the user wants them in. What cannot be had is missing, and said so: a
bundle of a dead mount is still worth something.
"""

import io
import json
import os
import re
import socket
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from mountfs.actions import overview
from mountfs.actions.asking import ask
from mountfs.actions.facts import (
    disk_facts,
    fuse_facts,
    host_facts,
    log_tail,
    mount_facts,
    process_facts,
    told_by,
)
from mountfs.actions.nameless import Nameless, every_text, names_in, quoted_in
from mountfs.configuration.options import BY_FIELD
from mountfs.control import Request
from mountfs.errors import UsageError
from mountfs.status import Outcome
from mountfs.storage.secrets import redact
from mountfs.terminal import plain

DOCTOR_S = 60.0
README = """\
What mountfs knows of itself, for whoever is to find out what is wrong.

Access keys, tokens, passwords and signatures are blotted out as [redacted]. {names}
Look through it all the same before you give it away.
"""
WITHOUT = "Names of files are replaced by <name>; `--with-names` leaves them in."
WITH = "Names of files are in it."


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be in it."""

    file: Path
    has_names: bool
    asks_doctor: bool


def bundle(directory: str | None, wanted: Wanted, *, out: TextIO) -> int:
    """Write a bundle on the mount of a directory, or on all; return the exit code.

    Raises `UsageError` if there is no such mount, or the file cannot be made.
    """
    places = overview.look(directory, is_seen=False)
    try:
        descriptor = os.open(
            wanted.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
        )
    except FileExistsError as error:
        raise UsageError(f"{wanted.file} exists: name another with -o") from error
    except OSError as error:
        raise UsageError(f"cannot write {wanted.file}: {error.strerror}") from error
    try:
        with (
            os.fdopen(descriptor, "wb") as raw,
            tarfile.open(fileobj=raw, mode="w:gz") as archive,
        ):
            for name, text in _texts(places, wanted):
                _add(archive, name, text)
    except OSError as error:
        wanted.file.unlink(missing_ok=True)
        raise UsageError(f"cannot write {wanted.file}: {error.strerror}") from error
    mounts = "1 mount" if len(places) == 1 else f"{len(places)} mounts"
    out.write(
        f"{plain(str(wanted.file))} has what is known of {mounts}; look through it"
        " before you give it away\n"
    )
    return os.EX_OK


def default_file() -> Path:
    """Return the name of a new bundle, in the current directory."""
    host = re.sub(r"[^A-Za-z0-9-]+", "-", socket.gethostname())
    moment = time.strftime("%Y%m%d-%H%M%S")
    return Path.cwd() / f"mountfs-bundle-{host}-{moment}.tar.gz"


def _add(archive: tarfile.TarFile, name: str, text: str) -> None:
    content = text.encode("utf-8", "backslashreplace")
    entry = tarfile.TarInfo(f"mountfs-bundle/{name}")
    entry.size, entry.mode, entry.mtime = len(content), 0o600, int(time.time())
    archive.addfile(entry, io.BytesIO(content))


# --- what is in it ------------------------------------------------------------------


def _texts(places: list[overview.Place], wanted: Wanted) -> Iterator[tuple[str, str]]:
    yield "README", README.format(names=WITH if wanted.has_names else WITHOUT)
    yield "host.json", _json(host_facts())
    yield "fuse.txt", fuse_facts()
    for number, place in enumerate(places, start=1):
        for name, text in _of_mount(place, wanted):
            # JSON has been cleaned value by value, and must stay JSON.
            clean = text if name.endswith(".json") else redact(text)
            yield f"{number}/{name}", clean


def _of_mount(place: overview.Place, wanted: Wanted) -> Iterator[tuple[str, str]]:
    status: object = overview.fields_of(place)
    dumped = _asked(place, "dump")
    log = _log(place, dumped)
    if not wanted.has_names:
        nameless = Nameless((*names_in(status), *quoted_in(log)))
        status, log = nameless.value(status), nameless.text(log)
    yield "status.json", _json(status)
    yield "log.txt", log
    yield "mount.txt", mount_facts(place.mount_point)
    yield "metrics.prom", _lines(_asked(place, "metrics"))
    if isinstance(dumped, str) or place.status is None:
        yield "dump.txt", str(dumped)
        return
    told = dict(dumped.told)
    for name in ("tasks", "threads"):
        yield f"{name}.txt", "\n".join(map(str, _list(told.pop(name, [])))) + "\n"
    yield "settings.json", _json(told)
    yield "process.txt", process_facts(place.status.pid)
    directories = [str(told.get(name)) for name in ("cache_dir", "state_dir")]
    yield "disk.json", _json(disk_facts(directories))
    if wanted.asks_doctor:
        yield "doctor.json", _doctor(place, told)


def _log(place: overview.Place, dumped: Outcome | str) -> str:
    """Return the end of the log of a mount, if its daemon can say where it is."""
    if isinstance(dumped, str) or place.status is None:
        return "(only the daemon knows where its log is)\n"
    file = dumped.told.get("log_file")
    return log_tail(str(file) if file else None, place.status.pid)


def _asked(place: overview.Place, word: str) -> Outcome | str:
    """Return what a mount answers, or why it does not."""
    if place.status is None:
        return f"the daemon is {place.state}\n"
    try:
        return ask(str(place.status.mount_point), Request(word))
    except UsageError as error:
        return f"{error}\n"


def _lines(outcome: Outcome | str) -> str:
    if isinstance(outcome, str):
        return outcome
    return "\n".join(outcome.lines) + "\n"


def _doctor(place: overview.Place, told: Mapping[str, object]) -> str:
    """Return what the doctor says of the store, with the options of the mount."""
    assert place.status is not None, "it has answered"
    command = [sys.executable, "-P", "-m", "mountfs", "doctor", "--json"]
    for name, setting in _mapping(told.get("config")).items():
        value = _mapping(setting).get("value")
        option = BY_FIELD.get(name.replace("-", "_"))
        if option is not None and option.is_for_store and value is not None:
            escaped = str(value).replace("\\", "\\\\").replace(",", "\\,")
            command += ["-o", f"{name}={escaped}"]
    return told_by([*command, place.status.url], timeout_s=DOCTOR_S)


def _json(value: object) -> str:
    return json.dumps(every_text(value, redact), indent=2, default=str) + "\n"


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
