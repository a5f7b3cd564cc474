"""`mountfs config`: what is wrong with the configuration, and what it comes to."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mountfs.configuration import config_file, effective
from mountfs.configuration.config import MountConfig, settled
from mountfs.configuration.config_file import ConfigFile
from mountfs.configuration.effective import Asked, laid_over
from mountfs.configuration.options import BY_FIELD, OPTIONS
from mountfs.configuration.settings import ENVIRONMENT_PREFIX
from mountfs.configuration.shown import shown
from mountfs.configuration.values import nearest
from mountfs.errors import UsageError

EXIT_WRONG = 2
NO_OPTIONS = ("CONFIG",)


def check(path: Path | None, environ: Mapping[str, str]) -> tuple[list[str], int]:
    """Return what is to be said of the files, or of one of them, and the exit code.

    What is wrong with the environment is said too, if it is likely to be a slip.
    """
    files = [path] if path is not None else _files(environ)
    lines: list[str] = []
    code = os.EX_OK
    for each in files:
        problems = list(_problems(each, environ))
        lines += problems or [f"{each}: nothing is wrong"]
        code = EXIT_WRONG if problems else code
    if not files:
        general = config_file.default_config_file(environ)
        lines.append(
            f"there is no configuration file: neither {general} nor any"
            f" {config_file.instances_dir(environ)}/NAME.toml"
        )
    return [*lines, *_slips(environ)], code


def _files(environ: Mapping[str, str]) -> list[Path]:
    general = config_file.chosen_file(None, environ)
    instances = effective.instance_files(environ)
    return [*([general] if general is not None else []), *instances]


def _problems(path: Path, environ: Mapping[str, str]) -> Iterator[str]:
    try:
        found = config_file.examine(path)
    except UsageError as error:
        yield str(error)
        return
    problems = [*found.problems, *config_file.problems_of_values(found)]
    problems += _contradictions(found)
    yield from config_file.in_order(path, dict.fromkeys(problems))


def _contradictions(found: ConfigFile) -> Iterator[str]:
    """Yield what is wrong with a mount as a whole, each value by itself being right."""
    own = [found.own] if found.own is not None else []
    for named in (*found.named.values(), *own):
        # Also as if it had a mount point: one that is missing is not all there is.
        for mount_point in (None, "/"):
            yield from _whole(found, named.name, mount_point, named.place)
    for url, layer in found.by_url.items():
        place = next((each.place for each in layer.values()), str(found.path))
        yield from _whole(found, url, "/", place)


def _whole(
    found: ConfigFile, target: str, mount_point: str | None, place: str
) -> Iterator[str]:
    asked = Asked(target, mount_point, {}, found.path, {})
    try:
        settled(asked, laid_over(asked, found))
    except UsageError as error:
        sentence = str(error)
        is_placed = sentence.startswith(f"{found.path}:")
        yield sentence if is_placed else f"{place}: {target}: {sentence}"


def _slips(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a word about variables that look like one of ours, which nobody reads."""
    known = [each.upper() for each in (*BY_FIELD, *NO_OPTIONS)]
    for name in environ:
        word = name.removeprefix(ENVIRONMENT_PREFIX)
        if word == name or word in known:
            continue
        if near := nearest(word, known):
            yield (
                f"note: the variable {name} is read by nobody; did you mean"
                f" {ENVIRONMENT_PREFIX}{near}?"
            )


@dataclass(frozen=True, slots=True)
class Line:
    """A setting that counts, and who says so."""

    name: str
    text: str
    where: str


def show(settings: MountConfig, *, as_json: bool) -> str:
    """Return what counts for a mount, each with where it comes from.

    For people it is a file that could be used as such.
    """
    lines = list(_lines(settings))
    found = settings.found
    is_placed = found.mount_point is not None and found.mount_point.place
    mount_point = str(settings.mount_point) if is_placed else None
    if as_json:
        return json.dumps(
            {
                "name": found.name,
                "url": settings.url,
                "mount_point": mount_point,
                "settings": {
                    each.name: {"value": each.text, "from": each.where}
                    for each in lines
                },
            },
            indent=2,
        )
    top = [f"url = {json.dumps(settings.url)}"]
    if mount_point is not None:
        top.append(f"mount-point = {json.dumps(mount_point)}")
    rows = [(f"{each.name} = {json.dumps(each.text)}", each.where) for each in lines]
    width = max(len(row) for row, _ in rows)
    return "\n".join(
        [*top, "", "[mount]", *(f"{row:<{width}}  # {where}" for row, where in rows)]
    )


def _lines(settings: MountConfig) -> Iterator[Line]:
    for option in OPTIONS:
        setting = settings.found.settings.get(option.field)
        is_idle = option.is_for_store and not _is_used(settings, option.field)
        if is_idle or (setting is None and option.is_for_store):
            continue
        if setting is not None:
            where = setting.place or setting.source
            yield Line(option.name, setting.text or "true", where)
        elif (text := shown(settings, option.field)) is not None:
            yield Line(option.name, text, "default")


def _is_used(settings: MountConfig, field: str) -> bool:
    option = BY_FIELD[field]
    return (option.store_name or field) in settings.store_options


def names(path: Path | None, environ: Mapping[str, str], *, as_json: bool) -> str:
    """Return the mounts that have a name."""
    found = [
        (
            each.name,
            each.url.text if each.url is not None else None,
            each.mount_point.text if each.mount_point is not None else None,
            each.place,
        )
        for each in effective.named_mounts(path, environ)
    ]
    if as_json:
        keys = ("name", "url", "mount_point", "from")
        return json.dumps(
            [dict(zip(keys, each, strict=True)) for each in found], indent=2
        )
    width = max((len(each[0]) for each in found), default=0)
    rows = [
        f"{name:<{width}}  {url or '(no url)'} at {place or '(no mount-point)'}"
        f"  # {where}"
        for name, url, place, where in found
    ]
    return "\n".join(rows) or "no mount has a name"
